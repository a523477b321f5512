"""Tests of a tile's HTML page."""

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tasks.chips.grid import REGIONS, Tile
from tasks.report.chips import ChipLine
from tasks.report.page import tile_page
from tasks.report.palette import STATE_LOOKS
from tests.tasks.report.reading import Reading

TILE = Tile(REGIONS["conus"], 5, 3)
HOSTILE = "<script>alert(1)</script><img src=https://example.com/x onerror=alert(2)> \"'&`"


def line_at(row: int, column: int, state: str, **known: Any) -> ChipLine:
    chip = TILE.chip(row, column)
    return ChipLine(chip.x, chip.y, row, column, state, **known)


LINES = [
    line_at(0, 0, "complete", pixels=10_000, failed=0, missing=0, file="H05V03/H05V03_-1815585_2864805.json"),
    line_at(0, 1, "flawed", pixels=10_000, failed=37, missing=0, reason="The algorithm failed on 37 pixels."),
    line_at(1, 0, "quarantined", pixels=9_997, missing=3, reason="Three pixels are missing each time."),
    line_at(1, 1, "unknown"),
]


def page_of(lines: list[ChipLine], **how: Any) -> bytes:
    return tile_page(
        lines,
        **{
            "title": "H05V03",
            "subtitle": "conus",
            "totals": {"exported": 2_310},
            "map_file": "H05V03.png",
            "next_steps": [],
        }
        | how,
    )


def whole_tile() -> list[ChipLine]:
    return [
        line_at(
            row,
            column,
            "incomplete",
            pixels=9_997,
            failed=0,
            missing=3,
            update_requested=datetime(2017, 8, 22, 11, 40, tzinfo=UTC).replace(tzinfo=None),
            reason=f"The last pixel is written, but 3 of 10,000 are missing: {row}, {column} and {row + column}.",
        )
        for row in range(50)
        for column in range(50)
    ]


def test_each_chip_shows_its_place_state_counts_reason_and_file() -> None:
    complete, flawed, quarantined, unknown = (text.splitlines() for _, text in Reading(page_of(LINES)).chips)
    assert complete == [
        "complete: row 0, column 0",
        "chip -1815585, 2864805",
        "10,000 pixels, 0 failed, 0 missing",
        "H05V03/H05V03_-1815585_2864805.json",
    ]
    assert flawed[2:] == ["10,000 pixels, 37 failed, 0 missing", "The algorithm failed on 37 pixels."]
    assert quarantined[2:] == ["9,997 pixels, 3 missing", "Three pixels are missing each time."]
    assert unknown == ["unknown: row 1, column 1", "chip -1812585, 2861805"]


def test_chips_lie_on_the_page_by_row_and_column_of_the_window() -> None:
    lines = [line_at(10, 30, "queued"), line_at(10, 31, "queued"), line_at(11, 30, "queued")]
    assert [(named["x"], named["y"]) for named, _ in Reading(page_of(lines)).chips] == [
        ("0", "0"),
        ("120", "0"),
        ("0", "120"),
    ]


def test_the_table_of_chips_not_home_leaves_out_complete_flawed_and_no_data() -> None:
    tried = {"attempts": 2, "next_step": "is left alone until `overlander tile release`"}
    lines = [replace(line, **tried) if line.state == "quarantined" else line for line in LINES]
    lines.append(line_at(2, 0, "no_data", pixels=10_000))
    rows = [(state, cells) for state, cells in Reading(page_of(lines)).rows if state]
    assert [state for state, _ in rows] == ["quarantined", "unknown"]
    assert rows[0][1] == [
        "1",
        "0",
        "-1815585, 2861805",
        "quarantined",
        "9,997",
        "",
        "3",
        "",
        "2",
        "Three pixels are missing each time.",
        "is left alone until overlander tile release",
    ]


def test_when_all_chips_are_home_the_page_says_so() -> None:
    assert b"Every chip is home." in page_of(LINES[:2])
    assert b"Every chip is home." not in page_of(LINES)


