"""The Prefect API that is set: used when it is ours, and told in a paragraph when it is not."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from deployments.supervise import free_port
from flows.cli.prefect_api import prefect_api_set
from tasks.errors import BadInput, CredentialsRefused, OverlanderError, ServiceAway

OURS = version("prefect")
Answering = Callable[[int, str], str]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """Return a function that sets an API address where every answer is the same."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = status != 401 or self.headers.get("Authorization") == "Basic dXNlcjpwYXNz"
                self.send_response(status if not allowed or status != 401 else 200)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        return url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)


def test_nothing_set_is_no_address() -> None:
    assert prefect_api_set() is None


def test_a_server_of_this_version_is_used(answering: Answering) -> None:
    url = answering(200, json.dumps(OURS))

    assert prefect_api_set() == url


def test_the_address_of_the_active_profile_counts(
    answering: Answering, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = answering(200, json.dumps(OURS))
    monkeypatch.delenv("PREFECT_API_URL")
    (tmp_path / "profiles.toml").write_text(f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{url}/"\n')

    assert prefect_api_set() == url


def test_a_server_of_another_version_is_refused_with_both_versions(answering: Answering) -> None:
    answering(200, '"2.20.3"')

    with pytest.raises(BadInput, match=rf"version 2\.20\.3.*{OURS}"):
        prefect_api_set()


def test_a_server_of_the_same_minor_version_is_used(answering: Answering) -> None:
    major, minor, _ = OURS.split(".", 2)
    url = answering(200, f'"{major}.{minor}.99"')

    assert prefect_api_set() == url


@pytest.mark.parametrize(
    ("status", "body"), [(404, "nothing here"), (200, "<html></html>"), (200, '{"a": 1}'), (400, "")]
)
def test_what_is_no_prefect_api_is_told_with_how_an_address_looks(
    answering: Answering, status: int, body: str
) -> None:
    answering(status, body)

    with pytest.raises(BadInput, match=r"no Prefect API.*ends with /api"):
        prefect_api_set()


def test_a_server_in_trouble_is_away(answering: Answering) -> None:
    answering(503, "busy")

    with pytest.raises(ServiceAway, match="HTTP 503"):
        prefect_api_set()


def test_credentials_are_asked_for_and_used(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    url = answering(401, json.dumps(OURS))
    with pytest.raises(CredentialsRefused, match="PREFECT_API_AUTH_STRING"):
        prefect_api_set()

    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "user:pass")
    assert prefect_api_set() == url


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{free_port()}/api", "somewhere"])
def test_an_address_where_nobody_is_is_told_with_what_to_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)

    with pytest.raises(OverlanderError, match="PREFECT_API_URL"):
        prefect_api_set()
