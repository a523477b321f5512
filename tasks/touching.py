"""Which tiles a person means, and those that the geometries of a vector file touch, read a lot at a time."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import fiona
import fiona.transform
import numpy as np
import shapely
import shapely.geometry
from fiona.crs import CRS
from numpy.typing import NDArray

from tasks.chips.grid import PIXEL_M, TILE_M, Region, Tile
from tasks.chips.tile_lists import refuse_whole_region, tiles_named
from tasks.errors import BadInput
from tasks.polygons.source import Source, open_layer, readable

ALBERS: Final = {
    "conus": "+proj=aea +lat_0=23 +lon_0=-96 +lat_1=29.5 +lat_2=45.5 +datum=WGS84 +units=m",
    "alaska": "+proj=aea +lat_0=50 +lon_0=-154 +lat_1=55 +lat_2=65 +datum=WGS84 +units=m",
    "hawaii": "+proj=aea +lat_0=3 +lon_0=-157 +lat_1=8 +lat_2=18 +datum=WGS84 +units=m",
}
"""Source: USGS, landsat.usgs.gov/what-us-ard-tile-grid."""

_LOT = 500
_INTO_M = PIXEL_M / 2
"""A geometry that reaches less far into a tile only lies along its edge: a neighbour's outline, say."""

_STRAIGHT_DEGREES, _STRAIGHT_UNITS = 0.05, 5_000.0
"""Longer straight lines are cut before they are moved, as they bend on the way."""


def tiles_meant(
    region: Region,
    tiles: str | None,
    touching: Path | str | None,
    layer: str | None = None,
    crs: str | None = None,
) -> list[Tile]:
    """Return the tiles that are named, and those that a file's geometries touch, each once.

    Args:
        region: whose.
        tiles: their names, or a file that lists them.
        touching, layer, crs: a vector file, as `Source` takes it.

    Raises:
        BadInput: neither is given, or what names them cannot be read or meant.
    """
    if tiles is None and touching is None:
        raise refuse_whole_region(region)
    named = [] if tiles is None else tiles_named(tiles, region)
    touched = [] if touching is None else tiles_touching(Source(touching, layer, crs), region)
    return list(dict.fromkeys([*named, *touched]))


def tiles_touching(source: Source, region: Region) -> list[Tile]:
    """Return the tiles whose squares the geometries of a layer touch, by rows from the north-west.

    What lies along a tile's edge and less than half a pixel inside does not touch it, unless that is all there is.
    Records without a geometry, or with coordinates that have no place in the region's projection, are passed over.

    Args:
        source: any vector file.
        region: whose grid; its Albers projection is what squares are square in.

    Raises:
        BadInput: the file cannot be read, names no CRS, or touches none of the region's tiles.
    """
    found: set[tuple[int, int]] = set()
    records = 0
    with open_layer(source, fields=()) as layer:
        reading = iter(layer.collection)
        while shapes := _lot(reading, source):
            records += len(shapes)
            for shape in _moved(shapes, layer.crs, region):
                found |= _touched(shape, region)
    if not found:
        raise BadInput(
            f"None of the {records:,} geometries of {source.path} touches a tile of {region.name}. Check the "
            "region, and the file's coordinate reference system."
        )
    return [Tile(region, h, v) for v, h in sorted((v, h) for h, v in found)]


def _lot(reading: Iterator[Any], source: Source) -> list[Any]:
    with readable(source):
        records = list(islice(reading, _LOT))
        while records and not any(record.geometry for record in records):
            records = list(islice(reading, _LOT))
    try:
        return [shapely.geometry.shape(record.geometry) for record in records if record.geometry]
    except (ValueError, TypeError, shapely.errors.ShapelyError) as error:
        raise BadInput(f"{source.path} holds a geometry that cannot be read: {error}. Repair it first.") from None


def _moved(shapes: list[Any], crs: CRS, region: Region) -> list[Any]:
    """Return shapes in the region's projection, without those that have no place there."""
    step = _STRAIGHT_DEGREES if crs.is_geographic else _STRAIGHT_UNITS
    known = [shape for shape in shapes if not shape.is_empty and np.isfinite(shape.bounds).all()]
    # made valid first: GEOS drops a part of a ring that crosses itself when it cuts its lines
    whole = [shape if shape.is_valid else shapely.make_valid(shape) for shape in known]
    cut = shapely.segmentize(shapely.force_2d(np.array(whole, dtype=object)), step)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        with fiona.Env():  # else GDAL prints each point it cannot move
            moved = fiona.transform.transform(
                crs, ALBERS[region.name], points[:, 0].tolist(), points[:, 1].tolist()
            )
        return np.column_stack(moved)

    if not len(cut):
        return []
    placed = shapely.transform(cut, move)
    return [shape for shape in placed if np.isfinite(shape.bounds).all()]


def _touched(shape: Any, region: Region) -> set[tuple[int, int]]:
    """Return h and v of the tiles that a shape in the region's projection touches."""
    west, south, east, north = shape.bounds
    first = (int((west - region.x0) // TILE_M), int((region.y0 - north) // TILE_M))
    last = (int((east - region.x0) // TILE_M), int((region.y0 - south) // TILE_M))
    columns = range(max(0, first[0]), min(region.columns - 1, last[0]) + 1)
    rows = range(max(0, first[1]), min(region.rows - 1, last[1]) + 1)
    squares = {(h, v) for v in rows for h in columns}
    if first == last or not squares:
        return squares
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    shapely.prepare(shape)
    touched = {square for square in squares if shape.intersects(_box(square, region, _INTO_M))}
    return touched or {square for square in squares if shape.intersects(_box(square, region, 0.0))}


def _box(square: tuple[int, int], region: Region, into_m: float) -> Any:
    tile = Tile(region, *square)
    return shapely.box(tile.x + into_m, tile.y - TILE_M + into_m, tile.x + TILE_M - into_m, tile.y - into_m)
