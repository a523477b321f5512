"""WPS 1.0.0 documents as PyWPS 4.8.1 writes them, oddities included.

Which are: `percentCompleted` at ProcessAccepted, an ExceptionReport in the namespace of WPS inside ProcessFailed,
creation times in local time that end in Z, `serviceInstance` escaped twice, `href` without xlink. A test compares
them with the answers of a real PyWPS.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

WPS = "http://www.opengis.net/wps/1.0.0"
OWS = "http://www.opengis.net/ows/1.1"
XLINK = "http://www.w3.org/1999/xlink"
GEOJSON = "application/vnd.geo+json"
GEOJSON_SCHEMA = "http://geojson.org/geojson-spec.html#geojson"
CATALOG = "application/vnd.terriajs.catalog-member+json"

Prefix = Literal["wps", "ns", "ns0", "none", "mixed"]
Kind = Literal["literal", "complex", "reference"]


@dataclass(frozen=True)
class Described:
    """A process as it is offered: identifier, inputs (all complex JSON), and outputs with their kinds."""

    identifier: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, Kind], ...]


@dataclass(frozen=True)
class Value:
    """One output of a job; of a `reference` the value is its URL."""

    identifier: str
    kind: Kind
    text: str
    attribute: str = "href"


WIT = Described("WIT", ("geometry", "start", "end"), (("url", "literal"),))
_DRILL: tuple[tuple[str, Kind], ...] = (("image", "literal"), ("url", "literal"), ("timeseries", "complex"))
WOFS_DRILL = Described("WOfSDrill", ("geometry",), _DRILL)
FRACTIONAL_COVER_DRILL = Described("FractionalCoverDrill", ("geometry", "start", "end"), _DRILL)
PROCESSES = (WIT, WOFS_DRILL, FRACTIONAL_COVER_DRILL)


@dataclass(frozen=True)
class Told:
    """What a status document says.

    Attributes:
        process: identifier.
        status: name of the element, as ProcessStarted.
        text: of the status, or of the exception of ProcessFailed.
        percent: None writes no attribute.
        status_location: None writes an empty attribute, as PyWPS does for jobs that are not stored.
        outputs: of ProcessSucceeded.
        prefix: of the namespace; `mixed` writes the root in one and what is below it in another.
    """

    process: str
    status: str
    text: str = ""
    percent: int | None = None
    status_location: str | None = None
    outputs: Sequence[Value] = ()
    prefix: Prefix = "wps"


def execute_response(told: Told, service_url: str) -> bytes:
    """Write a status document."""
    root, below, declared = _prefixes(told.prefix)
    instance = escape(escape(f"{service_url}?request=GetCapabilities&service=WPS"))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.localtime())
    percent = f' percentCompleted="{told.percent}"' if told.percent is not None else ""
    inside = escape(told.text)
    if told.status == "ProcessFailed":
        inside = (
            f'<{below}ExceptionReport><ows:Exception exceptionCode="NoApplicableCode" locator="None">'
            f"<ows:ExceptionText>{inside}</ows:ExceptionText></ows:Exception></{below}ExceptionReport>"
        )
    outputs = "".join(_output(value, below) for value in told.outputs)
    if outputs:
        outputs = f"<{below}ProcessOutputs>\n{outputs}</{below}ProcessOutputs>\n"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{root}ExecuteResponse {declared} xmlns:ows="{OWS}" xmlns:xlink="{XLINK}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{WPS} ../wpsExecute_response.xsd" service="WPS" version="1.0.0" xml:lang="en-US" '
        f'serviceInstance="{instance}" statusLocation={quoteattr(told.status_location or "")}>\n'
        f'<{below}Process xmlns:wps="{WPS}" wps:processVersion="None">{_titles(told.process)}</{below}Process>\n'
        f'<{below}Status creationTime="{created}">\n'
        f"<{below}{told.status}{percent}>{inside}</{below}{told.status}>\n"
        f"</{below}Status>\n{outputs}</{root}ExecuteResponse>\n"
    ).encode()


def exception_report(code: str, text: str, locator: str = "") -> bytes:
    """Write the report of a refusal before anything is accepted."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ows:ExceptionReport xmlns:ows="{OWS}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{OWS} http://schemas.opengis.net/ows/1.1.0/owsExceptionReport.xsd" '
        'version="1.0.0">\n'
        f'<ows:Exception exceptionCode="{code}" locator={quoteattr(locator)} >\n'
        f"<ows:ExceptionText>{escape(text)}</ows:ExceptionText>\n"
        "</ows:Exception>\n</ows:ExceptionReport>"
    ).encode()


