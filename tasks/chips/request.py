"""Request: ask the service for what is missing, never twice for what may have arrived, and stop when in doubt."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from tasks.chips.campaign import Site
from tasks.chips.grid import Chip
from tasks.chips.heal import (
    SAMPLE,
    UNCLEAR_IN_A_ROW,
    WAITS,
    Step,
    next_step,
    queue_moved_past,
    room_for,
    rules_of,
    tripped,
    unclear,
)
from tasks.chips.service import WrongChip
from tasks.chips.states import HOME, Asked, Record, State
from tasks.chips.survey import look_again
from tasks.errors import OverlanderError, ThrottledError, UncertainError
from tasks.ledger.chips import last_rate, recall, remember, set_guard, tile_note, use_tile
from tasks.ledger.requests import (
    drop_request,
    last_answers,
    last_ends,
    last_request,
    note_request,
    outstanding_elsewhere,
    release,
    seen_anywhere,
)

LONGEST_REST_S = 60.0
"""A service that gets too many requests is given the rest that it names, but none longer than this."""


@dataclass(frozen=True)
class Asking:
    """What a run would ask for.

    Attributes:
        steps: the chips to request, with how and why.
        guard: why requesting has stopped, or an empty text.
        held_back: chips that would be asked for but for a limit, the pilot or the guard.
        pilot: whether nothing of the algorithm was ever seen, so that one chip goes first.
        waits: whether any of the campaign's chips waits for the service already.
        at: when that was decided, our clock.
    """

    steps: Mapping[Chip, Step]
    guard: str
    held_back: int
    pilot: bool
    waits: bool
    at: datetime


def decide(
    site: Site, *, again: Collection[State] = (), only: Collection[Chip] | None = None, limit: int | None = None
) -> Asking:
    """Return which chips to ask for now, and quarantine those that asking would not help.

    Args:
        site: the campaign at work, surveyed; chips not looked at in this run are not asked for.
        again: states that a person wants asked for again whatever they are.
        only: the only chips to ask for; None is all of the campaign's.
        limit: requests that the run may still send; None is no limit.
    """
    rules, now = rules_of(site.settings), datetime.now(UTC)
    ground = site.ground
    with site.ledger.read() as ledger:
        records = recall(ledger, ground)
        ends = last_ends(ledger, ground, SAMPLE)
        guard = tile_note(ledger, ground).guard
        seen_elsewhere = seen_anywhere(ledger, ground.source, ground.algorithm)
        out_elsewhere = outstanding_elsewhere(ledger, ground)
    guard = guard or tripped(records.values(), ends, now, rules)
    moved_past = queue_moved_past(records.values())
    wanted = [
        chip
        for chip in site.campaign.chips
        if chip in records and records[chip].look.at >= site.campaign.started and (only is None or chip in only)
    ]
    steps = {chip: next_step(records[chip], rules, moved_past, again) for chip in wanted}
    quarantined = {
        chip: replace(records[chip], state=State.QUARANTINED, reason=step.reason, since=now)
        for chip, step in steps.items()
        if step.do == "quarantine"
    }
    asking = {chip: step for chip, step in steps.items() if step.do == "request"}
    room = room_for(
        records | quarantined, guard, rules, seen_elsewhere=seen_elsewhere, out_elsewhere=out_elsewhere
    )
    most = None if limit is None else max(0, limit)
    chosen = {chip: asking[chip] for chip in room.take(asking)[:most]}

    def note(ledger: Connection) -> None:
        remember(ledger, ground, quarantined)
        set_guard(ledger, ground, guard)

    if quarantined or guard:
        site.ledger.write(note, lease=site.lease)
    waits = any(chip in records and records[chip].state in WAITS for chip in site.campaign.chips)
    return Asking(chosen, guard, len(asking) - len(chosen), room.held_by == "pilot", waits, now)


def cost(site: Site, chips: int) -> str:
    """Return what requests cost, for whoever has to agree: chips, pixels and hours as far as measured."""
    with site.ledger.read() as ledger:
        rate = last_rate(ledger, site.ground.source, "settle")
    hours = "nobody has measured yet how long that takes"
    if rate is not None:
        hours = f"about {chips * rate / 3600:,.1f} hours at the rate of the last run"
    return f"{chips:,} chips, {chips * 10_000:,} pixels of computing that cannot be called back; {hours}"


@dataclass(frozen=True)
class Requested:
    """How many requests were sent, by earlier tries too, and of how many nobody knows whether they arrived."""

    sent: int = 0
    uncertain: int = 0

    def __add__(self, other: "Requested") -> "Requested":
        return Requested(self.sent + other.sent, self.uncertain + other.uncertain)


def request(site: Site, steps: Sequence[tuple[Chip, Step]], begun: datetime) -> Requested:
    """Ask for some chips. Each request is on disk before it is sent.

    A chip that may have moved since it was looked at is looked at once more, and asked for only if it has not.

    Args:
        site: the campaign at work.
        steps: the chips, and how to ask for each.
        begun: when it was decided to ask for them, our clock; what was sent since is not sent again.

    Raises:
        OverlanderError: the service is away or refuses; what was not sent is not noted as sent.
        WrongChip: the service took the request for another chip: nothing more is requested until a release.
    """
    with site.ledger.read() as ledger:
        records = recall(ledger, site.ground, [chip for chip, _ in steps])
        guard = tile_note(ledger, site.ground).guard  # an earlier row may have met a service in trouble
    if guard:
        return Requested()
    sent = uncertain = 0
    for chip, step in steps:
        record = records[chip]
        if site.stopping.is_set():
            break
        if record.asked is not None and record.asked.at >= begun:
            answer = record.asked  # sent by the try before this one
        else:
            if step.look_first:
                now = _look_once_more(site, chip, record)
                if _place_of(now) != _place_of(record):
                    continue
                record = now
            site.requester.pause()
            try:
                answer = _request_one(site, chip, record, step)
            except ThrottledError as error:  # the next try sends the rest
                site.stopping.wait(min(error.retry_after_s or 0.0, LONGEST_REST_S))
                raise
            site.progress.add(requested=1)
        sent += 1
        uncertain += answer.is_unclear
        if answer.is_unclear and _is_stopped(site):
            break
    return Requested(sent, uncertain)


def _is_stopped(site: Site) -> bool:
    """Stop requesting where no answer to the last requests said whether they arrived; tell whether it is so."""
    with site.ledger.read() as ledger:
        guard = unclear(last_answers(ledger, site.ground, UNCLEAR_IN_A_ROW))
    if guard:
        site.ledger.write(lambda ledger: set_guard(ledger, site.ground, guard), lease=site.lease)
    return bool(guard)


def _look_once_more(site: Site, chip: Chip, before: Record) -> Record:
    now = look_again(site, chip, before)
    site.ledger.write(lambda ledger: remember(ledger, site.ground, {chip: now}), lease=site.lease)
    return now


def _place_of(record: Record) -> tuple[State, datetime | None]:
    """Return what tells that a chip has not come further, and that nobody has asked for it meanwhile."""
    return record.state, record.look.update_requested


def _request_one(site: Site, chip: Chip, record: Record, step: Step) -> Asked:
    ground, now = site.ground, datetime.now(UTC)

    def begin(ledger: Connection) -> Asked:
        before = last_request(ledger, ground, chip)
        asked = Asked(
            number=1 if before is None else before.number + 1,
            attempts=(record.asked.attempts if record.asked else 0) + 1,
            at=now,
            refresh=step.refresh,
            renew=step.renew,
            update_before=record.look.update_requested,
            answer="sending",
            missing=record.missing,
            alone=_is_alone(record, before),
        )
        note_request(ledger, ground, chip, asked, record.look.last_produced)
        remember(ledger, ground, {chip: _sent(record, asked, State.UNCERTAIN, "Being requested.")})
        return asked

    asked = site.ledger.write(begin, lease=site.lease)
    try:
        receipt = site.requester.send(chip, refresh=step.refresh)
    except UncertainError as error:
        asked = replace(asked, answer="uncertain")
        after = _sent(record, asked, State.UNCERTAIN, str(error))
    except WrongChip as error:
        guard = f"{error} Then `overlander tile release`."
        site.ledger.write(lambda ledger: set_guard(ledger, ground, guard), lease=site.lease)
        raise
    except OverlanderError:
        site.ledger.write(lambda ledger: _take_back(ledger, site, chip, record, asked), lease=site.lease)
        raise
    else:
        asked = replace(asked, answer=receipt.answer, update_requested=receipt.update_requested)
        after = _sent(record, asked, State.QUEUED, f"{step.reason} Requested; nothing of it is written yet.")
    site.ledger.write(lambda ledger: remember(ledger, ground, {chip: after}), lease=site.lease)
    return asked


def _is_alone(record: Record, before: Asked | None) -> bool:
    """Tell whether no other job can be at work on a chip about to be asked for, as far as we know."""
    ended = HOME | {State.INCOMPLETE}
    if record.state not in ended | {State.UNREQUESTED}:
        return False  # somebody's job may be queued or at work
    return before is None or (before.alone and before.outcome in ended)


def _sent(record: Record, asked: Asked, state: State, reason: str) -> Record:
    """Return a chip's record with a request on its way: rows after those known now are of the new pass."""
    return replace(
        record,
        state=state,
        reason=reason,
        since=asked.at,
        baseline=record.look.last_produced,
        renew=asked.renew,
        farthest=None,
        farthest_at=None,
        asked=asked,
    )


