"""Under which key the ledger keeps what it keeps of chips."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, true, tuple_

from tasks.chips.grid import Chip


@dataclass(frozen=True)
class Ground:
    """Under which key a tile's chips are kept: one cluster's table, one algorithm, one tile."""

    source: str
    algorithm: str
    region: str
    tile: str


def key(ground: Ground, chip: Chip | None = None) -> dict[str, Any]:
    """Return the values of the key columns of a tile's row, or of a chip's."""
    tile = {
        "source": ground.source,
        "algorithm": ground.algorithm,
        "region": ground.region,
        "tile": ground.tile,
    }
    return tile if chip is None else tile | {"chip_x": chip.x, "chip_y": chip.y}


def on(table: Table, ground: Ground) -> ColumnElement[bool]:
    """Return the condition that a row is of a tile."""
    return and_(
        table.c.source == ground.source,
        table.c.algorithm == ground.algorithm,
        table.c.region == ground.region,
        table.c.tile == ground.tile,
    )


def of(table: Table, ground: Ground, chip: Chip) -> ColumnElement[bool]:
    """Return the condition that a row is of a chip."""
    return and_(on(table, ground), table.c.chip_x == chip.x, table.c.chip_y == chip.y)


def among(table: Table, chips: Iterable[Chip] | None) -> ColumnElement[bool]:
    """Return the condition that a row is of one of some chips; None is all."""
    if chips is None:
        return true()
    return tuple_(table.c.chip_x, table.c.chip_y).in_([(chip.x, chip.y) for chip in chips])
