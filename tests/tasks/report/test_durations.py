"""Tests of the histogram of durations."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from tasks.report.durations import draw, histogram, summary

SVG = "{http://www.w3.org/2000/svg}"
TROUBLES = {
    "none": [],
    "one": [162.0],
    "zero": [0.0],
    "equal": [5.0] * 40,
    "all zero": [0.0] * 3,
    "zero and very long": [0.0, 1e9],
    "tiny": [1e-9, 2e-9],
    "minutes": [140.5, 150.0, 181.0],
    "seconds to hours": [1.0, 30.0, 160.0, 7_300.0],
    "clock set back": [-3.0, 12.0],
}


@pytest.mark.parametrize("seconds", TROUBLES.values(), ids=TROUBLES)
def test_every_duration_is_in_one_bin(seconds: list[float]) -> None:
    found = histogram({"done": seconds})
    assert found.total == len(seconds)
    assert all(start < end for start, end in pairwise(found.edges_s))
    assert len(found.edges_s) <= 100


@pytest.mark.parametrize("seconds", TROUBLES.values(), ids=TROUBLES)
def test_every_drawing_is_well_formed_and_all_of_it_lies_inside(seconds: list[float]) -> None:
    drawing = ET.fromstring(draw(histogram({"done": seconds}), "How long jobs took"))  # noqa: S314 - ours
    width, height = (float(drawing.attrib[name]) for name in ("width", "height"))
    texts = list(drawing.iter(f"{SVG}text"))
    assert texts
    for text in texts:
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    bars = [path for path in drawing.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]
    assert bool(bars) == bool(seconds)


def test_what_is_no_number_is_left_out() -> None:
    assert histogram({"done": [math.nan, math.inf, 3.0]}).total == 1


def test_the_scale_is_logarithmic_where_durations_span() -> None:
    assert histogram({"done": [1.0, 3_600.0]}).log
    assert not histogram({"done": [120.0, 240.0]}).log
    assert "logarithmic scale" in draw(histogram({"done": [1.0, 3_600.0]}), "")
    assert "logarithmic scale" not in draw(histogram({"done": [120.0, 240.0]}), "")


def test_bins_have_round_edges_and_hold_what_lies_between_them() -> None:
    found = histogram({"done": [61.0, 64.9, 65.0, 100.0], "failed": [62.0]})
    assert found.edges_s[:3] == (60, 62, 64)
    assert found.counts["done"][:3] == (1, 0, 2)
    assert found.counts["failed"][:2] == (0, 1)


def test_states_are_stacked_in_their_order_with_their_names() -> None:
    text = draw(histogram({"failed": [60.0] * 2, "done": [60.0] * 3, "given_up": []}), "")
    assert text.index("3 done") < text.index("2 failed")
    assert "given up" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([], "No job has ended yet."),
        ([150.0], "One job took 2 min 30 s."),
        ([0.25, 0.25], "Half of 2 jobs took 0.25 s or less, nine of ten 0.25 s or less."),
        ([3_599.9] * 2, "Half of 2 jobs took 1 h or less, nine of ten 1 h or less."),
        ([90_000.0] * 2, "Half of 2 jobs took 1 d 1 h or less, nine of ten 1 d 1 h or less."),
    ],
)
def test_a_sentence_says_what_the_drawing_shows(seconds: list[float], words: str) -> None:
    assert summary(histogram({"done": seconds})) == words
    assert words in draw(histogram({"done": seconds}), "")


def test_the_same_durations_give_the_same_drawing_in_any_order_of_states() -> None:
    one = draw(histogram({"done": [3.0, 5.0], "failed": [4.0]}), "x")
    assert draw(histogram({"failed": [4.0], "done": [3.0, 5.0]}), "x") == one


def test_words_take_the_colour_of_the_text_around_them_and_nothing_is_styled_or_loaded() -> None:
    text = draw(histogram({"done": [3.0]}), "<script>")
    assert "currentColor" in text
    assert not any(word in text for word in ("<style", "<script", "style=", "href", "url("))


def test_a_state_that_no_report_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        histogram({"lost": [1.0]})
