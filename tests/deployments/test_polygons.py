"""The demo's polygons: in Queensland, troubled as they say, the same each time."""

from collections import Counter
from pathlib import Path
from typing import Any

import fiona
import fiona.transform
import pytest
import shapely

from deployments.sandbox import polygons


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """Return the records of the file by OBJECTID."""
    path = polygons.make(tmp_path_factory.mktemp("made"))
    with fiona.open(f"zip://{path}") as layer:
        assert layer.name == polygons.LAYER
        assert layer.crs.to_epsg() == 3577
        return {record.properties["OBJECTID"]: record for record in layer}


def of_kind(made: dict[int, Any], kind: polygons.Kind) -> list[Any]:
    """Return the geometries of a kind, as they are read back."""
    chosen = [made[number].geometry for number, one in polygons.kinds().items() if one == kind]
    return [shapely.geometry.shape(geometry) if geometry is not None else None for geometry in chosen]


def test_there_are_some_forty_of_every_kind_with_ids_of_their_own(made: dict[int, Any]) -> None:
    assert list(made) == list(polygons.kinds())
    assert len(made) == 40
    assert set(Counter(polygons.kinds().values())) == set(polygons.KINDS)


def test_each_trouble_is_in_the_file_as_it_is_read_back(made: dict[int, Any]) -> None:
    assert {shape.geom_type for shape in of_kind(made, "multipolygon")} == {"MultiPolygon"}
    assert all(len(shape.interiors) == 1 for shape in of_kind(made, "hole"))
    assert all("Self-intersection" in shapely.is_valid_reason(shape) for shape in of_kind(made, "bow-tie"))
    assert of_kind(made, "null") == [None]
    assert [shape.area for shape in of_kind(made, "degenerate")] == [0]
    assert [shape.area > 5e10 for shape in of_kind(made, "huge")] == [True]
    assert all(shape.is_valid and shape.has_z for shape in of_kind(made, "plain"))
    odd = [record for record in made.values() if "&" in record.properties["NAME"]]
    assert [record.properties["NAME"].count("<") for record in odd] == [1]


def test_only_the_huge_and_the_long_are_longer_than_two_kilometres(made: dict[int, Any]) -> None:
    over = {number for number, record in made.items() if record.properties["Shape_Leng"] > 2000}
    kinds = polygons.kinds()
    assert {kinds[number] for number in over} - {"multipolygon"} == {"huge", "long"}


def test_they_lie_in_queensland(made: dict[int, Any]) -> None:
    for record in made.values():
        if record.geometry is None:
            continue
        bounds = fiona.transform.transform_geom(polygons.CRS, "OGC:CRS84", record.geometry)
        west, south, east, north = shapely.geometry.shape(bounds).bounds
        assert 138 < west <= east < 153.6
        assert -29 < south <= north < -10


def test_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (polygons.make(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(first) < 50_000
