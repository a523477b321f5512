"""Tests of a polygon campaign's HTML page."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from tasks.report.polygon_page import MOST_LINES, MOST_REASONS, polygon_page
from tasks.report.polygon_palette import UNIT_LOOKS
from tasks.report.units import Reason, UnitLine
from tests.tasks.report.reading import Reading

HOSTILE = "<script>alert(1)</script><img src=https://example.com/x onerror=alert(2)> \"'&`"
LINES = [
    UnitLine("WL-1", "2010-01-01/2011-01-01", "done", "successful", 1),
    UnitLine("WL-2", "2010-01-01/2011-01-01", "pending"),
    UnitLine("WL-3", "2010-01-01/2011-01-01", "in_flight", "running", 1),
    UnitLine("WL-4", "2010-01-01/2011-01-01", "failed", "failed", 2, "NoApplicableCode", "Process failed."),
]
REASONS = [Reason("NoApplicableCode", "Process failed.", 1, "WL-4", "Run with `--retry failed`.")]


def page_of(lines: Iterable[UnitLine] = LINES, **how: Any) -> bytes:
    known: dict[str, Any] = {
        "title": "wetlands",
        "subtitle": "wit",
        "own": how["own"] if "own" in how else Counter(line.state for line in lines),
        "remote": {"running": 1, "successful": 1, "failed": 1, "": 1},
        "seconds_by_state": {"done": [150.0], "failed": [90.0]},
        "reasons": REASONS,
        "lines": lines,
        "files": {"results.csv": "results.csv"},
        "map_png": b"picture",
        "next_steps": [],
    }
    return polygon_page(**known | how)


def not_done(page: bytes) -> list[list[str]]:
    return [cells for state, cells in Reading(page).rows if state]


def test_every_state_is_listed_with_its_count_and_its_words() -> None:
    rows = {cells[0]: cells[1:] for _, cells in Reading(page_of()).rows if len(cells) == 3}
    for state, look in UNIT_LOOKS.items():
        count = sum(line.state == state for line in LINES)
        assert rows[state.replace("_", " ")] == [str(count), look.words]


def test_what_the_service_said_last_is_listed_in_its_words() -> None:
    rows = [cells for _, cells in Reading(page_of(remote={"running": 12_345, "": 7})).rows if len(cells) == 2]
    assert rows == [["running", "12,345"], ["nothing yet", "7"]]


def test_units_not_done_are_listed_those_that_need_a_person_first() -> None:
    assert not_done(page_of()) == [
        ["WL-4", "2010-01-01/2011-01-01", "failed", "failed", "2", "NoApplicableCode", "Process failed."],
        ["WL-3", "2010-01-01/2011-01-01", "in flight", "running", "1", "", ""],
        ["WL-2", "2010-01-01/2011-01-01", "pending", "", "", "", ""],
    ]


def test_a_long_list_is_cut_and_says_how_many_more_and_where_they_are() -> None:
    waiting = [UnitLine(f"WL-{number}") for number in range(MOST_LINES + 1_234)]
    page = page_of([*waiting, *LINES])
    rows = not_done(page)
    assert len(rows) == MOST_LINES
    assert [cells[0] for cells in rows[:4]] == ["WL-4", "WL-3", "WL-0", "WL-1"]
    assert "And 1,237 more: see results.csv." in page.decode()
    assert "more: see results.csv" not in page_of().decode()


def test_failures_are_listed_by_reason_with_example_and_advice() -> None:
    page = page_of()
    assert ["1", "NoApplicableCode", "Process failed.", "WL-4", "Run with --retry failed."] in [
        cells for _, cells in Reading(page).rows
    ]
    assert b"<code>--retry failed</code>" in page
    assert b"Failures by reason" not in page_of(reasons=[])


def test_many_reasons_are_cut_and_counted() -> None:
    many = [Reason("Odd", f"reason {number}", 1, "x", "") for number in range(MOST_REASONS + 3)]
    page = page_of(reasons=many).decode()
    assert "reason 49" in page
    assert "reason 50" not in page
    assert "And 3 more: see results.csv." in page


def test_durations_are_drawn_and_said_in_a_sentence() -> None:
    page = page_of().decode()
    assert 'class="durations"' in page
    assert "Half of 2 jobs took 2 min or less" in page
    assert "No job has ended yet." in page_of(seconds_by_state={}).decode()


def test_the_map_is_inside_the_page_and_files_are_links_relative_to_it() -> None:
    reading = Reading(page_of(files={"table": "a: b/results.csv"}))
    assert reading.attributes("src") == ["data:image/png;base64," + base64.b64encode(b"picture").decode()]
    assert reading.attributes("href") == ["./a%3A%20b/results.csv"]
    assert Reading(page_of(map_png=None, files={})).attributes("src") == []


def test_when_all_are_done_the_page_says_so() -> None:
    assert b"Every polygon is done." in page_of(LINES[:1])
    assert b"Every polygon is done." not in page_of()
    assert b"There are no polygons yet." in page_of([])


def test_next_steps_are_shown_and_commands_set_as_code() -> None:
    page = page_of(next_steps=["Run `overlander polygons run` again.", "Wait <b>."]).decode()
    assert "<li>Run <code>overlander polygons run</code> again.</li>" in page
    assert "<li>Wait &lt;b&gt;.</li>" in page


def test_text_from_elsewhere_stays_text() -> None:
    page = page_of(
        [UnitLine(HOSTILE, HOSTILE, "failed", HOSTILE, 1, HOSTILE, HOSTILE)],
        title=HOSTILE,
        subtitle=HOSTILE,
        remote={HOSTILE: 1},
        reasons=[Reason(HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE)],
        files={HOSTILE: HOSTILE},
        next_steps=[HOSTILE],
        map_png=None,
    )
    reading = Reading(page)
    tags = {tag for tag, _ in reading.elements}
    assert not {"script", "img"} & tags
    assert not reading.attributes("onerror")
    assert not_done(page)[0] == [HOSTILE, HOSTILE, "failed", HOSTILE, "1", HOSTILE, HOSTILE]


def test_the_page_asks_for_nothing_from_elsewhere_and_its_policy_says_so() -> None:
    reading = Reading(page_of())
    # The name space of SVG is no address that a browser asks.
    assert set(re.findall(r"https?://[^\"]*", page_of().decode())) == {"http://www.w3.org/2000/svg"}
    assert not reading.attributes("style"), "the policy forbids style attributes"
    assert not {"link", "iframe", "object", "form", "base", "script"} & {tag for tag, _ in reading.elements}
    policy = next(named["content"] for _, named in reading.elements if "http-equiv" in named)
    style = base64.b64encode(hashlib.sha256(reading.blocks["style"].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert b"img-src" not in page_of(map_png=None)


def test_ids_are_unique_and_every_label_points_at_one() -> None:
    reading = Reading(page_of())
    ids = reading.attributes("id")
    assert len(set(ids)) == len(ids)
    assert set(reading.attributes("aria-labelledby")) <= set(ids)


def test_the_same_campaign_gives_the_same_bytes() -> None:
    assert page_of() == page_of()


def test_lines_may_come_as_a_stream() -> None:
    own = Counter(line.state for line in LINES)
    assert page_of(iter(LINES), own=own) == page_of()


def test_a_state_that_no_report_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        page_of(own={"lost": 1})
