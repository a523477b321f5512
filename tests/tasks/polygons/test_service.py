"""The WPS at its border: what each answer or silence means, and what is never repeated.

A scripted peer gives the answers and faults that a real service gives only now and then.
"""

import asyncio
import gzip
import socket
import tracemalloc
from dataclasses import replace

import pytest

from tasks.errors import (
    BadInput,
    CredentialsRefused,
    OverlanderError,
    RefusedForNow,
    RequestRefused,
    ServiceAway,
    ServiceTimedOut,
    ThrottledError,
    UncertainError,
    UnreadableStatus,
)
from tasks.polygons.jobs import InputValue, JobStatus, Order, Output, ProcessService, Remote
from tasks.polygons.service import WpsService
from tests.tasks.polygons.calls import (
    ACCEPTED,
    BUSY,
    HTML,
    LOST,
    ORDER,
    PASSWORD,
    RULES,
    STARTED,
    calling,
    checked,
    polled,
    submitted,
)
from tests.tasks.polygons.peer import Line, Peer
from tests.tasks.polygons.test_offer import CAPABILITIES, DESCRIPTION
from tests.tasks.polygons.test_wps import report, response

DATED = {"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2026 07:29:30 GMT"}


def test_it_is_a_process_service() -> None:
    service: ProcessService = WpsService("http://localhost/wps", RULES)
    assert service.url == "http://localhost/wps"


# Submitting


def test_a_request_is_posted_once_as_xml_and_its_status_location_is_made_whole(peer: Peer) -> None:
    assert submitted(peer, Line(200, ACCEPTED)) == JobStatus(
        Remote.ACCEPTED, f"{peer.origin}/outputs/1.xml", None, "taken"
    )
    (asked,) = peer.asked
    assert (asked.method, asked.path) == ("POST", "/wps")
    assert asked.headers["content-type"].startswith("text/xml")
    assert b'storeExecuteResponse="true"' in asked.body


@pytest.mark.parametrize("http_status", [200, 201, 400, 500])
def test_the_body_counts_whatever_the_http_status(http_status: int, peer: Peer) -> None:
    assert submitted(peer, Line(http_status, ACCEPTED)).remote is Remote.ACCEPTED


def test_in_sync_mode_the_answer_is_the_result_and_may_take_longer(peer: Peer) -> None:
    outputs = (
        "<wps:ProcessOutputs><wps:Output><ows:Identifier>url</ows:Identifier><wps:Data><wps:LiteralData>s3://a"
        "</wps:LiteralData></wps:Data></wps:Output></wps:ProcessOutputs>"
    )
    line = Line(200, response("<wps:ProcessSucceeded/>", outputs, location=None))
    answer = submitted(peer, line, rules=replace(RULES, mode="sync"))
    assert answer == JobStatus(Remote.SUCCESSFUL, outputs=(Output("url", "literal", "s3://a"),))
    assert b'storeExecuteResponse="false"' in peer.asked[0].body
    impatient = replace(RULES, mode="sync", timeout_s=30, sync_timeout_s=0.2)
    with pytest.raises(UncertainError):
        submitted(peer, "hang", rules=impatient)


@pytest.mark.parametrize(
    "fault",
    [
        "hang",
        "reset",
        Line(200, ACCEPTED, cut=20),
        Line(200, ACCEPTED[:-20]),
        Line(200, b""),
        Line(200, HTML, "text/html"),
        Line(500, HTML, "text/html"),
        Line(502, HTML, "text/html"),
        Line(504, b"", "text/html"),
        Line(503, b"upstream connect error or disconnect/reset before headers.", "text/plain"),
        Line(303, b"", headers={"Location": "/elsewhere"}),
        Line(408, HTML, "text/html"),
        Line(200, ACCEPTED + b" " * 5000),
        Line(200, b" " * 500, endless=True),
    ],
)
def test_what_may_have_arrived_is_uncertain_and_is_sent_once(fault: Line | str, peer: Peer) -> None:
    with pytest.raises(UncertainError, match="may be at work or not") as uncertain:
        submitted(peer, fault, rules=replace(RULES, max_body_bytes=4000))
    assert len(peer.asked) == 1
    assert "\n" not in str(uncertain.value)


