"""WPS 1.0.0 documents: the Execute request, written, and what services answer to it, read.

Pure functions of bytes. Sources: OGC 05-007r7 (WPS 1.0.0), OGC 06-121r3 (exception reports), and what PyWPS,
GeoServer and others really send, which differs from both: prefixes are mixed, an exception report stands in the
wrong namespace or says no code, `href` has a namespace or none.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import httpx

from tasks.errors import OverlanderError, RefusedForNow, RequestRefused, ThrottledError, UnreadableStatus
from tasks.polygons import markup
from tasks.polygons.jobs import InputValue, JobStatus, Order, Output, Remote
from tasks.polygons.markup import Node

Mode = Literal["async", "sync"]
DISK_FULL_WAIT_S = 300.0
"""NotEnoughStorage goes away when somebody makes room, not in seconds."""
THROTTLING = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
"""HTTP statuses that ask for less."""
LONGEST_MESSAGE = 2000
"""Characters of the service's words that are kept; some services send stack traces."""

_ROOT = (
    '<wps:Execute version="1.0.0" service="WPS" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
    'xsi:schemaLocation="http://www.opengis.net/wps/1.0.0 http://schemas.opengis.net/wps/1.0.0/wpsAll.xsd">'
)
_STATES = {
    "ProcessSucceeded": Remote.SUCCESSFUL,
    "ProcessFailed": Remote.FAILED,
    "ProcessPaused": Remote.PAUSED,
    "ProcessStarted": Remote.RUNNING,
    "ProcessAccepted": Remote.ACCEPTED,
}
_BUSY = frozenset({"ServerBusy", "NotEnoughStorage", "SchedulerNotAvailable"})  # the last is PyWPS's own
_WRONG = frozenset(
    {
        "MissingParameterValue",
        "InvalidParameterValue",
        "OperationNotSupported",
        "VersionNegotiationFailed",
        "StorageNotSupported",
        "FileSizeExceeded",
    }
)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class ExceptionReport:
    """An exception report as the whole answer.

    Attributes:
        code: of its first exception that has one, as the service spells it; empty where none has.
        message: code, locator and text of each exception, for people.
    """

    code: str
    message: str


def execute_document(order: Order, mode: Mode = "async") -> bytes:
    """Return the Execute request for an order.

    A complex value that is JSON is put on one line right inside its element: datacube-wps reads the first
    line only. `async` asks for a stored answer with status, `sync` for the result as the answer.

    Raises:
        RequestRefused: a value holds a character that XML cannot carry.
    """
    stored = "true" if mode == "async" else "false"
    response = f'wps:ResponseDocument storeExecuteResponse="{stored}" status="{stored}"'
    wanted = "".join(
        f"<wps:Output><ows:Identifier>{_escaped(name)}</ows:Identifier></wps:Output>" for name in order.outputs
    )
    return (
        f"{_ROOT}<ows:Identifier>{_escaped(order.process)}</ows:Identifier>"
        f"<wps:DataInputs>{''.join(map(_input, order.inputs))}</wps:DataInputs><wps:ResponseForm>"
        + (f"<{response}>{wanted}</wps:ResponseDocument>" if wanted else f"<{response}/>")
        + "</wps:ResponseForm></wps:Execute>"
    ).encode()


def read_answer(body: bytes) -> JobStatus | ExceptionReport:
    """Return what an answer to Execute, or a status document, says; the HTTP status plays no part.

    Raises:
        UnreadableStatus: it is neither an ExecuteResponse with a status nor an exception report.
    """
    name, root = markup.read(body)
    if name == "ExceptionReport":
        return _report(root)
    if name != "ExecuteResponse":
        raise UnreadableStatus(f"the answer is no WPS 1.0.0 answer but a document <{name}>")
    status = markup.child(root, "Status")
    state = next((state for state in _STATES if markup.has(status, state)), None)
    if state is None:
        raise UnreadableStatus("the answer says nothing of where the job stands")
    remote, said = _STATES[state], markup.child(status, state)
    report = _report(markup.child(said, "ExceptionReport"))
    location = markup.attribute(root, "statusLocation")
    return JobStatus(
        remote=remote,
        status_location=_address(location) if location and location.strip() else None,
        percent=_percent(markup.attribute(said, "percentCompleted")),
        message=_cut(report.message or markup.text(said)),
        outputs=_outputs(root, body) if remote is Remote.SUCCESSFUL else (),
        error_code=report.code,
    )


