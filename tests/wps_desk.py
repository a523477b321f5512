"""A process service as a plain client sees it: requests written by hand, answers read by local name."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

import httpx

WPS = "http://www.opengis.net/wps/1.0.0"
_VALUES = ("LiteralData", "ComplexData", "Reference")
YEAR = ("2010-01-01T00:00", "2011-01-01T00:00")


def square(number: int) -> dict[str, Any]:
    """Return a polygon in Queensland, another for each number."""
    x, y = 145 + number % 100 / 100, -20 - number // 100 / 100
    ring = [[x, y], [x + 0.005, y], [x + 0.005, y + 0.005], [x, y + 0.005], [x, y]]
    return {"type": "Polygon", "coordinates": [[[round(a, 4), round(b, 4)] for a, b in ring]]}


def point(number: int) -> dict[str, Any]:
    """Return a point with a height, another for each number."""
    return {"type": "Point", "coordinates": [145 + number / 1000, -20.5, 3.0]}


def inputs(geometry: dict[str, Any], interval: tuple[str, str] = YEAR, **properties: Any) -> dict[str, str]:
    """Return the three inputs of WIT as text, each in one line."""
    feature = {"type": "Feature", "geometry": geometry, "properties": properties}
    moments = [{"type": "object", "properties": {"timestamp": {"date-time": text}}} for text in interval]
    return {
        "geometry": json.dumps({"type": "FeatureCollection", "features": [feature]}),
        "start": json.dumps(moments[0]),
        "end": json.dumps(moments[1]),
    }


def request(given: dict[str, str], process: str = "WIT", *, stored: bool = True) -> bytes:
    """Write a request to execute a process with complex inputs."""
    flag = "true" if stored else "false"
    parts = "".join(
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier>"
        f"<wps:Data><wps:ComplexData>{escape(text)}</wps:ComplexData></wps:Data></wps:Input>"
        for name, text in given.items()
    )
    return (
        f'<wps:Execute xmlns:wps="{WPS}" xmlns:ows="http://www.opengis.net/ows/1.1" version="1.0.0" service="WPS">'
        f"<ows:Identifier>{process}</ows:Identifier><wps:DataInputs>{parts}</wps:DataInputs>"
        f'<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="{flag}" status="{flag}"/>'
        "</wps:ResponseForm></wps:Execute>"
    ).encode()


def send(client: httpx.Client, url: str, number: int = 0, process: str = "WIT") -> httpx.Response:
    """Ask for a polygon and one year, or of the pixel drill for a point."""
    given = inputs(square(number))
    if process == "WOfSDrill":
        given = {"geometry": inputs(point(number))["geometry"]}
    return client.post(url, content=request(given, process))


def location(answer: httpx.Response) -> str:
    """Return where the answer says that the job's status is."""
    return next(elements(answer.content)).attrib["statusLocation"]


def status(answer: httpx.Response) -> str:
    """Return the status that the document tells, as ProcessAccepted; empty when it tells none."""
    holders = [element for element in elements(answer.content) if local(element) == "Status"]
    return local(holders[0][0]) if holders else ""


def exception(answer: httpx.Response) -> tuple[str, str]:
    """Return code and text of the document's first exception."""
    found = [element for element in elements(answer.content) if local(element) == "Exception"]
    return found[0].attrib["exceptionCode"], "".join(found[0].itertext()).strip()


def outputs(answer: httpx.Response) -> dict[str, str]:
    """Return the outputs of a job that succeeded: text, or the address of a reference."""
    found = {}
    for element in elements(answer.content):
        if local(element) == "Output":
            name = next(part.text for part in element if local(part) == "Identifier")
            values = [
                part for part in element.iter() if local(part) in ("LiteralData", "ComplexData", "Reference")
            ]
            href = values[0].get("href") or values[0].get("{http://www.w3.org/1999/xlink}href")
            found[name or ""] = href or values[0].text or ""
    return found


def elements(document: bytes) -> Iterator[ET.Element]:
    """Yield every element of a document."""
    return ET.fromstring(document).iter()  # noqa: S314 - our own services wrote it


def local(element: ET.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]
