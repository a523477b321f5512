"""WPS 1.0.0 documents: what is written is what WIT reads, and what servers really answer is understood.

The answers are composed after those that PyWPS 4.8, USGS' and PML's services and GeoServer give; the last three
are known from OWSLib's and MapStore's records of them.
"""

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tasks.errors import RefusedForNow, RequestRefused, ThrottledError, UnreadableStatus
from tasks.polygons.jobs import InputValue, JobStatus, Order, Output, Remote
from tasks.polygons.wps import ExceptionReport, execute_document, read_answer, refusal

LOCATION = "https://s3.ap-southeast-2.amazonaws.com/results/84c15212.xml"
NAMESPACES = (
    'xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"'
)
POLYGON = {"type": "Polygon", "coordinates": [[[143.1, -19.4], [143.2, -19.4], [143.2, -19.5], [143.1, -19.4]]]}


def collection(geometry: object, **feature: object) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry, **feature}]}


def moment(text: str) -> dict[str, object]:
    timestamp = {"type": "string", "format": "date-time", "date-time": text}
    return {"type": "object", "properties": {"timestamp": timestamp}}


def wit(geometry: str) -> Order:
    """An order as the process WIT takes it."""
    start, end = (json.dumps(moment(f"{year}-01-01T00:00")) for year in (2010, 2011))
    return Order("WIT", (InputValue("geometry", geometry), InputValue("start", start), InputValue("end", end)))


def response(status: str, rest: str = "", location: str | None = LOCATION) -> bytes:
    """An ExecuteResponse whose Status holds `status`."""
    where = f' statusLocation="{location}"' if location is not None else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><wps:ExecuteResponse {NAMESPACES} service="WPS" version="1.0.0" '
        f'xml:lang="en-US" serviceInstance="http://x/wps?a=1&amp;amp;b=2"{where}>'
        '<wps:Process wps:processVersion="0.4"><ows:Identifier>WIT</ows:Identifier></wps:Process>'
        f'<wps:Status creationTime="2021-07-13T10:29:07Z">{status}</wps:Status>{rest}</wps:ExecuteResponse>'
    ).encode()


def succeeded(*outputs: str) -> tuple[Output, ...]:
    """What is read of the outputs of a job that succeeded."""
    inside = "".join(f"<wps:Output>{output}</wps:Output>" for output in outputs)
    answer = read(response("<wps:ProcessSucceeded/>", f"<wps:ProcessOutputs>{inside}</wps:ProcessOutputs>"))
    return answer.outputs


def read(body: bytes) -> JobStatus:
    answer = read_answer(body)
    assert isinstance(answer, JobStatus)
    return answer


def report_of(body: bytes) -> ExceptionReport:
    answer = read_answer(body)
    assert isinstance(answer, ExceptionReport)
    return answer


def report(*exceptions: str) -> bytes:
    return (
        f'<ows:ExceptionReport version="1.0.0" {NAMESPACES}>{"".join(exceptions)}</ows:ExceptionReport>'
    ).encode()


def tree(document: bytes | str) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314 - made here


def complex_values(document: bytes | str) -> dict[str, Any]:
    """The JSON that a server reads of each complex input: the first line of its text."""
    inputs = tree(document).iter("{http://www.opengis.net/wps/1.0.0}Input")
    return {
        str(one[0].text): json.loads((one.findtext(".//{*}ComplexData") or "").splitlines()[0]) for one in inputs
    }


