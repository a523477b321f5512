"""Settle: watch what was asked for until it comes to an end, in rounds.

A round looks at each chip that is out with one-row reads, at a growing interval, and counts only those whose last
pixel has been written or whose progress is due to be seen. It ends when chips have come home and should be saved,
when all are settled, or when its time is over; the next round goes on.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from tasks.chips.campaign import Site
from tasks.chips.grid import Chip
from tasks.chips.heal import WAITS, Rules, rules_of, waits_too_long
from tasks.chips.states import HOME, Record
from tasks.chips.survey import look_again
from tasks.ledger.chips import recall, remember

GROWTH = 1.5
"""Each interval is so much longer than the last, until something moves."""

HAND_ON_AFTER_S = 30.0
"""Chips that came home wait at most so long in a round for others before they are handed on to be saved."""


@dataclass(frozen=True)
class Settled:
    """What a round saw.

    Attributes:
        home: chips that came home in it: complete, flawed or without data.
        ended: chips that came to another end: to be judged by `heal`.
        out: how many are still out and worth waiting for.
    """

    home: tuple[Chip, ...]
    ended: tuple[Chip, ...]
    out: int


def settle(site: Site, time_box_s: float, *, first_rows: bool = False) -> Settled:
    """Watch the campaign's chips that are out for one round, but for those that have waited too long.

    Args:
        site: the campaign at work.
        time_box_s: the round is over after so long, whatever is out.
        first_rows: whether the round is over as soon as any chip is seen to have rows.

    Raises:
        OverlanderError: as looking at them fails.
    """
    settings = site.settings
    until = time.monotonic() + time_box_s
    interval_s = settings.poll_first_s
    home: list[Chip] = []
    ended: list[Chip] = []
    hand_on_at = until
    with site.ledger.read() as ledger:
        records = recall(ledger, site.ground, site.campaign.chips)
    out = _worth_waiting_for(records, rules_of(settings))
    while out and time.monotonic() < min(until, hand_on_at) and not site.stopping.is_set():
        seen = _look(site, out, until)
        site.ledger.write(partial(remember, ground=site.ground, records=seen), lease=site.lease)
        moved = any(_mark(record) != _mark(out[chip]) for chip, record in seen.items())
        for chip, record in seen.items():
            if record.state in WAITS:
                out[chip] = record
            else:
                (home if record.state in HOME else ended).append(chip)
                del out[chip]
        site.progress.add(settled=sum(record.state in HOME for record in seen.values()))
        if ended or (first_rows and any(record.look.pixels for record in seen.values())):
            break
        out = _worth_waiting_for(out, rules_of(settings))
        if home:
            hand_on_at = min(hand_on_at, time.monotonic() + HAND_ON_AFTER_S)
        interval_s = settings.poll_first_s if moved else min(interval_s * GROWTH, settings.poll_longest_s)
        if out:
            left_s = min(until, hand_on_at) - time.monotonic()
            site.stopping.wait(max(0.0, min(interval_s, left_s)))
    return Settled(tuple(home), tuple(ended), len(out))


def _worth_waiting_for(records: Mapping[Chip, Record], rules: Rules) -> dict[Chip, Record]:
    """Return the chips that are out and have not waited for longer than the limit."""
    now = datetime.now(UTC)
    return {
        chip: record
        for chip, record in records.items()
        if record.state in WAITS and not waits_too_long(record, now, rules)
    }


def _mark(record: Record) -> tuple[object, ...]:
    """Return what tells that a chip has moved."""
    return record.state, record.farthest, record.look.pixels


def _look(site: Site, out: dict[Chip, Record], until: float) -> dict[Chip, Record]:
    """Return the new records of those chips that were worth a full look; none is begun after `until`.

    Those that were counted longest ago come first, so that no chip is left out round after round.
    """
    looked_at: dict[Chip, Record] = {}
    failures: list[Exception] = []

    def look(chip: Chip) -> Record | None:
        if time.monotonic() >= until:
            return None
        return look_again(site, chip, out[chip]) if _is_due(site, chip, out[chip]) else out[chip]

    chips = sorted(out, key=lambda chip: out[chip].look.at)
    for chip, record in site.each(look, chips, site.settings.cassandra.queries_in_flight):
        if isinstance(record, Exception):
            failures.append(record)
        elif record is not None:
            looked_at[chip] = record
    if failures and not looked_at:  # else the others go on, and this one is looked at again
        raise failures[0]
    return {chip: record for chip, record in looked_at.items() if record is not out[chip]}


def _is_due(site: Site, chip: Chip, record: Record) -> bool:
    """Tell by one-row reads whether a chip is worth counting.

    It is when the last pixel of its pass is written, when its partition is nearly empty, so that counting costs
    nothing, and now and then to see whether it moves.
    """
    progress_due = timedelta(seconds=min(site.settings.stall_after_s / 4, 600))
    if record.look.pixels < FEW_ROWS or datetime.now(UTC) - record.look.at >= progress_due:
        return True
    with site.pacer.slot():
        last = site.table.last_pixel(chip, site.campaign.algorithm)
    return last is not None and (record.baseline is None or last > record.baseline)


FEW_ROWS = 500
"""Counting a partition of so few rows costs hardly more than reading one of them."""
