"""The ledger for many jobs on one event loop: what they write at about the same time is one commit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection

from tasks.errors import LedgerBusy
from tasks.ledger.leases import Lease
from tasks.ledger.store import Ledger

T = TypeVar("T")

_TRIES = 4
"""Of a group that other runs are in the way of: each time one of them gets on."""


@dataclass
class _Entry:
    change: Callable[[Connection], Any]
    result: Any = None
    committed: bool = False
    settled: anyio.Event = field(default_factory=anyio.Event)


class Journal:
    """Writes of one run. `keep` runs beside its users; when that fails, so does the run.

    Users wait until what they wrote is on disk; the loop goes on meanwhile.
    """

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        """Prepare; `lease` is checked with each commit."""
        self._ledger = ledger
        self._lease = lease
        self._waiting: list[_Entry] = []
        self._more = anyio.Event()
        self._closed = False

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Make a change and return its result once it is committed; one that was undone may be made again.

        Raises:
            ClosedResourceError: `keep` has ended, and nothing was changed; it says why.
        """
        entry = _Entry(change)
        if not self._closed:
            self._waiting.append(entry)
            self._more.set()
            await entry.settled.wait()
        if not entry.committed:
            raise anyio.ClosedResourceError
        result: T = entry.result
        return result

    async def keep(self) -> None:
        """Commit what is written, until cancelled.

        Raises:
            LeaseLost: another run took over what this one had.
            LedgerBusy: others were in the way several times in a row.
            OverlanderError: the ledger cannot be written.
        """
        group: list[_Entry] = []
        try:
            while True:
                await self._more.wait()
                self._more = anyio.Event()
                group, self._waiting = self._waiting, []
                await anyio.to_thread.run_sync(self._commit, group)
                for entry in group:
                    entry.settled.set()
        finally:
            self._closed = True
            for entry in group + self._waiting:
                entry.settled.set()

    def _commit(self, group: list[_Entry]) -> None:
        def all_of_them(connection: Connection) -> None:
            for entry in group:
                entry.result = entry.change(connection)

        for left in reversed(range(_TRIES)):
            try:
                self._ledger.write(all_of_them, lease=self._lease)
                break
            except LedgerBusy:
                if not left:
                    raise
        for entry in group:
            entry.committed = True
