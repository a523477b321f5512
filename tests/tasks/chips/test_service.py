"""The change-results service at its border: what each answer means, and what is never repeated.

A scripted server gives the answers that the sandbox's service gives only when told to; the shape of each is in
docs of the service (lcmap-changes, specifications_test.clj) and checked against the sandbox's own.
"""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.chips.grid import Chip
from tasks.chips.service import ChangeResults
from tasks.errors import BadInput, PermanentError, ServiceAway, ServiceTimedOut, ThrottledError, UncertainError

CHIP = Chip(-585, 2805)
ALGORITHM = "lcmap-pyccd:1.4.0rc1"
FIRST = {
    "chip_x": -585,
    "chip_y": 2805,
    "algorithm": ALGORITHM,
    "x": -585,
    "y": 2805,
    "chip_update_requested": "2017-07-21T10:00:00.123Z",
    "inputs_url": "http://localhost/inputs",
    "refresh": False,
    "algorithm-available": True,
    "source-data-available": True,
}
RESULT = {"result": None, "result_ok": None, "result_md5": None, "result_produced": None, "inputs_md5": None}


class Scripted(ThreadingHTTPServer):
    """Answers each request with the next line of a script and remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, str, bytes] | str] = []
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/changes"

    def says(self, status: int, body: object, kind: str = "application/json") -> None:
        text = body if isinstance(body, str) and kind != "application/json" else json.dumps(body)
        self.script.append((status, kind, text.encode()))


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        line = self.server.script.pop(0)
        if line == "hang":
            self.server.release.wait(30)
            return
        if line == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, kind, body = line
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        if status in (301, 302):
            self.send_header("Location", "https://example.org/login")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield scripted
        finally:
            scripted.release.set()
            scripted.shutdown()
            thread.join()


@pytest.fixture
def service(server: Scripted) -> Iterator[ChangeResults]:
    with ChangeResults(server.url, timeout_s=0.3, connect_timeout_s=2) as connected:
        yield connected


def test_the_four_answers_are_told_apart(server: Scripted, service: ChangeResults) -> None:
    produced = RESULT | {"result": "{}", "result_ok": True, "result_md5": "x", "result_produced": "2017-07-21"}
    server.says(202, FIRST)
    server.says(202, FIRST | RESULT)
    server.says(200, FIRST | produced)
    answers = [service.request(CHIP, ALGORITHM, refresh=False) for _ in range(3)]
    assert [answer.answer for answer in answers] == ["queued", "ticketed", "present"]
    assert answers[0].update_requested == datetime(2017, 7, 21, 10, 0, 0, 123000)  # noqa: DTZ001
    server.says(422, {"algorithm": ALGORITHM, "x": 1, "y": 2, "refresh": False, "algorithm-available": False})
    with pytest.raises(PermanentError, match="422"):
        service.request(CHIP, ALGORITHM, refresh=False)


def test_the_prefix_the_colon_and_the_flag_are_in_the_path(server: Scripted, service: ChangeResults) -> None:
    for refresh in (False, True):
        server.says(202, FIRST)
        service.request(CHIP, ALGORITHM, refresh=refresh)
    path = f"/v1/changes/results/{ALGORITHM}/-585/2805?refresh="
    assert server.asked == [f"{path}false", f"{path}true"]


@pytest.mark.parametrize("fault", ["hang", "reset", "500", "502", "html"])
def test_what_may_have_arrived_is_uncertain_and_is_sent_once(
    fault: str, server: Scripted, service: ChangeResults
) -> None:
    if fault in ("hang", "reset"):
        server.script.append(fault)
    elif fault == "500":
        server.says(500, {"class": "x", "cause": "y", "message": "z"})
    elif fault == "502":
        server.says(502, "<html>Bad gateway</html>", "text/html")
    else:
        server.says(200, "<html>Welcome</html>", "text/html")
    with pytest.raises(UncertainError, match="may be queued or not"):
        service.request(CHIP, ALGORITHM, refresh=True)
    assert len(server.asked) == 1


def test_too_many_requests_is_no_refusal_and_says_for_how_long(server: Scripted, service: ChangeResults) -> None:
    for after_s, said in (("17", 17.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
        server.headers = {"Retry-After": after_s}
        server.says(429, "<html>Slow down</html>", "text/html")
        server.says(429, "<html>Slow down</html>", "text/html")
        with pytest.raises(ThrottledError, match="too many requests") as asked:
            service.request(CHIP, ALGORITHM, refresh=True)
        with pytest.raises(ThrottledError):
            service.check(ALGORITHM)
        assert asked.value.retry_after_s == said


def test_where_nothing_listens_nothing_was_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with ChangeResults(url, 1, 1) as service, pytest.raises(ServiceAway, match=url):
        service.request(CHIP, ALGORITHM, refresh=False)


def test_an_enabled_algorithm_passes_the_check(server: Scripted, service: ChangeResults) -> None:
    server.says(200, {"algorithm": ALGORITHM, "enabled": True, "inputs_url_template": "t"})
    service.check(ALGORITHM)
    assert server.asked == [f"/v1/changes/algorithm/{ALGORITHM}"]


def test_an_unknown_algorithm_is_told_with_those_known(server: Scripted, service: ChangeResults) -> None:
    server.says(404, f"{ALGORITHM} not found.")
    server.says(200, [{"algorithm": "lcmap-pyccd:2017.08.18", "enabled": True}])
    with pytest.raises(BadInput, match=r"does not know.*lcmap-pyccd:2017\.08\.18"):
        service.check(ALGORITHM)


@pytest.mark.parametrize(
    ("status", "body", "kind", "why"),
    [
        (200, {"algorithm": ALGORITHM, "enabled": False}, "application/json", "disabled"),
        (404, "<html>Not found</html>", "text/html", "path prefix"),
        (200, "<html>Welcome</html>", "text/html", "is not the change-results service"),
        (302, "", "text/html", "302 Found to https://example.org/login"),
        (200, ["a list"], "application/json", "is not the change-results service"),
    ],
)
def test_what_is_not_the_service_is_refused_before_anything_is_asked(
    status: int, body: object, kind: str, why: str, server: Scripted, service: ChangeResults
) -> None:
    server.says(status, body, kind)
    with pytest.raises(BadInput, match=why):
        service.check(ALGORITHM)


def test_a_service_that_does_not_answer_the_check_timed_out(server: Scripted, service: ChangeResults) -> None:
    server.script.append("hang")
    with pytest.raises(ServiceTimedOut):
        service.check(ALGORITHM)


def test_a_service_in_trouble_is_away_and_no_bad_input(server: Scripted, service: ChangeResults) -> None:
    server.says(503, "<html>Try later</html>", "text/html")
    with pytest.raises(ServiceAway, match="503"):
        service.check(ALGORITHM)


@pytest.mark.parametrize("url", ["http://user:secret@localhost/x", "http://localhost/x?key=secret"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match="password or a query") as refused:
        ChangeResults(url, 1, 1)
    assert "secret" not in str(refused.value)


def test_a_url_with_a_port_that_is_none_is_one_paragraph() -> None:
    with pytest.raises(BadInput, match="is no URL"):
        ChangeResults("http://host:abc", 1, 1)


@pytest.mark.parametrize("url", ["localhost:5778", "ftp://host", "http://", "not a url"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="no URL of a service"):
        ChangeResults(url, 1, 1)
