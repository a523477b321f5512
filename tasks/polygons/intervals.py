"""Time intervals of a campaign, and their division into successive ones."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tasks.errors import BadInput

_STEP = re.compile(r"P?(?P<count>\d{1,6})(?P<unit>[YMWD])", re.IGNORECASE)
_MONTHS = {"Y": 12, "M": 1}
_DAYS = {"W": 7, "D": 1}


@dataclass(frozen=True)
class Interval:
    """From a moment to a later one; both with an offset from UTC or both without.

    Equal moments make equal intervals, however they were typed, so that no job is sent twice for that.
    """

    start: datetime
    end: datetime

    @property
    def text(self) -> str:
        """How to say it: `2010-01-01/2011-01-01`, with a time of day only where there is one."""
        return f"{_short(self.start)}/{_short(self.end)}"


def parse_interval(text: str) -> Interval:
    """Return the interval that a person means.

    Args:
        text: two ISO 8601 dates or dates with times, with a slash between them: `2010-01-01/2011-01-01`.

    Raises:
        BadInput: it is none, one end is missing or has an offset that the other lacks, or it is empty.
    """
    how = "Write two dates with a slash between them: 2010-01-01/2011-01-01."
    parts = [part.strip() for part in text.split("/")]
    if len(parts) == 2 and any(part in ("", "..") for part in parts):
        raise BadInput(f"The interval {text!r} is open: a process needs both its start and its end. {how}")
    try:
        start, end = (datetime.fromisoformat(part) for part in parts)
    except ValueError:
        raise BadInput(f"{text!r} is no interval. {how}") from None
    if (start.tzinfo is None) != (end.tzinfo is None):
        raise BadInput(f"One end of the interval {text!r} has an offset from UTC and the other has none. {how}")
    if end <= start:
        order = "is empty: it ends where it starts" if end == start else "ends before it starts"
        raise BadInput(f"The interval {text!r} {order}. {how}")
    return Interval(start, end)


def split(interval: Interval, step: str) -> tuple[Interval, ...]:
    """Divide an interval into successive ones; the last is cut at the end.

    Args:
        interval: to divide.
        step: a number of years, months, weeks or days: `1Y`, `6M`, `2W`, `30D`, also `P1Y`. Months are counted
            from the interval's start, and a day that a month lacks becomes its last: from 31 January by months
            to 28 February, then 31 March.

    Raises:
        BadInput: the step is none.
    """
    found = _STEP.fullmatch(step.strip())
    if not found or not int(found["count"]):
        raise BadInput(f"{step!r} is no length to split an interval by. Write 1Y, 6M, 2W or 30D.")
    count, unit = int(found["count"]), found["unit"].upper()
    cuts = [interval.start]
    while cuts[-1] < interval.end:
        cuts.append(min(_after(interval.start, len(cuts) * count, unit), interval.end))
    return tuple(Interval(start, end) for start, end in pairwise(cuts))


def wire_text(moment: datetime) -> str:
    """Return a moment as processes are sent it: `2010-01-01T00:00`, finer only where it is finer."""
    precision = "microseconds" if moment.microsecond else "seconds" if moment.second else "minutes"
    text = moment.isoformat(timespec=precision)
    return text.removesuffix("+00:00") + "Z" if moment.utcoffset() == timedelta(0) else text


def _short(moment: datetime) -> str:
    at_midnight = moment.tzinfo is None and moment.time() == datetime.min.time()
    return moment.date().isoformat() if at_midnight else wire_text(moment)


def _after(start: datetime, count: int, unit: str) -> datetime:
    try:
        if unit in _DAYS:
            return start + timedelta(days=count * _DAYS[unit])
        year, month = divmod(start.year * 12 + start.month - 1 + count * _MONTHS[unit], 12)
        return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError):  # beyond the year 9999, so beyond every end
        return datetime.max.replace(tzinfo=UTC if start.tzinfo else None)
