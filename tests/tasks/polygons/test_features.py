"""What becomes of each kind of geometry, and of each trouble that one can have."""

import hashlib
import json
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiona
import fiona.transform
import pytest
import shapely

from tasks.polygons.features import LOT, Feature, read_features
from tasks.polygons.identity import Identity
from tasks.polygons.pieces import Preparation
from tasks.polygons.selection import Selection
from tasks.polygons.source import Source
from tests.tasks.polygons.wetlands import X, Y, polygon, read, ring, square, squares, write

BOW_TIE = polygon([(X, Y), (X + 100, Y + 100), (X + 100, Y), (X, Y + 100), (X, Y)])


def one(tmp_path: Path, geometry: dict[str, Any] | None, *, crs: str = "EPSG:3577", **how: Any) -> Feature:
    """Return the feature that a file with this one geometry gives."""
    (feature,) = read(
        write(tmp_path / "one.gpkg", [(geometry, {"OBJECTID": 7})], crs=crs), Selection(), Preparation(**how)
    )
    return feature


def shape(feature: Feature) -> shapely.Geometry:
    assert feature.problem == ""
    assert feature.geometry is not None
    return shapely.from_geojson(feature.geometry)


def multi(*polygons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [one["coordinates"] for one in polygons]}


def test_a_polygon_arrives_as_one_compact_line_in_lon_lat_with_seven_decimals(tmp_path: Path) -> None:
    feature = one(tmp_path, square())
    with fiona.Env():
        expected = fiona.transform.transform_geom("EPSG:3577", "EPSG:4326", square()).coordinates
    assert feature.geometry is not None
    assert "\n" not in feature.geometry
    assert " " not in feature.geometry
    assert json.loads(feature.geometry) == {
        "type": "Polygon",
        "coordinates": [[[round(lon, 7), round(lat, 7)] for lon, lat in expected[0]]],
    }
    assert (feature.id, feature.number, feature.vertices, feature.note) == ("7", 1, 5, "")


def test_precision_is_the_number_of_decimals(tmp_path: Path) -> None:
    geometry = one(tmp_path, square(size=10_000), precision=3).geometry
    assert geometry is not None
    assert max(len(number.partition(".")[2]) for number in geometry.replace("]", ",").split(",")) == 3


def test_holes_are_kept(tmp_path: Path) -> None:
    feature = one(tmp_path, polygon(ring(), ring(X + 20, Y + 20, 10)))
    assert shapely.get_num_interior_rings(shape(feature)) == 1
    assert feature.vertices == 10


def test_a_multipolygon_is_sent_whole(tmp_path: Path) -> None:
    feature = one(tmp_path, multi(square(), square(X + 500)))
    assert shapely.get_num_geometries(shape(feature)) == 2
    assert shape(feature).geom_type == "MultiPolygon"


def test_a_multipolygon_can_be_split_into_features_of_their_own(tmp_path: Path) -> None:
    records = [(multi(square(), square(X + 500)), {"OBJECTID": 7}), (multi(square(X + 900)), {"OBJECTID": 8})]
    path = write(tmp_path / "w.gpkg", records)
    features = read(path, Selection(), Preparation(split_multipolygons=True))
    assert [(feature.id, feature.number, feature.note) for feature in features] == [
        ("7#1", 1, "part 1 of 2"),
        ("7#2", 1, "part 2 of 2"),
        ("8", 2, ""),
    ]
    assert shape(features[1]).equals(shape(one(tmp_path, square(X + 500))))
    assert len({feature.fingerprint for feature in features}) == 3


def test_heights_are_dropped_and_said_so(tmp_path: Path) -> None:
    with_heights = polygon([(x, y, 12.5) for x, y in ring()])
    flat = one(tmp_path, square())
    feature = one(tmp_path, with_heights)
    assert feature == replace(flat, note="Z dropped")


