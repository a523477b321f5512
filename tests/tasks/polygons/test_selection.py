"""Which records are meant, and that the reader is told so."""

from pathlib import Path

import pytest
import shapely

from tasks.errors import BadInput
from tasks.polygons.pieces import Preparation
from tasks.polygons.selection import Selection, parse_bbox, read_ids
from tests.tasks.polygons.wetlands import X, Y, read, square, squares, write

NAMES = ["w.zip", "w.gpkg", "w.fgb", "w.geojson"]


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_selects_by_fields_and_keeps_the_records_numbers(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, squares(5))
    every = {feature.id: feature for feature in read(path)}
    found = read(path, Selection(where="Shape_Leng <= 800 OR NAME = 'swamp 4'"))
    assert sorted(feature.id for feature in found) == ["1", "2", "5"]
    assert found == [every[feature.id] for feature in found]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["HAB = 1", '"HAB" = 1', "Shape_Leng <=", "Shape_Leng = = 1"])
def test_a_condition_that_is_none_is_told_with_the_layer_s_fields(tmp_path: Path, name: str, where: str) -> None:
    path = write(tmp_path / name, squares(2))
    with pytest.raises(BadInput, match=r"--where .* is no condition .*OBJECTID, Shape_Leng, NAME") as refused:
        read(path, Selection(where=where))
    assert "\n" not in str(refused.value)


def test_a_name_in_quotes_inside_a_text_is_no_field(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gpkg", squares(2))
    assert read(path, Selection(where="""NAME <> 'the "big" swamp' AND "Shape_Leng" > 400""")) == read(path)[1:]


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 6])
def test_a_limit_gives_exactly_so_many_also_when_records_are_left_out_before_it(
    tmp_path: Path, limit: int
) -> None:
    path = write(tmp_path / "w.zip", squares(7))
    found = read(path, Selection(where="OBJECTID <> 2 AND OBJECTID <> 5", limit=limit))
    assert [feature.id for feature in found] == ["1", "3", "4", "6", "7"][:limit]


def test_a_limit_counts_records_that_cannot_be_sent_and_split_ones_once(tmp_path: Path) -> None:
    two = {"type": "MultiPolygon", "coordinates": [square()["coordinates"], square(X + 500)["coordinates"]]}
    path = write(tmp_path / "w.gpkg", [(two, {}), (None, {}), *squares(3)])
    found = read(path, Selection(limit=3), Preparation(split_multipolygons=True))
    assert [feature.id for feature in found] == ["1#1", "1#2", "2", "3"]


def test_a_limit_of_none_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="A limit of 0 selects nothing"):
        Selection(limit=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_in_degrees_selects_in_the_file_s_own_crs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, squares(5))
    second = read(path, Selection(ids=frozenset({"2"})))[0]
    found = read(path, Selection(bbox=tuple(shapely.from_geojson(second.geometry).buffer(1e-5).bounds)))
    assert [feature.id for feature in found] == ["2"]


def test_records_in_the_corners_that_a_turned_box_gains_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "w.gpkg", [(square(X + dx, Y + dy, 10), {}) for dx in (0, 90_000) for dy in (0, 90_000)]
    )
    west, south, east, north = shapely.total_bounds(shapely.from_geojson([one.geometry for one in read(path)]))
    assert len(read(path, Selection(bbox=(west - 0.1, south - 0.1, east + 0.1, north + 0.1)))) == 4
    shrunk = read(path, Selection(bbox=(west + 0.001, south - 0.1, east + 0.1, north + 0.1)))
    assert len(shrunk) == 3


def test_ids_select_by_the_identity_in_use(tmp_path: Path) -> None:
    path = write(tmp_path / "w.zip", squares(5))
    assert [feature.number for feature in read(path, Selection(ids=frozenset({"2", "4"})))] == [1, 3]
    named = read(path, Selection(ids=frozenset({"swamp 3"})), id_field="NAME")
    assert [feature.number for feature in named] == [3]


def test_an_id_that_no_record_has_is_told_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "w.zip", squares(5))
    with pytest.raises(BadInput, match="no record 17, 18; records are named by OBJECTID, guessed"):
        read(path, Selection(ids=frozenset({"2", "17", "18"})))


def test_ids_come_from_a_text_file_with_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbf2\r\n\r\n 4 \n2\n")
    assert read_ids(tmp_path / "ids.txt") == {"2", "4"}


@pytest.mark.parametrize("content", [b"\n\n", b"\xff\xfe\x00", None])
def test_a_file_without_ids_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(BadInput, match=r"ids\.txt"):
        read_ids(tmp_path / "ids.txt")


def test_a_box_is_west_south_east_north() -> None:
    assert parse_bbox("138, -29, 154.5, -10") == (138.0, -29.0, 154.5, -10.0)


@pytest.mark.parametrize(
    "text", ["", "138,-29,154", "a,b,c,d", "154,-29,138,-10", "138,-10,154,-29", "-29,138,-10,154", "nan,0,1,1"]
)
def test_what_is_no_box_is_told(text: str) -> None:
    with pytest.raises(BadInput, match="box"):
        parse_bbox(text)
