"""Geometries as a file has them, taken apart: kind, rings, fingerprint, and what is wrong with their shape.

A fingerprint is of the source's own coordinates, neither rounded nor reprojected, and of their CRS: another
PROJ or another precision makes no new unit of work.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.polygons.crs import Bounds

Kind = Literal["polygon", "point"]
Floats = NDArray[np.float64]
_Ring = list[tuple[float, ...]]
_Polygon = list[_Ring]

_LINE = 1e-9
"""Points so near to a line, as a part of its length, lie on it: a float's rounding is a thousandth of that."""

_RING_POINTS = 4
"""The fewest of a closed ring (RFC 7946, 3.1.6)."""


@dataclass(frozen=True)
class Preparation:
    """How geometries are made ready.

    Attributes:
        kinds: which the process takes.
        precision: decimals of a degree; 7 is 1 cm, and WIT's pixels are 30 m.
        split_multipolygons: each part becomes a feature of its own. Servers take them whole, and the results of
            parts would have to be merged by area.
        repair: make invalid ones valid, and keep what is polygon of them, instead of refusing them.
        max_request_bytes: of one request; None is no limit.
        max_area_km2: of one feature; None is no limit. WIT has none of its own: it loads any size.
    """

    kinds: frozenset[Kind] = frozenset({"polygon"})
    precision: int = 7
    split_multipolygons: bool = False
    repair: bool = False
    max_request_bytes: int | None = None
    max_area_km2: float | None = None


@dataclass
class Piece:
    """A geometry, or a part of one, on its way to text.

    Attributes:
        kind: as GeoJSON calls it.
        fingerprint: sha256 of its source coordinates without height, and their CRS.
        sizes: points of each ring of each polygon, the outer ring first; a point is a ring of one.
        points: x, y of all rings after one another, in the source's CRS.
        problem: why it cannot be sent; empty while nothing is known.
        notes: what was done to it.
        extent: in degrees; None where unknown.
        text: one line of GeoJSON in lon, lat; None while or since it cannot be sent.
        vertices: of the text, each ring's closing point included.
        area_km2: on the ellipsoid.
    """

    kind: str
    fingerprint: str
    sizes: list[list[int]]
    points: Floats
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    extent: Bounds | None = None
    text: str | None = None
    vertices: int = 0
    area_km2: float = 0.0


def pieces_of(geometry: Any, crs_text: str, preparation: Preparation) -> list[Piece]:
    """Take a geometry apart: one piece, or one for each polygon of a MultiPolygon that is to be split.

    Args:
        geometry: fiona's; None for a record without.
        crs_text: of its CRS, which belongs to the fingerprint.
        preparation: what is taken, split and repaired.
    """
    if geometry is None:
        return [_refused("none", "null", crs_text, "it has no geometry")]
    kind = geometry.type
    polygons = _polygons(geometry, repair=preparation.repair)
    if polygons is None or ("point" if kind == "Point" else "polygon") not in preparation.kinds:
        taken = " and ".join(f"{one}s" for one in sorted(preparation.kinds))
        whole = json.dumps(geometry.__geo_interface__, default=list)
        return [_refused(kind, whole, crs_text, f"it is a {kind}, and the process takes {taken}")]
    if not polygons:
        origin = " or lies at 0, 0, as empty ones are read" if kind == "Point" else ""
        return [_refused(kind, "empty", crs_text, f"its geometry is empty{origin}")]
    if kind == "GeometryCollection":
        kind = "MultiPolygon"
    if not preparation.split_multipolygons or len(polygons) == 1:
        return [_piece(kind, polygons, crs_text, repair=preparation.repair)]
    parts = [_piece("Polygon", [polygon], crs_text, repair=preparation.repair) for polygon in polygons]
    for number, part in enumerate(parts, start=1):
        part.notes.insert(0, f"part {number} of {len(parts)}")
    return parts


def _polygons(geometry: Any, *, repair: bool) -> list[_Polygon] | None:
    """Return a geometry's polygons without empty ones; None when it is of a kind that has none."""
    match geometry.type:
        case "Point":
            # fiona 1.10 gives an empty point as 0, 0
            return [[[geometry.coordinates]]] if any(geometry.coordinates[:2]) else []
        case "Polygon":
            found = [geometry.coordinates]
        case "MultiPolygon":
            found = geometry.coordinates
        case "GeometryCollection" if repair:
            parts = [_polygons(part, repair=False) for part in geometry.geometries if "Polygon" in part.type]
            found = list(chain.from_iterable(part or [] for part in parts))
            return found or None
        case _:
            return None
    return [[ring for ring in polygon if ring] for polygon in found if polygon and polygon[0]]


def _piece(kind: str, polygons: list[_Polygon], crs_text: str, *, repair: bool) -> Piece:
    notes = []
    if len(polygons[0][0][0]) > 2:
        polygons = [[[point[:2] for point in ring] for ring in polygon] for polygon in polygons]
        notes.append("Z dropped")
    sizes, points = _arrays(polygons)
    fingerprint = _fingerprint(crs_text, f"{kind}\0{sizes}", points.astype("<f8").tobytes())
    piece = Piece(kind, fingerprint, sizes, points, notes=notes)
    if kind == "Point":
        return piece
    short = [ring for ring in chain.from_iterable(polygons) if _closed_size(ring) < _RING_POINTS]
    if not short:
        piece.problem = "it has no area: its points lie on a line" if _is_flat(sizes, points) else ""
        return piece
    if repair:
        kept = [
            [ring for ring in polygon if _closed_size(ring) >= _RING_POINTS]
            for polygon in polygons
            if _closed_size(polygon[0]) >= _RING_POINTS
        ]
        if kept:
            piece.sizes, piece.points = _arrays(kept)
            rings = "1 ring" if len(short) == 1 else f"{len(short)} rings"
            notes.append(f"repaired: {rings} of fewer than {_RING_POINTS} points left out")
            return piece
    piece.problem = f"a ring has {len(short[0])} points, and {_RING_POINTS} are the fewest of an area"
    return piece


def _is_flat(sizes: list[list[int]], points: Floats) -> bool:
    """Tell whether each outer ring is a line: reprojected, it would gain a sliver of area."""
    start = 0
    for rings in sizes:
        from_first = points[start : start + rings[0]] - points[start]
        farthest = from_first[np.argmax((from_first**2).sum(axis=1))]
        aside = np.abs(from_first[:, 0] * farthest[1] - from_first[:, 1] * farthest[0]).max()
        if aside > _LINE * float(farthest @ farthest):
            return False
        start += sum(rings)
    return True


def _arrays(polygons: list[_Polygon]) -> tuple[list[list[int]], Floats]:
    sizes = [[len(ring) for ring in polygon] for polygon in polygons]
    numbers: Iterable[float] = chain.from_iterable(chain.from_iterable(chain.from_iterable(polygons)))
    count = 2 * sum(map(sum, sizes))
    return sizes, np.fromiter(numbers, np.float64, count=count).reshape(-1, 2)


def _closed_size(ring: _Ring) -> int:
    return len(ring) + (ring[0] != ring[-1])


def _refused(kind: str, content: str, crs_text: str, problem: str) -> Piece:
    fingerprint = _fingerprint(crs_text, kind, content.encode())
    return Piece(kind, fingerprint, [], np.empty((0, 2)), problem=problem)


def _fingerprint(crs_text: str, kind: str, content: bytes) -> str:
    return hashlib.sha256(f"{crs_text}\0{kind}\0".encode() + content).hexdigest()