def test_points_are_taken_by_a_process_that_takes_points_only(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": (X, Y, 30.0)}
    taken = one(tmp_path, point, kinds=frozenset({"point"}))
    assert shape(taken).geom_type == "Point"
    assert (taken.vertices, taken.area_km2, taken.note) == (1, 0.0, "Z dropped")
    assert one(tmp_path, point).problem == "it is a Point, and the process takes polygons"
    refused = one(tmp_path, square(), kinds=frozenset({"point"}))
    assert refused.problem == "it is a Polygon, and the process takes points"


def test_points_and_polygons_of_one_file_keep_their_order(tmp_path: Path) -> None:
    points = [({"type": "Point", "coordinates": (X, Y)}, {"OBJECTID": 100 + n}) for n in range(2)]
    mixed = [points[0], *squares(2), points[1]]
    features = read(
        write(tmp_path / "w.gpkg", mixed), preparation=Preparation(kinds=frozenset({"point", "polygon"}))
    )
    assert [shape(feature).geom_type for feature in features] == ["Point", "Polygon", "Polygon", "Point"]


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        (None, "it has no geometry"),
        ({"type": "Polygon", "coordinates": []}, "its geometry is empty"),
        ({"type": "LineString", "coordinates": ring()}, "it is a LineString, and the process takes polygons"),
        ({"type": "MultiPoint", "coordinates": ring()}, "it is a MultiPoint, and the process takes polygons"),
    ],
)
def test_what_cannot_be_sent_is_a_feature_with_its_reason(
    tmp_path: Path, geometry: dict[str, Any] | None, problem: str
) -> None:
    feature = one(tmp_path, geometry)
    assert (feature.id, feature.problem, feature.geometry) == ("7", problem, None)


