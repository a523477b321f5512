"""Tests of the grid, with vectors from lcmap-chipmunk, lcmap-commons and lcmap-ccdc."""

import ast
import inspect
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.chips import grid
from tasks.chips.grid import (
    PIXELS,
    REGIONS,
    WHOLE_TILE,
    Chip,
    Region,
    Tile,
    Window,
    chip_at,
    chip_of,
    pack_positions,
    parse_window,
    pixel_of,
    region_named,
    row_column,
    tile_at,
    tile_named,
    tile_of,
    unpack_positions,
)
from tasks.errors import BadInput, OutsideRegion

CONUS, ALASKA, HAWAII = REGIONS["conus"], REGIONS["alaska"], REGIONS["hawaii"]
H05V03 = Tile(CONUS, 5, 3)


def tiles(region: Region) -> list[Tile]:
    return [Tile(region, h, v) for v in range(region.rows) for h in range(region.columns)]


@st.composite
def points(draw: st.DrawFn) -> tuple[int, int, Region]:
    region = draw(st.sampled_from(list(REGIONS.values())))
    east = draw(st.integers(0, region.columns * 150_000 - 1))
    south = draw(st.integers(0, region.rows * 150_000 - 1))
    return region.x0 + east, region.y0 - south, region


# The grids


@pytest.mark.parametrize(
    ("region", "tile_count", "corner", "lower_right"),
    [
        (CONUS, 726, (-2565585, 3314805), (2384415, 14805)),
        (ALASKA, 238, (-851715, 2474325), (1698285, 374325)),
        (HAWAII, 15, (-444345, 2168895), (305655, 1718895)),
    ],
)
def test_the_grids_have_the_size_and_edges_of_the_usgs_table(
    region: Region, tile_count: int, corner: tuple[int, int], lower_right: tuple[int, int]
) -> None:
    assert len(tiles(region)) == tile_count
    assert (tiles(region)[0].x, tiles(region)[0].y) == corner
    last = tiles(region)[-1]
    assert (last.x + 150_000, last.y - 150_000) == lower_right


@pytest.mark.parametrize(
    ("region", "shift_x", "shift_y"), [(CONUS, 2415, -195), (ALASKA, 285, -675), (HAWAII, 2655, -105)]
)
def test_chips_are_shifted_against_multiples_of_3_km_as_chipmunk_has_them(
    region: Region, shift_x: int, shift_y: int
) -> None:
    chip = Tile(region, 1, 1).chip(17, 23)
    assert (chip.x - shift_x) % 3000 == 0
    assert (chip.y - shift_y) % 3000 == 0


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("H05V02", -1815585, 3014805),
        ("H05V03", -1815585, 2864805),
        ("H04V02", -1965585, 3014805),
        ("H04V03", -1965585, 2864805),
        ("H05V15", -1815585, 1064805),  # lcmap-ccdc, test/data/tile_response.json
        ("H13V06", -615585, 2414805),  # lcmap-ccdc, snap_response.json
    ],
)
def test_known_tiles_have_their_known_corners(name: str, x: int, y: int) -> None:
    tile = tile_named(name, CONUS)
    assert (tile.name, tile.x, tile.y) == (name, x, y)
    assert tile_at(x, y, CONUS) == tile


@pytest.mark.parametrize(
    ("point", "corner"),
    [
        ((-2040584, 3164804), (-2040585, 3164805)),  # lcmap-commons, chip_test
        ((-2115586, 1964806), (-2118585, 1967805)),  # lcmap-chipmunk
        ((-543585, 2378805), (-543585, 2378805)),  # lcmap-ccdc, snap_response.json
    ],
)
def test_known_points_lie_on_their_known_chips(point: tuple[int, int], corner: tuple[int, int]) -> None:
    assert chip_of(*point, CONUS) == Chip(*corner)


