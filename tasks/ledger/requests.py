"""What the ledger keeps of requests: each is written before it is sent and after it is answered."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, false, func, insert, not_, select, update

from tasks.chips.grid import Chip, pack_positions, unpack_positions
from tasks.chips.heal import WAITS
from tasks.chips.states import Asked, State
from tasks.ledger.keys import Ground, among, key, of, on
from tasks.ledger.schema import chips as chips_table
from tasks.ledger.schema import requests as requests_table
from tasks.ledger.schema import tiles as tiles_table


def asked_for(ledger: Connection, ground: Ground, chips: Iterable[Chip] | None = None) -> dict[Chip, Asked]:
    """Return the latest request for each chip that was asked for since it was last released.

    One that was written off before it ended is returned too, with no attempts: it may still come. So is one that
    its chip was quarantined over while it waited.
    """
    table = requests_table
    sent = select(table).where(on(table, ground), among(table, chips)).order_by(table.c.number)
    found: dict[Chip, Asked] = {}
    for row in ledger.execute(sent):
        chip = Chip(row.chip_x, row.chip_y)
        attempts = found[chip].attempts if chip in found else 0
        found[chip] = _asked(row, attempts + (not row.released))
    return {
        chip: asked
        for chip, asked in found.items()
        if asked.attempts or asked.settled_at is None or asked.outcome == State.QUARANTINED
    }


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
        "alone": asked.alone,
    }
    ledger.execute(insert(requests_table).values(key(ground, chip) | values))


def last_request(ledger: Connection, ground: Ground, chip: Chip) -> Asked | None:
    """Return a chip's last request, written off or not; its attempts are not counted."""
    table = requests_table
    sent = select(table).where(of(table, ground, chip)).order_by(table.c.number.desc()).limit(1)
    row = ledger.execute(sent).first()
    return None if row is None else _asked(row, 0)


def outstanding_elsewhere(ledger: Connection, ground: Ground) -> int:
    """Return how many chips of the other open tiles of a cluster were asked for and still wait."""
    chips, sent, tiles = chips_table.c, requests_table.c, tiles_table.c
    same_chip = (
        getattr(sent, name) == getattr(chips, name) for name in ("source", "algorithm", "chip_x", "chip_y")
    )
    same_tile = (
        getattr(tiles, name) == getattr(chips, name) for name in ("source", "algorithm", "region", "tile")
    )
    out = select(func.count()).where(
        chips.source == ground.source,
        not_(on(chips_table, ground)),
        chips.state.in_([state.value for state in WAITS]),
        exists().where(*same_chip, sent.released == false()),
        ~exists().where(*same_tile, tiles.closed_at.is_not(None)),
    )
    return ledger.execute(out).scalar_one()


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
            unsettled_at=asked.unsettled_at,
            end_produced=asked.end_produced,
        )
    )


def last_ends(ledger: Connection, ground: Ground, limit: int) -> list[State]:
    """Return how the chips of a tile that came back last did so, the newest first, since they were last released.

    Each counts once, by its latest request that has ended.
    """
    table = requests_table
    ended = select(table.c.chip_x, table.c.chip_y, table.c.outcome).where(
        on(table, ground), table.c.released == false(), table.c.outcome.is_not(None)
    )
    ends: dict[Chip, State] = {}
    for row in ledger.execute(ended.order_by(table.c.settled_at.desc(), table.c.number.desc())):
        if len(ends) == limit:
            break
        ends.setdefault(Chip(row.chip_x, row.chip_y), State(row.outcome))
    return list(ends.values())


def last_answers(ledger: Connection, ground: Ground, limit: int) -> list[str]:
    """Return what the service answered to a tile's last requests, the newest first, since they were released."""
    table = requests_table
    sent = select(table.c.answer).where(on(table, ground), table.c.released == false())
    return list(ledger.execute(sent.order_by(table.c.at.desc()).limit(limit)).scalars())


def release(ledger: Connection, ground: Ground, chips: Iterable[Chip]) -> None:
    """Write off the requests for some chips: they count as attempts, and for the guards, no more."""
    table = requests_table
    ledger.execute(update(table).where(on(table, ground), among(table, chips)).values(released=True))


@dataclass(frozen=True)
class WorkerClock:
    """How far the worker's clock is ahead of ours, as closely as chips that came back tell.

    Attributes:
        least, most: it lies between these.
        at: when the last of those chips was seen to have come back, our clock.
    """

    least: timedelta
    most: timedelta
    at: datetime


def worker_clock(ledger: Connection, source: str, algorithm: str | None) -> WorkerClock | None:
    """Return what the last chips that came back showed of the worker's clock; None when none has.

    Only chips of one table count, and of one algorithm where that is given: other workers have other clocks.

    A chip's last row was written after the look that did not see its end and before the one that did. The newest
    chip counts, and those before it as far as they agree: a clock may have been set since.
    """
    table = requests_table
    ended = select(table.c.end_produced, table.c.at, table.c.unsettled_at, table.c.settled_at).where(
        table.c.source == source, table.c.end_produced.is_not(None), table.c.outcome != State.STALLED.value
    )
    if algorithm is not None:
        ended = ended.where(table.c.algorithm == algorithm)
    found: WorkerClock | None = None
    for row in ledger.execute(ended.order_by(table.c.settled_at.desc()).limit(_CHIPS_FOR_THE_CLOCK)):
        produced = row.end_produced.replace(tzinfo=UTC)
        least = produced - row.settled_at
        most = produced - max(row.at, row.unsettled_at or row.at)
        if found is None:
            found = WorkerClock(least, most, row.settled_at)
        elif least <= found.most and most >= found.least:
            found = replace(found, least=max(least, found.least), most=min(most, found.most))
        else:
            break
    return found


_CHIPS_FOR_THE_CLOCK = 50


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
        alone=row.alone,
        rows_at=row.rows_at,
        settled_at=row.settled_at,
        outcome=None if row.outcome is None else State(row.outcome),
        unsettled_at=row.unsettled_at,
        end_produced=row.end_produced,
    )
