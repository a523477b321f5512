"""The ledger as a SQLite file: for one machine, on a local disk."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from tasks.errors import LedgerBusy, LedgerUnusable, OutputUnusable, OverlanderError
from tasks.ledger.database import Database, bring_up_to_date, check_version

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for another process's write before it counts as locked for too long."""


def open_file(path: Path, *, create: bool) -> Database:
    """Open the ledger at `path`; one that an older program made is brought up to date.

    Args:
        path: the file.
        create: make file, folder and tables when they are missing; several processes may do so at once.

    Raises:
        LedgerUnusable: it is newer than this program, no ledger at all, on a network file system, in a folder that
            cannot be written, or missing while `create` is false.
        OutputUnusable: the disk is full or failing.
        LedgerBusy: other processes kept it locked for too long.
    """
    path = path.absolute()
    _refuse_network_disk(path)
    if create:
        _create(path)
    elif not path.exists():
        raise LedgerUnusable(f"There is no ledger at {path} yet: run `overlander tile run` to make one.")
    border = partial(_border, path)
    found = Database(str(path), _engine(path, "BEGIN"), _engine(path, "BEGIN IMMEDIATE"), border)
    try:
        with border(), found.reads.connect() as connection:
            is_current = check_version(connection, str(path))
        if not is_current:
            _create(path)
    except BaseException:
        found.dispose()
        raise
    return found


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
        LedgerBusy,
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
        raise LedgerBusy(
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
            check_version(connection, str(path))
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as outside_transactions:
            (mode,) = outside_transactions.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise LedgerUnusable(
                f"The disk of {path} does not take SQLite's write-ahead log. Name a file on a local disk "
                "with OVERLANDER_LEDGER."
            )
        with engine.begin() as connection:
            if not check_version(connection, str(path)):
                bring_up_to_date(connection)
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
