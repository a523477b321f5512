"""A peer on loopback that answers each request with the next line of a script and remembers what it was sent."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

XML = "text/xml; charset=utf-8"


@dataclass(frozen=True)
class Line:
    """One answer.

    Attributes:
        http_status, body, kind, headers: what is sent.
        cut: so many bytes fewer are sent than were announced, and the connection is closed.
        endless: the body is sent again and again, without an announced length.
    """

    http_status: int = 200
    body: bytes = b""
    kind: str = XML
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    endless: bool = False


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Peer(ThreadingHTTPServer):
    """The peer; `"hang"` and `"reset"` are lines too."""

    daemon_threads = True

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.script: list[Line | str] = []
        self.asked: list[Asked] = []
        self.release = threading.Event()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """Where its WPS would be."""
        return f"{self.origin}/wps"

    def says(self, *lines: Line | str) -> None:
        """Add to the script."""
        self.script.extend(lines)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up."""


@contextmanager
def a_peer(host: str = "127.0.0.1") -> Iterator[Peer]:
    """Run one."""
    with Peer(host) as peer:
        thread = threading.Thread(target=peer.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield peer
        finally:
            peer.release.set()
            peer.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Peer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, body))
        line = self.server.script.pop(0)
        if isinstance(line, str):
            if line == "hang":
                self.server.release.wait(30)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response_only(line.http_status)
        self.send_header("Content-Type", line.kind)
        for name, value in line.headers.items():
            self.send_header(name, value)
        self.close_connection = line.endless or line.cut > 0
        if not line.endless:
            self.send_header("Content-Length", str(len(line.body)))
        self.end_headers()
        self.wfile.write(line.body[: len(line.body) - line.cut])
        while line.endless and not self.server.release.is_set():
            self.wfile.write(line.body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""
