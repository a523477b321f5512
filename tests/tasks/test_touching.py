"""Which tiles the geometries of a vector file touch."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import fiona.transform
import pytest

from tasks.chips.grid import REGIONS, TILE_M, Region, Tile, tile_named
from tasks.errors import BadInput
from tasks.polygons.source import Source
from tasks.touching import ALBERS, tiles_meant, tiles_touching
from tests.tasks.region_desk import CONUS

H05V03 = tile_named("H05V03", CONUS)


def outline(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    """Return a ring around a box of metres, clockwise, with points so close that its sides stay straight."""
    corners = [(west, south), (west, north), (east, north), (east, south), (west, south)]
    return [
        (x1 + (x2 - x1) * step / 200, y1 + (y2 - y1) * step / 200)
        for (x1, y1), (x2, y2) in pairwise(corners)
        for step in range(200)
    ] + [(west, south)]


def polygon(tile: Tile, inset_m: float = 0.0) -> dict[str, Any]:
    """Return the outline of a tile, or what lies so far inside of it, in longitude and latitude."""
    ring = outline(tile.x + inset_m, tile.y - TILE_M + inset_m, tile.x + TILE_M - inset_m, tile.y - inset_m)
    return {"type": "Polygon", "coordinates": [lon_lat(ring, tile.region)]}


def point(tile: Tile, east_m: float, south_m: float) -> dict[str, Any]:
    ((lon, lat),) = lon_lat([(tile.x + east_m, tile.y - south_m)], tile.region)
    return {"type": "Point", "coordinates": [lon, lat]}


def lon_lat(places: list[tuple[float, float]], region: Region) -> list[tuple[float, float]]:
    xs, ys = zip(*places, strict=True)
    lons, lats = fiona.transform.transform(ALBERS[region.name], "EPSG:4326", list(xs), list(ys))
    return list(zip(lons, lats, strict=True))


def touched(folder: Path, *geometries: dict[str, Any] | None, region: Region = CONUS) -> list[str]:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    file = folder / "places.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return [tile.name for tile in tiles_touching(Source(file), region)]


def test_a_tiles_own_outline_touches_that_tile_and_no_neighbour(tmp_path: Path) -> None:
    assert touched(tmp_path, polygon(H05V03)) == ["H05V03"]


@pytest.mark.parametrize(("region", "name"), [("conus", "H32V00"), ("alaska", "H10V07"), ("hawaii", "H02V01")])
def test_each_region_has_a_projection_of_its_own(tmp_path: Path, region: str, name: str) -> None:
    tile = tile_named(name, REGIONS[region])

    assert touched(tmp_path, polygon(tile, inset_m=1_000), region=REGIONS[region]) == [name]


def test_a_place_whose_tile_is_known_from_elsewhere_lies_on_it(tmp_path: Path) -> None:
    """EPSG:5070 is CONUS Albers on NAD83, less than two metres away: the corner of H05V03 is known there."""
    ((lon, lat),) = zip(*fiona.transform.transform("EPSG:5070", "EPSG:4326", [-1815485], [2864705]), strict=True)

    assert touched(tmp_path, {"type": "Point", "coordinates": [lon, lat]}) == ["H05V03"]


def test_what_crosses_an_edge_touches_both_tiles_by_rows_from_the_north_west(tmp_path: Path) -> None:
    ring = outline(H05V03.x - 100, H05V03.y - 5_000, H05V03.x + 100, H05V03.y + 5_000)
    four = {"type": "Polygon", "coordinates": [lon_lat(ring, CONUS)]}

    assert touched(tmp_path, four) == ["H04V02", "H05V02", "H04V03", "H05V03"]


def test_a_tile_within_a_ring_that_lies_in_its_hole_is_not_touched(tmp_path: Path) -> None:
    outer = outline(H05V03.x - 1_000, H05V03.y - TILE_M - 1_000, H05V03.x + TILE_M + 1_000, H05V03.y + 1_000)
    hole = outline(H05V03.x - 500, H05V03.y - TILE_M - 500, H05V03.x + TILE_M + 500, H05V03.y + 500)
    ring = {"type": "Polygon", "coordinates": [lon_lat(outer, CONUS), lon_lat(hole, CONUS)[::-1]]}

    found = touched(tmp_path, ring)

    assert len(found) == 8
    assert "H05V03" not in found


def test_a_small_place_on_an_edge_is_not_lost(tmp_path: Path) -> None:
    ring = outline(H05V03.x - 5, H05V03.y - 5_010, H05V03.x + 5, H05V03.y - 5_000)
    small = {"type": "Polygon", "coordinates": [lon_lat(ring, CONUS)]}

    assert touched(tmp_path, small) == ["H04V03", "H05V03"]


def test_points_lines_and_collections_touch_too(tmp_path: Path) -> None:
    first, second = point(H05V03, 5_000, 5_000), point(H05V03, TILE_M + 5_000, 5_000)
    line = {"type": "LineString", "coordinates": [first["coordinates"], second["coordinates"]]}

    assert touched(tmp_path, first) == ["H05V03"]
    assert touched(tmp_path, line) == ["H05V03", "H06V03"]
    assert touched(tmp_path, {"type": "GeometryCollection", "geometries": [first, second]}) == ["H05V03", "H06V03"]


def test_a_long_straight_line_in_degrees_bends_on_its_way_to_the_tiles(tmp_path: Path) -> None:
    along_49_north = {"type": "LineString", "coordinates": [(-123.0, 49.0), (-95.2, 49.0)]}
    steps = [(-123.0 + number * 0.1, 49.0) for number in range(279)]

    straight = touched(tmp_path, along_49_north)

    assert straight == touched(tmp_path, {"type": "LineString", "coordinates": steps})


def test_records_without_a_place_are_passed_over(tmp_path: Path) -> None:
    nowhere = {"type": "Polygon", "coordinates": []}

    assert touched(tmp_path, None, nowhere, point(H05V03, 10, 10)) == ["H05V03"]


def test_more_records_than_are_read_at_once_are_all_read(tmp_path: Path) -> None:
    others = [point(H05V03, 100, 100)] * 1_200

    assert touched(tmp_path, *others, point(H05V03, TILE_M + 100, 100)) == ["H05V03", "H06V03"]


def test_a_broken_ring_touches_where_it_lies(tmp_path: Path) -> None:
    west, south = H05V03.x - 2_000, H05V03.y - 9_000
    bow = [
        (west, south),
        (west + 4_000, south + 4_000),
        (west + 4_000, south),
        (west, south + 4_000),
        (west, south),
    ]

    assert touched(tmp_path, {"type": "Polygon", "coordinates": [lon_lat(bow, CONUS)]}) == ["H04V03", "H05V03"]


def test_a_file_that_touches_no_tile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"None of the 1 geometries of .* touches a tile of conus"):
        touched(tmp_path, {"type": "Point", "coordinates": [149.1, -35.3]})


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        tiles_touching(Source(tmp_path / "nothing.gpkg"), CONUS)


def test_named_tiles_come_before_touched_ones_and_each_once(tmp_path: Path) -> None:
    touched(tmp_path, polygon(H05V03, 1_000), point(H05V03, TILE_M + 100, 100))

    found = tiles_meant(CONUS, "H09V09,H06V03", tmp_path / "places.geojson")

    assert [tile.name for tile in found] == ["H09V09", "H06V03", "H05V03"]


def test_a_region_without_any_list_of_tiles_is_refused() -> None:
    with pytest.raises(BadInput, match="The grid of conus has 726, and some 420 of them hold land"):
        tiles_meant(CONUS, None, None)