def test_every_state_is_listed_with_its_count_and_its_words() -> None:
    rows = {cells[0]: cells[1:] for state, cells in Reading(page_of(LINES)).rows if len(cells) == 3}
    for state, look in STATE_LOOKS.items():
        count = sum(line.state == state for line in LINES)
        assert rows[state.replace("_", " ")] == [str(count), look.words]


def test_totals_and_next_steps_are_shown_and_commands_set_as_code() -> None:
    page = page_of(LINES, next_steps=["Run `overlander tile run H05V03` again.", "Wait <b>."]).decode()
    assert "<dt>exported</dt><dd>2,310</dd>" in page
    assert "<li>Run <code>overlander tile run H05V03</code> again.</li>" in page
    assert "<li>Wait &lt;b&gt;.</li>" in page


def test_the_map_is_a_link_when_there_is_one() -> None:
    assert Reading(page_of(LINES, map_file="a: b/H05V03.png")).attributes("href") == ["./a%3A%20b/H05V03.png"]
    assert Reading(page_of(LINES, map_file=None)).attributes("href") == []


def test_text_from_elsewhere_stays_text() -> None:
    hostile = [replace(LINES[2], reason=HOSTILE, file=HOSTILE)]
    page = page_of(hostile, title=HOSTILE, subtitle=HOSTILE, totals={HOSTILE: 1}, next_steps=[HOSTILE])
    reading = Reading(page)
    tags = [tag for tag, _ in reading.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert HOSTILE in reading.chips[0][1]
    assert not reading.attributes("onerror")


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    reading = Reading(page_of(LINES))
    assert not re.search(r"https?://", page_of(LINES).decode())
    assert not reading.attributes("src")
    assert not reading.attributes("style"), "the policy forbids style attributes"
    assert "@import" not in reading.blocks["style"]
    assert set(re.findall(r"url\((.)", reading.blocks["style"])) == {"#"}
    assert not {"link", "iframe", "object", "form", "base"} & {tag for tag, _ in reading.elements}


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    reading = Reading(page_of(LINES))
    policy = next(
        named["content"] for tag, named in reading.elements if named.get("http-equiv") == "Content-Security-Policy"
    )
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for tag, text in reading.blocks.items()
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_keyboard_reaches_the_grid_with_one_tab_stop() -> None:
    assert [named["tabindex"] for named, _ in Reading(page_of(LINES)).chips] == ["0", "-1", "-1", "-1"]


def test_ids_are_unique_and_every_label_points_at_one() -> None:
    reading = Reading(page_of(LINES))
    ids = reading.attributes("id")
    assert len(set(ids)) == len(ids)
    assert set(reading.attributes("aria-labelledby")) <= set(ids)


def test_every_state_has_a_fill_in_the_grid() -> None:
    reading = Reading(page_of(LINES))
    assert {f"fill-{state}" for state in STATE_LOOKS} <= set(reading.attributes("id"))
    for state in STATE_LOOKS:
        assert f".{state} {{ fill: url(#fill-{state}); }}" in reading.blocks["style"]


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2017, 8, 22, 11, 40, tzinfo=UTC).replace(tzinfo=None),
        datetime(2017, 8, 22, 11, 40, tzinfo=UTC),
        datetime(2017, 8, 22, 6, 40, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_the_time_of_the_request_is_shown_in_utc(moment: datetime) -> None:
    assert b"requested 2017-08-22 11:40 UTC" in page_of([replace(LINES[0], update_requested=moment)])


def test_the_same_chips_give_the_same_bytes() -> None:
    assert page_of(LINES) == page_of(LINES)


def test_a_whole_tile_with_a_reason_for_each_chip_is_below_a_megabyte_and_a_half() -> None:
    page = page_of(whole_tile())
    assert len(Reading(page).chips) == 2_500
    assert len(page) < 1_500_000


def test_a_page_without_chips_can_be_made() -> None:
    assert Reading(page_of([])).chips == []
