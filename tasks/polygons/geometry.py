"""From coordinates as a file has them to what a process is sent: one line of GeoJSON in lon, lat, or why not.

Works on hundreds of pieces at once: numpy, PROJ and GEOS take whole arrays, and a single piece is looked at only
when something is wrong with it. Coordinates are checked and never swapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from fiona.crs import CRS
from numpy.typing import NDArray

from tasks.polygons.crs import canonical, to_lon_lat
from tasks.polygons.mending import area_km2, mended
from tasks.polygons.pieces import Floats, Piece, Preparation

ENVELOPE_BYTES = 4096
"""Kept free for the rest of a request; without properties it takes some 1,200 bytes."""

_Integers = NDArray[np.int64]


def prepare(pieces: Sequence[Piece], crs: CRS, preparation: Preparation) -> None:
    """Bring pieces to lon, lat and to text, or note why they cannot be sent.

    Args:
        pieces: from `pieces_of`; those with a problem are left as they are.
        crs: of their coordinates.
        preparation: precision, repair and limits.
    """
    sound = [piece for piece in pieces if not piece.problem]
    for group in (
        [piece for piece in sound if piece.kind == "Point"],
        [piece for piece in sound if piece.kind != "Point"],
    ):
        if group:
            _place(group, _Lot.of(group, crs, preparation.precision), crs, preparation)


def _place(pieces: list[Piece], lot: "_Lot", crs: CRS, preparation: Preparation) -> None:
    lows, highs = lot.extents()
    placed = lot.in_range(lows, highs)
    for number, piece in enumerate(pieces):
        (west, south), (east, north) = lows[number].tolist(), highs[number].tolist()
        if np.isfinite([west, south, east, north]).all():
            piece.extent = (west, south, east, north)
        if not placed[number]:
            piece.problem = _range_problem(piece, crs)
    lot, pieces = lot.only(placed), [piece for piece, here in zip(pieces, placed, strict=True) if here]
    if pieces:
        _write(pieces, lot, preparation)


def _write(pieces: list[Piece], lot: "_Lot", preparation: Preparation) -> None:
    shapes = lot.shapes(lot.rounded)
    bad = np.flatnonzero(~shapely.is_valid(shapes))
    for number in bad.tolist():
        alone = lot.only(np.arange(len(pieces)) == number)
        shape, problem, note = mended(
            alone.shapes(alone.exact)[0], preparation.precision, repair=preparation.repair
        )
        shapes[number], pieces[number].problem = shape, problem
        pieces[number].notes.extend([note] if note else [])
    found = zip(
        pieces,
        shapely.to_geojson(shapes).tolist(),
        shapely.get_num_coordinates(shapes).tolist(),
        area_km2(shapes).tolist(),
        strict=True,
    )
    for piece, text, vertices, area in found:
        if piece.problem:
            continue
        piece.vertices, piece.area_km2 = vertices, area
        piece.problem = _size_problem(area, len(text), preparation)
        piece.text = None if piece.problem else text


@dataclass(frozen=True)
class _Lot:
    """The coordinates of many pieces in one array, and which ring, polygon and piece each belongs to.

    Attributes:
        exact: lon, lat of each point; infinite where it has none.
        rounded: the same to the precision.
        sizes: points of each ring.
        polygon_of: each ring's polygon, counted through the lot.
        piece_of: each polygon's piece.
        kinds: of the pieces.
    """

    exact: Floats
    rounded: Floats
    sizes: _Integers
    polygon_of: _Integers
    piece_of: _Integers
    kinds: NDArray[np.str_]

    @classmethod
    def of(cls, pieces: Sequence[Piece], crs: CRS, precision: int) -> "_Lot":
        points = np.concatenate([piece.points for piece in pieces])
        exact = np.column_stack(to_lon_lat(points[:, 0].tolist(), points[:, 1].tolist(), crs))
        rings = [len(polygon) for piece in pieces for polygon in piece.sizes]
        polygons = [len(piece.sizes) for piece in pieces]
        return cls(
            exact,
            np.round(exact, precision) + 0.0,  # turns -0.0 into 0.0
            np.array([size for piece in pieces for polygon in piece.sizes for size in polygon]),
            np.repeat(np.arange(len(rings)), rings),
            np.repeat(np.arange(len(polygons)), polygons),
            np.array([piece.kind for piece in pieces]),
        )

    def only(self, chosen: NDArray[np.bool_]) -> "_Lot":
        """Return the lot of some of its pieces."""
        if chosen.all():
            return self
        polygons = chosen[self.piece_of]
        rings = polygons[self.polygon_of]
        points = np.repeat(rings, self.sizes)
        return _Lot(
            self.exact[points],
            self.rounded[points],
            self.sizes[rings],
            (np.cumsum(polygons) - 1)[self.polygon_of[rings]],
            (np.cumsum(chosen) - 1)[self.piece_of[polygons]],
            self.kinds[chosen],
        )

    def extents(self) -> tuple[Floats, Floats]:
        """Return the least and the greatest lon, lat of each piece."""
        starts = _starts(np.bincount(self.piece_of[self.polygon_of], self.sizes).astype(np.int64))
        return np.minimum.reduceat(self.rounded, starts), np.maximum.reduceat(self.rounded, starts)

    def in_range(self, lows: Floats, highs: Floats) -> NDArray[np.bool_]:
        """Tell which pieces lie where lon and lat have values, and none of whose polygons goes half way round."""
        limits = np.array([180.0, 90.0])
        within: NDArray[np.bool_] = np.asarray(((lows >= -limits) & (highs <= limits)).all(axis=1))
        starts = _starts(np.bincount(self.polygon_of, self.sizes).astype(np.int64))
        longitudes = self.rounded[:, 0]
        with np.errstate(invalid="ignore"):  # of infinite ones, which are out of range already
            width = np.maximum.reduceat(longitudes, starts) - np.minimum.reduceat(longitudes, starts)
        within[self.piece_of[width > 180.0]] = False
        return within

    def shapes(self, points: Floats) -> NDArray[np.object_]:
        """Return each piece as a geometry of these points; rings are closed."""
        shapes = np.empty(len(self.kinds), dtype=object)
        if self.kinds[0] == "Point":
            shapes[:] = shapely.points(points)
            return shapes
        rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(self.sizes)), self.sizes))
        polygons = shapely.polygons(rings, indices=self.polygon_of)
        several = (self.kinds == "MultiPolygon")[self.piece_of]
        shapes[self.piece_of[~several]] = polygons[~several]
        if several.any():
            pieces, parts = np.unique(self.piece_of[several], return_inverse=True)
            shapes[pieces] = shapely.multipolygons(polygons[several], indices=parts)
        return shapes


def _starts(sizes: _Integers) -> _Integers:
    starts: _Integers = np.cumsum(sizes) - sizes
    return starts


def _range_problem(piece: Piece, crs: CRS) -> str:
    asked = f"is the CRS right ({canonical(crs)[:60]})?"
    if piece.extent is None:
        return f"it has coordinates without a longitude and latitude; {asked}"
    west, south, east, north = piece.extent
    where = f"longitude {west:.7g} to {east:.7g}, latitude {south:.7g} to {north:.7g}"
    if min(west + 180, 180 - east, south + 90, 90 - north) >= 0:
        return (
            f"a polygon reaches more than half way round the Earth, {where}: cut it at the antimeridian; {asked}"
        )
    return f"it lies outside of longitude -180 to 180 and latitude -90 to 90, at {where}; {asked}"


def _size_problem(area: float, text_bytes: int, preparation: Preparation) -> str:
    if preparation.max_area_km2 is not None and area > preparation.max_area_km2:
        return f"its area is {area:,.6g} km2, and {preparation.max_area_km2:,.6g} km2 are the most"
    limit = preparation.max_request_bytes
    if limit is not None and text_bytes + ENVELOPE_BYTES > limit:
        return (
            f"its request would have {text_bytes + ENVELOPE_BYTES:,} bytes, and {limit:,} are the most: simplify "
            "it or round it to fewer decimals"
        )
    return ""
