"""What the ledger keeps of chips: where each stood at the last look, and which file it was saved to."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, select, update

from tasks.chips.grid import Chip, pack_positions, unpack_positions
from tasks.chips.states import HOME, Asked, Look, Record, State
from tasks.ledger.database import upsert
from tasks.ledger.keys import Ground, among, key, of, on
from tasks.ledger.requests import asked_for, note_asked
from tasks.ledger.schema import chips as chips_table
from tasks.ledger.schema import exports as exports_table
from tasks.ledger.schema import rates as rates_table
from tasks.ledger.schema import tiles as tiles_table


@dataclass(frozen=True)
class Saved:
    """A chip's file as it was written, or why it was not.

    Attributes:
        file: absolute path; None when the chip was not saved, and `problem` says why.
        options: how failed pixels were written: a file written otherwise is not kept.
        bytes, mtime_ns, sha256: of the file when it was written.
        pixels, failed: rows in it, and those on which the algorithm failed.
        first_produced, last_produced: range of `result_produced` in it, worker's clock.
        update_requested: the chip's `chip_update_requested` then, service's clock.
        bad: positions of pixels whose result did not match its md5.
    """

    exported_at: datetime
    options: str
    file: Path | None = None
    kind: str = "main"
    bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    pixels: int = 0
    failed: int = 0
    first_produced: datetime | None = None
    last_produced: datetime | None = None
    update_requested: datetime | None = None
    problem: str = ""
    bad: tuple[int, ...] = ()


@dataclass(frozen=True)
class TileNote:
    """What the ledger keeps of a tile as a whole."""

    ground: Ground
    campaign: str
    last_used_at: datetime
    closed_at: datetime | None
    closed_reason: str
    guard: str


def recall(ledger: Connection, ground: Ground, chips: Iterable[Chip] | None = None) -> dict[Chip, Record]:
    """Return what is known of a tile's chips, or of some of them; chips never looked at are left out."""
    asked = select(chips_table).where(on(chips_table, ground), among(chips_table, chips))
    requests = asked_for(ledger, ground, chips)
    found = ((Chip(row.chip_x, row.chip_y), row) for row in ledger.execute(asked))
    return {chip: _record(row, requests.get(chip)) for chip, row in found}


def find_home(ledger: Connection, ground: Ground) -> dict[Chip, datetime | None]:
    """Return a tile's chips that are home, each with the `chip_update_requested` that it is home with."""
    table = chips_table
    asked = select(table.c.chip_x, table.c.chip_y, table.c.update_requested)
    home = asked.where(on(table, ground), table.c.state.in_([state.value for state in HOME]))
    return {Chip(row.chip_x, row.chip_y): row.update_requested for row in ledger.execute(home)}


def remember(ledger: Connection, ground: Ground, records: Mapping[Chip, Record]) -> None:
    """Write down where chips stand, and what has become of our requests for them."""
    rows = [key(ground, chip) | _values(record) for chip, record in records.items()]
    upsert(ledger, chips_table, rows)
    for chip, record in records.items():
        if record.asked is not None:
            note_asked(ledger, ground, chip, record.asked)


def note_looked(ledger: Connection, ground: Ground, chips: Collection[Chip], at: datetime) -> None:
    """Write down that some chips were looked at and stand where they stood."""
    if chips:
        these = (on(chips_table, ground), among(chips_table, chips))
        ledger.execute(update(chips_table).where(*these).values(looked_at=at))


def forget(ledger: Connection, ground: Ground, chip: Chip) -> None:
    """Drop what is known of a chip, so that the next look counts it."""
    ledger.execute(delete(chips_table).where(of(chips_table, ground, chip)))


def saved(
    ledger: Connection, ground: Ground, root: Path, chips: Iterable[Chip] | None = None
) -> dict[Chip, Saved]:
    """Return what was saved below an output folder of a tile's chips, or of some of them."""
    below = exports_table.c.root == str(root)
    asked = select(exports_table).where(on(exports_table, ground), below, among(exports_table, chips))
    return {Chip(row.chip_x, row.chip_y): _saved(row) for row in ledger.execute(asked)}


def note_saved(ledger: Connection, ground: Ground, root: Path, chip: Chip, outcome: Saved) -> None:
    """Write down a chip's file, or why it was not saved."""
    values = {
        "root": str(root),
        "file": None if outcome.file is None else str(outcome.file),
        "kind": outcome.kind,
        "options": outcome.options,
        "bytes": outcome.bytes,
        "mtime_ns": outcome.mtime_ns,
        "sha256": outcome.sha256,
        "pixels": outcome.pixels,
        "failed": outcome.failed,
        "first_produced": outcome.first_produced,
        "last_produced": outcome.last_produced,
        "update_requested": outcome.update_requested,
        "exported_at": outcome.exported_at,
        "problem": outcome.problem or None,
        "bad_pixels": pack_positions(outcome.bad) if outcome.bad else None,
    }
    upsert(ledger, exports_table, [key(ground, chip) | values])


