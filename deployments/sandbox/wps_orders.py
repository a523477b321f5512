"""What a process service is asked to execute, read from the request as WIT reads it.

Both process services of the sandbox note what they received by the same hash, so that a test can count how often
each polygon was sent and executed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

import xmltodict


@dataclass(frozen=True)
class Asked:
    """One request to execute a process.

    Attributes:
        process: its identifier.
        geometry: hash of the first feature's geometry, see `geometry_hash`.
        start, end: moments of the interval, as sent; empty where there was none.
        inputs: identifiers of what was sent.
        stored: whether the answer is to be stored and updated, which makes it asynchronous.
    """

    process: str
    geometry: str
    start: str
    end: str
    inputs: frozenset[str]
    stored: bool


class NoRequest(Exception):
    """The document is no request to execute a process; `code` and `locator` as of a WPS exception."""

    def __init__(self, text: str, code: str = "NoApplicableCode", locator: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.locator = locator


def read_execute(body: bytes) -> Asked:
    """Read a WPS 1.0.0 Execute document, whatever its prefixes.

    Raises:
        NoRequest: it is none, and why.
    """
    try:
        ((name, request),) = xmltodict.parse(body, strip_whitespace=False).items()
    except (ExpatError, ValueError) as error:  # ValueError: entities
        raise NoRequest(str(error)) from error
    if _local(name) != "Execute":
        raise NoRequest(f"Unknown request {name}", "InvalidParameterValue", "request")
    process = _text(_one(request, "Identifier"))
    if not process:
        raise NoRequest("Process identifier not set", "MissingParameterValue", "Identifier")
    inputs = {_text(_one(one, "Identifier")): _value(one) for one in _all(_one(request, "DataInputs"), "Input")}
    form = _one(_one(request, "ResponseForm"), "ResponseDocument")
    asynchronous = ("@storeExecuteResponse", "@status")
    stored = isinstance(form, dict) and all(form.get(attribute) == "true" for attribute in asynchronous)
    return Asked(
        process=process,
        geometry=geometry_hash(inputs.get("geometry", "")),
        start=moment(inputs.get("start", "")),
        end=moment(inputs.get("end", "")),
        inputs=frozenset(inputs),
        stored=stored,
    )


def geometry_hash(geometry: str | Mapping[str, Any]) -> str:
    """Return a hash that is the same for the same GeoJSON geometry, however it is written.

    Args:
        geometry: a GeoJSON geometry, a feature or a collection whose first feature counts; or its text.
    """
    text = geometry.partition("\n")[0] if isinstance(geometry, str) else json.dumps(geometry)
    try:
        found = json.loads(text, parse_int=float)  # 145 and 145.0 are the same
    except ValueError:
        found = text
    if isinstance(found, Mapping) and found.get("features"):
        found = found["features"][0]
    if isinstance(found, Mapping) and "geometry" in found:
        found = found["geometry"]
    return hashlib.sha256(json.dumps(found, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def moment(text: str) -> str:
    """Return the moment in one line of JSON, where WIT looks for it; empty if it is not there."""
    try:
        return str(json.loads(text.partition("\n")[0])["properties"]["timestamp"]["date-time"])
    except (ValueError, KeyError, TypeError):
        return ""


def _value(given: Any) -> str:
    held = _one(given, "Data")
    for name in ("ComplexData", "LiteralData"):
        if found := _all(held, name):
            return _text(found[0])
    reference = _one(given, "Reference")
    found = [text for name, text in reference.items() if _local(name).lstrip("@") == "href"] if reference else []
    return str(found[0]) if found else ""


def _one(element: Any, name: str) -> Any:
    """Return the first child of that local name, None where there is none."""
    return next(iter(_all(element, name)), None)


def _all(element: Any, name: str) -> list[Any]:
    if not isinstance(element, dict):
        return []
    found: list[Any] = []
    for key, child in element.items():
        if _local(key) == name:
            found += child if isinstance(child, list) else [child]
    return found


def _text(element: Any) -> str:
    return str((element.get("#text") if isinstance(element, dict) else element) or "")


def _local(name: str) -> str:
    return name.rpartition(":")[2]
