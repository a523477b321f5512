"""Tests of the map of polygons, of the places it draws and of its palette."""

import io
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tasks.report.drawing import DENSITY, WIDTH_PX
from tasks.report.polygon_maps import polygon_map, strips, view_of
from tasks.report.polygon_palette import UNIT_LOOKS, every_state, urgency
from tasks.report.polygon_places import MOST_OUTLINES, Extent, Shape, gather
from tests.tasks.report.lettering import check_lettering
from tests.tasks.report.sight import SIGHTS, distance, picture, rgb

PAPER = (255, 255, 255)


def box(west: float, south: float, size: float, hole: float = 0) -> str:
    """Return a square as GeoJSON, with a square hole in its middle."""

    def ring(reach: float) -> list[list[float]]:
        lon, lat = west + size / 2, south + size / 2
        corners = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
        return [[lon + x * reach / 2, lat + y * reach / 2] for x, y in corners]

    return json.dumps({"type": "Polygon", "coordinates": [ring(size)] + ([ring(hole)] if hole else [])})


def many(count: int, state: str = "done") -> Iterator[Shape]:
    return ((state, box(140 + index % 100 / 10, -30 + index // 100 % 100 / 10, 0.01)) for index in range(count))


def pixel(shapes: Iterable[Shape], lon: float, lat: float) -> tuple[int, ...]:
    """Return the colour of a place on the map of shapes."""
    known = list(shapes)
    extent = gather(known).extent
    assert extent is not None
    view = view_of(extent)
    at = int(DENSITY * view.x_of(np.array(lon))), int(DENSITY * view.y_of(np.array(lat)))
    found = picture(polygon_map(known, "wetlands")).getpixel(at)
    assert isinstance(found, tuple)
    return found


def looks(state: str) -> tuple[int, ...]:
    return rgb(UNIT_LOOKS[state].colour)


# The map


@pytest.mark.parametrize("state", UNIT_LOOKS)
def test_a_polygon_has_the_colour_of_its_state_and_its_hole_shows_the_paper(state: str) -> None:
    shapes = [(state, box(148, -36, 1, hole=0.3))]
    assert pixel(shapes, 148.2, -35.8) == looks(state)
    assert pixel(shapes, 148.47, -35.53) in (PAPER, (0xE4, 0xE8, 0xEB))


def test_a_polygon_too_small_to_see_is_a_dot() -> None:
    shapes = [("done", box(140, -30, 0.0001)), ("failed", box(150, -36, 0.0001))]
    assert pixel(shapes, 140.00005, -29.99995) == looks("done")
    assert pixel(shapes, 150.00005, -35.99995) == looks("failed")


def test_each_part_of_a_polygon_whose_parts_are_too_small_to_see_is_a_dot() -> None:
    parts = [json.loads(box(west, -36, 0.0001))["coordinates"] for west in (146, 149)]
    shapes = [("failed", json.dumps({"type": "MultiPolygon", "coordinates": parts}))]
    assert pixel(shapes, 146.00005, -35.99995) == looks("failed")
    assert pixel(shapes, 149.00005, -35.99995) == looks("failed")


def test_points_and_multipolygons_are_drawn() -> None:
    parts = [json.loads(box(west, -36, 1))["coordinates"] for west in (146, 149)]
    shapes = [
        ("in_flight", json.dumps({"type": "MultiPolygon", "coordinates": parts})),
        ("failed", json.dumps({"type": "Point", "coordinates": [148, -34, 12.5]})),
    ]
    assert pixel(shapes, 146.5, -35.6) == looks("in_flight")
    assert pixel(shapes, 149.5, -35.6) == looks("in_flight")
    assert pixel(shapes, 148, -34) == looks("failed")


@pytest.mark.parametrize("order", [1, -1])
def test_where_polygons_overlap_the_one_most_in_need_of_a_person_is_on_top(order: int) -> None:
    shapes = [(state, box(148, -36, 1)) for state in list(UNIT_LOOKS)[::order]]
    assert pixel(shapes, 148.3, -35.7) == looks("failed")


def test_many_polygons_become_squares_divided_by_their_states() -> None:
    shapes = [*many(3_000), ("failed", box(140, -30, 0.01))]
    colours = picture(polygon_map(shapes, "wetlands")).getcolors(maxcolors=1_000_000)
    seen = {colour: count for count, colour in colours}
    few = picture(polygon_map(many(3_000), "wetlands")).getcolors(maxcolors=1_000_000)
    legend = {colour: count for count, colour in few}
    assert seen[looks("failed")] > legend[looks("failed")], "one of 3,000 that failed is still seen"
    assert seen[looks("done")] > 20 * (seen[looks("failed")] - legend[looks("failed")])


def test_a_square_is_divided_in_proportion_and_leaves_no_state_out() -> None:
    assert list(strips([50, 0, 50], 14)) == [(0, 0, 7), (2, 7, 14)]
    assert list(strips([1_000_000, 1], 14)) == [(0, 0, 13), (1, 13, 14)]
    assert list(strips([1] * 7, 7)) == [(index, index, index + 1) for index in range(7)]
    assert list(strips([0, 3], 14)) == [(1, 0, 14)]


def test_polygons_on_both_sides_of_the_antimeridian_lie_side_by_side() -> None:
    shapes = [("done", box(179, -17, 0.5)), ("failed", box(-179.5, -17, 0.5))]
    extent = gather(shapes).extent
    assert extent == Extent(179, -17, 181, -16.5)
    assert pixel(shapes, 180.75, -16.75) == looks("failed")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"type": "Polygon", "coordinates": [[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]]}),
        json.dumps(
            {
                "type": "MultiPolygon",
                "coordinates": [
                    json.loads(box(179, 0, 1))["coordinates"],
                    json.loads(box(-180, 0, 1))["coordinates"],
                ],
            }
        ),
    ],
)
def test_a_polygon_across_the_antimeridian_is_as_wide_as_it_is(text: str) -> None:
    assert gather([("done", text)]).extent == Extent(179, 0, 181, 1)


