"""Heal: what to do next about each chip, and when to stop asking. Pure functions of what the ledger keeps.

A request queues real work that cannot be called back, so a chip is asked for only where that can help: bounded
attempts, the same pixels missing twice are left to a person, and what merely waits is asked for again only when
the queue has demonstrably moved past it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tasks.chips.grid import Chip
from tasks.chips.states import HOME, Record, State
from tasks.settings import Settings

WAITS = frozenset({State.QUEUED, State.STALE, State.UNCERTAIN, State.RUNNING})
"""States in which a request that was sent has not come to its end."""

BAD_ENDS = frozenset({State.FLAWED, State.STALLED, State.INCOMPLETE})
"""Ends of a request that make one doubt the service, when most are such."""

SAMPLE = 20
"""So many settled chips, or silent ones, are looked at before a guard trips."""


UNCLEAR_IN_A_ROW = 10
"""So many requests without an answer that says whether they arrived, and no further one is sent."""


@dataclass(frozen=True)
class Rules:
    """How far asking goes.

    Attributes:
        max_attempts: requests possibly sent for one chip since it was last released, the first included.
        stall_after: a chip without a sign of life for so long is no longer simply at work.
        wait_limit: a chip that only waits for longer needs a person.
        max_outstanding: chips asked for and not settled, at most.
    """

    max_attempts: int
    stall_after: timedelta
    wait_limit: timedelta
    max_outstanding: int


def rules_of(settings: Settings) -> Rules:
    """Return how far asking goes, by the settings."""
    return Rules(
        max_attempts=settings.max_attempts,
        stall_after=timedelta(seconds=settings.stall_after_s),
        wait_limit=timedelta(seconds=settings.wait_limit_s),
        max_outstanding=settings.max_outstanding,
    )


@dataclass(frozen=True)
class Step:
    """What to do about one chip.

    Attributes:
        do: `request` it, `quarantine` it, `wait`, or `leave` it as it is.
        refresh: the request's flag.
        renew: whether the request is meant to renew every row.
        look_first: whether the chip may have moved since it was looked at, so that one more look decides.
        reason: why, in a sentence.
    """

    do: Literal["request", "quarantine", "wait", "leave"]
    reason: str = ""
    refresh: bool = False
    renew: bool = False
    look_first: bool = False


def next_step(record: Record, rules: Rules, moved_past: datetime | None, again: Collection[State] = ()) -> Step:
    """Return what to do about a chip.

    Args:
        record: where it stands.
        rules: how far asking goes.
        moved_past: when the latest request was sent of whose pass rows were seen (`queue_moved_past`).
        again: states that a person wants asked for again whatever they are.
    """
    if record.state in again:
        return Step("request", "A person asked for it again.", refresh=True, renew=True)
    match record.state:
        case State.UNREQUESTED:
            return _ask(record, rules, "Never requested.", refresh=False)
        case State.STALLED:
            return _ask(record, rules, record.reason, look_first=True)
        case State.INCOMPLETE:
            if record.asked is not None and record.asked.missing and record.asked.missing == record.missing:
                reason = (
                    f"The same {len(record.missing):,} pixels are missing again: asking once more would not help."
                )
                return Step("quarantine", reason)
            return _ask(record, rules, record.reason)
        case State.QUEUED | State.STALE | State.UNCERTAIN:
            if (
                record.asked is not None
                and record.asked.outcome == State.QUARANTINED
                and not _is_overtaken(record)
            ):
                return _ask(record, rules, "Released by a person.", look_first=True)
            waits_since = _waits_since(record)
            if moved_past is not None and moved_past - waits_since >= rules.stall_after:
                why = "Chips requested long after it have rows, and it has none."
                return _ask(record, rules, why, look_first=True)
            return Step("wait", record.reason)
        case State.RUNNING | State.UNKNOWN:
            return Step("wait", record.reason)
    return Step("leave", record.reason)


def _waits_since(record: Record) -> datetime:
    """Return since when a chip has waited for the job that was queued last, ours or somebody else's."""
    asked = record.asked
    ours = asked is not None and asked.settled_at is None and not _is_overtaken(record)
    return asked.at if asked is not None and ours else record.since


def _is_overtaken(record: Record) -> bool:
    """Tell whether somebody else has asked for a chip since we did."""
    asked = record.asked
    return asked is not None and record.look.update_requested not in (asked.update_before, asked.update_requested)


def queue_moved_past(records: Iterable[Record]) -> datetime | None:
    """Return when the latest of our requests was sent whose job has certainly started; None when none has.

    A chip asked for a second time while its first job may still have been queued proves nothing: its rows may be
    of the first one, and the second may stand behind everything else.
    """
    asked = (record.asked for record in records)
    started = [one.at for one in asked if one is not None and one.alone and one.rows_at is not None]
    return max(started, default=None)


def is_outstanding(record: Record) -> bool:
    """Tell whether we asked for a chip and it has not settled, unless a person wrote that off."""
    return record.asked is not None and record.asked.attempts > 0 and record.state in WAITS


def waits_too_long(record: Record, now: datetime, rules: Rules) -> bool:
    """Tell whether a chip that only waits has done so for longer than the limit."""
    return record.state in WAITS and now - record.since >= rules.wait_limit


