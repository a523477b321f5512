"""Where polygons lie, gathered from a stream: all of their centres, and their outlines while those are few.

It keeps 17 bytes a polygon, 5 MB for 270,421, whatever the polygons' size.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from tasks.report.polygon_palette import every_state, urgency

MOST_OUTLINES: Final = 2_000
MOST_OUTLINE_BYTES: Final = 20_000_000
_AT_ONCE = 1_000

Shape = tuple[str, str | None]
"""A state and a GeoJSON geometry in lon, lat; None for a polygon that has no geometry."""


Bounds = tuple[float, float, float, float]
"""West, south, east, north, degrees."""


@dataclass(frozen=True)
class Extent:
    """Degrees; `east` is beyond 180 where the polygons lie across the antimeridian."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, eq=False)
class Places:
    """Where polygons lie.

    Attributes:
        counts: polygons by state, also those that lie nowhere.
        nowhere: how many have no polygon or point that can be read and lies between -180 and 180, -90 and 90.
        extent: what holds them all; None when all are nowhere.
        lon, lat: of the centre of each one's first part, degrees, in the order in which they came.
        urgency: beside each centre, its state as `polygon_palette.urgency` counts it.
        outlines: the geometries themselves, beside the centres, or None for one that is broken; None instead
            of them all when there are too many.
    """

    counts: dict[str, int]
    nowhere: int
    extent: Extent | None
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    urgency: NDArray[np.uint8]
    outlines: NDArray[np.object_] | None


def gather(shapes: Iterable[Shape]) -> Places:
    """Read shapes to their end.

    Raises:
        KeyError: a state is none of `UNIT_LOOKS`.
    """
    counts: Counter[str] = Counter()
    centres: list[NDArray[np.float64]] = [np.empty((0, 2))]
    ranks: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
    edges: list[NDArray[np.float64]] = []
    outlines: list[str] | None = []
    size = 0
    for batch in _batches(shapes):
        counts.update(state for state, _ in batch)
        parts = [(index, bounds) for index, (_, text) in enumerate(batch) for bounds in _bounds_of_parts(text)]
        owners = np.array([index for index, _ in parts], int)
        bounds = np.array([found for _, found in parts], float).reshape(-1, 4)
        on_earth = np.all(np.abs(bounds) <= (180, 90, 360, 90), axis=1)  # False for what is not a number
        bounds, owners = bounds[on_earth], owners[on_earth]
        placed, first = np.unique(owners, return_index=True)
        if not len(placed):
            continue
        centres.append((bounds[first, :2] + bounds[first, 2:]) / 2)
        ranks.append(np.array([urgency(batch[index][0]) for index in placed], np.uint8))
        edges.append(_edges(bounds))
        if outlines is not None:
            outlines += [batch[index][1] or "" for index in placed]
            size += sum(len(text) for text in outlines[-len(placed) :])
            if len(outlines) > MOST_OUTLINES or size > MOST_OUTLINE_BYTES:
                outlines = None
    lon, lat = np.concatenate(centres).T
    extent = _extent(np.array(edges)) if edges else None
    if extent is not None and extent.east > 180:
        lon = lon % 360
    return Places(
        counts=every_state(counts),
        nowhere=counts.total() - len(lon),
        extent=extent,
        lon=lon,
        lat=lat,
        urgency=np.concatenate(ranks),
        outlines=None if outlines is None else _outlines(outlines),
    )


def _outlines(texts: list[str]) -> NDArray[np.object_]:
    # One with a ring that is none, not closed for example, becomes None.
    found: NDArray[np.object_] = shapely.from_geojson(np.array(texts, object), on_invalid="ignore")
    return found


def _batches(shapes: Iterable[Shape]) -> Iterator[list[Shape]]:
    left = iter(shapes)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _bounds_of_parts(text: str | None) -> list[Bounds]:
    """Return where the parts of a geometry lie: a shape on both sides of the antimeridian comes in parts.

    Source: RFC 7946, 3.1.9. Read without shapely, which takes three times as long to make whole geometries.
    """
    if text is None:
        return []
    try:
        geometry = orjson.loads(text)
        coordinates = geometry["coordinates"]
        match geometry["type"]:
            case "Polygon":
                return [_bounds(coordinates[0])]
            case "MultiPolygon":
                return [_bounds(polygon[0]) for polygon in coordinates]
            case "Point":
                return [_bounds([coordinates])]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError):
        pass  # it is counted as one that lies nowhere
    return []


def _bounds(ring: list[list[float]]) -> Bounds:
    """Return a ring's bounds; `east` is beyond 180 for one that crosses the antimeridian uncut."""
    lon, lat, *_ = zip(*ring, strict=True)
    west, east = min(lon), max(lon)
    if east - west > 180:
        from_0 = [degrees % 360 for degrees in lon]
        if max(from_0) - min(from_0) < 180:
            west, east = min(from_0), max(from_0)
    return west, min(lat), east, max(lat)


def _edges(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return south, north, and west and east twice: counted from -180 to 180, and from 0 to 360."""
    west, south, east, north = bounds.T
    both = (west < 0) & (east >= 0)
    west_360 = np.where(both, 0, np.where(west < 0, west + 360, west))
    east_360 = np.where(both, 360, np.where(east < 0, east + 360, east))
    ends: list[Any] = [south.min(), north.max(), west.min(), east.max(), west_360.min(), east_360.max()]
    return np.array(ends)


def _extent(edges: NDArray[np.float64]) -> Extent:
    (south, _, west, _, west_360, _), (_, north, _, east, _, east_360) = edges.min(axis=0), edges.max(axis=0)
    if east > 180:
        west, east = -180, 180
    if east_360 > 180 and east_360 - west_360 < east - west:
        west, east = west_360, east_360
    return Extent(float(west), float(south), float(east), float(north))
