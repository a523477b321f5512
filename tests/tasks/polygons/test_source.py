"""Vector files of every kind: what opens, and what a person is told of what does not."""

import zipfile
from pathlib import Path

import fiona
import pytest

from tasks.errors import BadInput
from tasks.polygons.source import Source, open_layer
from tests.tasks.polygons.wetlands import read, square, squares, write, zipped


@pytest.mark.parametrize("name", ["w.zip", "w.shp", "w.gpkg", "w.fgb"])
def test_every_format_gives_the_same_polygons_in_lon_lat(tmp_path: Path, name: str) -> None:
    features = sorted(read(write(tmp_path / name, squares(3))), key=lambda feature: feature.id)
    expected = read(write(tmp_path / "expected.gpkg", squares(3)))
    assert [feature.id for feature in features] == ["1", "2", "3"]
    assert [feature.geometry for feature in features] == [feature.geometry for feature in expected]
    assert '"coordinates":[[[145.' in (features[0].geometry or "")


def test_geojson_in_lon_lat_is_read_as_it_stands(tmp_path: Path) -> None:
    in_degrees = [(square(145.5, -23.25, 0.01), {"OBJECTID": 1})]
    (feature,) = read(write(tmp_path / "w.geojson", in_degrees, crs="EPSG:4326"))
    assert feature.geometry == (
        '{"type":"Polygon","coordinates":[[[145.5,-23.25],[145.5,-23.24],[145.51,-23.24],'
        "[145.51,-23.25],[145.5,-23.25]]]}"
    )


def test_a_folder_with_one_vector_file_is_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "wetlands"
    folder.mkdir()
    write(folder / "w.shp", squares(2))
    (folder / "read me.txt").write_text("by hand")
    assert len(read(folder)) == 2


@pytest.mark.parametrize("name", ["our! wetlands.zip", "wet{lands.zip", "w.zip.zip", "W.ZIP"])
def test_a_shapefile_deep_in_a_zip_file_with_odd_names_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "w.shp", squares(2))
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for part in (tmp_path / f"w{suffix}" for suffix in (".shp", ".shx", ".dbf", ".prj")):
            archive.write(part, f"data of 2020/{part.name}")
        archive.writestr("__MACOSX/data of 2020/._w.shp", b"x")
    assert len(read(tmp_path / name)) == 2


def test_a_zip_with_two_shapefiles_names_both_and_takes_either_spelling(tmp_path: Path) -> None:
    parts = [write(tmp_path / "north.shp", squares(2)), write(tmp_path / "south.shp", squares(3))]
    both = zipped(tmp_path / "both.zip", *parts)
    with pytest.raises(BadInput, match=r"2 vector files.*both\.zip!north\.shp.*both\.zip!south\.shp"):
        read(both)
    assert len(read(both, layer="south")) == 3
    assert len(read(f"zip://{both}!north.shp")) == 2
    with pytest.raises(BadInput, match=r"no vector file west\.shp\. It holds: north\.shp, south\.shp"):
        read(f"zip://{both}!west.shp")


def test_of_several_layers_one_must_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gpkg", squares(2), layer="swamps")
    write(path, squares(3), layer="lakes")
    with pytest.raises(BadInput, match=r"2 layers.*--layer: swamps, lakes"):
        read(path)
    assert len(read(path, layer="lakes")) == 3
    with pytest.raises(BadInput, match=r"no layer rivers\. It has: swamps, lakes"):
        read(path, layer="rivers")


def test_a_table_without_geometries_beside_the_polygons_does_not_ask_for_a_layer(tmp_path: Path) -> None:
    path = write(tmp_path / "w.gpkg", squares(2), layer="swamps")
    write(path, [(None, {"OBJECTID": 1})], layer="owners", geometry="None", crs=None)
    assert len(read(path)) == 2


def test_a_file_without_crs_is_refused_unless_one_is_given(tmp_path: Path) -> None:
    path = write(tmp_path / "w.shp", squares(1), crs=None)
    with pytest.raises(BadInput, match=r"does not name its coordinate reference system.*--crs EPSG:3577"):
        read(path)
    with_crs = write(tmp_path / "c.shp", squares(1))
    assert read(path, crs="EPSG:3577") == read(with_crs)
    with pytest.raises(BadInput, match="'EPSG:1' is no coordinate reference system"):
        read(path, crs="EPSG:1")


