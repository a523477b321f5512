"""How the runs at one service share its limit, so that none waits while another has all of it.

A run that finds the service full, and has less than its part, says so. For a few seconds from then on the others
take nothing beyond their parts, and what comes free is left to it.
"""

from math import ceil

from sqlalchemy import Connection, func, select

from tasks.ledger.database import database_clock, upsert
from tasks.ledger.schema import series, units, waiting_runs
from tasks.ledger.units import AT_WORK

WAITS_S = 6.0
"""Three times what a run waits before it asks again."""


def held_at(ledger: Connection, url: str) -> dict[str, int]:
    """Return how many jobs each run that is alive has at a service."""
    there = select(series.c.series).where(series.c.url == url)
    at_work = (units.c.own.in_(AT_WORK), units.c.run.is_not(None), units.c.series.in_(there))
    counted = select(units.c.run, func.count().label("jobs")).where(*at_work).group_by(units.c.run)
    return {row.run: row.jobs for row in ledger.execute(counted)}


def room_at(ledger: Connection, url: str, run: str, limit: int, wanted: int) -> int:
    """Return how many jobs more a run may have at a service, and write down if that leaves it waiting.

    Args:
        ledger: of `Ledger.write`, in the run's turn.
        url: of the service.
        run: who asks.
        limit: what all runs together may have there.
        wanted: how many it would like.
    """
    held = held_at(ledger, url)
    now = database_clock(ledger)
    others = _waiting(ledger, url, now) - {run}
    mine, part = held.get(run, 0), ceil(limit / len({run, *held, *others}))
    room = limit - sum(held.values())
    if others:
        room = min(room, part - mine)
    room = max(0, room)
    if room < wanted and mine + room < part:
        upsert(ledger, waiting_runs, [{"url": url, "run": run, "until": now + WAITS_S}])
    return room


def _waiting(ledger: Connection, url: str, now: float) -> set[str]:
    ledger.execute(waiting_runs.delete().where(waiting_runs.c.until < now))
    return set(ledger.scalars(select(waiting_runs.c.run).where(waiting_runs.c.url == url)))
