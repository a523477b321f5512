"""Where things are: ARD tiles of 150 km, chips of 3 km, pixels of 30 m, in integers only.

Coordinates are metres in a region's Albers projection. A tile, chip or pixel is named by its upper left
corner, and its upper and left edges belong to it. `h` and columns count eastwards, `v` and rows southwards,
all from 0.

Sources: USGS, landsat.usgs.gov/what-us-ard-tile-grid, table 1; lcmap-chipmunk, resources/grid.*.json.
Integers, as float arithmetic put points on Alaska's western tile edges into the wrong tile
(lcmap-chipmunk, fixed in b8222c1).
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tasks.errors import BadInput, OutsideRegion

TILE_M: Final = 150_000
CHIP_M: Final = 3_000
PIXEL_M: Final = 30
CHIPS_ACROSS: Final = TILE_M // CHIP_M
PIXELS_ACROSS: Final = CHIP_M // PIXEL_M
PIXELS: Final = PIXELS_ACROSS * PIXELS_ACROSS

_BITMAP_BYTES: Final = PIXELS // 8
_NAME = re.compile(r"h(\d{1,3})v(\d{1,3})|(\d{3})(\d{3})", re.ASCII | re.IGNORECASE)
_CORNER = re.compile(r"([+-]?\d{1,9})(?:\s*,\s*|\s+)([+-]?\d{1,9})", re.ASCII)
_SPAN = re.compile(r"(\d{1,3})|(\d{1,3})?\s*:\s*(\d{1,3})?", re.ASCII)


@dataclass(frozen=True, order=True, slots=True)
class Region:
    """One of the three ARD grids.

    Attributes:
        name, short: `conus` and `CU`, as ARD file names spell it.
        x0, y0: upper left corner of tile (0, 0), metres.
        columns, rows: tiles of the full grid; `h` is below `columns`, `v` below `rows`.
    """

    name: str
    short: str
    x0: int
    y0: int
    columns: int
    rows: int


REGIONS: Final[dict[str, Region]] = {
    region.name: region
    for region in (
        Region("conus", "CU", -2_565_585, 3_314_805, 33, 22),
        Region("alaska", "AK", -851_715, 2_474_325, 17, 14),
        Region("hawaii", "HI", -444_345, 2_168_895, 5, 3),
    )
}


@dataclass(frozen=True, order=True, slots=True)
class Chip:
    """The unit of work: 3 km, 100 x 100 pixels.

    A pixel's position, 0 to 9,999, is its place in the order in which the worker writes: x outer and
    ascending, y inner and downward (lcmap-pyccd-worker, pw/worker.py).

    Attributes:
        x, y: upper left corner, metres.
    """

    x: int
    y: int

    @property
    def last_pixel(self) -> tuple[int, int]:
        """The pixel that the worker writes last: x and y of its upper left corner."""
        return self.pixel_at(PIXELS - 1)

    def pixels(self) -> list[tuple[int, int]]:
        """Return x and y of all 10,000 pixels in the worker's order."""
        return [
            (x, y)
            for x in range(self.x, self.x + CHIP_M, PIXEL_M)
            for y in range(self.y, self.y - CHIP_M, -PIXEL_M)
        ]

    def position_of(self, x: int, y: int) -> int | None:
        """Return a pixel's position in the worker's order, None for a point off the chip's lattice."""
        column, x_rest = divmod(x - self.x, PIXEL_M)
        row, y_rest = divmod(self.y - y, PIXEL_M)
        if x_rest or y_rest or not (0 <= column < PIXELS_ACROSS and 0 <= row < PIXELS_ACROSS):
            return None
        return column * PIXELS_ACROSS + row

    def pixel_at(self, position: int) -> tuple[int, int]:
        """Return x and y of the pixel at a position of the worker's order.

        Raises:
            IndexError: a chip has no such position.
        """
        column, row = divmod(_checked_position(position), PIXELS_ACROSS)
        return self.x + column * PIXEL_M, self.y - row * PIXEL_M