def test_ccdcs_snapped_point_has_its_indices_on_both_grids() -> None:
    tile = tile_of(-543585, 2378805, CONUS)
    assert (tile.h, tile.v) == (13, 6)
    row, column = row_column(Chip(-543585, 2378805), tile)
    assert (tile.h * 50 + column, tile.v * 50 + row) == (674, 312)


def test_alaskas_western_tile_edges_belong_to_the_tile_on_their_east() -> None:
    """Chipmunk's float arithmetic had them on the tile before, for h 2 and 3 (fixed in b8222c1)."""
    for tile in (Tile(ALASKA, h, v) for h in (2, 3) for v in range(14)):
        middle = tile.y - 75_000
        assert tile_of(tile.x, middle, ALASKA) == tile
        assert tile_of(tile.x - 1, middle, ALASKA) == Tile(ALASKA, tile.h - 1, tile.v)


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_every_tile_corner_snaps_to_itself(region: Region) -> None:
    for tile in tiles(region):
        assert tile_of(tile.x, tile.y, region) == tile
        assert tile_at(tile.x, tile.y, region) == tile
        assert tile_named(tile.name, region) == tile_named(tile.digits, region) == tile


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_every_chip_corner_snaps_to_itself(region: Region) -> None:
    rows = range(region.y0, region.y0 - region.rows * 150_000, -3000)
    for x in range(region.x0, region.x0 + region.columns * 150_000, 3000):
        strayed = [y for y in rows if (chip := chip_of(x, y, region)).x != x or chip.y != y]
        assert not strayed, x


def test_the_grid_is_computed_without_floats() -> None:
    nodes = list(ast.walk(ast.parse(inspect.getsource(grid))))
    assert not [node.lineno for node in nodes if isinstance(node, ast.Constant) and type(node.value) is float]
    assert not [node.lineno for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]


@given(points())
def test_a_point_lies_within_its_pixel_its_chip_and_its_tile(point: tuple[int, int, Region]) -> None:
    x, y, region = point
    tile, chip, (pixel_x, pixel_y) = tile_of(x, y, region), chip_of(x, y, region), pixel_of(x, y, region)
    assert 0 <= x - pixel_x < 30
    assert 0 <= pixel_y - y < 30
    assert chip.position_of(pixel_x, pixel_y) is not None
    assert tile.chip(*row_column(chip, tile)) == chip


@given(points())
def test_upper_and_left_edges_belong_to_a_chip_and_lower_and_right_ones_do_not(
    point: tuple[int, int, Region],
) -> None:
    x, y, region = point
    chip = chip_of(x, y, region)
    assert chip_of(chip.x, y, region) == chip_of(x, chip.y, region) == chip
    if chip.x + 3000 < region.x0 + region.columns * 150_000:
        assert chip_of(chip.x + 3000, y, region) == Chip(chip.x + 3000, chip.y)
    if chip.y - 3000 > region.y0 - region.rows * 150_000:
        assert chip_of(x, chip.y - 3000, region) == Chip(chip.x, chip.y - 3000)


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("find", [tile_of, chip_of, pixel_of, tile_at, chip_at])
def test_points_just_beyond_the_full_grid_are_refused(region: Region, find: object) -> None:
    east, south = region.x0 + region.columns * 150_000, region.y0 - region.rows * 150_000
    beyond = [(region.x0 - 1, region.y0), (region.x0, region.y0 + 1), (east, region.y0), (region.x0, south)]
    for x, y in beyond:
        with pytest.raises(OutsideRegion, match=rf"outside {region.name}.*{east}.*{south}"):
            find(x, y, region)  # type: ignore[operator]
    assert pixel_of(east - 1, south + 1, region) == (east - 30, south + 30)


# Tiles


@pytest.mark.parametrize("text", ["conus", "CU", " Conus ", "cu"])
def test_a_region_has_a_long_and_a_short_name_in_any_case(text: str) -> None:
    assert region_named(text) is CONUS


@pytest.mark.parametrize("text", ["", "c", "europe", "conus alaska"])
def test_an_unknown_region_is_answered_with_the_choices(text: str) -> None:
    with pytest.raises(BadInput, match=r"conus \(cu\), alaska \(ak\), hawaii \(hi\)"):
        region_named(text)