def test_an_empty_point_is_not_sent_to_the_gulf_of_guinea(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": (0.0, 0.0)}
    feature = one(tmp_path, point, crs="EPSG:4326", kinds=frozenset({"point"}))
    assert feature.problem == "its geometry is empty or lies at 0, 0, as empty ones are read"


def test_empty_parts_of_a_multipolygon_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "w.geojson"
    coordinates = [[], [[[145, -22], [145, -21], [146, -21], [145, -22]]]]
    text = {"type": "Feature", "properties": {}, "geometry": {"type": "MultiPolygon", "coordinates": coordinates}}
    path.write_text(json.dumps(text))
    assert shape(read(path)[0]).area == pytest.approx(0.5)


def test_an_open_ring_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "w.geojson"
    geometry = {"type": "Polygon", "coordinates": [[[145, -22], [145, -21], [146, -21]]]}
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    (feature,) = read(path)
    assert shape(feature).exterior.is_closed
    assert feature.vertices == 4


def test_a_bow_tie_is_refused_with_the_place_where_it_crosses_itself(tmp_path: Path) -> None:
    feature = one(tmp_path, BOW_TIE)
    what, _, place = feature.problem.removesuffix("; --repair would mend it").partition(" at ")
    assert what == "self-intersection"
    lon, lat = map(float, place.split(", "))
    middle = shape(one(tmp_path, square())).centroid
    assert (lon, lat) == pytest.approx((middle.x, middle.y), abs=1e-5)


def test_a_bow_tie_is_repaired_into_its_two_halves(tmp_path: Path) -> None:
    feature = one(tmp_path, BOW_TIE, repair=True)
    assert shapely.is_valid(shape(feature))
    assert shapely.get_num_geometries(shape(feature)) == 2
    assert feature.note.startswith("repaired: self-intersection at 145.")
    assert feature.area_km2 == pytest.approx(0.005, rel=1e-3)


def test_repair_keeps_only_what_is_polygon(tmp_path: Path) -> None:
    spike = polygon([*ring()[:3], (X + 500, Y + 100), *ring()[2:]])
    feature = one(tmp_path, spike, repair=True)
    assert shape(feature).geom_type == "Polygon"
    assert feature.area_km2 == pytest.approx(0.01, rel=1e-3)
    parts = [square(), {"type": "LineString", "coordinates": ring()}, multi(square(X + 500))]
    collection = {"type": "GeometryCollection", "geometries": parts}
    path = tmp_path / "w.geojson"
    path.write_text(
        json.dumps({"type": "Feature", "properties": {"OBJECTID": 7}, "geometry": _in_degrees(collection)})
    )
    (mended,) = read(path, preparation=Preparation(repair=True))
    assert shapely.get_num_geometries(shape(mended)) == 2
    assert read(path)[0].problem == "it is a GeometryCollection, and the process takes polygons"


def _in_degrees(geometry: dict[str, Any]) -> dict[str, Any]:
    with fiona.Env():
        parts = [fiona.transform.transform_geom("EPSG:3577", "OGC:CRS84", part) for part in geometry["geometries"]]
    return {"type": "GeometryCollection", "geometries": [dict(part.__geo_interface__) for part in parts]}


@pytest.mark.parametrize(
    "flat",
    [
        [(X, Y), (X + 100, Y), (X, Y)],
        [(X, Y), (X, Y), (X, Y), (X, Y)],
        [(X, Y), (X + 200, Y), (X + 400, Y), (X, Y)],
    ],
)
def test_an_area_that_is_none_is_refused_and_cannot_be_repaired(
    tmp_path: Path, flat: list[tuple[float, float]]
) -> None:
    assert one(tmp_path, polygon(flat)).problem
    assert one(tmp_path, polygon(flat), repair=True).problem


def test_a_hole_of_two_points_is_refused_or_left_out(tmp_path: Path) -> None:
    pricked = polygon(ring(), [(X + 10, Y + 10), (X + 20, Y + 10), (X + 10, Y + 10)])
    assert one(tmp_path, pricked).problem == "a ring has 3 points, and 4 are the fewest of an area"
    feature = one(tmp_path, pricked, repair=True)
    assert shape(feature).equals(shape(one(tmp_path, square())))
    assert feature.note == "repaired: 1 ring of fewer than 4 points left out"


def test_a_polygon_smaller_than_the_precision_is_refused_not_sent_as_nothing(tmp_path: Path) -> None:
    assert one(tmp_path, square(), precision=1).problem == "nothing is left of it at 1 decimals of a degree"


def test_a_valid_polygon_that_rounding_would_tangle_is_rounded_so_that_it_stays_valid(tmp_path: Path) -> None:
    notched = polygon([(145, -22), (146, -22), (146, -21), (145.5, -21.996), (145, -21), (145, -22)])
    feature = one(tmp_path, notched, crs="EPSG:4326", precision=2)
    assert shapely.is_valid(shape(feature))
    assert shapely.get_num_geometries(shape(feature)) == 2
    assert feature.note == "rounded so that it stays valid"


def test_one_too_large_is_refused_with_the_figures(tmp_path: Path) -> None:
    feature = one(tmp_path, square(size=2000), max_area_km2=3.5)
    assert feature.problem == f"its area is {feature.area_km2:,.6g} km2, and 3.5 km2 are the most"
    assert feature.area_km2 == pytest.approx(4.0, rel=1e-4)
    assert one(tmp_path, square(size=2000), max_area_km2=4.5).problem == ""


def test_a_request_too_large_for_the_service_is_refused_with_the_figures(tmp_path: Path) -> None:
    long = polygon([(X + n, Y + n % 2) for n in range(1000)] + [(X, Y + 500), (X, Y)])
    feature = one(tmp_path, long, max_request_bytes=20_000)
    assert "and 20,000 are the most: simplify it" in feature.problem
    assert one(tmp_path, long, max_request_bytes=200_000).problem == ""


def test_areas_are_those_of_the_equal_area_grid(tmp_path: Path) -> None:
    areas = [one(tmp_path, square(y=y, size=1000)).area_km2 for y in (-1_200_000, -2_400_000, -4_500_000)]
    assert areas == pytest.approx([1.0, 1.0, 1.0], rel=1e-4)


def test_metres_taken_for_degrees_are_refused_and_the_crs_is_asked_for(tmp_path: Path) -> None:
    feature = one(tmp_path, square(), crs="EPSG:4326")
    assert feature.problem == (
        "it lies outside of longitude -180 to 180 and latitude -90 to 90, at longitude 1400000 to 1400100, "
        "latitude -2400000 to -2399900; is the CRS right (EPSG:4326)?"
    )


def test_lat_lon_is_refused_and_never_swapped(tmp_path: Path) -> None:
    assert "is the CRS right" in one(tmp_path, square(-22, 145, 0.1), crs="EPSG:4326").problem


def test_coordinates_without_a_place_are_refused_and_their_neighbours_are_not(tmp_path: Path) -> None:
    far = [(square(1e30, 1e30, 1e29), {"OBJECTID": 100}), (square(1e9), {"OBJECTID": 101})]
    path = write(tmp_path / "w.gpkg", [far[0], *squares(2), far[1]])
    problems = [feature.problem for feature in read(path)]
    assert problems[1:3] == ["", ""]
    for problem in (problems[0], problems[3]):
        assert problem == "it has coordinates without a longitude and latitude; is the CRS right (EPSG:3577)?"


def test_a_polygon_across_the_antimeridian_is_refused_not_sent_round_the_earth(tmp_path: Path) -> None:
    across = polygon([(179.9, -17), (-179.9, -17), (-179.9, -16), (179.9, -16), (179.9, -17)])
    assert "more than half way round the Earth" in one(tmp_path, across, crs="EPSG:4326").problem
    cut = multi(square(179.9, -17, 0.1), square(-180, -17, 0.1))
    assert one(tmp_path, cut, crs="EPSG:4326").problem == ""


def test_one_trouble_changes_nothing_for_the_others_of_its_lot(tmp_path: Path) -> None:
    good = squares(6)
    troubles = [None, BOW_TIE, square(1e30), polygon([(X, Y), (X, Y + 1), (X, Y)]), multi(square(), BOW_TIE)]
    mixed = [
        record for n, record in enumerate(good) for record in ((troubles[n % 5], {"OBJECTID": 100 + n}), record)
    ]
    found = {feature.id: feature for feature in read(write(tmp_path / "mixed.gpkg", mixed))}
    for feature in read(write(tmp_path / "good.gpkg", good)):
        assert replace(found[feature.id], number=feature.number) == feature
    assert sum(not feature.problem for feature in found.values()) == 6


def test_a_fingerprint_is_of_the_source_and_its_crs_and_stays_from_release_to_release(tmp_path: Path) -> None:
    numbers = [number for point in ring() for number in point]
    content = b"EPSG:3577\0Polygon\0[[5]]\0" + struct.pack("<10d", *numbers)
    assert one(tmp_path, square()).fingerprint == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_does_not_depend_on_how_the_geometry_is_made_ready(tmp_path: Path) -> None:
    first = one(tmp_path, square()).fingerprint
    assert one(tmp_path, square(), precision=5, max_area_km2=0.001).fingerprint == first
    assert one(tmp_path, BOW_TIE).fingerprint == one(tmp_path, BOW_TIE, repair=True).fingerprint
    assert one(tmp_path, square(X + 1e-6)).fingerprint != first
    assert one(tmp_path, square(), crs="EPSG:9473").fingerprint != first


def test_a_shapefile_and_its_zip_give_the_same_features(tmp_path: Path) -> None:
    assert read(write(tmp_path / "w.zip", squares(3))) == read(tmp_path / "w.shp")


def test_properties_come_along_when_asked_for(tmp_path: Path) -> None:
    feature = read(write(tmp_path / "w.zip", squares(1)), properties=("NAME", "Shape_Leng"))[0]
    assert feature.properties == {"NAME": "swamp 0", "Shape_Leng": 400.0}
    assert read(tmp_path / "w.zip")[0].properties == {}


def test_a_file_longer_than_a_lot_is_read_whole_and_in_order(tmp_path: Path) -> None:
    features = read(write(tmp_path / "w.gpkg", squares(2 * LOT + 1)))
    assert [feature.number for feature in features] == list(range(1, 2 * LOT + 2))


def test_memory_does_not_grow_with_the_number_of_polygons(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        source = Source(write(tmp_path / f"{count}.gpkg", squares(count)))
        identity = Identity("OBJECTID", "guessed", count)
        tracemalloc.start()
        for _ in read_features(source, identity, Selection(), Preparation()):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(LOT)  # what is loaded once
    assert peak(6 * LOT) < 1.2 * peak(2 * LOT)
