"""What the ledger says of a region: where its tiles stand, by one query, and which runs of them were asked for.

The query counts what two indexes hold and joins nothing large, so that a million chips take a second.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Table,
    and_,
    case,
    func,
    literal,
    select,
    true,
    union_all,
)

from tasks.chips.grid import CHIP_M, TILE_M, WHOLE_TILE, Region, Window
from tasks.chips.heal import WAITS
from tasks.chips.states import HOME, State
from tasks.ledger.database import insert_new
from tasks.ledger.schema import chips as chips_table
from tasks.ledger.schema import exports as exports_table
from tasks.ledger.schema import region_runs as runs_table
from tasks.ledger.schema import tiles as tiles_table

_SAVED, _STUCK = "saved", "stuck"  # beside the states, in the query's column of what was counted
_FIRST_PASS = 1


@dataclass(frozen=True)
class RegionGround:
    """Under which key a region's campaign is kept: one cluster's table, one algorithm, one region, a name."""

    source: str
    algorithm: str
    region: str
    campaign: str


@dataclass(frozen=True)
class TileCounts:
    """How many of a tile's chips stand where.

    Attributes:
        states: chips by state, those that were looked at.
        late: chips that have only waited since before the moment that was asked for.
        saved: chips that have a file below the output folder.
        stuck: chips that are home and whose file cannot be written as it is.
        newest: the latest `chip_update_requested` of chips by state, service's clock.
        newest_saved: the latest one that a file was written for.
    """

    states: dict[str, int] = field(default_factory=dict)
    late: int = 0
    saved: int = 0
    stuck: int = 0
    newest: dict[str, datetime] = field(default_factory=dict)
    newest_saved: datetime | None = None


@dataclass(frozen=True)
class TileMarks:
    """What people and guards have decided about a tile; empty texts where nothing."""

    closed: str = ""
    guard: str = ""


@dataclass(frozen=True)
class Pass:
    """A run of a tile that a region's campaign asked for.

    Attributes:
        tile, number: which tile, and the how manieth run of it.
        key: idempotency key under which it is asked for.
        noted_at: when it was written down, before it was asked for.
        flow_run: Prefect's id; None while no answer was seen.
        flow_run_name: what Prefect calls it.
        outcome: name of its last state; None while it has not ended.
        message: what that state says.
    """

    tile: str
    number: int
    key: str
    noted_at: datetime
    flow_run: str | None = None
    flow_run_name: str = ""
    outcome: str | None = None
    message: str = ""


def count_tiles(
    ledger: Connection,
    ground: RegionGround,
    region: Region,
    root: Path,
    late_before: datetime,
    window: Window = WHOLE_TILE,
) -> dict[str, TileCounts]:
    """Return how many chips of each tile of a region stand where, by one query; tiles without any are left out.

    Args:
        ledger: to read.
        ground, region: which chips.
        root: the output folder whose files count.
        late_before: a chip that has only waited since before this, our clock, is late.
        window: only these chips of every tile.
    """
    chips, exports = chips_table.c, exports_table.c
    waits = chips.state.in_([state.value for state in WAITS])
    is_late = func.sum(case((and_(waits, chips.since <= late_before), 1), else_=0))
    nothing = literal(0, Integer)
    states = select(
        chips.tile,
        chips.state.label("what"),
        func.count().label("number"),
        is_late.label("late"),
        func.max(chips.update_requested).label("newest"),
    ).where(_on(chips_table, ground), _inside(chips_table, region, window))
    saved = select(exports.tile, literal(_SAVED), func.count(), nothing, func.max(exports.update_requested)).where(
        _on(exports_table, ground),
        exports.root == str(root),
        exports.file.is_not(None),
        _inside(exports_table, region, window),
    )
    same_chip = and_(
        *(chips_table.c[name] == exports_table.c[name] for name in ("source", "algorithm", "chip_x", "chip_y"))
    )
    stuck = (
        select(exports.tile, literal(_STUCK), func.count(), nothing, func.max(exports.update_requested))
        .join(chips_table, same_chip)
        .where(
            _on(exports_table, ground),
            exports.root == str(root),
            exports.problem.is_not(None),
            chips.state.in_([state.value for state in HOME]),
            exports.update_requested.is_not_distinct_from(chips.update_requested),
            _inside(exports_table, region, window),
        )
    )
    query = union_all(
        states.group_by(chips.tile, chips.state), saved.group_by(exports.tile), stuck.group_by(exports.tile)
    )
    rows: dict[str, list[Row[Any]]] = {}
    for row in ledger.execute(query):
        rows.setdefault(row.tile, []).append(row)
    return {tile: _counts(of_tile) for tile, of_tile in rows.items()}


def marks_of(ledger: Connection, ground: RegionGround) -> dict[str, TileMarks]:
    """Return what was decided about the tiles of a region, those that were ever used."""
    rows = ledger.execute(select(tiles_table).where(_on(tiles_table, ground)))
    return {
        row.tile: TileMarks(
            closed="" if row.closed_at is None else f"Closed on {row.closed_at:%Y-%m-%d}: {row.closed_reason}.",
            guard=row.guard,
        )
        for row in rows
    }


def last_source(ledger: Connection, algorithm: str, region: str) -> str | None:
    """Return the table that a region's tiles were last looked at in; None when none ever was."""
    tiles, runs = tiles_table.c, runs_table.c
    used = select(tiles.source).where(tiles.algorithm == algorithm, tiles.region == region)
    found: str | None = ledger.scalar(used.order_by(tiles.last_used_at.desc()).limit(1))
    if found is None:
        asked = select(runs.source).where(runs.algorithm == algorithm, runs.region == region)
        found = ledger.scalar(asked.order_by(runs.noted_at.desc()).limit(1))
    return found


