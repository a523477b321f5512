"""The scripted peers of the tests of a WPS."""

from collections.abc import Iterator

import pytest

from tests.tasks.polygons.peer import Peer, a_peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    with a_peer() as scripted:
        yield scripted


@pytest.fixture
def elsewhere() -> Iterator[Peer]:
    """Another host, as the one that WIT's status documents lie on."""
    with a_peer("127.0.0.2") as scripted:
        yield scripted