def test_the_request_is_the_notebooks_template_filled_in() -> None:
    unused = " ".join(
        f'xmlns{prefix}="http://www.opengis.net/{path}"'
        for prefix, path in (("", "wps/1.0.0"), (":wfs", "wfs"), (":gml", "gml"), (":ogc", "ogc"))
    )
    put = (
        "    <wps:Input>\n        <ows:Identifier>{}</ows:Identifier>\n        <wps:Data>\n"
        "        <wps:ComplexData>{}</wps:ComplexData>\n        </wps:Data>\n    </wps:Input>\n"
    )
    filled = (
        '\n<wps:Execute version="1.0.0" service="WPS" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'{unused} xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
        'xsi:schemaLocation="http://www.opengis.net/wps/1.0.0 http://schemas.opengis.net/wps/1.0.0/wpsAll.xsd">\n'
        "    <ows:Identifier>WIT</ows:Identifier>\n    <wps:DataInputs>\n"
        + put.format("geometry", json.dumps(collection(POLYGON), separators=(",", ":")))
        + put.format("start", json.dumps(moment("2010-01-01T00:00"), separators=(",", ":")))
        + put.format("end", json.dumps(moment("2011-01-01T00:00"), separators=(",", ":")))
        + "    </wps:DataInputs>\n    <wps:ResponseForm>\n"
        '    <wps:ResponseDocument storeExecuteResponse="true" status="true"/>\n'
        "    </wps:ResponseForm>\n</wps:Execute>\n"
    )
    ours = execute_document(wit(json.dumps(collection(POLYGON))))
    assert complex_values(ours) == complex_values(filled)
    assert skeleton(ours.decode()) == skeleton(filled.replace(unused, ""))


def skeleton(document: str) -> str:
    """A document as canonical XML without white space between elements and without the JSON inside them."""
    without_json = re.sub(r"(<wps:ComplexData[^>]*>)[^<]*", r"\1", document)
    return ET.canonicalize(without_json, strip_text=True)


def test_a_property_with_markup_arrives_as_it_was() -> None:
    name = 'Smith & Sons <"North">\u2028 ]]> &amp;'
    document = execute_document(wit(json.dumps(collection(POLYGON, properties={"name": name}))))
    assert complex_values(document)["geometry"]["features"][0]["properties"] == {"name": name}


def test_json_on_many_lines_is_sent_on_one_since_servers_read_the_first_only() -> None:
    document = execute_document(wit("\n" + json.dumps(collection(POLYGON), indent=2).replace("\n", "\r\n")))
    assert complex_values(document)["geometry"] == collection(POLYGON)


def test_a_literal_keeps_its_text_and_a_complex_value_its_mime_type() -> None:
    order = Order(
        "Mean & <Max>", (InputValue("a", " 1 < 2\r\n", "literal"), InputValue("b", "x\ny", mime_type="t/c"))
    )
    root = tree(execute_document(order))
    assert root.findtext("{*}Identifier") == "Mean & <Max>"
    assert root.findtext(".//{*}LiteralData") == " 1 < 2\r\n"
    complex_data = root.find(".//{*}ComplexData")
    assert complex_data is not None
    assert (complex_data.text, complex_data.attrib) == ("x\ny", {"mimeType": "t/c"})


def test_only_the_outputs_asked_for_are_named() -> None:
    root = tree(execute_document(Order("WIT", (), ("url", "timeseries"))))
    assert [one.text for one in root.iterfind(".//{*}ResponseDocument/{*}Output/{*}Identifier")] == [
        "url",
        "timeseries",
    ]


@pytest.mark.parametrize(("mode", "stored"), [("async", "true"), ("sync", "false")])
def test_a_synchronous_request_stores_nothing(mode: Any, stored: str) -> None:
    asked = tree(execute_document(wit("{}"), mode)).find(".//{*}ResponseDocument")
    assert asked is not None
    assert asked.attrib == {"storeExecuteResponse": stored, "status": stored}


def test_a_character_that_xml_cannot_carry_is_the_units_fault_and_is_not_sent() -> None:
    with pytest.raises(RequestRefused, match=r"U\+0000") as refused:
        execute_document(Order("WIT", (InputValue("name", "Lake\x00", "literal"),)))
    assert refused.value.of_unit


