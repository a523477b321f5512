"""Who has which unit: claims, and what becomes of them when a run ends or dies.

A unit is `submitting` before its request is sent. So whatever dies in between leaves a unit of which nobody knows
whether it arrived: that becomes `uncertain`, and is never sent again unasked.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, false, or_, select, update

from tasks.errors import OverlanderError
from tasks.ledger.database import take_turns
from tasks.ledger.leases import Lease, end_if_over, lease
from tasks.ledger.schema import features, series, units
from tasks.ledger.shares import room_at
from tasks.ledger.store import Ledger
from tasks.ledger.units import AT_WORK, NOTHING_SAID, Own
from tasks.polygons.jobs import Remote

_log = logging.getLogger(__name__)

WORTH_A_LOOK: ColumnElement[bool] = and_(
    units.c.own == Own.GIVEN_UP.value, units.c.looked_again == false(), units.c.status_location.is_not(None)
)
"""The condition on units that were given up and have not been looked at once more."""

FREE: ColumnElement[bool] = and_(units.c.run.is_(None), or_(units.c.own == Own.IN_FLIGHT.value, WORTH_A_LOOK))
"""The condition on units whose jobs a run may follow: no other run has them."""

_HELD = (*AT_WORK, Own.GIVEN_UP.value)


@dataclass(frozen=True)
class Terms:
    """On which terms a run takes units.

    Attributes:
        run: the name of the run's lease.
        attempts: requests for one unit, at most.
        uncertain_before: an uncertain unit submitted before this may be sent again; None: none is.
    """

    run: str
    attempts: int = 2
    uncertain_before: datetime | None = None


@dataclass(frozen=True)
class Claimed:
    """A unit that is this run's to send, written down as `submitting`."""

    unit: int
    id: str
    interval: str
    geometry: str
    properties: str | None
    attempts: int


@dataclass(frozen=True)
class InFlight:
    """A job at the service that is this run's to follow.

    Attributes:
        unit: the ledger's key.
        status_location: where to ask.
        remote: what was said last.
        accepted_at, started_at: our clock; `started_at` is None until it was seen running.
        attempts: requests so far, the present one included.
        given_up: whether a limit ran out before, so that one look is all it gets.
    """

    unit: int
    status_location: str
    remote: Remote
    accepted_at: datetime
    started_at: datetime | None
    attempts: int
    given_up: bool = False


@dataclass(frozen=True)
class Sorted:
    """What is to be done about some units: each is in one of these."""

    settled: tuple[int, ...]
    to_send: tuple[int, ...]
    to_follow: tuple[InFlight, ...]
    elsewhere: tuple[int, ...]


@dataclass(frozen=True)
class Claim:
    """What came of asking for units to send.

    Attributes:
        taken: now `submitting`, in the order asked for.
        full: units that could be sent, but all processes together have enough at the service, or the rest of
            what it takes is another's.
        gone: units that cannot be sent any more; `sort_out` says what has become of them.
    """

    taken: tuple[Claimed, ...]
    full: tuple[int, ...]
    gone: tuple[int, ...]


@contextmanager
def run_on(ledger: Ledger, campaign: str, words: str) -> Iterator[Lease]:
    """Be a run on a campaign, beside others, for the length of a block; what it still has then, it lets go.

    Args:
        ledger: open longer than the block.
        campaign: its name.
        words: what the run does, for people, as 'overlander polygons run wetlands.zip'.
    """
    with lease(ledger, f"polygons {campaign} run {uuid4()}", words) as held:
        ledger.write(end_dead_runs, lease=held)
        try:
            yield held
        finally:
            try:
                ledger.write(partial(let_go, run=held.name), lease=held)
            except OverlanderError as error:
                _log.warning("What the run had could not be let go; the next run takes it over: %s", error)