def test_where_nothing_listens_nothing_was_sent(peer: Peer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/wps"
        with pytest.raises(ServiceAway, match="Nothing was sent"):
            calling(peer, lambda service: service.submit(ORDER), url=url)


def test_where_no_connection_comes_free_nothing_was_sent(peer: Peer) -> None:
    async def two_at_once(service: WpsService) -> list[JobStatus | BaseException]:
        return await asyncio.gather(service.submit(ORDER), service.submit(ORDER), return_exceptions=True)

    peer.says("hang")
    rules = replace(RULES, max_connections=1, mode="sync", sync_timeout_s=1.5)
    kinds = {type(one) for one in calling(peer, two_at_once, rules)}
    assert kinds == {UncertainError, ServiceAway}
    assert len(peer.asked) == 1


@pytest.mark.parametrize(
    ("line", "kind", "retry_after_s"),
    [
        (Line(400, BUSY), ThrottledError, None),
        (Line(400, BUSY, headers={"Retry-After": "7"}), ThrottledError, 7),
        (Line(503, HTML, "text/html", {"Retry-After": "12"}), ThrottledError, 12),
        (Line(503, HTML, "text/html", DATED), ThrottledError, 90),
        (Line(503, HTML, "text/html", {"Retry-After": "soon"}), ThrottledError, None),
        (Line(503, b"", "text/html"), ThrottledError, None),
        (Line(429, b"", "text/plain"), ThrottledError, None),
        (Line(500, LOST), RefusedForNow, None),
        (Line(404, HTML, "text/html"), RefusedForNow, None),
    ],
)
def test_a_refusal_for_now_is_told_from_one_for_good(
    line: Line, kind: type[OverlanderError], retry_after_s: float | None, peer: Peer
) -> None:
    with pytest.raises(OverlanderError) as refused:
        submitted(peer, line)
    assert type(refused.value) is kind
    assert getattr(refused.value, "retry_after_s", None) == retry_after_s


@pytest.mark.parametrize(
    ("line", "code", "of_unit"),
    [
        (
            Line(400, report('<ows:Exception exceptionCode="InvalidParameterValue"/>')),
            "InvalidParameterValue",
            False,
        ),
        (Line(400, report('<ows:Exception exceptionCode="FileSizeExceeded"/>')), "FileSizeExceeded", True),
        (Line(400, LOST), "NoApplicableCode", False),
        (Line(413, HTML, "text/html"), "HTTP 413", True),
        (Line(405, HTML, "text/html"), "HTTP 405", False),
        (Line(301, b"", headers={"Location": "https://example.org/wps"}), "HTTP 301", False),
    ],
)
def test_a_refusal_for_good_has_its_code(line: Line, code: str, of_unit: bool, peer: Peer) -> None:
    with pytest.raises(RequestRefused) as refused:
        submitted(peer, line)
    assert (refused.value.code, refused.value.of_unit) == (code, of_unit)
    assert len(peer.asked) == 1


# Polling


def test_a_status_keeps_the_location_it_was_asked_by(peer: Peer) -> None:
    first = f"{peer.origin}/outputs/1.xml?sign=a%2Fb"
    other = Line(200, response("<wps:ProcessStarted/>", location=f"{peer.origin}/other.xml"))
    for line in (STARTED, other):
        assert polled(peer, line, location=first).status_location == first
    assert [asked.path for asked in peer.asked] == ["/outputs/1.xml?sign=a%2Fb"] * 2


def test_a_status_document_in_an_answer_that_says_error_is_read(peer: Peer) -> None:
    assert polled(peer, replace(STARTED, http_status=500)).percent == 5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (Line(200, b""), "empty"),
        (Line(200, ACCEPTED[:-40]), "cut short"),
        (Line(200, ACCEPTED, cut=40), "cut short"),
        (Line(404, HTML, "text/html"), "404"),
        (Line(403, b"<Error><Code>AccessDenied</Code></Error>"), "403"),
        (Line(200, HTML, "text/html"), "no XML"),
        (Line(502, HTML, "text/html"), "502"),
        (Line(500, LOST), "database is locked"),
        (Line(200, ACCEPTED + b" " * 5000), "OVERLANDER_WPS_MAX_BODY_BYTES"),
        (Line(200, b" " * 500, endless=True), "larger than 4000 bytes"),
        (Line(200, gzip.compress(b" " * 10**6), headers={"Content-Encoding": "gzip"}), "larger than 4000 bytes"),
    ],
)
def test_a_poll_that_is_no_verdict_says_why_and_where(line: Line, why: str, elsewhere: Peer, peer: Peer) -> None:
    location = f"{elsewhere.origin}/outputs/1.xml?signature={PASSWORD}"
    elsewhere.says(line)
    with pytest.raises(UnreadableStatus, match=why) as unreadable:
        polled(peer, location=location, rules=replace(RULES, allowed_hosts=("127.0.0.2",), max_body_bytes=4000))
    assert f"{elsewhere.origin}/outputs/1.xml" in str(unreadable.value)
    assert PASSWORD not in str(unreadable.value)


