"""Bringing a surveyed tile home: ask for what is missing, watch, save what comes home, ask again if it helps."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import unmapped

from tasks.chips.campaign import Campaign, Site
from tasks.chips.grid import Chip, row_column
from tasks.chips.request import Asking, Requested, cost, decide
from tasks.chips.states import State
from tasks.chips.survey import Surveyed
from tasks.chips.tasks import TIME_BOX_S, export_row, request_row, settle_round
from tasks.consent import HANDFUL, check_consent
from tasks.ledger.chips import find_home


@dataclass(frozen=True)
class Wishes:
    """What a person wants of a run beyond the campaign itself.

    Attributes:
        agreed: whether the person has agreed to more than a handful of requests.
        max_requests: the run sends at most so many.
        wait: whether the run waits for what it asked for.
        deadline_s: it waits no longer than that.
        again: states of chips to ask for again whatever they are, every row anew.
        only: the only chips to ask for.
        chips_per_task: how many chips one task run handles at most.
    """

    agreed: bool = False
    max_requests: int | None = None
    wait: bool = True
    deadline_s: float = 24 * 3600.0
    again: frozenset[State] = frozenset()
    only: frozenset[Chip] | None = None
    chips_per_task: int = 50


@dataclass
class Brought:
    """What asking and waiting came to.

    Attributes:
        requested: what was sent.
        held_back: chips that the guard, the pilot or a limit kept from being requested.
        exported: the exports of what came home.
        settled, seconds: chips that came to an end, and how long that took, of this run.
    """

    requested: Requested = field(default_factory=Requested)
    held_back: int = 0
    exported: list[PrefectFuture[Any]] = field(default_factory=list)
    settled: int = 0
    seconds: float = 0.0


def bring_home(
    place: Site,
    wishes: Wishes,
    brought: Brought,
    requesting: ThreadPoolTaskRunner[Any],
    exporting: ThreadPoolTaskRunner[Any] | None,
) -> None:
    """Ask, watch, save and ask again until nothing is out, or nothing more can be done, or time is over.

    Args:
        place: the campaign at work, surveyed.
        wishes: what a person wants beyond it.
        brought: is added to on the way, so that what was done is known when something fails.
        requesting: runs requests and rounds, one at a time.
        exporting: runs the exports of what comes home; None saves nothing.

    Raises:
        ConsentMissing: more than a handful of requests would be sent, and nobody agreed.
        OverlanderError: the service is away or does not run the algorithm.
    """
    handed_on = _home(place)  # by the survey

    def hand_on() -> int:
        """Save what has come home since, whoever saw it: the ledger knows, also of a task that failed later."""
        came_home = _home(place) - handed_on
        handed_on.update(came_home)
        if came_home and exporting is not None:
            new = {chip for chip, _ in came_home}
            chips = [chip for chip in place.campaign.chips if chip in new]
            brought.exported += _save(place, chips, wishes.chips_per_task, exporting)
        return len(came_home)

    try:
        _go_round(place, wishes, brought, requesting, hand_on)
    finally:
        if not place.stopping.is_set():
            hand_on()


def _home(place: Site) -> set[tuple[Chip, datetime | None]]:
    with place.ledger.read() as ledger:
        return set(find_home(ledger, place.ground).items())


def _go_round(
    place: Site,
    wishes: Wishes,
    brought: Brought,
    requesting: ThreadPoolTaskRunner[Any],
    hand_on: Callable[[], int],
) -> None:
    started = time.monotonic()
    until = started + wishes.deadline_s
    rounds = 0
    while not place.stopping.is_set():
        asking = _decide(place, wishes, brought.requested.sent, first=rounds == 0)
        if rounds == 0 or not wishes.again:  # what a person wants again is asked for in the first round only
            brought.held_back = asking.held_back
        _ask(place, asking, wishes.chips_per_task, brought, requesting)
        left_s = until - time.monotonic()
        if not wishes.wait or left_s <= 0 or not (asking.steps or asking.waits):
            break
        rounds += 1
        settling = {
            "campaign": place.campaign,
            "number": rounds,
            "time_box_s": min(left_s, TIME_BOX_S),
            "first_rows": asking.pilot,
        }
        seen = requesting.submit(settle_round, settling).result()
        came_home = hand_on()
        if ended := came_home + len(seen.ended):
            brought.settled += ended
            brought.seconds = time.monotonic() - started
        if not (asking.steps or came_home or seen.ended or seen.out):
            break


def _decide(place: Site, wishes: Wishes, sent: int, *, first: bool) -> Asking:
    """Return what to ask for next, within what a person has agreed to."""
    agreed = wishes.agreed or wishes.max_requests is not None
    limit = None if wishes.max_requests is None else wishes.max_requests - sent
    if not agreed and not first:
        limit = HANDFUL - sent
    asking = decide(place, again=wishes.again if first else (), only=wishes.only, limit=limit)
    if first and not agreed and not asking.guard:
        later = asking.held_back if wishes.wait and (asking.steps or asking.waits) else 0
        requests = len(asking.steps) + later
        check_consent(requests, cost(place, requests))
    return asking


def _ask(
    place: Site, asking: Asking, chips_per_task: int, brought: Brought, requesting: ThreadPoolTaskRunner[Any]
) -> None:
    """Request the chips row after row. A row that fails is the last: the others' requests would fail as well."""
    if not asking.steps:
        return
    _ = place.requester  # fails now where the service is not as it should be, not once a row and its retries
    for where, row in batches(place.campaign, asking.steps, chips_per_task):
        steps = [(chip, asking.steps[chip]) for chip in row]
        given = {"campaign": place.campaign, "where": where, "steps": steps, "begun": asking.at}
        brought.requested += requesting.submit(request_row, given).result()


def _save(
    place: Site, home: Iterable[Chip], chips_per_task: int, exporting: ThreadPoolTaskRunner[Any]
) -> list[PrefectFuture[Any]]:
    names, rows = zip(*batches(place.campaign, home, chips_per_task), strict=True)
    surveyed = [Surveyed(tuple(row), {}, 0, 0.0) for row in rows]
    given = {"campaign": unmapped(place.campaign), "where": names, "surveyed": surveyed}
    return list(exporting.map(export_row, given))


def batches(campaign: Campaign, chips: Iterable[Chip], chips_per_task: int) -> list[tuple[str, list[Chip]]]:
    """Return chips by rows of the tile, cut to at most `chips_per_task`, each batch with its name for people."""
    rows: dict[int, list[Chip]] = {}
    for chip in chips:
        rows.setdefault(row_column(chip, campaign.tile)[0], []).append(chip)
    found: list[tuple[str, list[Chip]]] = []
    for number, row in rows.items():
        for start in range(0, len(row), chips_per_task):
            part = row[start : start + chips_per_task]
            first = row_column(part[0], campaign.tile)[1]
            words = f"row {number}" if len(part) == len(row) else f"row {number}, from column {first}"
            found.append((words, part))
    return found