@dataclass(frozen=True)
class Room:
    """How many chips may be asked for now, and what the others wait for.

    Attributes:
        chips: so many, beside those that are out already.
        out: chips that are out: asked for again they take no second place.
        held_by: what the others wait for: the `guard`'s end, the first rows of the `pilot`, or the `limit`.
    """

    chips: int
    out: Collection[Chip]
    held_by: Literal["guard", "pilot", "limit"]

    def take(self, chips: Iterable[Chip]) -> list[Chip]:
        """Return those of some chips that may be asked for now, in order."""
        if self.held_by == "guard":
            return []
        left, taken = self.chips, []
        for chip in chips:
            if chip not in self.out:
                if left <= 0:
                    continue
                left -= 1
            taken.append(chip)
        return taken


def room_for(
    records: Mapping[Chip, Record], guard: str, rules: Rules, *, seen_elsewhere: bool, out_elsewhere: int
) -> Room:
    """Return how many chips of a tile may be asked for now.

    Args:
        records: the tile's chips.
        guard: why requesting has stopped, or an empty text.
        rules: how far asking goes.
        seen_elsewhere: whether rows of the algorithm were ever seen on another tile.
        out_elsewhere: how many chips of other tiles are out.
    """
    out = {chip for chip, record in records.items() if is_outstanding(record)}
    if guard:
        return Room(0, out, "guard")
    if pilot_needed(records, seen_elsewhere):
        return Room(1 - len(out), out, "pilot")
    return Room(rules.max_outstanding - out_elsewhere - len(out), out, "limit")


HELD = {
    "guard": "is not requested before `overlander tile release`",
    "pilot": "will be requested when the first chip of this algorithm has rows",
    "limit": "will be requested when fewer chips are out at the service",
}
"""What the next run does about a chip that would be requested but for what holds it back."""


def pilot_needed(records: Mapping[Chip, Record], seen_elsewhere: bool) -> bool:
    """Tell whether nothing of this algorithm was ever seen, so that one chip has to go first."""
    return not seen_elsewhere and not any(record.look.pixels for record in records.values())


def tripped(records: Iterable[Record], last_ends: Iterable[State], now: datetime, rules: Rules) -> str:
    """Return why requesting has to stop, or an empty text.

    Args:
        records: the tile's chips.
        last_ends: how the last requests ended, the newest first.
        now: our clock.
        rules: how far asking goes.
    """
    newest = list(last_ends)[:SAMPLE]
    bad = sum(end in BAD_ENDS for end in newest)
    if len(newest) == SAMPLE and bad > SAMPLE // 2:
        return (
            f"{bad} of the last {SAMPLE} chips that came back are flawed, stalled or incomplete: something is "
            "wrong with the service or its workers. Find out what, then `overlander tile release`."
        )
    asked = [record.asked for record in records if record.asked is not None and record.asked.attempts > 0]
    silent = sum(one.rows_at is None and now - one.at >= rules.stall_after for one in asked)
    if silent >= SAMPLE and not any(one.rows_at is not None for one in asked):
        return (
            f"{silent} chips were requested more than {rules.stall_after} ago and none has a row: no worker seems "
            "to run this algorithm. Find out, then `overlander tile release`."
        )
    return ""


def unclear(answers: Sequence[str]) -> str:
    """Return why requesting has to stop when no answer to the last requests said whether they arrived.

    Args:
        answers: to the last requests, the newest first.
    """
    if list(answers[:UNCLEAR_IN_A_ROW]) != ["uncertain"] * UNCLEAR_IN_A_ROW:
        return ""
    return (
        f"No answer to the last {UNCLEAR_IN_A_ROW} requests said whether they arrived: something is wrong with "
        "the service. Find out what, then `overlander tile release`. What has not come by then is asked for again "
        "by `overlander tile request --states uncertain --again`."
    )


def in_words(step: Step, record: Record, rules: Rules, now: datetime, held_by: str = "") -> str:
    """Return what the next run will do about a chip, for people; `held_by` as in `Room`, empty for nothing."""
    attempts = record.asked.attempts if record.asked is not None else 0
    if step.do == "wait" and waits_too_long(record, now, rules):
        words = "is not waited for any more: is a worker of the right version at work? `overlander tile release`"
        return f"{words} waits anew, `overlander tile request --states {record.state} --again` asks anew"
    match step.do:
        case "request" if held_by:
            return HELD[held_by]
        case "request":
            return f"will be requested (attempt {attempts + 1} of {rules.max_attempts})"
        case "quarantine":
            return "will be left to a person"
        case "wait":
            return "will be waited for"
    return "" if record.state in HOME else "is left alone until `overlander tile release`"


def _ask(record: Record, rules: Rules, why: str, *, refresh: bool = True, look_first: bool = False) -> Step:
    attempts = record.asked.attempts if record.asked is not None else 0
    if attempts >= rules.max_attempts:
        times = "once" if attempts == 1 else f"{attempts} times"
        return Step("quarantine", f"Requested {times} in vain. {why}")
    return Step("request", why, refresh=refresh, renew=record.renew, look_first=look_first)
