"""From what was seen of a chip to its state: pure functions, no clock of their own.

Three clocks are at work and are never compared with each other: `result_produced` is the worker's local time
labelled UTC, `chip_update_requested` the service's, and the moment of a look is ours. Progress is a change
between two looks, on our clock; a row belongs to the current pass when its `result_produced` lies after the
latest one known before the request, worker's clock against worker's clock. Ours are aware datetimes, the other
two naive: comparing across them raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, get_args

from tasks.chips.grid import PIXELS


class State(StrEnum):
    """Where a chip stands."""

    COMPLETE = "complete"
    FLAWED = "flawed"
    NO_DATA = "no_data"
    INCOMPLETE = "incomplete"
    STALLED = "stalled"
    RUNNING = "running"
    QUEUED = "queued"
    STALE = "stale"
    UNCERTAIN = "uncertain"
    UNREQUESTED = "unrequested"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"


HOME = frozenset({State.COMPLETE, State.FLAWED, State.NO_DATA})
"""States of a chip that is as home as it will be."""

Again = Literal[
    "complete", "flawed", "no_data", "incomplete", "stalled", "queued", "stale", "uncertain", "quarantined"
]
AGAIN: tuple[str, ...] = get_args(Again)
"""States that a person can have asked for again by name."""

NEEDS_PERSON = frozenset({State.QUARANTINED})
"""States that no further run changes."""


@dataclass(frozen=True)
class Look:
    """What one aggregate query showed of a chip's partition.

    Attributes:
        at: when we looked, our clock.
        ticketed: whether the partition exists at all.
        pixels: rows with a result, good or failed.
        some_good, some_failed: whether any `result_ok` is true, or false.
        first_produced, last_produced: range of `result_produced`, worker's clock.
        update_requested: `chip_update_requested`, service's clock.
    """

    at: datetime
    ticketed: bool
    pixels: int = 0
    some_good: bool = False
    some_failed: bool = False
    first_produced: datetime | None = None
    last_produced: datetime | None = None
    update_requested: datetime | None = None


@dataclass(frozen=True)
class Pixel:
    """One row of a chip without its result: position in the worker's order, `result_ok`, `result_produced`."""

    position: int
    ok: bool
    produced: datetime | None = None


@dataclass(frozen=True)
class Asked:
    """Our latest request for a chip, written down before it was sent.

    Attributes:
        number: the how manieth of this chip.
        attempts: how many, this one included, since a person last released the chip; 0 when that was after it.
        at: when it was about to be sent, our clock.
        refresh, renew: its flag, and whether it is meant to renew every row.
        update_before: `chip_update_requested` known before it, service's clock.
        answer: `sending` until an answer came, `queued`, `ticketed`, `present` or `uncertain`.
        update_requested: what the answer gave for it, or the table after a lost answer, service's clock.
        missing: positions missing before it.
        alone: whether no other job can have been at work on the chip when it was sent, as far as we know: only
            then do rows written after it prove that its job has started.
        rows_at: when we first saw a row of its pass, our clock.
        settled_at, outcome: when we first saw its end, and which; `quarantined` when it was given up unseen and
            a person has released the chip since.
        unsettled_at: when we last looked and had not seen its end.
        end_produced: latest `result_produced` at its end, worker's clock: written between those two looks.
    """

    number: int
    attempts: int
    at: datetime
    refresh: bool
    renew: bool
    update_before: datetime | None
    answer: str
    update_requested: datetime | None = None
    missing: tuple[int, ...] = ()
    alone: bool = False
    rows_at: datetime | None = None
    settled_at: datetime | None = None
    outcome: State | None = None
    unsettled_at: datetime | None = None
    end_produced: datetime | None = None

    @property
    def is_unclear(self) -> bool:
        """Whether it may or may not have arrived."""
        return self.settled_at is None and self.answer in ("sending", "uncertain")


