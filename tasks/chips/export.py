"""Export: save each chip that is home, and keep the files that still say what the table says."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from tasks.chips.campaign import Campaign, Site
from tasks.chips.chip_file import Exported, ExportOrder, Flawed
from tasks.chips.grid import Chip
from tasks.chips.results import FIRST_ROW_BYTES
from tasks.chips.states import Pixel, Record, State, judge
from tasks.errors import OutputUnusable, ServiceTimedOut, ThrottledError
from tasks.files import sha256_of, sweep_parts
from tasks.ledger.chips import Saved, forget, mean_row_bytes, note_saved, recall, remember, saved


@dataclass(frozen=True)
class ExportTally:
    """What became of some chips.

    Attributes:
        exported: files written in this run.
        kept: files that were there and still right.
        problems: chips that cannot be saved as they are: their results do not match their md5.
        changed: chips that changed while they were being read; a later look decides.
        rows, bytes, seconds: written in this run; seconds of all processes together.
    """

    exported: int = 0
    kept: int = 0
    problems: int = 0
    changed: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def has_news(self) -> bool:
        """Whether anything is not as it was before."""
        return bool(self.exported or self.problems or self.changed)

    def __add__(self, other: "ExportTally") -> "ExportTally":
        return ExportTally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


Noted = Callable[[ExportOrder, Exported], ExportTally]
"""Writes down what became of an order, and counts it."""


def export(site: Site, chips: Sequence[Chip]) -> ExportTally:
    """Save those of some chips that are home and not saved yet.

    Raises:
        OutputUnusable: the output folder cannot be written; nothing further is tried.
        OverlanderError: as the first chip that could not be saved failed; the others are saved.
    """
    campaign = site.campaign
    with site.ledger.read() as ledger:
        records = recall(ledger, site.ground, chips)
        earlier = saved(ledger, site.ground, campaign.layout.root, chips)
    tally = ExportTally()
    to_save: list[Chip] = []
    for chip in chips:
        if (record := records.get(chip)) is None or not is_saved(record, campaign.flawed):
            continue
        match verdict(site, chip, record, earlier.get(chip)):
            case "keep":
                tally += ExportTally(kept=1)
            case "problem":
                tally += ExportTally(problems=1)
            case "save":
                to_save.append(chip)
    site.progress.add(kept=tally.kept, to_export=len(to_save))
    if not to_save:
        return tally
    with site.ledger.read() as ledger:
        row_bytes = mean_row_bytes(ledger, site.ground.source, campaign.algorithm) or FIRST_ROW_BYTES
    orders = [_order(campaign, chip, records[chip], row_bytes) for chip in to_save]
    for folder in {order.file.parent for order in orders}:
        sweep_parts(folder)

    def noted(order: ExportOrder, outcome: Exported) -> ExportTally:
        return _noted(site, records[order.chip], earlier.get(order.chip), order, outcome)

    failures: list[Exception] = []
    save = _save_each if site.save_together is None else _save_together
    for outcome in save(site, orders, noted):
        if isinstance(outcome, OutputUnusable):
            raise outcome
        if isinstance(outcome, Exception):
            failures.append(outcome)
        else:
            tally += outcome
    if failures:
        raise failures[0]
    return tally


def is_saved(record: Record, flawed: Flawed) -> bool:
    """Tell whether a chip in this state has a file at all, by what becomes of chips with failed pixels."""
    return record.state == State.COMPLETE or (record.state == State.FLAWED and flawed != "skip")


def wanted_file(campaign: Campaign, chip: Chip, state: State) -> Path:
    """Return where a chip in this state is saved."""
    if state == State.FLAWED and campaign.flawed == "apart":
        return campaign.layout.flawed_file(campaign.tile, campaign.algorithm, chip)
    return campaign.layout.file(campaign.tile, campaign.algorithm, chip)


def options_of(campaign: Campaign, state: State) -> str:
    """Return what else decides a file's content: how failed pixels are written."""
    return f"failed_pixels={campaign.failed_pixels}" if state == State.FLAWED else ""


def verdict(site: Site, chip: Chip, record: Record, earlier: Saved | None) -> str:
    """Return `save`, `keep` or `problem` for a chip that is home.

    A file is kept when it was written for the same `chip_update_requested` and is the file that was written:
    same size and time of change, or else the same SHA-256. With `recount`, the range of `result_produced` and
    the hash must agree too: a job delivered twice rewrites rows without a new request.
    """
    campaign = site.campaign
    if earlier is None or earlier.update_requested != record.look.update_requested:
        return "save"
    if campaign.recount and (earlier.first_produced, earlier.last_produced) != (
        record.look.first_produced,
        record.look.last_produced,
    ):
        return "save"
    if earlier.file is None:
        return "save" if campaign.recount else "problem"
    if earlier.file != wanted_file(campaign, chip, record.state):
        return "save"
    if earlier.options != options_of(campaign, record.state):
        return "save"
    return "keep" if _is_untouched(site, chip, earlier) else "save"