def choose_tiles(ledger: Connection, ground: RegionGround, tiles: Iterable[str]) -> None:
    """Write down which tiles a campaign is run with, in their order, instead of those it was run with before."""
    ledger.execute(runs_table.delete().where(_of(ground), runs_table.c.number == 0))
    now = datetime.now(UTC)
    rows = [_key(ground, tile, 0) | {"key": f"{place:06}", "noted_at": now} for place, tile in enumerate(tiles)]
    insert_new(ledger, runs_table, rows)


def chosen_tiles(ledger: Connection, ground: RegionGround) -> list[str]:
    """Return which tiles a campaign was last run with; none when it never was."""
    chosen = select(runs_table.c.tile).where(_of(ground), runs_table.c.number == 0)
    return list(ledger.scalars(chosen.order_by(runs_table.c.key)))


def known_tiles(ledger: Connection, ground: RegionGround) -> list[str]:
    """Return the tiles of a region that were ever used, by name, whatever for."""
    used = select(tiles_table.c.tile).where(_on(tiles_table, ground))
    return list(ledger.scalars(used.order_by(tiles_table.c.tile)))


def last_passes(ledger: Connection, ground: RegionGround) -> dict[str, Pass]:
    """Return the last run of each tile that a campaign has asked for."""
    asked = select(runs_table).where(_of(ground), runs_table.c.number >= _FIRST_PASS)
    rows = ledger.execute(asked.order_by(runs_table.c.number))
    return {row.tile: _pass(row) for row in rows}  # the last one of a tile stays


def note_pass(ledger: Connection, ground: RegionGround, tile: str) -> Pass:
    """Write down that a run of a tile is about to be asked for, and return it.

    Its key holds a word of chance: a ledger begun anew must not find the runs of the one before it.
    """
    last = select(func.max(runs_table.c.number)).where(_of(ground), runs_table.c.tile == tile)
    number = (ledger.scalar(last) or 0) + 1
    key = f"{ground.campaign} {tile} pass {number} {uuid.uuid4().hex[:12]}"
    values = {"key": key, "noted_at": datetime.now(UTC)}
    ledger.execute(runs_table.insert().values(**_key(ground, tile, number), **values))
    return Pass(tile, number, key, values["noted_at"])  # type: ignore[arg-type]


def note_asked(ledger: Connection, ground: RegionGround, asked: Pass, flow_run: str, name: str) -> None:
    """Write down which flow run a pass became."""
    _update(ledger, ground, asked, {"flow_run": flow_run, "flow_run_name": name})


def note_ended(ledger: Connection, ground: RegionGround, ended: Pass, outcome: str, message: str) -> None:
    """Write down how a pass ended: the name of its last state and what that says."""
    _update(ledger, ground, ended, {"outcome": outcome, "message": message, "ended_at": datetime.now(UTC)})


def _update(ledger: Connection, ground: RegionGround, which: Pass, values: Mapping[str, Any]) -> None:
    row = runs_table.c
    ledger.execute(
        runs_table.update().where(_of(ground), row.tile == which.tile, row.number == which.number).values(**values)
    )


def _counts(rows: Iterable[Row[Any]]) -> TileCounts:
    by_what = {row.what: row for row in rows}
    saved, stuck = by_what.pop(_SAVED, None), by_what.pop(_STUCK, None)
    return TileCounts(
        states={State(what).value: row.number for what, row in by_what.items()},
        late=sum(row.late for row in by_what.values()),
        saved=saved.number if saved else 0,
        stuck=stuck.number if stuck else 0,
        newest={what: row.newest for what, row in by_what.items() if row.newest is not None},
        newest_saved=saved.newest if saved else None,
    )


def _on(table: Table, ground: RegionGround) -> ColumnElement[bool]:
    row = table.c
    return and_(row.source == ground.source, row.algorithm == ground.algorithm, row.region == ground.region)


def _of(ground: RegionGround) -> ColumnElement[bool]:
    return and_(_on(runs_table, ground), runs_table.c.campaign == ground.campaign)


def _key(ground: RegionGround, tile: str, number: int) -> dict[str, Any]:
    named = {"source": ground.source, "algorithm": ground.algorithm, "region": ground.region}
    return named | {"campaign": ground.campaign, "tile": tile, "number": number}


def _inside(table: Table, region: Region, window: Window) -> ColumnElement[bool]:
    """Return the condition that a chip lies in the window of its tile."""
    if window == WHOLE_TILE:
        return true()
    east = (table.c.chip_x - region.x0) % TILE_M
    south = (region.y0 - table.c.chip_y) % TILE_M
    return and_(
        east >= window.column_start * CHIP_M,
        east < window.column_stop * CHIP_M,
        south >= window.row_start * CHIP_M,
        south < window.row_stop * CHIP_M,
    )


def _pass(row: Row[Any]) -> Pass:
    return Pass(
        row.tile, row.number, row.key, row.noted_at, row.flow_run, row.flow_run_name, row.outcome, row.message
    )
