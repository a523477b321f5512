"""The ledger as a resource: read from any thread, written through one thread that commits in groups.

Which database it is stands behind `database.py`; callers know SQLAlchemy Core only.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tasks.ledger.database import Database
from tasks.ledger.sqlite_file import open_file
from tasks.settings import is_url

T = TypeVar("T")


class Guard(Protocol):
    """What must still be so when a change is made; a `Lease` is one."""

    def check(self, connection: Connection) -> None:
        """Raise when the change must not be made."""


class Ledger:
    """An open ledger; close it, or use it in a `with` block.

    It belongs to the process that opened it: a child process opens its own. Its threads may share it.
    """

    def __init__(self, database: Database) -> None:
        """Take over an open database; callers use `open`."""
        self.name = database.name
        self._database = database
        self._turn = threading.Condition()
        self._accepted: list[_Change] = []
        self._closed = False
        self._writer = threading.Thread(target=self._commit_groups, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, place: Path | str, *, create: bool = True) -> Self:
        """Open a ledger.

        Args:
            place: a SQLite file, or a database as postgresql://user@host/database.
            create: make what is missing; several processes may do so at once.

        Raises:
            LedgerUnusable: it is newer than this program, no ledger at all, on a network file system, where it
                cannot be written, or missing while `create` is false.
            OutputUnusable: the disk is full or failing.
            LedgerBusy: others kept it locked for too long.
            ServiceAway, CredentialsRefused, PartMissing, BadInput: as `postgres.open_server`.
        """
        if is_url(place):
            from tasks.ledger.postgres import open_server  # only where it is used: its driver may be missing

            return cls(open_server(str(place), create=create))
        return cls(open_file(Path(place), create=create))

    def write(self, change: Callable[[Connection], T], lease: Guard | None = None) -> T:
        """Make a change and return its result once it is committed and on disk.

        What several threads ask for at the same time shares one commit. A change that raises is undone alone,
        and its exception is raised here. Interrupted while it waits, the change is committed all the same.

        Args:
            change: gets a connection inside a transaction. It neither commits nor keeps that, and is quick:
                the writers of all processes wait for it.
            lease: what the change is made under; checked first, in the same transaction.

        Raises:
            LeaseLost: the lease is no longer ours; nothing was changed.
            OutputUnusable: the disk is full or failing.
            LedgerUnusable: the ledger cannot be written, or is damaged.
            LedgerBusy: other processes kept it locked for too long, or wrote the same; nothing was changed.
            ServiceAway: the server is away; the change may have been made.
        """
        if threading.current_thread() is self._writer:
            raise RuntimeError("A change asked the ledger for another change: make both in one")
        outcome: Future[T] = Future()
        with self._turn:
            if self._closed:
                raise RuntimeError(f"The ledger {self.name} is closed")
            self._accepted.append(_Change(change, lease, outcome))
            self._turn.notify_all()
        with self._database.border():
            return outcome.result()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees the ledger as of its first statement, and cannot write."""
        with self._database.border(), self._database.reads.connect() as connection:
            yield connection

    def close(self) -> None:
        """Commit what was accepted and let go of the database; a second call does nothing."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._writer.join()
        self._database.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _commit_groups(self) -> None:
        while group := self._next_group():
            _commit(self._database.writes, group)

    def _next_group(self) -> "list[_Change]":
        """Return all changes that wait; none when the ledger is closed and nothing is left."""
        with self._turn:
            self._turn.wait_for(lambda: self._accepted or self._closed)
            group, self._accepted = self._accepted, []
            return group


@dataclass(frozen=True)
class _Change:
    make: Callable[[Connection], Any]
    guard: Guard | None
    outcome: Future[Any]


def _commit(engine: Engine, group: list[_Change]) -> None:
    """Make the changes in one transaction; tell their callers only when it is committed."""
    try:
        with engine.begin() as connection:
            tell_callers = [_attempt(connection, change) for change in group]
    except BaseException as error:  # noqa: BLE001 - each caller raises it
        tell_callers = [partial(change.outcome.set_exception, error) for change in group]
    for tell in tell_callers:
        tell()


def _attempt(connection: Connection, change: _Change) -> Callable[[], None]:
    """Make one change inside a savepoint; return what tells its caller how it went."""
    savepoint = connection.begin_nested()
    try:
        if change.guard:
            change.guard.check(connection)
        result = change.make(connection)
        savepoint.commit()
    except BaseException as error:  # noqa: BLE001 - its caller raises it
        try:
            savepoint.rollback()
        except SQLAlchemyError:
            # On a full or failing disk SQLite may have rolled back the whole group, with the savepoint.
            raise error from None
        return partial(change.outcome.set_exception, error)
    return partial(change.outcome.set_result, result)
