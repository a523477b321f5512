"""A small HTTP/1.1 server for answers that go wrong on purpose: late, cut short, reset.

It answers each request from one plain function without a coroutine, so that one core carries thousands of
requests a second beside the client that is under test.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

_LONGEST_HEAD = 65_536


@dataclass(frozen=True)
class Request:
    """One request; names of headers and of the query's parameters in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        after_s: how much later it is sent.
        ends: `whole`; `cut` sends half of the body that its length announces and closes; `reset` sends nothing
            and resets the connection.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/xml; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    after_s: float = 0
    ends: Literal["whole", "cut", "reset"] = "whole"


async def listen(host: str, port: int, answer: Callable[[Request], Reply]) -> asyncio.Server:
    """Listen, and answer every request by `answer`, in the loop; port 0 takes a free one."""
    return await asyncio.get_running_loop().create_server(lambda: _Connection(answer), host, port, backlog=4096)


class _Connection(asyncio.Protocol):
    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server has no others
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._transport = None
        if self._late:
            self._late.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._proceed()

    def _proceed(self) -> None:
        """Answer what has arrived whole, one after the other."""
        while self._transport is not None and self._late is None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                if len(self._received) > _LONGEST_HEAD:
                    self._send(Reply(431), keep=False)
                return
            try:
                method, target, version, headers = _head(bytes(self._received[:end]))
                length = int(headers.get("content-length", "0"))
            except ValueError:
                self._send(Reply(400), keep=False)
                return
            if "transfer-encoding" in headers:
                self._send(Reply(411), keep=False)
                return
            whole = end + 4 + length
            if len(self._received) < whole:
                if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    self._continued = True
                return
            body = bytes(self._received[end + 4 : whole])
            del self._received[:whole]
            self._continued = False
            path, query = urlsplit(target).path, parse_qsl(urlsplit(target).query)
            parameters = {name.lower(): value for name, value in query}
            keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
            reply = self._answer(Request(method, path, parameters, headers, body))
            if reply.after_s > 0:
                loop = asyncio.get_running_loop()
                self._late = loop.call_later(reply.after_s, self._send_late, reply, keep)
            else:
                self._send(reply, keep)

    def _send_late(self, reply: Reply, keep: bool) -> None:
        self._late = None
        self._send(reply, keep)
        self._proceed()

    def _send(self, reply: Reply, keep: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        if reply.ends == "reset":
            # Lingering for no time makes the kernel send RST in place of FIN.
            tcp = transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            self._transport = None
            return
        keep = keep and reply.ends == "whole"
        lines = [
            f"HTTP/1.1 {reply.status} {_reason(reply.status)}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        if not keep:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        transport.write(head + (reply.body[: len(reply.body) // 2] if reply.ends == "cut" else reply.body))
        if not keep:
            transport.close()
            self._transport = None


def _head(text: bytes) -> tuple[str, str, str, dict[str, str]]:
    lines = text.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target, version, headers


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