@dataclass(frozen=True)
class Record:
    """What is known of a chip after a look, and what the ledger keeps of it until the next one.

    Attributes:
        state, reason: where the chip stands, and why, in a sentence.
        since: when we first saw it in this state, our clock.
        look: the look itself.
        baseline: latest `result_produced` known before the current request; rows after it are of this pass.
        renew: whether the current pass is meant to renew every row.
        farthest: position of the farthest pixel of this pass, in the worker's order.
        farthest_at: when we first saw it that far, our clock.
        missing, failed: positions without a row of use, and with a failed one, where they were read.
        asked: our latest request for it, unless a person has released the chip since.
    """

    state: State
    since: datetime
    look: Look
    reason: str = ""
    baseline: datetime | None = None
    renew: bool = False
    farthest: int | None = None
    farthest_at: datetime | None = None
    missing: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    asked: Asked | None = None


def still_stands(before: Record, ticketed: bool, update_requested: datetime | None) -> bool:
    """Tell whether a chip's head alone proves that nothing changed since `before`.

    A chip once home stays so until it is requested again, and one never requested until it first is.
    """
    if before.state == State.UNREQUESTED:
        return not ticketed
    return before.state in HOME and before.look.update_requested == update_requested


def needs_pixels(look: Look, before: Record | None) -> bool:
    """Tell whether `judge` needs the chip's pixels one by one, not only the aggregate."""
    baseline, renew = _request_of(look, before)
    if not look.pixels or not _any_after(look, baseline):
        return False
    return look.some_failed if _is_full(look, baseline, renew) else True


def judge(look: Look, pixels: Sequence[Pixel] | None, before: Record | None, stall_after: timedelta) -> Record:
    """Return where a chip stands.

    Args:
        look: the aggregate of its partition.
        pixels: its rows, when `needs_pixels` said so.
        before: what the ledger remembers of it; None at the first look, which judges by rows alone.
        stall_after: a pass whose farthest pixel has not moved for so long has stalled, our clock.
    """
    baseline, renew = _request_of(look, before)
    asked = None if before is None else before.asked
    seen = Record(State.UNKNOWN, look.at, look, baseline=baseline, renew=renew, asked=asked)
    if not look.pixels:
        seen = _without_rows(seen)
    elif not _any_after(look, baseline):
        seen = _before_the_pass(seen)
    elif _is_full(look, baseline, renew):
        seen = _full(seen, pixels or ())
    else:
        seen = _within_the_pass(seen, pixels or (), before, stall_after)
    if before is None:
        return seen
    seen = _left_alone(_followed(seen), before)
    same = before.state == seen.state and not _is_someone_elses(look, before)
    return replace(seen, since=before.since) if same else seen


def _is_someone_elses(look: Look, before: Record) -> bool:
    """Tell whether somebody else has asked for the chip since the look before: their job is waited for anew."""
    return look.update_requested != before.look.update_requested and not _is_ours(look, before)


def _request_of(look: Look, before: Record | None) -> tuple[datetime | None, bool]:
    """Return the baseline of the current pass and whether it is meant to renew every row.

    A `chip_update_requested` that changed between two looks is a request by someone else, with the earlier
    look's latest row as its baseline.
    """
    if before is None:
        return None, False
    if not _is_someone_elses(look, before):
        return before.baseline, before.renew
    return before.look.last_produced, before.look.last_produced is not None


def _is_ours(look: Look, before: Record) -> bool:
    """Tell whether a changed `chip_update_requested` is the trace of our own request."""
    asked = before.asked
    if asked is None or asked.settled_at is not None:
        return False
    first_change = before.look.update_requested == asked.update_before
    return asked.update_requested == look.update_requested or (asked.is_unclear and first_change)


def _followed(seen: Record) -> Record:
    """Note what a look shows of our request: whether it arrived, whether it has rows, how it ended."""
    asked = seen.asked
    if asked is None or asked.settled_at is not None:
        return seen
    if seen.look.pixels and _any_after(seen.look, seen.baseline):
        asked = replace(asked, rows_at=asked.rows_at or seen.look.at)
    if asked.is_unclear and (asked.rows_at is not None or seen.look.update_requested != asked.update_before):
        asked = replace(asked, answer="queued", update_requested=seen.look.update_requested)
    if asked.is_unclear and seen.state in (State.UNREQUESTED, State.QUEUED, State.STALE):
        reason = "A request was sent and no answer came: it may be queued or not."
        seen = replace(seen, state=State.UNCERTAIN, reason=reason)
    elif seen.state == State.UNREQUESTED:
        reason = "The service took a request, but the table shows no ticket: do the two belong together?"
        seen = replace(seen, state=State.UNCERTAIN, reason=reason)
    if seen.state in HOME | {State.INCOMPLETE, State.STALLED}:
        asked = replace(asked, settled_at=seen.look.at, outcome=seen.state, end_produced=seen.look.last_produced)
    else:
        asked = replace(asked, unsettled_at=seen.look.at)
    return replace(seen, asked=asked)


