"""Leases: who is at work on what, so that two runs never are on the same tile.

A lease expires by the database's clock, and at once when its holder ran on this host and is gone. Its epoch
grows with each claim, and every write under it checks that epoch inside its own transaction: a holder that
was stopped past its time and wakes finds that it may no longer write.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, Row, select, update

from tasks.errors import LeaseHeld, LeaseLost, OverlanderError
from tasks.ledger.database import database_clock, insert_new
from tasks.ledger.schema import leases
from tasks.ledger.store import Ledger

_log = logging.getLogger(__name__)
_SAME_START_S = 2.0  # psutil adds the start in ticks to the time of boot, and that drifts with the clock
_NOBODY = ""


@dataclass(frozen=True)
class Lease:
    """The right to work on what `name` says, until it is released or `lost` is set."""

    name: str
    epoch: int
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self, connection: Connection) -> None:
        """Raise LeaseLost when it is no longer ours; `ledger.write(change, lease=...)` asks."""
        row = _row(connection, self.name)
        if row.epoch != self.epoch or row.holder == _NOBODY:
            self.lost.set()
            by = "" if row.holder == _NOBODY else f" It is {_Holder.from_json(row.holder)} now."
            raise LeaseLost(
                f"{self.name} is no longer this run's to work on: its lease was released or not renewed in "
                f"time.{by} Nothing more is written; run it again when nobody else is at work on it."
            )


@contextlib.contextmanager
def lease(ledger: Ledger, name: str, words: str, ttl_s: float = 60) -> Iterator[Lease]:
    """Hold the lease `name` for the length of a block, renewing it in the background.

    Args:
        ledger: where it is written; it stays open longer than the block.
        name: what to work on alone, as 'tile LCMAP H05V03'.
        words: who asks, for the message that others get, as 'overlander tile run H05V03'.
        ttl_s: others may take over so long after the last renewal; it is renewed three times as often.

    Raises:
        LeaseHeld: someone else is at work on it.
    """
    held = Lease(name, ledger.write(partial(_claim, name=name, words=words, ttl_s=ttl_s)))
    released = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(ledger, held, ttl_s, released), name=f"lease {name}", daemon=True
    )
    keeper.start()
    try:
        yield held
    finally:
        released.set()
        keeper.join()
        try:
            ledger.write(partial(_release, name=name), lease=held)
        except LeaseLost:
            pass
        except OverlanderError as error:
            _log.warning("The lease on %s could not be released and ends in %.0f s: %s", name, ttl_s, error)


def end_if_over(connection: Connection, name: str) -> bool:
    """Tell whether nobody holds the lease `name`; one whose holder is gone or out of time is ended for good.

    Args:
        connection: of `Ledger.write`: whoever held it and wakes finds, before its next write, that it lost it.
        name: as it was claimed; a name that never was is nobody's.
    """
    found = select(leases).where(leases.c.name == name)
    for query in (found, found.with_for_update()):  # a lease that is held is never waited for
        row = connection.execute(query).one_or_none()
        if row is None or row.holder == _NOBODY:
            return True
        if database_clock(connection) < row.expires_at and not _Holder.from_json(row.holder).is_known_to_be_gone():
            return False
    _release(connection, name)
    return True


@dataclass(frozen=True)
class _Holder:
    """A process that holds a lease."""

    host: str
    machine: str | None  # None: it cannot be told from others
    pid: int
    created: float  # seconds since 1970
    words: str

    @classmethod
    def this_process(cls, words: str) -> "_Holder":
        return cls(socket.gethostname(), _machine(), os.getpid(), psutil.Process().create_time(), words)

    @classmethod
    def from_json(cls, document: str) -> "_Holder":
        return cls(**json.loads(document))

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def is_known_to_be_gone(self) -> bool:
        """Whether it ran on this machine and does no more; of other machines nothing is known."""
        if self.machine is None or self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            started_apart_s = abs(process.create_time() - self.created)
            return process.status() == psutil.STATUS_ZOMBIE or bool(started_apart_s > _SAME_START_S)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False

    def __str__(self) -> str:
        return f"'{self.words}' (process {self.pid} on {self.host})"


def _claim(connection: Connection, name: str, words: str, ttl_s: float) -> int:
    """Write this process down as holder and return the epoch."""
    nobody = {"holder": _NOBODY, "epoch": 0, "since": datetime.now(UTC), "renewed_at": 0.0, "expires_at": 0.0}
    insert_new(connection, leases, [{"name": name} | nobody])  # so that there is a row to be locked
    row = _row(connection, name)
    now = database_clock(connection)
    if row.holder != _NOBODY and now < row.expires_at:
        holder = _Holder.from_json(row.holder)
        if not holder.is_known_to_be_gone():
            raise LeaseHeld(
                f"{holder} is at work on {name} since {row.since:%Y-%m-%d %H:%M:%S} UTC. Wait until it ends, "
                "or end it, then run this again. If its machine is gone, its lease ends by itself in "
                f"{row.expires_at - now:.0f} s."
            )
    epoch = row.epoch + 1
    values = {
        "holder": _Holder.this_process(words).as_json(),
        "epoch": epoch,
        "since": datetime.now(UTC),
        "renewed_at": now,
        "expires_at": now + ttl_s,
    }
    connection.execute(update(leases).where(leases.c.name == name).values(**values))
    return int(epoch)


def _keep(ledger: Ledger, held: Lease, ttl_s: float, released: threading.Event) -> None:
    """Renew until released or lost; a renewal that fails otherwise is tried again when the next is due."""
    while not released.wait(ttl_s / 3):
        try:
            ledger.write(partial(_renew, name=held.name, ttl_s=ttl_s), lease=held)
        except LeaseLost as error:
            _log.warning("%s", error)
            return
        except OverlanderError as error:
            _log.warning("The lease on %s could not be renewed, trying again: %s", held.name, error)


def _renew(connection: Connection, name: str, ttl_s: float) -> None:
    now = database_clock(connection)
    connection.execute(update(leases).where(leases.c.name == name).values(renewed_at=now, expires_at=now + ttl_s))


def _release(connection: Connection, name: str) -> None:
    connection.execute(update(leases).where(leases.c.name == name).values(holder=_NOBODY, expires_at=0.0))


def _row(connection: Connection, name: str) -> Row[Any]:
    return connection.execute(select(leases).where(leases.c.name == name).with_for_update()).one()


def _machine() -> str | None:
    """Return what tells this machine, and the container on it, from all others; None when nothing does.

    A node with the multicast bit is one that uuid made up for lack of a network card (RFC 4122, 4.5).
    Containers on the host's network share its name and card, but number their processes apart.
    """
    node = uuid.getnode()
    if node >> 40 & 1:
        return None
    try:
        process_numbers = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        process_numbers = ""
    return f"{socket.gethostname()} {node:012x} {process_numbers}"