@pytest.mark.parametrize(
    ("said", "remote", "percent", "message"),
    [
        ('<wps:ProcessAccepted percentCompleted="0">taken</wps:ProcessAccepted>', "accepted", 0, "taken"),
        ("<wps:ProcessStarted/>", "running", None, ""),
        ('<wps:ProcessStarted percentCompleted="33.7">at\n  work</wps:ProcessStarted>', "running", 33, "at work"),
        ('<wps:ProcessStarted percentCompleted="many"> \n </wps:ProcessStarted>', "running", None, ""),
        ('<wps:ProcessPaused percentCompleted="250">waits</wps:ProcessPaused>', "paused", 100, "waits"),
        ("<wps:ProcessSucceeded>done</wps:ProcessSucceeded>", "successful", None, "done"),
        ("<wps:ProcessFailed/>", "failed", None, ""),
    ],
)
def test_each_state_of_a_job_is_read(said: str, remote: str, percent: int | None, message: str) -> None:
    assert read(response(said)) == JobStatus(Remote(remote), LOCATION, percent, message)


def test_an_answer_that_names_no_status_location_is_read_all_the_same() -> None:
    assert read(response("<wps:ProcessSucceeded/>", location=None)).status_location is None
    assert read(response("<wps:ProcessAccepted/>", location="")).status_location is None


def test_an_address_that_was_escaped_twice_is_mended() -> None:
    location = "http://x/ows?service=WPS&amp;amp;executionId=7"
    assert read(response("<wps:ProcessStarted/>", location=location)).status_location == (
        "http://x/ows?service=WPS&executionId=7"
    )


def test_prefixes_that_are_mixed_or_missing_change_nothing() -> None:
    body = f"""<?xml version="1.0" encoding="UTF-8"?>
        <ns:ExecuteResponse xmlns:ns="http://www.opengis.net/wps/1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0"
            xmlns:ns1="http://www.opengis.net/ows/1.1" statusLocation="{LOCATION}" service="WPS" version="1.0.0">
          <wps:Status creationTime="2011-10-04T16:54:23.148-05:00"><ns:ProcessSucceeded/></wps:Status>
          <ProcessOutputs xmlns="http://www.opengis.net/wps/1.0.0"><ns:Output>
            <ns1:Identifier>url</ns1:Identifier><Data><ns:LiteralData>s3://a/b</ns:LiteralData></Data>
          </ns:Output></ProcessOutputs></ns:ExecuteResponse>""".encode()
    answer = read(body)
    assert (answer.remote, answer.status_location) == (Remote.SUCCESSFUL, LOCATION)
    assert answer.outputs == (Output("url", "literal", "s3://a/b"),)


def test_a_comment_or_white_space_before_and_in_a_document_changes_nothing() -> None:
    assert read(b"\xef\xbb\xbf" + response("\n <!-- PyWPS --> <wps:ProcessStarted/> \n")).remote is Remote.RUNNING


def test_a_latin_1_document_is_read_as_it_says_it_is() -> None:
    body = response("<wps:ProcessStarted>Müritz</wps:ProcessStarted>").decode().replace("UTF-8", "ISO-8859-1")
    assert read(body.encode("iso-8859-1")).message == "Müritz"


def test_a_failure_with_its_report_in_the_wrong_namespace_tells_why() -> None:
    failed = read(
        response(
            "<wps:ProcessFailed><wps:ExceptionReport>"
            '<ows:Exception exceptionCode="NoApplicableCode" locator="None">'
            "<ows:ExceptionText>Process error: no features specified</ows:ExceptionText></ows:Exception>"
            "</wps:ExceptionReport></wps:ProcessFailed>"
        )
    )
    assert (failed.remote, failed.error_code) == (Remote.FAILED, "NoApplicableCode")
    assert failed.message == "NoApplicableCode: Process error: no features specified"