@pytest.mark.parametrize(
    "text",
    ["H05V03", "h5v3", "H5V03", "h005v003", "005003", " H05V03\n", "-1815585,2864805", "-1815585 2864805"],
)
def test_a_tile_is_found_by_each_form_of_its_name(text: str) -> None:
    tile = tile_named(text, CONUS)
    assert tile == H05V03
    assert (tile.name, tile.digits) == ("H05V03", "005003")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "H05",
        "5,",
        "H05V03x",
        "05003",
        "0050030",
        "H-1V03",
        "1.5,2.5",
        "1 2 3",
        "H\u0660\u0665V\u0660\u0663",
        "9" * 5000,
    ],
)
def test_a_name_of_another_form_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(BadInput, match="H05V03, as 005003, or as its upper left corner") as refusal:
        tile_named(text, CONUS)
    assert not isinstance(refusal.value, OutsideRegion)


@pytest.mark.parametrize(("text", "region"), [("H33V00", CONUS), ("000022", CONUS), ("h5v0", HAWAII)])
def test_an_index_beyond_the_grid_is_refused_with_the_grids_extent(text: str, region: Region) -> None:
    extent = f"h 0 to {region.columns - 1} and v 0 to {region.rows - 1}"
    with pytest.raises(OutsideRegion, match=extent):
        tile_named(text, region)


def test_a_point_inside_a_tile_is_no_corner_and_the_message_names_the_tile_and_its_corner() -> None:
    with pytest.raises(BadInput, match="H05V03, whose corner is -1815585,2864805"):
        tile_named("-1815584,2864800", CONUS)


def test_a_misaligned_chip_is_refused_with_the_chip_that_holds_the_point() -> None:
    assert chip_at(-1812585, 2864805, CONUS) == H05V03.chip(0, 1)
    with pytest.raises(BadInput, match="corner is -1815585,2864805"):
        chip_at(-1815585, 2864804, CONUS)


def test_the_chips_of_h05v03_are_the_notebooks_2500_points_in_its_order() -> None:
    left, top = -1815585, 2864805
    notebook = [(x, y) for y in range(top, top - 150000, -3000) for x in range(left, left + 150000, 3000)]
    assert [(chip.x, chip.y) for chip in H05V03.chips()] == notebook
    assert len(set(notebook)) == 2500


def test_a_chip_and_its_row_and_column_in_the_tile_lead_to_each_other() -> None:
    assert H05V03.chip(0, 0) == Chip(-1815585, 2864805)
    assert H05V03.chip(49, 49) == Chip(-1668585, 2717805)
    assert [row_column(chip, H05V03) for chip in H05V03.chips()] == [(r, c) for r in range(50) for c in range(50)]


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (0, -1), (50, 0), (0, 50)])
def test_a_tile_has_no_chip_beyond_its_50_rows_and_columns(row: int, column: int) -> None:
    with pytest.raises(BadInput, match="0 to 49"):
        H05V03.chip(row, column)


@pytest.mark.parametrize("chip", [Chip(-1815584, 2864805), Tile(CONUS, 6, 3).chip(0, 0), Chip(-1815585, 2867805)])
def test_a_chip_of_elsewhere_has_no_row_and_column(chip: Chip) -> None:
    with pytest.raises(BadInput, match="none of tile H05V03"):
        row_column(chip, H05V03)


def test_tiles_are_ordered_by_h_then_v() -> None:
    assert sorted([Tile(CONUS, 5, 3), Tile(CONUS, 4, 9), Tile(CONUS, 5, 2)]) == [
        Tile(CONUS, 4, 9),
        Tile(CONUS, 5, 2),
        Tile(CONUS, 5, 3),
    ]


# Windows


