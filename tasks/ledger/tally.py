"""What is left to do of a polygon campaign: questions over all units of some series."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from tasks.ledger.claims import FREE, WORTH_A_LOOK, Terms, due_again
from tasks.ledger.schema import features, units
from tasks.ledger.units import AT_WORK, Own

_SENT = (Own.PENDING.value, Own.UNCERTAIN.value)


def not_looked_again(ledger: Connection, series_numbers: Iterable[int]) -> int:
    """Return how many units were given up and have not been looked at once more since."""
    query = _of(select(func.count()).select_from(units), series_numbers).where(WORTH_A_LOOK)
    return int(ledger.execute(query).scalar_one())


def sent_too_often(ledger: Connection, series_numbers: Iterable[int], attempts: int) -> int:
    """Return how many uncertain units no run sends again, since they have had all their attempts."""
    query = _of(select(func.count()).select_from(units), series_numbers)
    found = query.where(units.c.own == Own.UNCERTAIN.value, units.c.attempts >= attempts)
    return int(ledger.execute(found).scalar_one())


@dataclass(frozen=True)
class Open:
    """What is left to do.

    Attributes:
        units: on which the run can do something.
        to_send: how many of them are to be sent.
        beyond: how many more are to be sent that the run does not mean, by own status.
    """

    units: list[int]
    to_send: int
    beyond: Mapping[Own, int]


def open_units(
    ledger: Connection,
    series_numbers: Iterable[int],
    selected: Container[int],
    terms: Terms,
) -> Open:
    """Return the units on which a run can do something now: send those it selected, follow any.

    Those to be followed come first, since their jobs end meanwhile; otherwise they are in the source's order.

    Args:
        ledger: to read.
        series_numbers: of which series.
        selected: units that the run may send.
        terms: of the run.
    """
    workable = [units.c.own.in_([Own.PENDING.value, *AT_WORK]), FREE, due_again(terms)]
    query = _of(select(units.c.unit, units.c.own), series_numbers).where(or_(*workable))
    found: list[int] = []
    beyond: Counter[Own] = Counter()
    to_send = 0
    in_order = (units.c.own.in_(_SENT), features.c.ordinal, features.c.feature, units.c.series)
    for row in ledger.execute(query.order_by(*in_order)):
        is_to_be_sent = row.own in _SENT
        if not is_to_be_sent or row.unit in selected:
            found.append(row.unit)
            to_send += is_to_be_sent
        else:
            beyond[Own(row.own)] += 1
    return Open(found, to_send, beyond)


def _of(query: Select[Any], series_numbers: Iterable[int]) -> Select[Any]:
    return query.join(features, features.c.feature == units.c.feature).where(
        units.c.series.in_(list(series_numbers)), features.c.current
    )
