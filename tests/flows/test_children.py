"""What one flow asks of Prefect's API about others: one short of breath is asked again, a broken one told of."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import children
from tasks.errors import ServiceAway
from tests.webhook import listening


@contextmanager
def api_that_answers(*statuses: int) -> Iterator[list[int]]:
    """Be an API that knows no runs and answers with these statuses in turn, the last one for good."""
    answered: list[int] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses[min(len(answered), len(statuses) - 1)]
            answered.append(status)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"[]")

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Api) as address, temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        yield answered


def test_an_api_that_is_short_of_connections_for_a_moment_is_asked_again() -> None:
    run = str(uuid4())
    with api_that_answers(500, 500, 200) as answered:
        found = children.ended([run])
    assert found[run].outcome == children.GONE
    assert answered == [500, 500, 200]


def test_an_api_that_stays_broken_is_told_of() -> None:
    with api_that_answers(500), pytest.raises(ServiceAway, match="answers HTTP 500"):
        children.ended([str(uuid4())])