def sort_out(ledger: Connection, wanted: Sequence[int], terms: Terms) -> Sorted:
    """Say what is to be done about some units, and take over the jobs that no run follows.

    Args:
        ledger: of `Ledger.write`.
        wanted: at most some hundreds.
        terms: of the run that asks.
    """
    of_these = units.c.unit.in_(wanted)
    free = select(units).where(of_these, FREE).with_for_update(skip_locked=True)
    taken = {row.unit: row for row in ledger.execute(free)}
    ledger.execute(update(units).where(units.c.unit.in_(list(taken))).values(run=terms.run))
    query = select(units.c.unit, units.c.own, FREE.label("is_free"), _sendable(terms).label("is_sendable"))
    found = {row.unit: row for row in ledger.execute(query.where(of_these))}
    settled: list[int] = []
    to_send: list[int] = []
    elsewhere: list[int] = []
    for unit in wanted:
        row = found[unit]
        if unit in taken:
            continue
        if row.is_sendable:
            to_send.append(unit)
        elif row.is_free or row.own in AT_WORK:  # a free one is just being taken by another run
            elsewhere.append(unit)
        else:
            settled.append(unit)
    to_follow = tuple(_in_flight(taken[unit]) for unit in wanted if unit in taken)
    return Sorted(tuple(settled), tuple(to_send), to_follow, tuple(elsewhere))


def claim(ledger: Connection, wanted: Sequence[int], terms: Terms, *, url: str, limit: int) -> Claim:
    """Take units to send: they are `submitting` when this is committed, and no other run's any more.

    Args:
        ledger: of `Ledger.write`.
        wanted: in the order they should go, at most some hundreds.
        terms: of the run that asks.
        url: of the service.
        limit: what all processes together may have at that service.
    """
    query = (
        select(units, features.c.id, features.c.geometry, features.c.properties, series.c.interval)
        .join(features, features.c.feature == units.c.feature)
        .join(series, series.c.series == units.c.series)
        .where(units.c.unit.in_(wanted), _sendable(terms), features.c.geometry.is_not(None))
        .with_for_update(of=units, skip_locked=True)
    )
    take_turns(ledger, f"jobs at {url}")  # others count too, and must see what this one takes
    found = {row.unit: row for row in ledger.execute(query)}
    ready = [unit for unit in wanted if unit in found]
    room = room_at(ledger, url, terms.run, limit, len(ready))
    taken = ready[:room]
    ledger.execute(
        update(units)
        .where(units.c.unit.in_(taken))
        .values(
            own=Own.SUBMITTING.value,
            run=terms.run,
            attempts=units.c.attempts + 1,
            submitted_at=datetime.now(UTC),
            **NOTHING_SAID,
        )
    )
    return Claim(
        taken=tuple(_claimed(found[unit]) for unit in taken),
        full=tuple(ready[room:]),
        gone=tuple(unit for unit in wanted if unit not in found),
    )


def due_again(terms: Terms) -> ColumnElement[bool]:
    """Return the condition on uncertain units that are to be sent again now."""
    if terms.uncertain_before is None:
        return false()
    in_time = units.c.submitted_at <= terms.uncertain_before
    return and_(units.c.own == Own.UNCERTAIN.value, in_time, units.c.attempts < terms.attempts)


def end_dead_runs(ledger: Connection) -> int:
    """Take their units from runs that are gone; return how many such runs there were.

    What a dead run was submitting becomes `uncertain`; the jobs it followed wait for another run to follow them,
    and those it gave up for another's one look.
    """
    held = select(units.c.run).where(units.c.own.in_(_HELD), units.c.run.is_not(None)).distinct()
    dead = [row.run for row in ledger.execute(held).all() if end_if_over(ledger, row.run)]
    for run in dead:
        let_go(ledger, run)
    return len(dead)


def let_go(ledger: Connection, run: str) -> None:
    """Take all units from a run that ends or is gone."""
    of_run = units.c.run == run
    ledger.execute(
        update(units)
        .where(units.c.own == Own.SUBMITTING.value, of_run)
        .values(
            own=Own.UNCERTAIN.value,
            error_class="Interrupted",
            error_text="The run ended while this was being sent: the job may be at work or not.",
        )
    )
    ledger.execute(update(units).where(units.c.own.in_(_HELD), of_run).values(run=None))


def _sendable(terms: Terms) -> ColumnElement[bool]:
    return or_(units.c.own == Own.PENDING.value, due_again(terms))


def _in_flight(row: Row[Any]) -> InFlight:
    return InFlight(
        unit=row.unit,
        status_location=row.status_location,
        remote=Remote(row.remote),
        accepted_at=row.accepted_at,
        started_at=row.started_at,
        attempts=row.attempts,
        given_up=row.own == Own.GIVEN_UP,
    )


def _claimed(row: Row[Any]) -> Claimed:
    return Claimed(
        unit=row.unit,
        id=row.id,
        interval=row.interval,
        geometry=zlib.decompress(row.geometry).decode(),
        properties=row.properties,
        attempts=row.attempts + 1,
    )
