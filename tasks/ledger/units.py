"""What the ledger keeps of units: what was sent, what was said of it, and what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, bindparam, delete, func, insert, or_, select, update

from tasks.ledger.schema import features, outputs, units
from tasks.polygons.jobs import Output, Remote


class Own(StrEnum):
    """What this side knows and decided of a unit."""

    PENDING = "pending"
    SUBMITTING = "submitting"
    IN_FLIGHT = "in_flight"
    UNCERTAIN = "uncertain"
    DONE = "done"
    FAILED = "failed"
    GIVEN_UP = "given_up"


AT_WORK = (Own.SUBMITTING.value, Own.IN_FLIGHT.value)
"""What counts against the limit of a service."""


NOTHING_SAID: dict[str, Any] = {
    "remote": None,
    "message": "",
    "status_location": None,
    "accepted_at": None,
    "started_at": None,
    "ended_at": None,
    "looked_again": False,
    "error_class": "",
    "error_text": "",
}
"""Columns of a unit as they are before anything was heard of it."""


def note(ledger: Connection, unit: int, columns: Mapping[str, Any]) -> None:
    """Set some columns of a unit."""
    ledger.execute(_setting(frozenset(columns)), {**columns, "of_unit": unit})


@cache
def _setting(names: frozenset[str]) -> Update:
    """Return the statement that sets these columns of one unit; making it anew costs more than carrying it out."""
    return update(units).where(units.c.unit == bindparam("of_unit")).values({n: bindparam(n) for n in names})


def note_back(ledger: Connection, unit: int) -> None:
    """Write down that a unit certainly is not at the service: it is to be sent, and has lost no attempt."""
    ledger.execute(
        update(units)
        .where(units.c.unit == unit)
        .values(NOTHING_SAID | {"own": Own.PENDING.value, "run": None, "attempts": units.c.attempts - 1})
    )


@dataclass(frozen=True)
class KeptOutput:
    """An output as the ledger keeps it: its value, or the file that holds a value too long for it."""

    output: Output
    file: str | None = None


def note_outputs(ledger: Connection, unit: int, kept: Sequence[KeptOutput]) -> None:
    """Write down what a job gave, in place of what an earlier one did."""
    ledger.execute(_NO_OUTPUTS, {"of_unit": unit})
    if not kept:
        return
    rows = [
        {
            "unit": unit,
            "number": number,
            "identifier": one.output.identifier,
            "kind": one.output.kind,
            "mime_type": one.output.mime_type,
            "value": None if one.file else one.output.value,
            "file": one.file,
        }
        for number, one in enumerate(kept)
    ]
    ledger.execute(_OUTPUTS, rows)


_NO_OUTPUTS = delete(outputs).where(outputs.c.unit == bindparam("of_unit"))
_OUTPUTS = insert(outputs)


def anything_read(ledger: Connection, series_numbers: Iterable[int]) -> bool:
    """Tell whether a status of any job of these series was ever read."""
    read = select(units.c.unit).where(units.c.series.in_(list(series_numbers)), units.c.looked_at.is_not(None))
    return ledger.execute(read.limit(1)).first() is not None


def retryable(ledger: Connection, wanted: Sequence[int], owns: Iterable[Own]) -> int:
    """Return how many units `retry` would have sent again."""
    return int(ledger.execute(select(func.count()).select_from(units).where(*_retried(wanted, owns))).scalar_one())


def retry(ledger: Connection, wanted: Sequence[int], owns: Iterable[Own]) -> int:
    """Have units sent again from the first attempt on, where they can be sent at all; return how many.

    Args:
        ledger: of `Ledger.write`.
        wanted: of these units, at most some hundreds.
        owns: some of `failed`, `given_up` and `uncertain`.
    """
    anew = NOTHING_SAID | {"own": Own.PENDING.value, "run": None, "attempts": 0}
    return int(ledger.execute(update(units).where(*_retried(wanted, owns)).values(anew)).rowcount)


def _retried(wanted: Sequence[int], owns: Iterable[Own]) -> tuple[ColumnElement[bool], ...]:
    again = [own.value for own in owns if own in (Own.FAILED, Own.GIVEN_UP, Own.UNCERTAIN)]
    sendable = select(features.c.feature).where(features.c.problem == "")
    left = or_(units.c.own != Own.GIVEN_UP.value, units.c.run.is_(None))  # else a run may be looking once more
    return units.c.unit.in_(wanted), units.c.own.in_(again), units.c.feature.in_(sendable), left


@dataclass(frozen=True)
class Counts:
    """How many units are in each own status, and of how many the service said what last; each is named."""

    own: dict[Own, int]
    remote: dict[Remote, int]

    @property
    def units(self) -> int:
        """All of them."""
        return sum(self.own.values())


def counts(ledger: Connection, series_numbers: Iterable[int]) -> Counts:
    """Count the units of some series, of features that are current."""
    query = (
        select(units.c.own, units.c.remote, func.count().label("number"))
        .join(features, features.c.feature == units.c.feature)
        .where(units.c.series.in_(list(series_numbers)), features.c.current)
        .group_by(units.c.own, units.c.remote)
    )
    own, remote = dict.fromkeys(Own, 0), dict.fromkeys(Remote, 0)
    for row in ledger.execute(query):
        own[Own(row.own)] += row.number
        if row.remote is not None:
            remote[Remote(row.remote)] += row.number
    return Counts(own, remote)


def counts_of(ledger: Connection, wanted: Sequence[int]) -> dict[Own, int]:
    """Return how many of some units are in each own status."""
    query = select(units.c.own, func.count().label("number")).where(units.c.unit.in_(wanted)).group_by(units.c.own)
    return dict.fromkeys(Own, 0) | {Own(row.own): row.number for row in ledger.execute(query)}