def use_tile(ledger: Connection, ground: Ground, campaign: str) -> TileNote:
    """Write down that a campaign is at work on a tile, and return what is kept of the tile."""
    now = datetime.now(UTC)
    upsert(ledger, tiles_table, [key(ground) | {"campaign": campaign, "last_used_at": now}])
    return tile_note(ledger, ground)


def tile_note(ledger: Connection, ground: Ground) -> TileNote:
    """Return what is kept of a tile that a campaign has used."""
    return _tile_note(ledger.execute(select(tiles_table).where(on(tiles_table, ground))).one())


def close_tile(ledger: Connection, ground: Ground, closed_at: datetime | None, reason: str = "") -> None:
    """Mark a tile as delivered elsewhere, or, with None, as open again."""
    ledger.execute(
        tiles_table.update().where(on(tiles_table, ground)).values(closed_at=closed_at, closed_reason=reason)
    )


def set_guard(ledger: Connection, ground: Ground, reason: str) -> None:
    """Write down why nothing more is requested of a tile; an empty text lifts that."""
    ledger.execute(tiles_table.update().where(on(tiles_table, ground)).values(guard=reason))


def find_tiles(ledger: Connection, region: str, tile: str, algorithm: str | None = None) -> list[TileNote]:
    """Return what is kept of a tile under any source, the latest used first."""
    asked = and_(tiles_table.c.region == region, tiles_table.c.tile == tile)
    if algorithm is not None:
        asked = and_(asked, tiles_table.c.algorithm == algorithm)
    rows = ledger.execute(select(tiles_table).where(asked).order_by(tiles_table.c.last_used_at.desc()))
    return [_tile_note(row) for row in rows]


def note_rate(ledger: Connection, source: str, what: str, value: float, unit: str) -> None:
    """Write down a rate that a run measured, for `plan`."""
    row = {"source": source, "what": what, "value": value, "unit": unit, "measured_at": datetime.now(UTC)}
    upsert(ledger, rates_table, [row])


def last_rate(ledger: Connection, source: str, what: str) -> float | None:
    """Return the rate measured last; None when none was."""
    asked = select(rates_table.c.value).where(rates_table.c.source == source, rates_table.c.what == what)
    value: float | None = ledger.execute(asked).scalar_one_or_none()
    return value


def mean_row_bytes(ledger: Connection, source: str, algorithm: str) -> float | None:
    """Return the mean size of a row in the files saved so far; None when there are none."""
    written = select(func.sum(exports_table.c.bytes), func.sum(exports_table.c.pixels)).where(
        exports_table.c.source == source,
        exports_table.c.algorithm == algorithm,
        exports_table.c.file.is_not(None),
    )
    size, rows = ledger.execute(written).one()
    return size / rows if rows else None


def _values(record: Record) -> dict[str, Any]:
    return {
        "state": record.state.value,
        "since": record.since,
        "reason": record.reason,
        "looked_at": record.look.at,
        "pixels": record.look.pixels,
        "update_requested": record.look.update_requested,
        "first_produced": record.look.first_produced,
        "last_produced": record.look.last_produced,
        "farthest": record.farthest,
        "farthest_at": record.farthest_at,
        "baseline": record.baseline,
        "renew": record.renew,
        "missing": pack_positions(record.missing) if record.missing else None,
        "failed": pack_positions(record.failed) if record.failed else None,
    }


def _record(row: Row[Any], asked: Asked | None) -> Record:
    state = State(row.state)
    look = Look(
        at=row.looked_at,
        ticketed=state != State.UNREQUESTED,
        pixels=row.pixels,
        some_good=row.pixels > 0 and state != State.NO_DATA,
        some_failed=row.failed is not None or state == State.NO_DATA,
        first_produced=row.first_produced,
        last_produced=row.last_produced,
        update_requested=row.update_requested,
    )
    return Record(
        state=state,
        since=row.since,
        look=look,
        reason=row.reason,
        baseline=row.baseline,
        renew=row.renew,
        farthest=row.farthest,
        farthest_at=row.farthest_at,
        missing=_positions(row.missing),
        failed=_positions(row.failed),
        asked=asked,
    )


def _saved(row: Row[Any]) -> Saved:
    return Saved(
        exported_at=row.exported_at,
        options=row.options,
        file=None if row.file is None else Path(row.file),
        kind=row.kind,
        bytes=row.bytes,
        mtime_ns=row.mtime_ns,
        sha256=row.sha256,
        pixels=row.pixels,
        failed=row.failed,
        first_produced=row.first_produced,
        last_produced=row.last_produced,
        update_requested=row.update_requested,
        problem=row.problem or "",
        bad=_positions(row.bad_pixels),
    )


def _positions(blob: bytes | None) -> tuple[int, ...]:
    return () if blob is None else tuple(unpack_positions(blob))


def _tile_note(row: Row[Any]) -> TileNote:
    ground = Ground(row.source, row.algorithm, row.region, row.tile)
    return TileNote(ground, row.campaign, row.last_used_at, row.closed_at, row.closed_reason, row.guard)
