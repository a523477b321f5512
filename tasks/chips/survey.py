"""Survey: look at each chip and judge where it stands, counting only what may have changed."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from tasks.chips.campaign import Site
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.states import Look, Pixel, Record, judge, needs_pixels, still_stands
from tasks.ledger.chips import note_looked, recall, remember

HEADS_AT_ONCE = 10
"""The heads of so many chips of a row are read with one query; the node that is asked gathers them."""


@dataclass(frozen=True)
class Surveyed:
    """What a survey of some chips found.

    Attributes:
        chips: which.
        states: how many stand where.
        counted: of how many the rows were counted; the others' heads showed that nothing changed.
        seconds: spent on counting, all threads together.
    """

    chips: tuple[Chip, ...]
    states: dict[str, int]
    counted: int
    seconds: float


def survey(site: Site, chips: Sequence[Chip]) -> Surveyed:
    """Look at some chips and write down where they stand.

    Chips already looked at in this run are not looked at again, so that a retry does only what is left.

    Raises:
        OverlanderError: as the first chip that could not be looked at failed; the others are written down.
    """
    with site.ledger.read() as ledger:
        before = recall(ledger, site.ground, chips)
    seen = {chip: record for chip, record in before.items() if record.look.at >= site.campaign.started}
    begun = datetime.now(UTC)
    unchanged: dict[Chip, Record] = {}
    if not site.campaign.recount:
        unchanged = _unchanged(site, {chip: before[chip] for chip in _left(chips, seen) if chip in before})
    counted: dict[Chip, Record] = {}
    counting: list[float] = []
    failures: list[Exception] = []

    def see(chip: Chip) -> Record:
        started = time.monotonic()
        record = look_again(site, chip, before.get(chip))
        counting.append(time.monotonic() - started)
        return record

    left = _left(chips, seen | unchanged)
    for chip, record in site.each(see, left, site.settings.cassandra.queries_in_flight):
        if isinstance(record, Exception):
            failures.append(record)
        else:
            counted[chip] = record

    def note(ledger: Connection) -> None:
        note_looked(ledger, site.ground, unchanged, begun)
        remember(ledger, site.ground, counted)

    site.ledger.write(note, lease=site.lease)
    if failures:
        raise failures[0]
    seen |= unchanged | counted
    site.progress.add(surveyed=len(seen))
    states = Counter(str(record.state) for record in seen.values())
    return Surveyed(tuple(chips), dict(states), len(counting), sum(counting))


def _left(chips: Iterable[Chip], seen: dict[Chip, Record]) -> list[Chip]:
    return [chip for chip in chips if chip not in seen]


def look_again(site: Site, chip: Chip, before: Record | None) -> Record:
    """Count one chip's rows and return where it stands."""
    algorithm = site.campaign.algorithm
    with site.pacer.slot():
        started = time.monotonic()
        look = site.table.look(chip, algorithm)
        pixels = site.table.pixels(chip, algorithm) if needs_pixels(look, before) else None
        if look.pixels >= PIXELS and pixels is None:
            site.pacer.note("count", time.monotonic() - started)
    return judge(_as_read(look, pixels), pixels, before, site.stall_after)


def _unchanged(site: Site, known: Mapping[Chip, Record]) -> dict[Chip, Record]:
    """Return the records of those chips whose heads alone prove that nothing has changed."""

    def read(some: Sequence[Chip]) -> dict[Chip, datetime | None]:
        with site.pacer.slot():
            started = time.monotonic()
            heads = site.table.heads(some, site.campaign.algorithm)
            site.pacer.note("heads", time.monotonic() - started)
        return heads

    found: dict[Chip, Record] = {}
    chips = list(known)
    groups = [chips[start : start + HEADS_AT_ONCE] for start in range(0, len(chips), HEADS_AT_ONCE)]
    for some, heads in site.each(read, groups, site.settings.cassandra.queries_in_flight):
        if isinstance(heads, Exception):
            raise heads
        for chip in some:
            if still_stands(known[chip], chip in heads, heads.get(chip)):
                found[chip] = known[chip]
    return found


def _as_read(look: Look, pixels: Sequence[Pixel] | None) -> Look:
    """Return what the aggregate would have shown when the pixels were read: a worker writes on in between."""
    produced = [pixel.produced for pixel in pixels or () if pixel.produced is not None]
    if not pixels or not produced or len(pixels) < look.pixels:
        return look
    return replace(
        look,
        pixels=len(pixels),
        some_good=any(pixel.ok for pixel in pixels),
        some_failed=any(not pixel.ok for pixel in pixels),
        first_produced=min(produced),
        last_produced=max(produced),
    )
