"""Intervals as people type them, and their division."""

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BadInput
from tasks.polygons.intervals import Interval, parse_interval, split, wire_text


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("2010-01-01/2011-01-01", "2010-01-01/2011-01-01"),
        (" 2010-01-01 / 2011-01-01T00:00 ", "2010-01-01/2011-01-01"),
        ("2010-01-01T06:30/2011-01-01T06:30:15", "2010-01-01T06:30/2011-01-01T06:30:15"),
        ("2010-01-01T00:00Z/2011-01-01T00:00+00:00", "2010-01-01T00:00Z/2011-01-01T00:00Z"),
        ("2010-01-01T00:00+10:00/2011-01-01T00:00+10:00", "2010-01-01T00:00+10:00/2011-01-01T00:00+10:00"),
    ],
)
def test_an_interval_is_said_as_it_was_typed(typed: str, text: str) -> None:
    assert parse_interval(typed).text == text


def test_the_same_moments_are_the_same_interval_however_they_were_typed() -> None:
    assert parse_interval("2010-01-01/2011-01-01") == parse_interval("2010-01-01T00:00/2011-01-01T00:00:00")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("2010-01-01", "is no interval"),
        ("2010-13-01/2011-01-01", "is no interval"),
        ("2010-01-01/2011-01-01/2012-01-01", "is no interval"),
        ("2010-01-01/P1Y", "is no interval"),
        ("2010-01-01/", "is open"),
        ("../2011-01-01", "is open"),
        ("2011-01-01/2010-01-01", "ends before it starts"),
        ("2010-01-01/2010-01-01T00:00", "is empty"),
        ("2010-01-01T00:00Z/2011-01-01", "an offset from UTC and the other has none"),
    ],
)
def test_what_is_no_interval_is_told_with_how_to_write_one(typed: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        parse_interval(typed)
    assert "2010-01-01/2011-01-01" in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "step", "parts"),
    [
        (
            "2010-01-01/2012-07-01",
            "1Y",
            ["2010-01-01/2011-01-01", "2011-01-01/2012-01-01", "2012-01-01/2012-07-01"],
        ),
        ("2010-01-01/2011-01-01", "P6M", ["2010-01-01/2010-07-01", "2010-07-01/2011-01-01"]),
        ("2010-01-01/2010-02-15", "30d", ["2010-01-01/2010-01-31", "2010-01-31/2010-02-15"]),
        ("2010-01-01/2010-01-20", "2W", ["2010-01-01/2010-01-15", "2010-01-15/2010-01-20"]),
        (
            "2011-01-31/2011-04-01",
            "1M",
            ["2011-01-31/2011-02-28", "2011-02-28/2011-03-31", "2011-03-31/2011-04-01"],
        ),
        ("2008-02-29/2012-02-29", "2Y", ["2008-02-29/2010-02-28", "2010-02-28/2012-02-29"]),
        ("2010-01-01/2011-01-01", "5Y", ["2010-01-01/2011-01-01"]),
        ("2010-01-01T00:00Z/9999-01-01T00:00Z", "999999M", ["2010-01-01T00:00Z/9999-01-01T00:00Z"]),
    ],
)
def test_an_interval_is_split_into_successive_ones_and_the_last_is_cut(
    typed: str, step: str, parts: list[str]
) -> None:
    assert [part.text for part in split(parse_interval(typed), step)] == parts


@pytest.mark.parametrize("step", ["", "0Y", "1", "Y", "1.5Y", "-1Y", "P1Y6M", "1H"])
def test_what_is_no_step_is_told(step: str) -> None:
    with pytest.raises(BadInput, match="Write 1Y, 6M, 2W or 30D"):
        split(parse_interval("2010-01-01/2011-01-01"), step)


@given(
    start=st.datetimes(datetime.fromisoformat("1980-01-01"), datetime.fromisoformat("2030-01-01")),
    days=st.integers(1, 4000),
    count=st.integers(1, 40),
    unit=st.sampled_from("YM"),
)
def test_the_parts_follow_each_other_without_gap_or_overlap(
    start: datetime, days: int, count: int, unit: str
) -> None:
    end = datetime.fromordinal(start.toordinal() + days + 1)
    parts = split(Interval(start, end), f"{count}{unit}")
    assert (parts[0].start, parts[-1].end) == (start, end)
    assert all(part.start < part.end for part in parts)
    assert all(one.end == other.start for one, other in pairwise(parts))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2010-01-01", "2010-01-01T00:00"),
        ("2010-01-01T00:00:30", "2010-01-01T00:00:30"),
        ("2010-01-01T00:00+00:00", "2010-01-01T00:00Z"),
        ("2010-01-01T00:00-05:00", "2010-01-01T00:00-05:00"),
    ],
)
def test_a_moment_is_sent_as_wit_s_clients_write_it(moment: str, text: str) -> None:
    assert wire_text(datetime.fromisoformat(moment)) == text
