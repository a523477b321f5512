"""The demo's polygons: a small zipped shapefile of made-up wetlands in Queensland, with every trouble of geometry.

Nothing in it is a real place. The layer is of polygons with Z, as exports of geodatabases are, and to its schema a
MultiPolygon is a Polygon.
"""

import math
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal, get_args

import fiona
import shapely

from tasks.files import atomic_file

LAYER = "wetlands"
CRS = "EPSG:3577"
FILE = "wetlands.zip"

Kind = Literal[
    "plain", "multipolygon", "hole", "bow-tie", "null", "degenerate", "huge", "long", "name with & and <"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What polygons there are; a `long` one has a `Shape_Leng` above 2,000 m, where `--where` may leave it out."""

_COUNTS: dict[Kind, int] = {
    "plain": 26,
    "multipolygon": 3,
    "hole": 3,
    "bow-tie": 2,
    "null": 1,
    "degenerate": 1,
    "huge": 1,
    "long": 2,
    "name with & and <": 1,
}
_CORNER = (1_500_000, -2_200_000)  # metres east and north in EPSG:3577
_APART_M = 6_000
_COLUMNS = 8
_SCHEMA = {
    "geometry": "3D Polygon",
    "properties": {"OBJECTID": "int:9", "NAME": "str:60", "WETCLASS": "str:20", "Shape_Leng": "float:19.6"},
}
_MADE_ON = (2026, 1, 1)  # dates are part of the file, and the file is the same each time


def kinds() -> dict[int, Kind]:
    """Return what each polygon is, by its OBJECTID; troubles stand between plain ones."""
    order = [kind for kind in KINDS for _ in range(_COUNTS[kind])]
    random.Random("kinds").shuffle(order)  # noqa: S311
    return {number + 1: kind for number, kind in enumerate(order)}


def make(folder: Path) -> Path:
    """Write the zipped shapefile into a folder, the same bytes each time, and return where it is.

    Raises:
        OutputUnusable: the folder cannot be written.
    """
    path = folder / FILE
    with tempfile.TemporaryDirectory(prefix="wetlands-") as made:
        _write(Path(made) / f"{LAYER}.shp")
        with atomic_file(path) as sink, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(Path(made).iterdir()):
                member = zipfile.ZipInfo(part.name, (*_MADE_ON, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, part.read_bytes())
    return path


def _write(path: Path) -> None:
    date = "{}-{:02}-{:02}".format(*_MADE_ON)
    with fiona.open(
        path, "w", driver="ESRI Shapefile", crs=CRS, schema=_SCHEMA, encoding="utf-8", DBF_DATE_LAST_UPDATE=date
    ) as layer:
        for number, kind in kinds().items():
            geometry = _geometry(kind, number)
            name = f"Reed & Rush <lagoon> {number}" if kind == "name with & and <" else f"Wetland {number}"
            properties = {
                "OBJECTID": number,
                "NAME": name,
                "WETCLASS": ("lacustrine", "palustrine", "riverine")[number % 3],
                "Shape_Leng": round(geometry.length, 3) if geometry is not None else 0.0,
            }
            shape = shapely.geometry.mapping(shapely.force_3d(geometry)) if geometry is not None else None
            layer.write({"type": "Feature", "geometry": shape, "properties": properties})


def _geometry(kind: Kind, number: int) -> Any:
    """Return a geometry in metres, None for none."""
    draw = random.Random(f"wetland {number}")  # noqa: S311
    x = _CORNER[0] + number % _COLUMNS * _APART_M
    y = _CORNER[1] - number // _COLUMNS * _APART_M
    lagoon = _lagoon(draw, x, y, draw.uniform(80, 220))
    if kind == "null":
        return None
    if kind == "multipolygon":
        return shapely.MultiPolygon([lagoon, _lagoon(draw, x + 900, y + 300, 100)])
    if kind == "hole":
        return shapely.Polygon(lagoon.exterior, [_lagoon(draw, x, y, 25).exterior])
    if kind == "bow-tie":
        return shapely.Polygon([(x, y), (x + 300, y + 200), (x + 300, y), (x, y + 200)])
    if kind == "degenerate":
        return shapely.Polygon([(x, y), (x + 200, y), (x + 400, y), (x, y)])
    if kind == "huge":
        return _lagoon(draw, x, y, 180_000)
    if kind == "long":
        return _lagoon(draw, x, y, 900)
    return lagoon


def _lagoon(draw: random.Random, x: float, y: float, radius_m: float) -> Any:
    """Return a crooked shore around a point, which does not cross itself."""
    corners = draw.randint(12, 28)
    shore = []
    for corner in range(corners):
        angle, reach_m = 2 * math.pi * corner / corners, radius_m * draw.uniform(0.7, 1.0)
        shore.append((round(x + reach_m * math.cos(angle), 2), round(y + reach_m * math.sin(angle), 2)))
    return shapely.Polygon(shore)
