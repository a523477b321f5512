"""Tests of the map of a tile, of its palette and of the counts beside it."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from PIL import Image

from tasks.chips.grid import REGIONS, Chip, Tile, Window, parse_window, row_column
from tasks.report.chips import ChipLine, count_states
from tasks.report.drawing import DENSITY
from tasks.report.maps import frame_of, tile_map
from tasks.report.palette import HATCHES, STATE_LOOKS, hatch_repeats, ink_on
from tests.tasks.report.lettering import check_lettering
from tests.tasks.report.sight import SIGHTS, distance, luminance, picture, rgb

TILE = Tile(REGIONS["conus"], 5, 3)
CORNER = (TILE.x, TILE.y)
STATES = list(STATE_LOOKS)


def line_of(chip: Chip, state: str) -> ChipLine:
    row, column = row_column(chip, TILE)
    return ChipLine(chip.x, chip.y, row, column, state, pixels=9_000, failed=1, missing=1_000)


def lines_of(window: str) -> list[ChipLine]:
    chips = [chip for row in parse_window(window).rows(TILE) for chip in row]
    return [line_of(chip, STATES[index % len(STATES)]) for index, chip in enumerate(chips)]


def middle_of(line: ChipLine, lines: Sequence[ChipLine]) -> tuple[int, int]:
    frame = frame_of(lines)
    half = (frame.chip_px - 1) / 2
    x, y = frame.x_of(line.column) + half, frame.y_of(line.row) + half
    return int(DENSITY * x), int(DENSITY * y)


# The map


@pytest.mark.parametrize("window", ["0:4,0:4", "10:20,30:45", ":,:"])
def test_the_middle_of_each_chip_has_the_colour_of_its_state(window: str) -> None:
    lines = lines_of(window)
    drawn = picture(tile_map(lines, "H05V03", CORNER))
    strayed = [
        line for line in lines if drawn.getpixel(middle_of(line, lines)) != rgb(STATE_LOOKS[line.state].colour)
    ]
    assert not strayed


@pytest.mark.parametrize(
    ("window", "size"),
    [
        (":,:", (1168, 1668)),
        ("0:4,0:4", (1168, 1664)),
        ("0:6,0:4", (1168, 1848)),
        ("3,7", (1168, 1068)),
        ("3,:", (1168, 786)),
        (":,7", (1168, 1768)),
    ],
)
def test_a_map_is_as_high_as_its_chips_need_and_small_enough_for_an_artifact(
    window: str, size: tuple[int, int]
) -> None:
    png = tile_map(lines_of(window), "H05V03", CORNER)
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert picture(png).size == size
    assert len(png) < 350_000


@pytest.mark.parametrize(
    "window", [":,:", "0:4,0:4", "0:5,0:5", "0:6,0:4", "10:20,30:45", "7:40,49", "3,7", "3,:", ":,7"]
)
def test_the_words_of_a_map_can_be_read_in_the_prefect_ui(window: str) -> None:
    words = check_lettering(lambda: tile_map(lines_of(window), "W" * 100, CORNER))
    assert words[0].endswith("W…")
    assert {"complete", "quarantined", "all"} <= set(words)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ("0:4,0:4", ["stale", "10,000 pixels", "37 failed"]),
        ("0:5,0:5", ["stale", "37 failed"]),
        ("0:6,0:6", []),
    ],
)
def test_words_stand_in_a_chips_square_as_far_as_they_fit(window: str, words: list[str]) -> None:
    lines = [replace(line, state="stale", pixels=10_000, failed=37, missing=0) for line in lines_of(window)]
    written = check_lettering(lambda: tile_map(lines, "H05V03", CORNER))
    assert written.count("\n".join(words)) == (len(lines) if words else 0)


def test_the_same_chips_give_the_same_bytes_without_date_or_program() -> None:
    first, second = (tile_map(lines_of("0:4,0:4"), "H05V03", CORNER) for _ in range(2))
    assert first == second
    assert set(Image.open(io.BytesIO(first)).info) == {"dpi"}


def test_a_chip_that_is_not_in_the_lines_stays_paper() -> None:
    lines = lines_of("0:3,0:3")
    drawn = picture(tile_map([line for line in lines if (line.row, line.column) != (1, 1)], "H05V03", CORNER))
    assert drawn.getpixel(middle_of(lines[4], lines)) == (255, 255, 255)
    assert drawn.getpixel(middle_of(lines[3], lines)) == rgb(STATE_LOOKS[lines[3].state].colour)


def test_title_and_corner_are_part_of_the_picture() -> None:
    lines = lines_of("0:4,0:4")
    plain = tile_map(lines, "H05V03", CORNER)
    assert tile_map(lines, "H05V04", CORNER) != plain
    assert tile_map(lines, "H05V03", (TILE.x + 150_000, TILE.y)) != plain


@pytest.mark.parametrize("title", ["costs $5 or $x^{$", "long " * 100, "", "two\nlines"])
def test_no_title_breaks_a_map(title: str) -> None:
    assert picture(tile_map(lines_of("3,7"), title, CORNER)).size == (1168, 1068)


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one chip"):
        tile_map([], "H05V03", CORNER)


def test_the_frame_begins_at_the_first_row_and_column_that_have_chips() -> None:
    window = Window(10, 20, 30, 45)
    frame = frame_of(lines_of(str(window)))
    assert (frame.first_row, frame.rows, frame.first_column, frame.columns) == (10, 10, 30, 15)


# The palette


def test_any_two_states_differ_in_hatch_or_in_colour_to_every_kind_of_sight() -> None:
    for (one, first), (two, second) in combinations(STATE_LOOKS.items(), 2):
        if first.hatch == second.hatch:
            for sight in SIGHTS:
                assert distance(first.colour, second.colour, sight) > 0.1, (one, two, sight)


def test_neighbours_in_the_legend_differ_in_colour_to_every_kind_of_sight() -> None:
    for (one, first), (two, second) in pairwise(STATE_LOOKS.items()):
        for sight in SIGHTS:
            assert distance(first.colour, second.colour, sight) > 0.05, (one, two, sight)


def test_every_look_has_a_known_hatch_and_one_sentence_of_words() -> None:
    for state, look in STATE_LOOKS.items():
        assert look.hatch in HATCHES, state
        assert look.words.endswith("."), state
        assert look.words.count(".") == 1, state


def test_hatches_leave_the_middle_of_a_square_free() -> None:
    assert {hatch_repeats(side) % 2 for side in range(10, 200)} == {1}
    for hatch, strokes in HATCHES.items():
        for x1, y1, x2, y2 in strokes:
            assert abs((x1 + x2) / 2 - 0.5) + abs((y1 + y2) / 2 - 0.5) >= 0.25, hatch


@pytest.mark.parametrize(
    ("colour", "ink"), [("#ffffff", "#000000"), ("#000000", "#ffffff"), ("#6b0f3a", "#ffffff")]
)
def test_ink_is_dark_on_light_and_light_on_dark(colour: str, ink: str) -> None:
    assert ink_on(colour, 1) == ink
    assert ink_on(colour, 0) == colour


def test_words_on_a_chip_are_readable_on_its_colour() -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5."""
    for state, look in STATE_LOOKS.items():
        dark, light = sorted((luminance(look.colour), luminance(ink_on(look.colour, 0.95))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, state


# The counts


def test_every_state_is_counted_in_order_even_when_no_chip_is_in_it() -> None:
    lines = [
        line_of(TILE.chip(0, 0), "queued"),
        line_of(TILE.chip(0, 1), "queued"),
        line_of(TILE.chip(0, 2), "flawed"),
    ]
    counts = count_states(lines)
    assert list(counts) == [
        "complete",
        "flawed",
        "no_data",
        "incomplete",
        "stalled",
        "running",
        "queued",
        "stale",
        "uncertain",
        "unrequested",
        "quarantined",
        "unknown",
    ]
    assert {state: count for state, count in counts.items() if count} == {"flawed": 1, "queued": 2}


def test_a_state_that_no_report_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        count_states([line_of(TILE.chip(0, 0), "lost")])