def _is_untouched(site: Site, chip: Chip, earlier: Saved) -> bool:
    """Tell whether a saved file is still as it was written; the hash decides where size and time do not."""
    if earlier.file is None:
        return False
    try:
        stat = earlier.file.stat()
    except OSError:
        return False
    if stat.st_size != earlier.bytes:
        return False
    if stat.st_mtime_ns == earlier.mtime_ns and not site.campaign.recount:
        return True
    if sha256_of(earlier.file) != earlier.sha256:
        return False
    if stat.st_mtime_ns != earlier.mtime_ns:
        touched = replace(earlier, mtime_ns=stat.st_mtime_ns)
        root = site.campaign.layout.root
        site.ledger.write(lambda ledger: note_saved(ledger, site.ground, root, chip, touched), lease=site.lease)
    return True


def _order(campaign: Campaign, chip: Chip, record: Record, row_bytes: float) -> ExportOrder:
    return ExportOrder(
        chip=chip,
        algorithm=campaign.algorithm,
        file=wanted_file(campaign, chip, State.COMPLETE),
        flawed_file=None if campaign.flawed == "skip" else wanted_file(campaign, chip, State.FLAWED),
        failed_pixels=campaign.failed_pixels,
        update_requested=record.look.update_requested,
        row_bytes=row_bytes,
    )


def _save_each(site: Site, orders: Sequence[ExportOrder], noted: Noted) -> Iterator[ExportTally | Exception]:
    """Save chips by this run's processes, and note each as soon as its file is there."""

    def save(order: ExportOrder) -> ExportTally:
        with site.pacer.slot():
            outcome = site.exporters.export(order)
        return noted(order, outcome)

    for _, outcome in site.each(save, orders, site.settings.export_processes):
        yield outcome


def _save_together(site: Site, orders: Sequence[ExportOrder], noted: Noted) -> Iterator[ExportTally | Exception]:
    """Have chips saved by the site's other means, in one of the pacer's slots, and note them afterwards."""
    if site.save_together is None or site.stopping.is_set():
        return
    with site.pacer.slot():
        outcomes = site.save_together(orders)
    if any(isinstance(outcome, (ThrottledError, ServiceTimedOut)) for outcome in outcomes):
        site.pacer.overloaded()
    for order, outcome in zip(orders, outcomes, strict=False):
        yield noted(order, outcome) if isinstance(outcome, Exported) else outcome


def _noted(
    site: Site, record: Record, earlier: Saved | None, order: ExportOrder, outcome: Exported
) -> ExportTally:
    """Write down what became of a chip, and count it."""
    for seconds in outcome.page_seconds:
        site.pacer.note("page", seconds)
    if outcome.look.update_requested != record.look.update_requested:
        # What is known stays: it tells the next look which rows are of the pass before the new request.
        return ExportTally(changed=1)
    if outcome.file is None and not outcome.bad:
        site.ledger.write(lambda ledger: forget(ledger, site.ground, order.chip), lease=site.lease)
        return ExportTally(changed=1)
    _note(site, order.chip, record, outcome)
    _drop_superseded(earlier, outcome)
    if outcome.file is None:
        return ExportTally(problems=1)
    site.progress.add(exported=1)
    return ExportTally(exported=1, rows=outcome.look.pixels, bytes=outcome.bytes, seconds=outcome.seconds)


def _note(site: Site, chip: Chip, record: Record, outcome: Exported) -> None:
    """Write down the file, and the chip as its rows showed it: closer than the count before."""
    failed = [Pixel(position, ok=False) for position in outcome.failed]
    seen = judge(outcome.look, failed, record, site.stall_after)
    noted = Saved(
        exported_at=outcome.look.at,
        options=options_of(site.campaign, seen.state),
        file=outcome.file,
        kind="flawed" if outcome.failed else "main",
        bytes=outcome.bytes,
        mtime_ns=outcome.mtime_ns,
        sha256=outcome.sha256,
        pixels=outcome.look.pixels,
        failed=len(outcome.failed),
        first_produced=outcome.look.first_produced,
        last_produced=outcome.look.last_produced,
        update_requested=outcome.look.update_requested,
        problem=outcome.problem,
        bad=outcome.bad,
    )

    def note(ledger: Connection) -> None:
        remember(ledger, site.ground, {chip: seen})
        note_saved(ledger, site.ground, site.campaign.layout.root, chip, noted)

    site.ledger.write(note, lease=site.lease)


def _drop_superseded(earlier: Saved | None, outcome: Exported) -> None:
    """Remove the file that an earlier run saved the chip to elsewhere: a chip has one file below a folder."""
    if earlier is None or earlier.file is None or outcome.file is None or earlier.file == outcome.file:
        return
    with contextlib.suppress(OSError):
        stat = earlier.file.stat()
        if (stat.st_size, stat.st_mtime_ns) == (earlier.bytes, earlier.mtime_ns):
            earlier.file.unlink()
