"""Connections tell when the other side has closed them, and when they are gone: such a one carries no request."""

import socket

import anyio
import httpcore

from tasks.polygons.streams import QuickNetwork


async def until_readable(stream: httpcore.AsyncNetworkStream) -> None:
    with anyio.fail_after(10):
        while not stream.get_extra_info("is_readable"):
            await anyio.sleep(0.01)


async def connect_and_be_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await QuickNetwork(httpcore.AnyIOBackend()).connect_tcp(*server.getsockname()[:2])
        other, _ = server.accept()
        assert stream.get_extra_info("is_readable") is False
        other.close()
        await until_readable(stream)


async def connect_and_be_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        network = QuickNetwork(httpcore.AnyIOBackend())
        stream = await network.connect_tcp(*server.getsockname()[:2])
        await stream.aclose()
        successor = await network.connect_tcp(*server.getsockname()[:2])  # takes the number of the first's socket
        assert stream.get_extra_info("is_readable") is True
        assert successor.get_extra_info("is_readable") is False
        await successor.aclose()


def test_a_connection_that_the_other_side_closed_is_not_idle() -> None:
    anyio.run(connect_and_be_closed)


def test_a_connection_that_is_gone_is_not_idle_whoever_has_its_socket_s_number_now() -> None:
    anyio.run(connect_and_be_gone)