def refusal(
    report: ExceptionReport, http_status: int, service: str, retry_after_s: float | None = None
) -> OverlanderError:
    """Return what an exception report in place of an acceptance means: the code decides, else the HTTP status.

    Services agree on codes and not on HTTP statuses: PyWPS says 400 for ServerBusy.
    """
    said = f"The service at {service} refused the request: {report.message or 'it gives no reason'} "
    if report.code in _BUSY or (http_status in THROTTLING and report.code not in _WRONG):
        wait_s = DISK_FULL_WAIT_S if report.code == "NotEnoughStorage" else None
        return ThrottledError(f"{said}(busy). It is sent again later.", retry_after_s or wait_s)
    if http_status >= httpx.codes.INTERNAL_SERVER_ERROR and report.code not in _WRONG:
        return RefusedForNow(f"{said}({http_status}). Nothing is at work; it may take it later.")
    if report.code == "FileSizeExceeded":
        return RequestRefused(
            f"{said}(too large). Round its coordinates, simplify or split the polygon.", report.code, of_unit=True
        )
    if report.code == "StorageNotSupported":
        return RequestRefused(f"{said}(it keeps no status documents). Run with --sync.", report.code)
    return RequestRefused(f"{said}({http_status}). Check the process and its inputs.", report.code)


def _input(given: InputValue) -> str:
    if given.kind == "literal":
        value = f"<wps:LiteralData>{_escaped(given.text)}</wps:LiteralData>"
    else:
        text = given.text.strip()
        if text.startswith(("{", "[")):  # a line break in JSON stands between values only
            text = re.sub(r"[\r\n]+", " ", text)
        kind = f" mimeType={quoteattr(given.mime_type)}" if given.mime_type else ""
        value = f"<wps:ComplexData{kind}>{_escaped(text)}</wps:ComplexData>"
    return (
        f"<wps:Input><ows:Identifier>{_escaped(given.identifier)}</ows:Identifier>"
        f"<wps:Data>{value}</wps:Data></wps:Input>"
    )


def _escaped(text: str) -> str:
    bad = _NOT_XML.search(text)
    if bad:
        raise RequestRefused(
            f"A value holds the character U+{ord(bad.group()):04X}, which XML cannot carry: "
            f"{text[max(0, bad.start() - 30) : bad.start()]!r} stands before it. Correct the source.",
            "InvalidCharacter",
            of_unit=True,
        )
    return escape(text, {"\r": "&#13;"})


def _report(report: Node) -> ExceptionReport:
    code, messages = "", []
    for exception in markup.children(report, "Exception"):
        its_code = markup.attribute(exception, "exceptionCode") or ""
        code = code or its_code
        texts = [markup.text(one) for one in markup.children(exception, "ExceptionText")]
        words = " ".join(filter(None, texts)) or markup.text(exception)
        locator = markup.attribute(exception, "locator")
        about = f"{its_code} of {locator}" if its_code and locator not in (None, "", "None") else its_code
        messages.append(": ".join(filter(None, (about, words))))
    return ExceptionReport(code, _cut("; ".join(filter(None, messages))))


def _outputs(root: Node, body: bytes) -> tuple[Output, ...]:
    """Return the outputs; those whose value is XML itself are taken from the body, in its order."""
    path = ("ProcessOutputs", "Output")
    found = markup.children(markup.child(root, "ProcessOutputs"), "Output")
    held_as_xml = any(markup.holds_elements(markup.child(one, "Data", "ComplexData")) for one in found)
    inner = iter(markup.inner_xml(body, (*path, "Data", "ComplexData")) if held_as_xml else ())
    return tuple(_output(one, lambda: next(inner, "")) for one in found)


def _output(output: Node, next_xml: Callable[[], str]) -> Output:
    identifier = markup.text(markup.child(output, "Identifier"))
    if markup.has(output, "Reference"):
        reference = markup.child(output, "Reference")
        return Output(
            identifier,
            "reference",
            _address(markup.attribute(reference, "href") or ""),
            markup.attribute(reference, "mimeType") or None,
        )
    given = markup.child(output, "Data")
    if markup.has(given, "ComplexData"):
        value, as_xml = markup.child(given, "ComplexData"), next_xml()
        text = as_xml if markup.holds_elements(value) else markup.text(value)
        return Output(identifier, "complex", text, markup.attribute(value, "mimeType") or None)
    if markup.has(given, "BoundingBoxData"):
        box = markup.child(given, "BoundingBoxData")
        corners = (markup.text(markup.child(box, corner)) for corner in ("LowerCorner", "UpperCorner"))
        return Output(identifier, "bbox", " ".join(" ".join(corners).split()))
    return Output(identifier, "literal", markup.text(markup.child(given, "LiteralData")))


def _address(text: str) -> str:
    """Return an address that may have been escaped twice; `&amp;` is in no address."""
    return text.strip().replace("&amp;", "&")


def _percent(text: str | None) -> int | None:
    try:
        return max(0, min(100, int(float(text or ""))))
    except (ValueError, OverflowError):
        return None


def _cut(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_MESSAGE else f"{words[:LONGEST_MESSAGE]}…"
