"""Which records of a layer are meant: by a condition, a box, a number or a list of ids."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiona._err import CPLE_BaseError
from fiona.errors import AttributeFilterError

from tasks.errors import BadInput
from tasks.polygons.crs import LON_LAT, Bounds, is_lon_lat, transformed_bounds
from tasks.polygons.source import Layer, Source, open_layer, readable

_TEXT = re.compile(r"'(?:[^']|'')*'")
_QUOTED_NAME = re.compile(r'"((?:[^"]|"")*)"')
_SPECIAL = frozenset({"fid", "geom", "geometry", "ogr_geometry", "ogr_geom_wkt", "ogr_geom_area", "ogr_style"})


@dataclass(frozen=True)
class Selection:
    """Which records are meant: those that meet all of this; by default every one.

    Attributes:
        where: a condition on fields in OGR SQL, for example `Shape_Leng <= 2000`.
        bbox: west, south, east, north in degrees; records whose extent touches it.
        limit: the first so many of them, in the source's order; each counts once, split or not.
        ids: those only.
    """

    where: str | None = None
    bbox: Bounds | None = None
    limit: int | None = None
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"A limit of {self.limit} selects nothing. Give 1 or more, or leave it away for all.")


def parse_bbox(text: str) -> Bounds:
    """Return the box that a person means by `west,south,east,north` in degrees.

    Raises:
        BadInput: it is none, or lies outside of longitude -180 to 180 and latitude -90 to 90.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(
            f"{text!r} is no box. Write west,south,east,north in degrees: 138,-29,154,-10 is Queensland."
        ) from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise BadInput(f"{text!r} is no box: its numbers must be finite.")
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise BadInput(
            f"The box {text} is empty or outside of longitude -180 to 180 and latitude -90 to 90. Its order is "
            "west,south,east,north; one across the antimeridian takes two runs."
        )
    return west, south, east, north


def read_ids(path: Path) -> frozenset[str]:
    """Return the ids in a text file, one on a line; empty lines do not count.

    Raises:
        BadInput: it cannot be read or holds none.
    """
    try:
        ids = frozenset(line.strip() for line in path.read_text("utf-8-sig").splitlines()) - {""}
    except (OSError, UnicodeError) as error:
        raise BadInput(
            f"The ids in {path} cannot be read: {error}. Give a text file with one id on a line."
        ) from error
    if not ids:
        raise BadInput(f"{path} holds no ids. Write one on a line.")
    return ids


def matching(layer: Layer, source: Source, selection: Selection) -> Iterator[Any]:
    """Return fiona's iterator over the records that a selection's condition and box leave.

    GDAL applies both. The box in the source's CRS is larger than the one meant, so the caller looks again.
    It is to be read inside `readable`.

    Raises:
        BadInput: the condition is none for this layer.
    """
    where, bbox = selection.where, selection.bbox
    if where is not None:
        _check_names(where, layer)
    if bbox is not None and not is_lon_lat(layer.crs):
        bbox = transformed_bounds(bbox, LON_LAT, layer.crs)
        if bbox is None:
            raise BadInput(
                f"The box given has no place in the CRS of {source.path}. Check its numbers and the CRS."
            )
    with readable(source):
        try:
            found: Iterator[Any] = layer.collection.filter(bbox=bbox, where=where)
        except (AttributeFilterError, CPLE_BaseError) as error:
            raise _no_condition(where, layer, str(error)) from error
    return found


def check_selection(source: Source, selection: Selection, fields: tuple[str, ...]) -> None:
    """Fail now where reading would fail for what a person gave; no record is read.

    Args:
        source: file and layer.
        selection: which records.
        fields: that will be read.

    Raises:
        BadInput: as `open_layer` and `matching`.
    """
    with open_layer(source, fields=fields, condition=selection.where) as layer:
        matching(layer, source, selection)


def _check_names(where: str, layer: Layer) -> None:
    """Refuse a name in double quotes that no field has: SQLite, so GeoPackage, would take it for a text."""
    known = {name.lower() for name in layer.fields} | _SPECIAL
    for name in _QUOTED_NAME.findall(_TEXT.sub("", where)):
        if name.lower() not in known:
            raise _no_condition(where, layer, f'there is no field "{name}"; texts stand in single quotes')


def _no_condition(where: str | None, layer: Layer, why: str) -> BadInput:
    return BadInput(
        f"--where {where!r} is no condition for layer {layer.name}: {' '.join(why.split()).rstrip('.')}. Write "
        f"OGR SQL with the layer's fields: {', '.join(layer.fields) or 'it has none'}."
    )