def _take_back(ledger: Connection, site: Site, chip: Chip, record: Record, asked: Asked) -> None:
    drop_request(ledger, site.ground, chip, asked.number)
    remember(ledger, site.ground, {chip: record})


@dataclass(frozen=True)
class Released:
    """What a release came to: chips that were quarantined, others that still wait, and the guard, now lifted."""

    quarantined: int
    waiting: int
    guard: str


def release_tile(site: Site) -> Released:
    """Write off what was asked for: lift the guard, and let quarantined chips be asked for again.

    What still waits is waited for from now on, and is asked for again on the same evidence as before.
    """

    def change(ledger: Connection) -> Released:
        records = recall(ledger, site.ground, site.campaign.chips)
        now = datetime.now(UTC)
        freed = {
            chip: _freed(record, now) for chip, record in records.items() if record.state == State.QUARANTINED
        }
        waiting = {chip: replace(record, since=now) for chip, record in records.items() if record.state in WAITS}
        release(ledger, site.ground, site.campaign.chips)
        remember(ledger, site.ground, freed | waiting)
        guard = use_tile(ledger, site.ground, site.campaign.name).guard
        set_guard(ledger, site.ground, "")
        return Released(len(freed), len(waiting), guard)

    return site.ledger.write(change, lease=site.lease)


def _freed(record: Record, now: datetime) -> Record:
    """Return a quarantined chip's record as released; a request that it still waited for has ended with that."""
    asked = record.asked
    if asked is not None and asked.settled_at is None:
        asked = replace(asked, settled_at=now, outcome=State.QUARANTINED)
    return replace(record, state=State.UNKNOWN, since=now, reason="Released by a person.", asked=asked)
