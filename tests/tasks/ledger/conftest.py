"""Ledgers for tests, in a SQLite file and on a real Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.ledger.store import Ledger


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a new ledger goes."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    found: str = request.getfixturevalue("postgres_ledger")
    return found


@pytest.fixture
def ledger(place: str) -> Iterator[Ledger]:
    """Return a new ledger, open."""
    with Ledger.open(place) as opened:
        yield opened
