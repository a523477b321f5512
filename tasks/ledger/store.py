"""The ledger as a resource: read from any thread, written through one thread that commits in groups.

What is peculiar to SQLite stands in the second half of this file; callers know SQLAlchemy Core only.
"""

import contextlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import psutil
from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from tasks.errors import LedgerUnusable, OutputUnusable, OverlanderError, TransientError
from tasks.ledger import schema

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for another process's write before it counts as locked for too long."""

T = TypeVar("T")


class Guard(Protocol):
    """What must still be so when a change is made; a `Lease` is one."""

    def check(self, connection: Connection) -> None:
        """Raise when the change must not be made."""


class Ledger:
    """An open ledger; close it, or use it in a `with` block.

    It belongs to the process that opened it: a child process opens its own. Its threads may share it.
    """

    def __init__(self, path: Path, reads: Engine, writes: Engine) -> None:
        """Take over both engines; callers use `open`."""
        self.path = path
        self._reads = reads
        self._writes = writes
        self._turn = threading.Condition()
        self._accepted: list[_Change] = []
        self._closed = False
        self._writer = threading.Thread(target=self._commit_groups, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """Open the ledger at `path`.

        Args:
            path: the SQLite file.
            create: make file, folder and tables when they are missing; several processes may do so at once.

        Raises:
            LedgerUnusable: it is newer than this program, no ledger at all, on a network file system, in a
                folder that cannot be written, or missing while `create` is false.
            OutputUnusable: the disk is full or failing.
            TransientError: other processes kept it locked for too long.
        """
        path = path.absolute()
        _refuse_network_disk(path)
        if create:
            _create(path)
        elif not path.exists():
            raise LedgerUnusable(f"There is no ledger at {path} yet: run `overlander tile run` to make one.")
        reads, writes = _engine(path, "BEGIN"), _engine(path, "BEGIN IMMEDIATE")
        try:
            with _border(path), reads.connect() as connection:
                _check_version(path, connection)
                is_old = _version(connection) != schema.VERSION
            if is_old:
                _create(path)
        except BaseException:
            reads.dispose()
            raise
        return cls(path, reads, writes)

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
            TransientError: other processes kept it locked for too long.
        """
        if threading.current_thread() is self._writer:
            raise RuntimeError("A change asked the ledger for another change: make both in one")
        outcome: Future[T] = Future()
        with self._turn:
            if self._closed:
                raise RuntimeError(f"The ledger {self.path} is closed")
            self._accepted.append(_Change(change, lease, outcome))
            self._turn.notify_all()
        with _border(self.path):
            return outcome.result()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees the ledger as of its first statement, and cannot write."""
        with _border(self.path), self._reads.connect() as connection:
            yield connection

    def close(self) -> None:
        """Commit what was accepted and let go of the file; a second call does nothing."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._writer.join()
        self._reads.dispose()
        self._writes.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _commit_groups(self) -> None:
        while group := self._next_group():
            _commit(self._writes, group)

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


def _version(connection: Connection) -> int | None:
    """Return the version of a ledger; None of an empty database."""
    if not inspect(connection).has_table(schema.ledger_version.name):
        return None
    return int(connection.scalars(select(schema.ledger_version.c.version)).one())


def _bring_up_to_date(connection: Connection) -> None:
    """Make the tables and columns that are missing, in a new ledger or in one that an older program made."""
    known = inspect(connection)
    for table in schema.METADATA.sorted_tables:
        if not known.has_table(table.name):
            continue
        there = {column["name"] for column in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    schema.METADATA.create_all(connection)
    connection.execute(schema.ledger_version.delete())
    connection.execute(schema.ledger_version.insert().values(version=schema.VERSION))


def _check_version(path: Path, connection: Connection) -> None:
    """Refuse a database that is not ours, or that a newer program wrote."""
    if not inspect(connection).has_table(schema.ledger_version.name):
        raise LedgerUnusable(
            f"{path} is a database but no ledger of Overlander's, and is left as it is. "
            "Name another file with OVERLANDER_LEDGER."
        )
    version = _version(connection)
    if version is not None and version > schema.VERSION:
        raise LedgerUnusable(
            f"The ledger {path} has version {version}, and this Overlander knows {schema.VERSION} at most: "
            "a newer one wrote it. Update Overlander, or name another file with OVERLANDER_LEDGER."
        )


# What is peculiar to a database

_CLOCKS = {
    # to the millisecond; unixepoch('subsec') would need SQLite 3.42
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())"),
}


def database_clock(connection: Connection) -> float:
    """Return the time on the database's clock, the one that all processes share, in seconds since 1970."""
    return float(connection.execute(_CLOCKS[connection.dialect.name]).scalar_one())


_INSERTS: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or where their primary key is there already set the columns they name and no others.

    Args:
        connection: of `Ledger.write`.
        table: one of the ledger's.
        rows: column name to value, all with the same columns; none is fine.
    """
    if not rows:
        return
    statement = _INSERTS[connection.dialect.name](table)
    named = {name: statement.excluded[name] for name in rows[0] if not table.c[name].primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=named), rows)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, and leave alone those that a unique constraint says are there already.

    Args:
        connection: of `Ledger.write`.
        table: one of the ledger's.
        rows: column name to value, all with the same columns; none is fine.
    """
    if rows:
        connection.execute(_INSERTS[connection.dialect.name](table).on_conflict_do_nothing(), rows)


_NETWORK_DISK = re.compile(
    r"(fuse\.)?(nfs\d?|cifs|smb\w*|afs|lustre|gpfs|beegfs\w*|sshfs|glusterfs|ceph(-fuse)?|s3fs|gcsfuse)"
)

_REFUSALS: dict[int, tuple[type[OverlanderError], str]] = {
    sqlite3.SQLITE_FULL: (
        OutputUnusable,
        "Make room on the disk, then run it again: nothing that was recorded is lost.",
    ),
    sqlite3.SQLITE_IOERR: (OutputUnusable, "The disk fails: check it, then run it again."),
    sqlite3.SQLITE_BUSY: (
        TransientError,
        "Other processes keep it locked: see with `fuser` who has it open, then run it again.",
    ),
    sqlite3.SQLITE_READONLY: (
        LedgerUnusable,
        "This user may not write it: change the permissions of the file and of its folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerUnusable,
        "Change the permissions of the file or of its folder, or name another file with OVERLANDER_LEDGER.",
    ),
    sqlite3.SQLITE_NOTADB: (
        LedgerUnusable,
        "It is no SQLite database, and is left as it is: name another file with OVERLANDER_LEDGER.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        LedgerUnusable,
        "It is damaged: put a copy back in its place, or move it away and survey the tiles again.",
    ),
}


@contextlib.contextmanager
def _border(path: Path) -> Iterator[None]:
    """Turn the database's refusals into ours; an error in a statement stays what it is."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        refusal = error.orig if isinstance(error, DBAPIError) else error
        primary_code = getattr(refusal, "sqlite_errorcode", 0) & 0xFF
        if primary_code not in _REFUSALS:
            raise
        kind, advice = _REFUSALS[primary_code]
        raise kind(f"The ledger {path} cannot be used: {refusal}. {advice}") from error


def _engine(path: Path, begin: Literal["BEGIN", "BEGIN IMMEDIATE"]) -> Engine:
    """Return an engine whose transactions open with `begin`; with the plain one it can only read.

    Left to itself, sqlite3 opens a transaction at the first write: too late for a claim, which reads before.
    Source: SQLAlchemy, SQLite dialect, "Enabling Non-Legacy SQLite Transactional Modes".
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        max_overflow=-1,  # a thread more that reads is a connection more, never a wait
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {begin == 'BEGIN'}")

    @event.listens_for(engine, "begin")
    def begin_ourselves(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _create(path: Path) -> None:
    """Make the folder, the file and the tables where they are missing; what is there stays.

    Processes take turns by a lock file: SQLite does not wait its busy timeout when two switch to WAL at once.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=BUSY_TIMEOUT_S), _border(path):
            _create_alone(path)
    except Timeout as error:
        raise TransientError(
            f"Another process has been making the ledger {path} for {BUSY_TIMEOUT_S:.0f} s: "
            f"see with `fuser` who has {path}.lock open, then run it again."
        ) from error
    except OSError as error:
        raise LedgerUnusable(
            f"The ledger {path} cannot be made: {error.strerror or error}. Make {path.parent} a folder that "
            "this user may write, or name another file with OVERLANDER_LEDGER."
        ) from error


def _create_alone(path: Path) -> None:
    engine = _engine(path, "BEGIN IMMEDIATE")
    try:
        with engine.connect() as connection:
            if inspect(connection).get_table_names():
                _check_version(path, connection)
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as outside_transactions:
            (mode,) = outside_transactions.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise LedgerUnusable(
                f"The disk of {path} does not take SQLite's write-ahead log. Name a file on a local disk "
                "with OVERLANDER_LEDGER."
            )
        with engine.begin() as connection:
            if _version(connection) != schema.VERSION:
                _bring_up_to_date(connection)
    finally:
        engine.dispose()


def _refuse_network_disk(path: Path) -> None:
    """Refuse a network file system, where two machines would write at once.

    Source: https://www.sqlite.org/wal.html, "does not work over a network filesystem".
    """
    resolved = path.resolve()
    above = [disk for disk in psutil.disk_partitions(all=True) if resolved.is_relative_to(disk.mountpoint)]
    above.sort(key=lambda disk: len(disk.mountpoint))  # stable: a later mount hides an equal one
    if above and _NETWORK_DISK.fullmatch(above[-1].fstype):
        raise LedgerUnusable(
            f"The ledger {path} lies on a network disk ({above[-1].fstype} at {above[-1].mountpoint}), where "
            "SQLite's locks do not hold. Name a file on a local disk with OVERLANDER_LEDGER."
        )
