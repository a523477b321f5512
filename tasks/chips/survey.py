"""Survey: look at each chip and judge where it stands, counting only what may have changed."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tasks.chips.campaign import Site
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.states import Look, Pixel, Record, judge, needs_pixels, still_stands
from tasks.ledger.chips import recall, remember


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
    counting: list[float] = []
    failures: list[Exception] = []

    def see(chip: Chip) -> Record:
        return _see(site, chip, before.get(chip), counting)

    for chip, record in site.each(see, _left(chips, seen), site.settings.cassandra.queries_in_flight):
        if isinstance(record, Exception):
            failures.append(record)
        else:
            seen[chip] = record
    site.ledger.write(lambda ledger: remember(ledger, site.ground, seen), lease=site.lease)
    if failures:
        raise failures[0]
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


def _see(site: Site, chip: Chip, before: Record | None, counting: list[float]) -> Record:
    """Return where one chip stands: by its head if that proves that nothing changed, else by its rows."""
    if before is not None and not site.campaign.recount:
        with site.pacer.slot():
            started = time.monotonic()
            ticketed, update_requested = site.table.head(chip, site.campaign.algorithm)
            site.pacer.note("head", time.monotonic() - started)
        if still_stands(before, ticketed, update_requested):
            return replace(before, look=replace(before.look, at=datetime.now(UTC)))
    started = time.monotonic()
    record = look_again(site, chip, before)
    counting.append(time.monotonic() - started)
    return record


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