def test_a_compressed_status_is_read(peer: Peer) -> None:
    packed = Line(200, gzip.compress(STARTED.body), headers={"Content-Encoding": "gzip"})
    assert polled(peer, packed).remote is Remote.RUNNING


def test_a_huge_answer_is_not_held_in_memory(peer: Peer) -> None:
    limit = 2**20
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableStatus, match="larger than"):
            polled(peer, Line(200, b" " * 2**16, endless=True), rules=replace(RULES, max_body_bytes=limit))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 16 * limit


def test_a_large_result_within_the_limit_is_read(peer: Peer) -> None:
    table = "2010-01-01,0.5\n" * 50_000
    outputs = (
        "<wps:ProcessOutputs><wps:Output><ows:Identifier>t</ows:Identifier><wps:Data><wps:ComplexData>"
        f"{table}</wps:ComplexData></wps:Data></wps:Output></wps:ProcessOutputs>"
    )
    status = polled(peer, Line(200, response("<wps:ProcessSucceeded/>", outputs)))
    assert status.outputs[0].value == table.strip()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("hang", ServiceTimedOut),
        ("reset", ServiceAway),
        (Line(429, b"", headers={"Retry-After": "3"}), ThrottledError),
        (Line(503, HTML, "text/html"), ThrottledError),
        (Line(400, BUSY), ThrottledError),
        (Line(401, HTML, "text/html"), CredentialsRefused),
    ],
)
def test_trouble_while_polling_has_its_class(line: Line | str, kind: type[OverlanderError], peer: Peer) -> None:
    with pytest.raises(kind):
        polled(peer, line)


def test_outputs_came_with_the_status(peer: Peer) -> None:
    done = JobStatus(Remote.SUCCESSFUL, outputs=(Output("url", "literal", "s3://a"),))
    assert calling(peer, lambda service: service.results(done)) == done.outputs


# Checking


