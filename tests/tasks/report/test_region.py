"""A region's map and page."""

import base64
import hashlib
import itertools
import re
from typing import Any

import pytest

from tasks.chips.grid import REGIONS, tile_named
from tasks.report.drawing import DENSITY, WIDTH_PX
from tasks.report.region_maps import region_map
from tasks.report.region_page import region_page
from tasks.report.tiles import TILE_LOOKS, TileLine, count_conditions
from tests.tasks.report.lettering import check_lettering
from tests.tasks.report.reading import Reading
from tests.tasks.report.sight import SIGHTS, distance, picture, rgb

HOSTILE = "<script>alert(1)</script><img src=https://example.com/x onerror=alert(2)> \"'&`"
LARGEST_PX = 150
LEFT_PX, TOP_PX = 46, 108


def line(name: str, condition: str, **how: Any) -> TileLine:
    tile = tile_named(name, REGIONS["conus"])
    return TileLine(name, tile.h, tile.v, condition, **{"chips": 2500} | how)


LINES = [line(f"H{h:02}V03", condition, home=0) for h, condition in enumerate(TILE_LOOKS)]


def page_of(lines: list[TileLine] = LINES, **how: Any) -> Reading:
    known: dict[str, Any] = {"title": "conus", "subtitle": "the west", "map_png": b"picture", "next_steps": []}
    return Reading(region_page(lines, **known | how))


def colour_at(png: bytes, x: float, y: float) -> Any:
    """Return the colour of a place on a map's first tile, pixels from its upper left corner."""
    return picture(png).getpixel((int(DENSITY * (LEFT_PX + x)), int(DENSITY * (TOP_PX + y))))


def test_a_tile_has_the_colour_of_its_condition() -> None:
    drawn = region_map([line("H05V03", "open")], "conus")
    assert colour_at(drawn, 20, 20) == rgb(TILE_LOOKS["open"].colour)


@pytest.mark.parametrize(("home", "is_dark"), [(1250, [True, False]), (0, [False, False]), (2499, [True, True])])
def test_the_bar_of_an_unfinished_tile_is_as_long_as_what_of_it_is_home(home: int, is_dark: list[bool]) -> None:
    drawn = region_map([line("H05V03", "open", home=home)], "conus")

    at_a_third_and_at_two = [colour_at(drawn, LARGEST_PX * part / 3, LARGEST_PX - 15) for part in (1, 2)]
    assert [colour == rgb("#0f6650") for colour in at_a_third_and_at_two] == is_dark


def test_a_run_under_way_is_framed() -> None:
    idle, busy = (region_map([line("H05V03", "open", under_way=run)], "conus") for run in ("", "a run"))

    assert colour_at(idle, 2, 40) != colour_at(busy, 2, 40)


@pytest.mark.parametrize(("columns", "rows", "height"), [(33, 22, 624), (5, 22, 822), (6, 1, 380), (1, 1, 444)])
def test_regions_of_any_size_fit_a_page_and_their_words_can_be_read_in_the_prefect_ui(
    columns: int, rows: int, height: int
) -> None:
    grid = [
        line(f"H{h:02}V{v:02}", condition, home=2500, under_way="a run")
        for (h, v), condition in zip(
            itertools.product(range(columns), range(rows)), itertools.cycle(TILE_LOOKS), strict=False
        )
    ]

    drawn = region_map(grid, "conus")
    assert picture(drawn).size == (DENSITY * WIDTH_PX, DENSITY * height)
    assert len(drawn) < 350_000
    words = check_lettering(lambda: region_map(grid, "W" * 100))
    assert {"finished", "needs person", "all", "bar: what of it is home"} <= set(words)


def test_the_same_tiles_give_the_same_bytes() -> None:
    assert region_map(LINES, "conus") == region_map(LINES, "conus")


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        region_map([], "conus")


def test_any_two_conditions_differ_in_hatch_or_in_colour_to_every_kind_of_sight() -> None:
    for first, second in itertools.combinations(TILE_LOOKS.values(), 2):
        apart = min(distance(first.colour, second.colour, sight) for sight in SIGHTS)
        assert apart > 0.06 or first.hatch != second.hatch


def test_every_condition_is_listed_with_its_count_and_its_words() -> None:
    rows = {cells[0]: cells[1:] for _, cells in page_of([*LINES, line("H09V09", "open")]).rows}

    for condition, look in TILE_LOOKS.items():
        assert rows[condition.replace("_", " ")][:2] == ["2" if condition == "open" else "1", look.words]


def test_tiles_most_in_need_of_a_person_are_listed_first() -> None:
    listed = [cells[0] for _, cells in page_of().rows if re.fullmatch(r"H\d\dV\d\d", cells[0])]

    assert listed == [one.name for one in reversed(LINES)]


def test_a_tile_says_how_far_it_is_who_is_at_work_and_how_its_last_run_ended() -> None:
    tile = line("H05V03", "open", home=1234, saved=1200, under_way="H05V03 run", passes=3, last_run="Crashed")

    (cells,) = [cells for _, cells in page_of([tile]).rows if cells[0] == "H05V03"]

    assert cells[3:9] == ["1,234", "1,200", "", "H05V03 run", "3", "Crashed"]


def test_text_from_elsewhere_stays_text() -> None:
    page = page_of([line("H05V03", "guarded", note=HOSTILE)], title=HOSTILE, next_steps=[HOSTILE])

    assert "script" not in [tag for tag, _ in page.elements]
    assert not [source for source in page.attributes("src") if not source.startswith("data:image/png;base64,")]


def test_the_policy_allows_the_pages_own_style_and_its_map_only() -> None:
    page = page_of()
    (policy,) = [named["content"] for tag, named in page.elements if "http-equiv" in named]
    digest = base64.b64encode(hashlib.sha256(page.blocks["style"].encode()).digest()).decode()

    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_conditions_are_counted_in_order_also_at_0() -> None:
    assert list(count_conditions([]).items()) == [(condition, 0) for condition in TILE_LOOKS]
    with pytest.raises(KeyError):
        count_conditions([line("H05V03", "lost")])