@dataclass(frozen=True, order=True, slots=True)
class Tile:
    """An ARD tile: 150 km, 50 x 50 chips.

    Attributes:
        region: whose grid.
        h, v: column and row in that grid; tile (0, 0) is its north-west corner.
    """

    region: Region
    h: int
    v: int

    @property
    def name(self) -> str:
        """As LCMAP spells it: `H05V03`."""
        return f"H{self.h:02}V{self.v:02}"

    @property
    def digits(self) -> str:
        """As ARD file names and lcmap-cli spell it: `005003`."""
        return f"{self.h:03}{self.v:03}"

    @property
    def x(self) -> int:
        """Western edge, metres."""
        return self.region.x0 + self.h * TILE_M

    @property
    def y(self) -> int:
        """Northern edge, metres."""
        return self.region.y0 - self.v * TILE_M

    def chips(self) -> list[Chip]:
        """Return all 2,500 chips: rows north to south, in each row west to east."""
        return [chip for row in WHOLE_TILE.rows(self) for chip in row]

    def chip(self, row: int, column: int) -> Chip:
        """Return one chip by its place in the tile, both from 0 to 49.

        Raises:
            BadInput: a tile has no such row or column.
        """
        if not (0 <= row < CHIPS_ACROSS and 0 <= column < CHIPS_ACROSS):
            raise BadInput(
                f"Tile {self.name} has no chip at row {row}, column {column}: "
                f"rows and columns go from 0 to {CHIPS_ACROSS - 1}."
            )
        return Chip(self.x + column * CHIP_M, self.y - row * CHIP_M)


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A rectangle of a tile's chips, from `start` up to but without `stop`; `str()` of it parses again.

    Raises:
        BadInput: it is empty, reversed or reaches beyond the tile's 50 rows and columns.
    """

    row_start: int
    row_stop: int
    column_start: int
    column_stop: int

    def __post_init__(self) -> None:
        for what, start, stop in (
            ("rows", self.row_start, self.row_stop),
            ("columns", self.column_start, self.column_stop),
        ):
            if not 0 <= start < stop <= CHIPS_ACROSS:
                raise BadInput(
                    f"The window's {what} {start}:{stop} are empty or reach beyond the tile. Give a start "
                    f"below the stop, both from 0 to {CHIPS_ACROSS}; 0:4 is the first four {what}."
                )

    def __str__(self) -> str:
        return f"{self.row_start}:{self.row_stop},{self.column_start}:{self.column_stop}"

    def rows(self, tile: Tile) -> list[list[Chip]]:
        """Return the window's chips of a tile, one list a row, north to south and west to east."""
        return [
            [tile.chip(row, column) for column in range(self.column_start, self.column_stop)]
            for row in range(self.row_start, self.row_stop)
        ]


WHOLE_TILE: Final = Window(0, CHIPS_ACROSS, 0, CHIPS_ACROSS)


def region_named(text: str) -> Region:
    """Return the region that a person means by `conus`, `cu`, `alaska`, `ak`, `hawaii` or `hi`, in any case.

    Raises:
        BadInput: it is none of them.
    """
    asked = text.strip().lower()
    for region in REGIONS.values():
        if asked in (region.name, region.short.lower()):
            return region
    choices = ", ".join(f"{region.name} ({region.short.lower()})" for region in REGIONS.values())
    raise BadInput(f"There is no region {text!r}. Choose one of: {choices}.")


def tile_named(text: str, region: Region) -> Tile:
    """Return the tile that a person means.

    Args:
        text: `H05V03`, `h5v3`, `005003`, or its upper left corner in metres: `-1815585,2864805`.
        region: whose grid.

    Raises:
        BadInput: the text has another form, or the corner is no tile's.
        OutsideRegion: the region's grid has no such tile.
    """
    asked = text.strip()
    if corner := _CORNER.fullmatch(asked):
        return tile_at(int(corner[1]), int(corner[2]), region)
    if not (match := _NAME.fullmatch(asked)):
        raise BadInput(
            f"{text!r} names no tile. Write it as H05V03, as 005003, or as its upper left corner in whole "
            "metres: -1815585,2864805."
        )
    h, v = int(match[1] or match[3]), int(match[2] or match[4])
    if h >= region.columns or v >= region.rows:
        raise OutsideRegion(
            f"Tile {text!r} is outside {region.name}: its grid has h 0 to {region.columns - 1} and "
            f"v 0 to {region.rows - 1}. Check the tile, or name another region."
        )
    return Tile(region, h, v)


def tile_at(x: int, y: int, region: Region) -> Tile:
    """Return the tile whose upper left corner is exactly this point.

    Args:
        x, y: metres in the region's Albers projection.
        region: whose grid.

    Raises:
        BadInput: the point is no tile's corner; the message names the tile that holds it.
        OutsideRegion: the point lies on none of the region's tiles.
    """
    tile = tile_of(x, y, region)
    if (tile.x, tile.y) != (x, y):
        raise BadInput(
            f"({x}, {y}) is no tile's upper left corner in {region.name}. It lies on tile {tile.name}, "
            f"whose corner is {tile.x},{tile.y}: give that if you mean it."
        )
    return tile


def chip_at(x: int, y: int, region: Region) -> Chip:
    """Return the chip whose upper left corner is exactly this point.

    Args:
        x, y: metres in the region's Albers projection.
        region: whose grid.

    Raises:
        BadInput: the point is no chip's corner; the message names the chip that holds it.
        OutsideRegion: the point lies on none of the region's tiles.
    """
    chip = chip_of(x, y, region)
    if (chip.x, chip.y) != (x, y):
        raise BadInput(
            f"({x}, {y}) is no chip's upper left corner in {region.name}. It lies on the chip "
            f"whose corner is {chip.x},{chip.y}: give that if you mean it."
        )
    return chip


