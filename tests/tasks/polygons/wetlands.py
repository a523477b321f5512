"""Small vector files for tests: squares in Queensland, in metres of EPSG:3577, written by fiona."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fiona
from fiona.crs import CRS

from tasks.polygons.features import Feature, read_features
from tasks.polygons.identity import identify
from tasks.polygons.pieces import Preparation
from tasks.polygons.selection import Selection
from tasks.polygons.source import Source

X, Y = 1_400_000.0, -2_400_000.0
"""Some 200 km west of Rockhampton."""

FIELDS = {"OBJECTID": "int", "Shape_Leng": "float", "NAME": "str:40"}
DRIVERS = {".shp": "ESRI Shapefile", ".gpkg": "GPKG", ".geojson": "GeoJSON", ".fgb": "FlatGeobuf"}

EVERY = Selection()
AS_IT_IS = Preparation()

Record = tuple[dict[str, Any] | None, dict[str, Any]]


def ring(x: float = X, y: float = Y, size: float = 100.0) -> list[tuple[float, float]]:
    """A square, its lower left corner first, clockwise as shapefiles have it."""
    return [(x, y), (x, y + size), (x + size, y + size), (x + size, y), (x, y)]


def polygon(*rings: list[Any]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def square(x: float = X, y: float = Y, size: float = 100.0) -> dict[str, Any]:
    return polygon(ring(x, y, size))


def squares(count: int, size: float = 100.0) -> list[Record]:
    """Squares 1 km apart, a hundred in a row; OBJECTID counts from 1, Shape_Leng grows by 400 m."""
    return [
        (
            square(X + 1000 * (n % 100), Y - 1000 * (n // 100), size),
            {"OBJECTID": n + 1, "Shape_Leng": 400.0 * (n + 1), "NAME": f"swamp {n}"},
        )
        for n in range(count)
    ]


def write(
    path: Path,
    records: Iterable[Record],
    *,
    crs: str | None = "EPSG:3577",
    fields: dict[str, str] = FIELDS,
    geometry: str | None = None,
    layer: str | None = None,
) -> Path:
    """Write a file by its suffix; `.zip` is a zipped shapefile."""
    if path.suffix == ".zip":
        shapefile = write(path.with_suffix(".shp"), records, crs=crs, fields=fields, geometry=geometry)
        return zipped(path, shapefile)
    kind = geometry or ("Polygon" if path.suffix == ".shp" else "Unknown")
    options: dict[str, Any] = {"layer": layer} if layer else {}
    if crs:
        options["crs"] = CRS.from_user_input(crs)
    schema = {"geometry": kind, "properties": fields}
    with fiona.open(path, "w", driver=DRIVERS[path.suffix], schema=schema, **options) as file:
        file.writerecords(
            {
                "type": "Feature",
                "geometry": geometry,
                "properties": {name: properties.get(name) for name in fields},
            }
            for geometry, properties in records
        )
    return path


def zipped(path: Path, *shapefiles: Path) -> Path:
    """Zip shapefiles with all that belongs to them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for shapefile in shapefiles:
            for part in sorted(shapefile.parent.glob(f"{shapefile.stem}.*")):
                if part.suffix != ".zip":
                    archive.write(part, part.name)
    return path


def read(
    path: Path | str,
    selection: Selection = EVERY,
    preparation: Preparation = AS_IT_IS,
    *,
    crs: str | None = None,
    layer: str | None = None,
    id_field: str | None = None,
    properties: tuple[str, ...] = (),
) -> list[Feature]:
    """Read all features of a file as a campaign does."""
    source = Source(path, layer, crs)
    identity = identify(source, selection, id_field)
    return list(read_features(source, identity, selection, preparation, properties))
