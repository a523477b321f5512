"""Polygons of a vector file, one after another, as a campaign takes them: id, fingerprint, geometry to send.

A geometry that cannot be sent is a feature too, with the reason: nothing that is wrong with one ends a run.
Memory depends on the size of a lot, not on the file's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.polygons.crs import Bounds, canonical
from tasks.polygons.geometry import prepare
from tasks.polygons.identity import Identity
from tasks.polygons.pieces import Piece, Preparation, pieces_of
from tasks.polygons.selection import Selection, matching
from tasks.polygons.source import Source, open_layer, readable

LOT = 500
"""Records made ready together: PROJ and GEOS are called once for all."""

LOT_POINTS = 200_000
"""Unless they are so large that so many points come together first."""


@dataclass(frozen=True)
class Feature:
    """A polygon or a point to send, or one that cannot be.

    Attributes:
        number: the record's, as the file numbers them (from 0; GeoPackage from 1); the same whatever is selected.
        id: unique in the file; `17#2` is the second part of a split one.
        fingerprint: sha256 of the source's geometry and CRS, neither rounded nor reprojected.
        geometry: one line of GeoJSON in lon, lat; None when it cannot be sent.
        vertices: of the geometry.
        area_km2: on the ellipsoid.
        problem: why it cannot be sent; else empty.
        note: what was done to it, for example `Z dropped, part 2 of 3`.
        properties: of the fields asked for.
    """

    number: int
    id: str
    fingerprint: str
    geometry: str | None
    vertices: int
    area_km2: float
    problem: str = ""
    note: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


def read_features(
    source: Source,
    identity: Identity,
    selection: Selection,
    preparation: Preparation,
    properties: tuple[str, ...] = (),
) -> Iterator[Feature]:
    """Yield the features of a selection in the source's order.

    Args:
        source: file and layer.
        identity: from `identify` with the same source and selection.
        selection: which records.
        preparation: how their geometries are made ready.
        properties: fields whose values come along.

    Raises:
        BadInput: as `open_layer`, or the condition is none for this layer, or the file is damaged.
    """
    fields = tuple(dict.fromkeys([*properties, *([identity.field] if identity.field else [])]))
    with open_layer(source, fields=fields, condition=selection.where) as layer:
        crs_text = canonical(layer.crs)
        found = matching(layer, source, selection)
        left = selection.limit
        while left is None or left > 0:
            lot: list[_Record] = []
            points = 0
            with readable(source):
                for record in found:
                    id_ = identity.of(record)
                    if selection.ids is not None and id_ not in selection.ids:
                        continue
                    values = {name: record.properties[name] for name in properties}
                    pieces = pieces_of(record.geometry, crs_text, preparation)
                    lot.append(_Record(int(record.id), id_, pieces, values))
                    points += sum(len(piece.points) for piece in pieces)
                    if len(lot) == min(LOT, left or LOT) or points >= LOT_POINTS:
                        break
            if not lot:
                return
            prepare([piece for record in lot for piece in record.pieces], layer.crs, preparation)
            meant = [record for record in lot if _touches(record, selection.bbox)]
            if left is not None:
                left -= len(meant)
            for record in meant:
                yield from record.features()


@dataclass(frozen=True)
class _Record:
    number: int
    id: str
    pieces: list[Piece]
    properties: dict[str, Any]

    def features(self) -> Iterator[Feature]:
        for part, piece in enumerate(self.pieces, start=1):
            yield Feature(
                number=self.number,
                id=self.id if len(self.pieces) == 1 else f"{self.id}#{part}",
                fingerprint=piece.fingerprint,
                geometry=piece.text,
                vertices=piece.vertices,
                area_km2=piece.area_km2,
                problem=piece.problem,
                note=", ".join(piece.notes),
                properties=self.properties,
            )


def _touches(record: _Record, bbox: Bounds | None) -> bool:
    """Tell whether a record's extent touches the box; one without an extent is GDAL's to judge, and was."""
    extents = [piece.extent for piece in record.pieces if piece.extent]
    if bbox is None or not extents:
        return True
    west, south, east, north = bbox
    return any(
        low <= east and high >= west and bottom <= north and top >= south for low, bottom, high, top in extents
    )