def capabilities(service_url: str) -> bytes:
    """Write what the service offers."""
    get = f"<ows:Get xlink:href={quoteattr(service_url)}/>"
    post = f"<ows:Post xlink:href={quoteattr(service_url)}/>"
    operations = "".join(
        f'<ows:Operation name="{name}"><ows:DCP><ows:HTTP>{verbs}</ows:HTTP></ows:DCP></ows:Operation>\n'
        for name, verbs in (("GetCapabilities", get), ("DescribeProcess", get + post), ("Execute", get + post))
    )
    offered = "".join(
        f'<wps:Process wps:processVersion="None">{_titles(process.identifier)}</wps:Process>\n'
        for process in PROCESSES
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<wps:Capabilities service="WPS" version="1.0.0" xml:lang="en-US" xmlns:xlink="{XLINK}" '
        f'xmlns:wps="{WPS}" xmlns:ows="{OWS}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{WPS} ../wpsGetCapabilities_response.xsd" updateSequence="1">\n'
        "<ows:ServiceIdentification><ows:Title>Sandbox</ows:Title>"
        "<ows:ServiceType>WPS</ows:ServiceType><ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>"
        "</ows:ServiceIdentification>\n"
        f"<ows:OperationsMetadata>\n{operations}</ows:OperationsMetadata>\n"
        f"<wps:ProcessOfferings>\n{offered}</wps:ProcessOfferings>\n"
        "<wps:Languages><wps:Default><ows:Language>en-US</ows:Language></wps:Default>"
        "<wps:Supported><ows:Language>en-US</ows:Language></wps:Supported></wps:Languages>\n"
        "</wps:Capabilities>\n"
    ).encode()


def descriptions(processes: Sequence[Described], *, stored: bool = True) -> bytes:
    """Write what processes take and give, and whether answers are stored, with status."""
    described = "".join(_description(process, stored=stored) for process in processes)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<wps:ProcessDescriptions xmlns:wps="{WPS}" xmlns:ows="{OWS}" xmlns:xlink="{XLINK}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{WPS} ../wpsDescribeProcess_response.xsd" service="WPS" version="1.0.0" '
        f'xml:lang="en-US">\n{described}</wps:ProcessDescriptions>\n'
    ).encode()


def _description(process: Described, *, stored: bool) -> str:
    kept = str(stored).lower()
    inputs = "".join(
        f'<Input minOccurs="1" maxOccurs="1">{_titles(name)}<ComplexData maximumMegabytes="1">'
        f"{_formats(GEOJSON, GEOJSON_SCHEMA)}</ComplexData></Input>\n"
        for name in process.inputs
    )
    literal = (
        '<LiteralOutput><ows:DataType ows:reference="http://www.w3.org/TR/xmlschema-2/#string">string'
        "</ows:DataType></LiteralOutput>"
    )
    complexes = f"<ComplexOutput>{_formats(CATALOG)}</ComplexOutput>"
    outputs = "".join(
        f"<Output>{_titles(name)}{literal if kind == 'literal' else complexes}</Output>\n"
        for name, kind in process.outputs
    )
    return (
        f'<ProcessDescription wps:processVersion="None" storeSupported="{kept}" statusSupported="{kept}">\n'
        f"{_titles(process.identifier)}\n<DataInputs>\n{inputs}</DataInputs>\n"
        f"<ProcessOutputs>\n{outputs}</ProcessOutputs>\n</ProcessDescription>\n"
    )


def _formats(mime_type: str, schema: str = "") -> str:
    named = f"<Schema>{schema}</Schema>" if schema else ""
    one = f"<Format><MimeType>{mime_type}</MimeType>{named}</Format>"
    return f"<Default>{one}</Default><Supported>{one}</Supported>"


def _output(value: Value, prefix: str) -> str:
    if value.kind == "reference":
        inside = (
            f'<{prefix}Reference {value.attribute}={quoteattr(value.text)} mimeType="application/x-parquet" '
            'encoding="" schema=""/>'
        )
    elif value.kind == "complex":
        inside = (
            f'<{prefix}Data><{prefix}ComplexData mimeType="{CATALOG}" encoding="" schema="">'
            f"{escape(value.text)}</{prefix}ComplexData></{prefix}Data>"
        )
    else:
        inside = (
            f'<{prefix}Data><{prefix}LiteralData dataType="string">{escape(value.text)}</{prefix}LiteralData>'
            f"</{prefix}Data>"
        )
    return f"<{prefix}Output>{_titles(value.identifier)}{inside}</{prefix}Output>\n"


def _titles(identifier: str) -> str:
    named = escape(identifier)
    return f"<ows:Identifier>{named}</ows:Identifier><ows:Title>{named}</ows:Title><ows:Abstract></ows:Abstract>"


def _prefixes(prefix: Prefix) -> tuple[str, str, str]:
    """Return the prefix of the root, that of what is below it, and the declarations."""
    if prefix == "none":
        return "", "", f'xmlns="{WPS}"'
    if prefix == "mixed":  # as the service of USGS did
        return "ns:", "wps:", f'xmlns:ns="{WPS}" xmlns:wps="{WPS}"'
    return f"{prefix}:", f"{prefix}:", f'xmlns:{prefix}="{WPS}"'
