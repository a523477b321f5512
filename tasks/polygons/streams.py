"""Connections that say quickly whether the other side has closed them.

httpcore's pool asks that of every idle connection at each request and at each answer, and its own streams work
out both addresses to tell: an eighth of the processor time of a dispatch of short jobs.
"""

import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore


class QuickNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections by another backend."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as the other backend does."""
        return _QuickStream(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """Wait as the other backend does."""
        await self._network.sleep(seconds)


class _QuickStream(httpcore.AsyncNetworkStream):
    """A connection whose socket is looked up once."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket = stream.get_extra_info("socket")
        self._arrivals = select.poll()
        self._arrivals.register(self._socket, select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _QuickStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # an idle connection that is readable was closed
            # after a reset the socket may be gone already, and its number another's
            return self._socket.fileno() < 0 or bool(self._arrivals.poll(0))
        return self._stream.get_extra_info(info)