def tile_of(x: int, y: int, region: Region) -> Tile:
    """Return the ARD tile that holds a point.

    Args:
        x, y: metres in the region's Albers projection; the upper and left edges belong to the tile.
        region: whose grid; tile (0, 0) is its north-west corner.

    Raises:
        OutsideRegion: the point lies on none of the region's tiles.

    Source: USGS, Landsat ARD tile grid, table 1. Integers only: float arithmetic puts
    points on Alaska's western tile edges into the wrong tile.
    """
    corner_x, corner_y = _snap(x, y, region, TILE_M)
    return Tile(region, (corner_x - region.x0) // TILE_M, (region.y0 - corner_y) // TILE_M)


def chip_of(x: int, y: int, region: Region) -> Chip:
    """Return the chip that holds a point.

    Args:
        x, y: metres in the region's Albers projection; the upper and left edges belong to the chip.
        region: whose grid.

    Raises:
        OutsideRegion: the point lies on none of the region's tiles.
    """
    return Chip(*_snap(x, y, region, CHIP_M))


def pixel_of(x: int, y: int, region: Region) -> tuple[int, int]:
    """Return x and y of the upper left corner of the 30 m pixel that holds a point.

    Args:
        x, y: metres in the region's Albers projection; the upper and left edges belong to the pixel.
        region: whose grid.

    Raises:
        OutsideRegion: the point lies on none of the region's tiles.
    """
    return _snap(x, y, region, PIXEL_M)


def row_column(chip: Chip, tile: Tile) -> tuple[int, int]:
    """Return a chip's row and column in its tile, both from 0 to 49.

    Raises:
        BadInput: the chip is none of the tile's.
    """
    row, y_rest = divmod(tile.y - chip.y, CHIP_M)
    column, x_rest = divmod(chip.x - tile.x, CHIP_M)
    if x_rest or y_rest or not (0 <= row < CHIPS_ACROSS and 0 <= column < CHIPS_ACROSS):
        raise BadInput(
            f"Chip {chip.x},{chip.y} is none of tile {tile.name}'s in {tile.region.name}, whose corner is "
            f"{tile.x},{tile.y}. Check the tile, the region and the chip's corner."
        )
    return row, column


def parse_window(text: str) -> Window:
    """Return the window that a person means.

    Args:
        text: rows, a comma, columns, each as `start:stop`, where either may be left out, or as one number:
            `0:4,0:4`, `:4,10:`, `3,7`.

    Raises:
        BadInput: the text has another form, or such a window is empty or reaches beyond the tile.
    """
    parts = [_span(part.strip()) for part in text.split(",")]
    match parts:
        case [(row_start, row_stop), (column_start, column_stop)]:
            return Window(row_start, row_stop, column_start, column_stop)
    raise BadInput(
        f"{text!r} is no window of a tile's chips. Write rows, a comma and columns, each as start:stop or as "
        "one number: 0:4,0:4 is the 16 chips in the north-west, 3,7 a single one."
    )


def pack_positions(positions: Iterable[int]) -> bytes:
    """Return a set of pixel positions as a compressed bitmap, for the ledger.

    Args:
        positions: 0 to 9,999 in the worker's order (`Chip.position_of`), in any order; repeats do not matter.

    Raises:
        IndexError: a chip has no such position.
    """
    bitmap = bytearray(_BITMAP_BYTES)
    for position in positions:
        byte, bit = divmod(_checked_position(position), 8)
        bitmap[byte] |= 1 << bit
    return zlib.compress(bitmap, level=9)


def unpack_positions(blob: bytes) -> list[int]:
    """Return the positions that `pack_positions` packed, ascending and each once.

    Raises:
        ValueError: the blob is no such bitmap.
    """
    inflate = zlib.decompressobj()
    try:
        bitmap = inflate.decompress(blob, _BITMAP_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"A set of pixels cannot be read: {error}.") from None
    if len(bitmap) != _BITMAP_BYTES or not inflate.eof:
        raise ValueError(f"A set of pixels is cut short or too long: a chip has {PIXELS:,} of them.")
    return [8 * index + bit for index, byte in enumerate(bitmap) if byte for bit in range(8) if byte >> bit & 1]


def _snap(x: int, y: int, region: Region, size_m: int) -> tuple[int, int]:
    east, south = x - region.x0, region.y0 - y
    width, height = region.columns * TILE_M, region.rows * TILE_M
    if not (0 <= east < width and 0 <= south < height):
        raise OutsideRegion(
            f"({x}, {y}) is outside {region.name}: its grid has x from {region.x0} up to but without "
            f"{region.x0 + width}, and y from {region.y0} down to but without {region.y0 - height}. "
            "Check the point, or name another region."
        )
    return x - east % size_m, y + south % size_m


def _span(part: str) -> tuple[int, int] | None:
    match = _SPAN.fullmatch(part)
    if not match:
        return None
    single, start, stop = match.groups()
    if single:
        return int(single), int(single) + 1
    return int(start or 0), int(stop or CHIPS_ACROSS)


def _checked_position(position: int) -> int:
    if not 0 <= position < PIXELS:
        raise IndexError(f"A chip has pixels 0 to {PIXELS - 1}, none at {position}.")
    return position