def test_a_crs_that_contradicts_the_file_is_refused_and_one_that_agrees_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "w.shp", squares(1))
    with pytest.raises(BadInput, match="says that it is in EPSG:3577, and EPSG:28355 was given"):
        read(path, crs="EPSG:28355")
    assert len(read(path, crs="EPSG:3577")) == 1


@pytest.mark.parametrize(
    "crs",
    [
        'GEOGCS["Moon",DATUM["D_Moon",SPHEROID["Moon_2000",1737400.0,0.0]],PRIMEM["x",0],UNIT["d",0.0174532925]]',
        'LOCAL_CS["site grid",UNIT["metre",1]]',
    ],
)
def test_coordinates_that_have_no_place_on_earth_are_refused_not_sent_as_they_stand(
    tmp_path: Path, crs: str
) -> None:
    path = write(tmp_path / "w.gpkg", [(square(1, 2, 0.5), {"OBJECTID": 1})], crs=crs)
    with pytest.raises(BadInput, match="no way leads to longitude and latitude"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.txt", b"hello", "cannot be read as a vector file"),
        ("w.gpkg", b"SQLite format 3\0" + b"x" * 500, "cannot be read as a vector file"),
        ("w.geojson", b'{"type":"FeatureCollection","features":[{"ty', "cannot be read as a vector file"),
        ("w.zip", b"PK\x03\x04 no more", "cannot be read as a zip file"),
        ("w.shp", b"\0" * 100, r"lacks its \.shx file"),
    ],
)
def test_what_is_no_vector_file_is_told_in_one_paragraph(
    tmp_path: Path, name: str, content: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


def test_a_file_that_is_not_there_and_a_zip_without_polygons_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no file .*none\.shp"):
        read(tmp_path / "none.shp")
    with pytest.raises(BadInput, match="There is no file"):
        read("https://example.org/w.geojson")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("read me.txt", "nothing")
    with pytest.raises(BadInput, match="holds no vector file"):
        read(tmp_path / "w.zip")


@pytest.mark.parametrize("name", ["w.shp", "w.zip"])
def test_a_shapefile_cut_short_is_damaged_not_full_of_empty_records(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "w.shp", squares(50))
    path.write_bytes(path.read_bytes()[:3000])
    if name == "w.zip":
        path = zipped(tmp_path / name, path)
    with pytest.raises(BadInput, match="is cut short: 3,000 of 6,900 bytes"):
        read(path)


def test_a_flatgeobuf_cut_short_is_damaged_not_smaller(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "w.fgb", squares(200))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BadInput, match="is damaged: it says that it has 200 records"):
        read(path)
    assert capfd.readouterr().err == ""


def test_a_field_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "w.zip", squares(1))
    with pytest.raises(BadInput, match=r"no field HAB\. Its fields: OBJECTID, Shape_Leng, NAME"):
        read(path, id_field="HAB")
    with pytest.raises(BadInput, match="no field HAB"):
        read(path, properties=("NAME", "HAB"))


def test_an_opened_layer_is_closed_afterwards(tmp_path: Path) -> None:
    with open_layer(Source(write(tmp_path / "w.gpkg", squares(1)))) as layer:
        assert not layer.collection.closed
    assert layer.collection.closed


def test_the_folder_of_a_geodatabase_is_told_apart_from_a_folder_with_files(tmp_path: Path) -> None:
    if "OpenFileGDB" not in fiona.supported_drivers:
        pytest.skip("this GDAL writes no geodatabases")
    path = tmp_path / "w.gdb"
    schema = {"geometry": "Polygon", "properties": {"OBJECTID_1": "int"}}
    with fiona.open(path, "w", driver="OpenFileGDB", layer="swamps", crs="EPSG:3577", schema=schema) as file:
        file.write({"type": "Feature", "geometry": square(), "properties": {"OBJECTID_1": 1}})
    assert len(read(path)) == 1
