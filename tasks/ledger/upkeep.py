"""What the ledger says of tiles as wholes, for upkeep: which were run and how, and which files they came to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from tasks.ledger.database import database_clock
from tasks.ledger.keys import Ground, on
from tasks.ledger.schema import exports as exports_table
from tasks.ledger.schema import leases
from tasks.ledger.schema import tiles as tiles_table


@dataclass(frozen=True)
class LastRun:
    """How a tile that nobody has closed was run last.

    Attributes:
        ground: under which key its chips are kept.
        asked: the parameters of that run that say which chips, where to and how; plain JSON values.
    """

    ground: Ground
    asked: Mapping[str, Any]


def note_last_run(ledger: Connection, ground: Ground, asked: Mapping[str, Any]) -> None:
    """Write down what a run of a tile in use is asked for, so that upkeep can ask the same again."""
    ledger.execute(tiles_table.update().where(on(tiles_table, ground)).values(last_run=json.dumps(asked)))


def last_runs(ledger: Connection, source: str) -> list[LastRun]:
    """Return how each tile of a source was run last, by name; without closed ones and those never run."""
    asked = select(tiles_table).where(
        tiles_table.c.source == source, tiles_table.c.closed_at.is_(None), tiles_table.c.last_run.is_not(None)
    )
    rows = ledger.execute(asked.order_by(tiles_table.c.region, tiles_table.c.tile, tiles_table.c.algorithm))
    return [
        LastRun(Ground(row.source, row.algorithm, row.region, row.tile), json.loads(row.last_run)) for row in rows
    ]


def is_held(ledger: Connection, lease: str) -> bool:
    """Return whether somebody holds a lease; one that was not renewed in time counts for nothing."""
    row = ledger.execute(select(leases).where(leases.c.name == lease)).one_or_none()
    return row is not None and row.holder != "" and database_clock(ledger) < row.expires_at


def deliveries(
    ledger: Connection, region: str | None = None, tile: str | None = None
) -> list[tuple[Ground, Path]]:
    """Return whose files the ledger recorded below which output folder; of one tile only when it is named.

    Args:
        ledger: to read.
        region, tile: both or none, as `conus` and `H05V03`.
    """
    where = exports_table.c
    asked = select(where.source, where.algorithm, where.region, where.tile, where.root).distinct()
    asked = asked.where(where.file.is_not(None))
    if tile is not None:
        asked = asked.where(where.region == region, where.tile == tile)
    rows = ledger.execute(asked.order_by(where.root, where.region, where.tile, where.algorithm))
    return [(Ground(row.source, row.algorithm, row.region, row.tile), Path(row.root)) for row in rows]