def test_a_service_that_offers_what_would_be_sent_passes_and_is_asked_about_a_process_once(peer: Peer) -> None:
    fits = Order("WIT", (InputValue("geometry", "{}"),))
    description = DESCRIPTION.replace(
        b"<Input><ows:Identifier>area</ows:Identifier><BoundingBoxData/></Input>", b""
    )
    checked(peer, Line(200, CAPABILITIES), Line(200, description.replace(b'"False"', b'"true"')), order=fits)
    assert [asked.path.partition("?")[2] for asked in peer.asked] == [
        "service=WPS&request=GetCapabilities&acceptVersions=1.0.0",
        "service=WPS&request=DescribeProcess&version=1.0.0&identifier=WIT",
    ]
    assert {asked.method for asked in peer.asked} == {"GET"}


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (Order("WITT", ()), "has no process WITT. It has: WIT, Mangrove Cover Drill"),
        (Order("WIT", ()), "the input geometry is missing"),
    ],
)
def test_what_the_service_does_not_offer_is_refused_and_nothing_is_sent(
    order: Order, why: str, peer: Peer
) -> None:
    with pytest.raises(BadInput, match=why):
        checked(peer, Line(200, CAPABILITIES), Line(200, DESCRIPTION), order=order)
    assert {asked.method for asked in peer.asked} == {"GET"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (Line(200, HTML, "text/html"), r"200 OK \(text/html\)"),
        (Line(200, b""), "empty"),
        (Line(404, HTML, "text/html"), "404"),
        (Line(200, report('<ows:Exception exceptionCode="VersionNegotiationFailed"/>')), "ExceptionReport"),
        (Line(200, CAPABILITIES.replace(b'version="1.0.0"', b'version="2.0.0"')), r"speaks WPS 2\.0\.0"),
        (Line(302, headers={"Location": "https://example.org/login"}), "302 Found to https://example.org/login"),
    ],
)
def test_what_is_no_wps_is_told_in_one_paragraph(line: Line, why: str, peer: Peer) -> None:
    with pytest.raises(BadInput, match=why) as told:
        checked(peer, line)
    assert "OVERLANDER_WPS_URL" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("hang", ServiceTimedOut),
        ("reset", ServiceAway),
        (Line(200, CAPABILITIES, cut=50), ServiceAway),
        (Line(503, HTML, "text/html"), ServiceAway),
        (Line(500, LOST), ServiceAway),
        (Line(401, HTML, "text/html"), CredentialsRefused),
        (Line(403, HTML, "text/html"), CredentialsRefused),
    ],
)
def test_a_service_in_trouble_is_no_bad_input(line: Line | str, kind: type[OverlanderError], peer: Peer) -> None:
    with pytest.raises(kind):
        checked(peer, line)


# The rest


def test_a_job_of_plain_wps_1_cannot_be_cancelled_and_nothing_is_asked(peer: Peer) -> None:
    location = f"{peer.origin}/outputs/1.xml"
    assert not calling(peer, lambda service: service.cancel(location))
    assert peer.asked == []


@pytest.mark.parametrize(
    ("answer", "dismissed"), [(STARTED, True), (Line(400, LOST), False), (Line(200, LOST), False)]
)
def test_a_job_is_dismissed_where_the_service_names_that_operation(
    answer: Line, dismissed: bool, peer: Peer
) -> None:
    offers = CAPABILITIES.replace(b'<ows:Operation name="Execute"/>', b'<ows:Operation name="Dismiss"/>')
    peer.says(Line(200, offers), answer)
    location = "http://elsewhere.test/ows?service=WPS&request=GetExecutionStatus&executionId=7-a"
    assert calling(peer, lambda service: service.cancel(location)) is dismissed
    assert peer.asked[1].path == "/wps?service=WPS&request=Dismiss&version=1.0.0&executionId=7-a"


def test_a_job_is_left_alone_where_the_service_does_not_name_that_operation(peer: Peer) -> None:
    peer.says(Line(200, CAPABILITIES))
    assert not calling(peer, lambda service: service.cancel(f"{peer.origin}/ows?executionId=7"))


def test_the_operation_in_a_url_that_was_copied_is_dropped() -> None:
    copied = "https://ows.dev.dea.ga.gov.au/wps/?service=WPS&request=Execute"
    assert WpsService(copied, RULES).url == "https://ows.dev.dea.ga.gov.au/wps/"


@pytest.mark.parametrize("url", ["http://a:b@host/wps", "http://host/wps?key=c", "host:80/wps", "http://host:abc"])
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="OVERLANDER_WPS_URL"):
        WpsService(url, RULES)