def test_several_exceptions_with_and_without_code_are_all_told() -> None:
    several = report_of(
        report(
            "<ows:Exception><ows:ExceptionText>first</ows:ExceptionText></ows:Exception>",
            '<ows:Exception exceptionCode="InvalidParameterValue" locator="start">'
            "<ows:ExceptionText>second</ows:ExceptionText><ows:ExceptionText>third</ows:ExceptionText></ows:Exception>",
            '<ows:Exception exceptionCode="Mystery">text of its own</ows:Exception>',
        )
    )
    assert several == ExceptionReport(
        "InvalidParameterValue", "first; InvalidParameterValue of start: second third; Mystery: text of its own"
    )


def test_a_report_that_says_nothing_is_a_report() -> None:
    assert report_of(report("<ows:Exception/>")) == ExceptionReport("", "")


def test_a_stack_trace_is_cut() -> None:
    trace = (
        "<ows:Exception><ows:ExceptionText>" + "at org.geoserver " * 1000 + "</ows:ExceptionText></ows:Exception>"
    )
    assert len(report_of(report(trace)).message) < 2100


def test_every_kind_of_output_is_read_in_order() -> None:
    series = json.dumps({"type": "csv", "data": 'time,water\n2010-01-01,"0.5 & more"\n'})
    assert succeeded(
        "<ows:Identifier>image</ows:Identifier><ows:Title>x</ows:Title><wps:Data>"
        '<wps:LiteralData dataType="string">'
        "http://x/a.svg </wps:LiteralData></wps:Data>",
        "<ows:Identifier>series</ows:Identifier><wps:Data><wps:ComplexData "
        'mimeType="application/vnd.terriajs.catalog-member+json" encoding="" schema="">'
        f"{series.replace('&', '&amp;')}</wps:ComplexData></wps:Data>",
        "<ows:Identifier>table</ows:Identifier><wps:Data><wps:ComplexData><![CDATA[a,b\n1,<2>]]></wps:ComplexData>"
        "</wps:Data>",
        '<ows:Identifier>file</ows:Identifier><wps:Reference href="http://x/out/input" mimeType="text/csv"/>',
        '<ows:Identifier>linked</ows:Identifier><wps:Reference xlink:href="http://x/o?a=1&amp;b=2"/>',
        '<ows:Identifier>box</ows:Identifier><wps:Data><wps:BoundingBoxData crs="EPSG:4326" dimensions="2">'
        "<ows:LowerCorner> 143.1  -19.5 </ows:LowerCorner><ows:UpperCorner> 143.2 -19.4</ows:UpperCorner>"
        "</wps:BoundingBoxData></wps:Data>",
        "<ows:Identifier>nothing</ows:Identifier><wps:Data><wps:LiteralData>  </wps:LiteralData></wps:Data>",
    ) == (
        Output("image", "literal", "http://x/a.svg"),
        Output("series", "complex", series, "application/vnd.terriajs.catalog-member+json"),
        Output("table", "complex", "a,b\n1,<2>"),
        Output("file", "reference", "http://x/out/input", "text/csv"),
        Output("linked", "reference", "http://x/o?a=1&b=2"),
        Output("box", "bbox", "143.1 -19.5 143.2 -19.4"),
        Output("nothing", "literal", ""),
    )


def test_an_output_that_is_xml_itself_keeps_its_order_and_stays_with_its_name() -> None:
    outputs = succeeded(
        "<ows:Identifier>text</ows:Identifier><wps:Data><wps:ComplexData>plain</wps:ComplexData></wps:Data>",
        '<ows:Identifier>map</ows:Identifier><wps:Data><wps:ComplexData mimeType="text/xml">'
        '<k:doc xmlns:k="urn:k"><k:a>1</k:a><k:b>2</k:b><k:a>3</k:a></k:doc></wps:ComplexData></wps:Data>',
    )
    assert outputs[0].value == "plain"
    document = tree(outputs[1].value)
    assert [(one.tag, one.text) for one in document] == [("{urn:k}a", "1"), ("{urn:k}b", "2"), ("{urn:k}a", "3")]