@pytest.mark.parametrize(
    ("text", "window", "normal"),
    [
        ("0:4,0:4", Window(0, 4, 0, 4), "0:4,0:4"),
        (":4,10:", Window(0, 4, 10, 50), "0:4,10:50"),
        (":,:", WHOLE_TILE, "0:50,0:50"),
        ("3,7", Window(3, 4, 7, 8), "3:4,7:8"),
        (" 3 , 7 : 9 ", Window(3, 4, 7, 9), "3:4,7:9"),
    ],
)
def test_a_window_is_written_as_rows_and_columns(text: str, window: Window, normal: str) -> None:
    assert parse_window(text) == window
    assert str(window) == normal
    assert parse_window(normal) == window


@pytest.mark.parametrize("text", ["", "3", "0:4", "0:4,", "0:4,0:4,0:4", "a,b", "-1:4,0:4", "0:4:2,0:4", "1.5,2"])
def test_a_window_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is no window"):
        parse_window(text)


@pytest.mark.parametrize("text", ["4:4,0:4", "4:2,0:4", "0:51,0:4", "50,0", "0:4,50:", "0:4,0:0"])
def test_an_empty_reversed_or_too_large_window_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="empty or reach beyond the tile"):
        parse_window(text)


def test_no_window_can_be_made_that_reaches_beyond_a_tile() -> None:
    with pytest.raises(BadInput):
        Window(-1, 4, 0, 4)


def test_a_window_holds_a_list_of_chips_for_each_row() -> None:
    rows = Window(1, 3, 48, 50).rows(H05V03)
    assert rows == [[H05V03.chip(1, 48), H05V03.chip(1, 49)], [H05V03.chip(2, 48), H05V03.chip(2, 49)]]
    assert [len(row) for row in WHOLE_TILE.rows(H05V03)] == [50] * 50


# Pixels


def test_pixels_come_in_the_workers_order_south_first_then_east() -> None:
    chip = Chip(-1815585, 2864805)
    pixels = chip.pixels()
    assert pixels[:2] == [(-1815585, 2864805), (-1815585, 2864775)]
    assert pixels[100] == (-1815555, 2864805)
    assert pixels[-1] == chip.last_pixel == (-1815585 + 2970, 2864805 - 2970)
    assert len(set(pixels)) == PIXELS == 10_000


def test_positions_and_pixels_lead_to_each_other() -> None:
    chip = Chip(-1815585, 2864805)
    assert [chip.position_of(x, y) for x, y in chip.pixels()] == list(range(PIXELS))
    assert [chip.pixel_at(position) for position in range(PIXELS)] == chip.pixels()


@pytest.mark.parametrize(("east", "south"), [(1, 0), (0, 1), (-30, 0), (0, -30), (3000, 0), (0, 3000), (29, 31)])
def test_a_point_off_the_chips_lattice_has_no_position(east: int, south: int) -> None:
    chip = Chip(-1815585, 2864805)
    assert chip.position_of(chip.x + east, chip.y - south) is None


@given(st.sets(st.integers(0, PIXELS - 1)))
def test_a_set_of_positions_comes_back_sorted_from_the_ledgers_bitmap(positions: set[int]) -> None:
    assert unpack_positions(pack_positions(positions)) == sorted(positions)


def test_a_packed_chip_is_small_whether_empty_full_or_half_written() -> None:
    assert max(len(pack_positions(range(count))) for count in (0, 5_000, PIXELS)) < 40


@pytest.mark.parametrize("position", [-1, PIXELS])
def test_a_position_that_no_chip_has_is_an_error(position: int) -> None:
    with pytest.raises(IndexError):
        pack_positions([position])
    with pytest.raises(IndexError):
        Chip(0, 0).pixel_at(position)


@pytest.mark.parametrize(
    "blob",
    [b"", b"nonsense", pack_positions([1])[:-5], zlib.compress(bytes(1249)), zlib.compress(bytes(10**7))],
)
def test_a_damaged_bitmap_is_an_error(blob: bytes) -> None:
    with pytest.raises(ValueError, match="set of pixels"):
        unpack_positions(blob)