def _left_alone(seen: Record, before: Record) -> Record:
    """Keep a chip quarantined until it is home, someone asks for it, or a person releases it."""
    if before.state != State.QUARANTINED or seen.state in HOME:
        return seen
    if before.look.update_requested != seen.look.update_requested:
        return seen
    return replace(seen, state=State.QUARANTINED, reason=before.reason)


def _any_after(look: Look, baseline: datetime | None) -> bool:
    return baseline is None or (look.last_produced is not None and look.last_produced > baseline)


def _is_full(look: Look, baseline: datetime | None, renew: bool) -> bool:
    if look.pixels < PIXELS:
        return False
    return baseline is None or not renew or (look.first_produced is not None and look.first_produced > baseline)


def _without_rows(seen: Record) -> Record:
    if seen.look.ticketed:
        return replace(seen, state=State.QUEUED, reason="Requested; no pixel has been written yet.")
    return replace(seen, state=State.UNREQUESTED, reason="Never requested.")


def _before_the_pass(seen: Record) -> Record:
    if seen.look.pixels >= PIXELS:
        return replace(seen, state=State.STALE, reason="Requested again; all its pixels are of an earlier pass.")
    reason = f"Requested again; its {seen.look.pixels:,} pixels are of an earlier pass."
    return replace(seen, state=State.QUEUED, reason=reason)


def _full(seen: Record, pixels: Sequence[Pixel]) -> Record:
    if not seen.look.some_failed:
        return replace(seen, state=State.COMPLETE)
    if not seen.look.some_good:
        return replace(seen, state=State.NO_DATA, reason="The algorithm failed on every pixel: no input data.")
    failed = tuple(sorted(pixel.position for pixel in pixels if not pixel.ok))
    reason = f"The algorithm failed on {len(failed):,} of {PIXELS:,} pixels."
    return replace(seen, state=State.FLAWED, failed=failed, reason=reason)


def _within_the_pass(
    seen: Record, pixels: Sequence[Pixel], before: Record | None, stall_after: timedelta
) -> Record:
    fresh = {
        pixel.position
        for pixel in pixels
        if seen.baseline is None or (pixel.produced is not None and pixel.produced > seen.baseline)
    }
    useful = fresh if seen.renew else {pixel.position for pixel in pixels}
    missing = tuple(position for position in range(PIXELS) if position not in useful)
    failed = tuple(sorted(pixel.position for pixel in pixels if not pixel.ok))
    seen = replace(seen, missing=missing, failed=failed, farthest=max(fresh, default=None))
    if PIXELS - 1 in fresh:
        reason = f"The last pixel is written, but {len(missing):,} of {PIXELS:,} are missing."
        return replace(seen, state=State.INCOMPLETE, farthest_at=seen.look.at, reason=reason)
    moved_at = _moved_at(seen, before)
    reached = f"{(seen.farthest or 0) + 1:,} of {PIXELS:,} pixels"
    if seen.look.at - moved_at >= stall_after:
        reason = f"Stopped at {reached}: nothing new since {moved_at:%Y-%m-%d %H:%M} UTC."
        return replace(seen, state=State.STALLED, farthest_at=moved_at, reason=reason)
    return replace(seen, state=State.RUNNING, farthest_at=moved_at, reason=f"The worker has reached {reached}.")


def _moved_at(seen: Record, before: Record | None) -> datetime:
    """Return when the farthest pixel of this pass was first seen where it is."""
    if before is None or before.farthest is None or before.farthest_at is None:
        return seen.look.at
    if before.baseline != seen.baseline or (seen.farthest or 0) > before.farthest:
        return seen.look.at
    return before.farthest_at