def test_inputs_and_definitions_given_back_are_not_taken_for_outputs() -> None:
    lineage = (
        "<wps:DataInputs><wps:Input><ows:Identifier>geometry</ows:Identifier><wps:Data><wps:ComplexData>{}"
        "</wps:ComplexData></wps:Data></wps:Input></wps:DataInputs><wps:OutputDefinitions><wps:Output>"
        "<ows:Identifier>url</ows:Identifier></wps:Output></wps:OutputDefinitions><wps:ProcessOutputs><wps:Output>"
        "<ows:Identifier>url</ows:Identifier><wps:Data><wps:LiteralData>s3://a</wps:LiteralData></wps:Data>"
        "</wps:Output></wps:ProcessOutputs>"
    )
    assert read(response("<wps:ProcessSucceeded/>", lineage)).outputs == (Output("url", "literal", "s3://a"),)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (response("<wps:ProcessStarted/>")[:-30], "cut short"),
        (b"<!DOCTYPE html><html><body>Bad gateway<br></body></html>", "no XML"),
        (b"<html><body>Bad gateway</body></html>", "<html>"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "<Error>"),
        (b'{"status": "accepted"}', "no XML"),
        (b"\x89PNG\r\n", "no XML"),
        (response(""), "where the job stands"),
        (response("<wps:ProcessImproved/>"), "where the job stands"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "not read"),
    ],
)
def test_what_is_no_answer_is_no_verdict(body: bytes, why: str) -> None:
    with pytest.raises(UnreadableStatus, match=why):
        read_answer(body)


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY x "&b;&b;&b;&b;">',
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
    ],
)
def test_entities_are_refused(declared: str) -> None:
    started = response("<wps:ProcessStarted>&x;</wps:ProcessStarted>").decode()
    body = started.replace("?>", f"?><!DOCTYPE r [{declared}]>", 1).encode()
    with pytest.raises(UnreadableStatus, match="entities are disabled"):
        read_answer(body)


@pytest.mark.parametrize(
    ("code", "http_status", "kind"),
    [
        ("ServerBusy", 400, ThrottledError),
        ("ServerBusy", 200, ThrottledError),
        ("NoApplicableCode", 503, ThrottledError),
        ("NoApplicableCode", 500, RefusedForNow),
        ("Mystery", 502, RefusedForNow),
        ("NoApplicableCode", 400, RequestRefused),
        ("Mystery", 200, RequestRefused),
        ("", 400, RequestRefused),
        ("MissingParameterValue", 500, RequestRefused),
        ("InvalidParameterValue", 400, RequestRefused),
        ("OperationNotSupported", 501, RequestRefused),
        ("StorageNotSupported", 400, RequestRefused),
        ("VersionNegotiationFailed", 503, RequestRefused),
    ],
)
def test_the_code_of_a_refusal_decides_and_the_http_status_where_it_says_little(
    code: str, http_status: int, kind: type[Exception]
) -> None:
    meant = refusal(ExceptionReport(code, f"{code}: why"), http_status, "http://x/wps")
    assert type(meant) is kind
    assert f"{code}: why" in str(meant)
    if isinstance(meant, RequestRefused):
        assert (meant.code, meant.of_unit) == (code, False)


def test_what_is_too_large_is_the_fault_of_its_polygon_alone() -> None:
    meant = refusal(ExceptionReport("FileSizeExceeded", "too big"), 400, "http://x/wps")
    assert isinstance(meant, RequestRefused)
    assert meant.of_unit


def test_a_full_disk_is_waited_for_longer_than_a_full_queue() -> None:
    full = refusal(ExceptionReport("NotEnoughStorage", ""), 400, "http://x/wps")
    busy = refusal(ExceptionReport("ServerBusy", ""), 400, "http://x/wps", 7.0)
    assert isinstance(full, ThrottledError)
    assert isinstance(busy, ThrottledError)
    assert busy.retry_after_s == 7
    assert full.retry_after_s is not None
    assert full.retry_after_s > 60
