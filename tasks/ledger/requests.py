"""What the ledger keeps of requests: each is written before it is sent and after it is answered."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, false, func, insert, select, update

from tasks.chips.grid import Chip, pack_positions, unpack_positions
from tasks.chips.states import Asked, State
from tasks.ledger.keys import Ground, among, key, of, on
from tasks.ledger.schema import chips as chips_table
from tasks.ledger.schema import requests as requests_table


def asked_for(ledger: Connection, ground: Ground, chips: Iterable[Chip] | None = None) -> dict[Chip, Asked]:
    """Return the latest request for each chip that was asked for since it was last released.

    One that was written off before it ended is returned too, with no attempts: it may still come.
    """
    table = requests_table
    sent = select(table).where(on(table, ground), among(table, chips)).order_by(table.c.number)
    found: dict[Chip, Asked] = {}
    for row in ledger.execute(sent):
        chip = Chip(row.chip_x, row.chip_y)
        attempts = found[chip].attempts if chip in found else 0
        found[chip] = _asked(row, attempts + (not row.released))
    return {chip: asked for chip, asked in found.items() if asked.attempts or asked.settled_at is None}


def note_request(ledger: Connection, ground: Ground, chip: Chip, asked: Asked, baseline: datetime | None) -> None:
    """Write down a request that is about to be sent."""
    values = {
        "number": asked.number,
        "at": asked.at,
        "refresh": asked.refresh,
        "renew": asked.renew,
        "baseline": baseline,
        "update_before": asked.update_before,
        "answer": asked.answer,
        "missing": pack_positions(asked.missing) if asked.missing else None,
    }
    ledger.execute(insert(requests_table).values(key(ground, chip) | values))


def next_number(ledger: Connection, ground: Ground, chip: Chip) -> int:
    """Return the number of a chip's next request; released ones count."""
    table = requests_table
    last = select(func.max(table.c.number)).where(of(requests_table, ground, chip))
    return (ledger.execute(last).scalar_one() or 0) + 1


def drop_request(ledger: Connection, ground: Ground, chip: Chip, number: int) -> None:
    """Take back a request that certainly was not sent, or was refused."""
    ledger.execute(
        delete(requests_table).where(of(requests_table, ground, chip), requests_table.c.number == number)
    )


def note_asked(ledger: Connection, ground: Ground, chip: Chip, asked: Asked) -> None:
    """Write down what has become of a request."""
    ledger.execute(
        update(requests_table)
        .where(of(requests_table, ground, chip), requests_table.c.number == asked.number)
        .values(
            answer=asked.answer,
            update_requested=asked.update_requested,
            rows_at=asked.rows_at,
            settled_at=asked.settled_at,
            outcome=None if asked.outcome is None else asked.outcome.value,
        )
    )


def last_ends(ledger: Connection, ground: Ground, limit: int) -> list[State]:
    """Return how a tile's last requests ended, the newest first, since they were last released."""
    table = requests_table
    ended = select(table.c.outcome).where(
        on(table, ground), table.c.released == false(), table.c.outcome.is_not(None)
    )
    rows = ledger.execute(ended.order_by(table.c.settled_at.desc()).limit(limit))
    return [State(row.outcome) for row in rows]


def release(ledger: Connection, ground: Ground, chips: Iterable[Chip]) -> None:
    """Write off the requests for some chips: they count as attempts, and for the guards, no more."""
    table = requests_table
    ledger.execute(update(table).where(on(table, ground), among(table, chips)).values(released=True))


@dataclass(frozen=True)
class WorkerClock:
    """The worker's clock beside ours: a chip's latest `result_produced`, and when we saw it, our clock."""

    chip: Chip
    produced: datetime
    at: datetime


def last_worker_clock(ledger: Connection) -> WorkerClock | None:
    """Return what the last chip that came back showed of the worker's clock; None when none has."""
    asked, seen = requests_table, chips_table
    same = and_(*(asked.c[name] == seen.c[name] for name in ("source", "algorithm", "chip_x", "chip_y")))
    query = (
        select(seen.c.chip_x, seen.c.chip_y, seen.c.last_produced, asked.c.settled_at)
        .join_from(asked, seen, same)
        .where(asked.c.settled_at.is_not(None), seen.c.last_produced.is_not(None))
        .order_by(asked.c.settled_at.desc())
        .limit(1)
    )
    row = ledger.execute(query).first()
    return None if row is None else WorkerClock(Chip(row.chip_x, row.chip_y), row.last_produced, row.settled_at)


def seen_anywhere(ledger: Connection, source: str, algorithm: str) -> bool:
    """Tell whether any chip of an algorithm was ever seen with rows, on any tile."""
    table = chips_table
    asked = select(table.c.chip_x).where(
        table.c.source == source, table.c.algorithm == algorithm, table.c.pixels > 0
    )
    return ledger.execute(asked.limit(1)).first() is not None


def _asked(row: Row[Any], attempts: int) -> Asked:
    return Asked(
        number=row.number,
        attempts=attempts,
        at=row.at,
        refresh=row.refresh,
        renew=row.renew,
        update_before=row.update_before,
        answer=row.answer,
        update_requested=row.update_requested,
        missing=() if row.missing is None else tuple(unpack_positions(row.missing)),
        rows_at=row.rows_at,
        settled_at=row.settled_at,
        outcome=None if row.outcome is None else State(row.outcome),
    )