def test_polygons_on_both_sides_of_greenwich_stay_where_they_are() -> None:
    shapes = [("done", box(-10, 50, 2)), ("done", box(-1, 50, 2)), ("failed", box(168, 50, 2))]
    assert gather(shapes).extent == Extent(-10, 50, 170, 52)
    assert pixel(shapes, 0, 51) == looks("done")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "[]",
        "{}",
        '{"type": "Polygon", "coordinates": []}',
        '{"type": "LineString", "coordinates": [[1, 2], [3, 4]]}',
        '{"type": "Point", "coordinates": [200, 95]}',
        '{"type": "Point", "coordinates": ["a", "b"]}',
        '{"type": "Polygon", "coordinates": [[[1], [2]]]}',
    ],
)
def test_what_has_no_place_is_counted_and_not_drawn(text: str | None) -> None:
    shapes = [("failed", text), ("done", box(148, -36, 1))]
    places = gather(shapes)
    assert (places.nowhere, places.counts["failed"], len(places.lon)) == (1, 1, 1)
    assert picture(polygon_map(shapes, "wetlands")).width == DENSITY * WIDTH_PX


@pytest.mark.parametrize("ring", [[[140, -30], [150, -30], [150, -36]], [[140, -30], [150, -36]]])
def test_a_broken_ring_is_a_dot_where_it_lies(ring: list[list[float]]) -> None:
    shapes = [
        ("failed", json.dumps({"type": "Polygon", "coordinates": [ring]})),
        ("done", box(140, -36, 1)),
    ]
    assert pixel(shapes, 145, -33) == looks("failed")
    assert pixel(shapes, 140.3, -35.7) == looks("done")


@pytest.mark.parametrize("shapes", [[], [("failed", None)]])
def test_a_map_of_nothing_says_so_instead_of_failing(shapes: list[Shape]) -> None:
    assert picture(polygon_map(shapes, "wetlands")).width == DENSITY * WIDTH_PX


@pytest.mark.parametrize(
    "extent",
    [
        Extent(148, -36, 148, -36),
        Extent(140, -36, 150, -35.99),
        Extent(148, -44, 148.01, -10),
        Extent(-180, -90, 180, 90),
    ],
)
def test_whatever_its_extent_a_map_has_a_size_to_look_at_and_holds_all_of_it(extent: Extent) -> None:
    view = view_of(extent)
    assert 260 <= view.height_px <= 480
    png = polygon_map(
        [
            ("done", json.dumps({"type": "Point", "coordinates": [lon, lat]}))
            for lon in (extent.west, extent.east)
            for lat in (extent.south, extent.north)
        ],
        "wetlands",
    )
    assert picture(png).size == (DENSITY * WIDTH_PX, DENSITY * (view.height_px + 298))
    corners = view.x_of(np.array([extent.west, extent.east])), view.y_of(np.array([extent.north, extent.south]))
    assert 84 <= corners[0][0] <= corners[0][1] <= 84 + 460
    assert 80 <= corners[1][0] <= corners[1][1] <= 80 + view.height_px


