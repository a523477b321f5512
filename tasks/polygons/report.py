"""Report: where a polygon campaign stands, by the ledger alone, and what a person can do about the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tasks.files import write_if_changed
from tasks.ledger.outcomes import Outcome, outcomes
from tasks.ledger.polygons import Series
from tasks.ledger.tally import not_looked_again, sent_too_often
from tasks.ledger.units import Counts, Own, counts
from tasks.polygons.advice import ADVICE
from tasks.polygons.load import Read
from tasks.polygons.rules import OnUncertain, Rules
from tasks.report.units import Reason, UnitLine, reasons_of

_UNSETTLED = (Own.PENDING, Own.SUBMITTING, Own.IN_FLIGHT)


@dataclass(frozen=True)
class Standing:
    """Where a campaign stands.

    Attributes:
        counts: units by own and by remote status.
        waiting: units on which a further run can do something.
        needs_person: units on which none can, and polygons that changed under an old id.
        next_steps: what to do, in sentences.
    """

    counts: Counts
    waiting: int
    needs_person: int
    next_steps: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """0 all done, 3 running again will help, 4 a person has to; 3 beats 4."""
        return 3 if self.waiting else 4 if self.needs_person else 0

    @property
    def words(self) -> str:
        """How many units stand where."""
        listed = ", ".join(f"{number:,} {own}" for own, number in self.counts.own.items() if number)
        return f"{self.counts.units:,} units: {listed or 'none'}."


def standing(
    ledger: Connection,
    series_numbers: Sequence[int],
    rules: Rules,
    read: Read | None = None,
    beyond: Mapping[Own, int] | None = None,
) -> Standing:
    """Return where some series of a campaign stand.

    Args:
        ledger: to read.
        series_numbers: what is done with each polygon.
        rules: by which uncertain units are a person's or a later run's.
        read: what the run found in the source; None when nothing was read.
        beyond: units to be sent that the same run, again, would not send, by own status: nothing waits for them.
    """
    read, beyond = read or Read(), Counter(beyond or {})
    found = counts(ledger, series_numbers)
    to_look_at = not_looked_again(ledger, series_numbers)
    uncertain = found.own[Own.UNCERTAIN]
    sent_again = 0 if rules.on_uncertain == "leave" else uncertain
    if sent_again:
        sent_again -= sent_too_often(ledger, series_numbers, rules.attempts)
    left = _Left(
        to_do=sum(found.own[own] for own in _UNSETTLED) - beyond[Own.PENDING],
        to_look_at=to_look_at,
        sent_again=sent_again - beyond[Own.UNCERTAIN],
        beyond=beyond.total(),
        uncertain=uncertain - sent_again,
        given_up=found.own[Own.GIVEN_UP] - to_look_at,
        failed=found.own[Own.FAILED],
    )
    return Standing(
        counts=found,
        waiting=left.to_do + left.to_look_at + left.sent_again,
        needs_person=left.uncertain + left.given_up + left.failed + read.changed,
        next_steps=_steps(left, read, rules.on_uncertain),
    )


def summary_of(campaign: str, found: Standing, seconds: float, out: Path) -> dict[str, Any]:
    """Return what the command's `--json` gives of a campaign; each own and remote status is listed."""
    return {
        "campaign": campaign,
        "units": found.counts.units,
        "own": {own.value: number for own, number in found.counts.own.items()},
        "remote": {remote.value: number for remote, number in found.counts.remote.items()},
        "seconds": round(seconds, 3),
        "out": str(out),
        "next_steps": list(found.next_steps),
    }


@dataclass(frozen=True)
class Drawn:
    """The page, its map, and the reasons that they tell of."""

    page: Path
    map: Path
    reasons: tuple[Reason, ...]


def draw(ledger: Connection, series: Sequence[Series], campaign: str, found: Standing, out: Path) -> Drawn:
    """Write a campaign's page and map; memory does not grow with the size of the polygons.

    Files that would not change are left alone.

    Args:
        ledger: to read.
        series: what is done with each polygon.
        campaign: its name.
        found: where it stands.
        out: folder of its files.

    Raises:
        OutputUnusable: the folder cannot be written.
    """
    from tasks.report.polygon_maps import polygon_map
    from tasks.report.polygon_page import polygon_page

    numbers = [one.number for one in series]
    title = f"{campaign}: {series[0].process}"
    if series[0].interval:
        title += f", {len(series)} intervals" if len(series) > 1 else f", {series[0].interval}"
    shapes = ((outcome.own, outcome.geometry) for outcome in outcomes(ledger, numbers, geometry=True))
    picture = polygon_map(shapes, title)
    reasons = reasons_of(map(_line, outcomes(ledger, numbers, "own <> 'done'")), ADVICE)
    seconds: dict[str, list[float]] = {}
    for outcome in outcomes(ledger, numbers, "ended_at IS NOT NULL"):
        if outcome.accepted_at is not None and outcome.ended_at is not None:
            seconds.setdefault(outcome.own, []).append((outcome.ended_at - outcome.accepted_at).total_seconds())
    page = polygon_page(
        title,
        f"{found.counts.units:,} units at {series[0].url}",
        {own.value: number for own, number in found.counts.own.items()},
        {remote.value: number for remote, number in found.counts.remote.items()},
        seconds,
        reasons,
        map(_line, outcomes(ledger, numbers, "own <> 'done'")),
        {"results.csv": "results.csv", "results.parquet": "results.parquet", "urls.txt": "urls.txt"},
        picture,
        list(found.next_steps),
    )
    paths = Drawn(out / "report.html", out / "map.png", tuple(reasons))
    write_if_changed(paths.map, picture)
    write_if_changed(paths.page, page)
    return paths


def _line(outcome: Outcome) -> UnitLine:
    return UnitLine(
        id=outcome.id,
        interval=outcome.interval,
        state=outcome.own,
        remote=outcome.remote,
        attempts=outcome.attempts,
        error_class=outcome.error_class,
        error=outcome.error_text,
    )


@dataclass(frozen=True)
class _Left:
    """Units that are not done, by what is left to do about them; the last three are a person's."""

    to_do: int
    to_look_at: int
    sent_again: int
    beyond: int
    uncertain: int
    given_up: int
    failed: int


def _steps(left: _Left, read: Read, on_uncertain: OnUncertain) -> tuple[str, ...]:
    by_policy = {
        "leave": "",
        "wait": "a later run sends them again when the total limit has passed.",
        "resend": "the next run sends them again.",
    }
    named = ", ".join(read.changed_ids) + (" and others" if read.changed > len(read.changed_ids) else "")
    sentences = {
        "to be sent or in flight: run the same command again, it goes on where it was.": left.to_do,
        "given up, and looked at once more by the next run.": left.to_look_at,
        f"perhaps sent: {by_policy[on_uncertain]}": left.sent_again,
        "to be sent, but not among those that this run may send: run it without its selection.": left.beyond,
        "perhaps sent: see at the service if their jobs are at work; --retry uncertain sends them again.": (
            left.uncertain
        ),
        "failed: see the reasons; --retry failed sends again what can be sent.": left.failed,
        "given up for good: --retry given_up sends them again.": left.given_up,
        f"changed under an old id and not sent ({named}): --accept-changes sends them.": read.changed,
    }
    return tuple(
        f"{number:,} {'polygon' if number == 1 else 'polygons'} {words}"
        for words, number in sentences.items()
        if number
    )