def test_a_square_on_the_ground_is_a_square_on_the_map() -> None:
    view = view_of(Extent(148, -60.5, 150, -59.5))
    assert view.degree_lon_px == pytest.approx(view.degree_px / 2, rel=0.001)


def test_the_same_polygons_give_the_same_bytes_without_date_or_program() -> None:
    first, second = (polygon_map(many(50), "wetlands") for _ in range(2))
    assert first == second
    assert set(Image.open(io.BytesIO(first)).info) == {"dpi"}
    assert polygon_map(many(50), "other") != first


@pytest.mark.parametrize("title", ["costs $5 or $x^{$", "long " * 100, "", "two\nlines"])
def test_no_title_breaks_a_map(title: str) -> None:
    assert picture(polygon_map(many(3), title)).width == DENSITY * WIDTH_PX


def test_a_state_that_no_report_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        polygon_map([("lost", box(148, -36, 1))], "wetlands")


def test_outlines_are_kept_only_while_they_are_few() -> None:
    few, more = gather(many(MOST_OUTLINES)), gather(many(MOST_OUTLINES + 1))
    assert few.outlines is not None
    assert len(few.outlines) == MOST_OUTLINES
    assert more.outlines is None
    assert len(more.lon) == MOST_OUTLINES + 1


def test_many_large_geometries_are_not_held_at_once() -> None:
    shape, blanks = box(148, -36, 0.01), 20_000
    tracemalloc.start()
    try:
        places = gather(("done", shape + " " * (blanks + index % 7)) for index in range(10_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(places.lon) == 10_000
    assert peak < 10_000 * blanks / 2


TINY = [("done", box(146.1234, -20.1234, 0.0001)), ("failed", box(146.1239, -20.1239, 0.0001))]
WORLD = [("done", json.dumps({"type": "Point", "coordinates": place})) for place in ([-180, -90], [180, 90])]
WIDE = [("done", box(140, -30, 1)), ("failed", box(179, -30, 1)), ("failed", None)]


@pytest.mark.parametrize(
    "shapes",
    [[], TINY, WORLD, WIDE, [*many(3_000), *[("failed", None)] * 1_200]],
    ids=["nothing", "tiny", "world", "wide", "many"],
)
def test_the_words_of_a_map_can_be_read_in_the_prefect_ui(shapes: list[Shape]) -> None:
    words = check_lettering(lambda: polygon_map(shapes, "W" * 100))
    assert {"done", "failed", "all"} <= set(words)
    assert len(polygon_map(shapes, "wetlands")) < 350_000


# The palette


def test_any_two_states_differ_in_colour_alone_to_every_kind_of_sight() -> None:
    for (one, first), (two, second) in combinations(UNIT_LOOKS.items(), 2):
        for sight in SIGHTS:
            assert distance(first.colour, second.colour, sight) > 0.12, (one, two, sight)


def test_every_state_differs_from_paper_to_every_kind_of_sight() -> None:
    for state, look in UNIT_LOOKS.items():
        for sight in SIGHTS:
            assert distance(look.colour, "#ffffff", sight) > 0.12, (state, sight)


def test_every_look_has_one_sentence_of_words_and_only_done_is_home() -> None:
    for state, look in UNIT_LOOKS.items():
        assert look.words.endswith("."), state
        assert look.words.count(".") == 1, state
    assert [state for state, look in UNIT_LOOKS.items() if look.home] == ["done"]


def test_states_are_sorted_by_how_much_they_need_a_person() -> None:
    assert max(UNIT_LOOKS, key=urgency) == "failed"
    assert min(UNIT_LOOKS, key=urgency) == "done"
    assert urgency("uncertain") > urgency("pending")


def test_counts_name_every_state_in_order_also_at_0() -> None:
    counts = every_state(Counter(["failed", "done", "failed"]))
    assert list(counts) == list(UNIT_LOOKS)
    assert (counts["failed"], counts["done"], counts["pending"]) == (2, 1, 0)
    with pytest.raises(KeyError):
        every_state({"lost": 1})
