"""What names a record, and what cannot."""

from pathlib import Path

import pytest

from tasks.errors import BadInput
from tasks.polygons.identity import Identity, id_text, identify
from tasks.polygons.selection import Selection
from tasks.polygons.source import Source
from tests.tasks.polygons.wetlands import read, square, write

FIELDS = {"UID": "str:20", "objectid": "float", "NAME": "str:20"}


def named(tmp_path: Path, *values: tuple[str | None, float, str | None]) -> Path:
    records = [(square(), {"UID": uid, "objectid": float(number), "NAME": name}) for uid, number, name in values]
    return write(tmp_path / "w.gpkg", records, fields=FIELDS)


def test_the_first_field_of_the_list_with_unique_values_is_guessed(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), ("b", 2, "y"))
    assert identify(Source(path), Selection()) == Identity("UID", "guessed", 2)


@pytest.mark.parametrize("second", ["a", " a ", None, ""])
def test_a_guess_with_equal_or_missing_values_is_passed_over_for_the_next(
    tmp_path: Path, second: str | None
) -> None:
    path = named(tmp_path, ("a", 1, "x"), (second, 2, "y"))
    assert identify(Source(path), Selection()) == Identity("objectid", "guessed", 2)
    assert [feature.id for feature in read(path)] == ["1", "2"]


def test_without_a_unique_field_the_record_s_number_names_it(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), ("a", 1, "y"))
    identity = identify(Source(path), Selection())
    assert identity == Identity(None, "number", 2)
    assert identity.words == "the record's number"
    assert [feature.id for feature in read(path)] == ["1", "2"]  # as a GeoPackage numbers them


def test_a_guess_is_the_same_whatever_is_selected(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), ("b", 2, "y"), ("a", 3, "z"))
    assert [feature.id for feature in read(path, Selection(limit=1))] == ["1"]
    assert [feature.id for feature in read(path, Selection(where="NAME <> 'z'"))] == ["1", "2"]


def test_equal_values_of_a_given_field_are_told_with_their_records(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), ("b", 2, "y"), ("a", 3, "x"))
    with pytest.raises(BadInput, match=r"UID cannot name the records .* equal values, a \(records 1 and 3\)"):
        identify(Source(path), Selection(), "UID")
    with pytest.raises(BadInput, match=r"x \(records 1 and 3\)"):
        identify(Source(path), Selection(), "NAME")


def test_a_given_field_need_only_be_unique_among_the_records_of_the_condition(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), ("b", 2, "y"), ("a", 3, "z"))
    assert [feature.id for feature in read(path, Selection(where="objectid < 3"), id_field="UID")] == ["a", "b"]


def test_a_given_field_without_a_value_is_told(tmp_path: Path) -> None:
    path = named(tmp_path, ("a", 1, "x"), (None, 2, "y"))
    with pytest.raises(BadInput, match=r"Record 2 of .* has no value in UID"):
        identify(Source(path), Selection(), "UID")


@pytest.mark.parametrize(
    ("value", "text"),
    [(17, "17"), (17.0, "17"), (17.5, "17.5"), (" Q 17 ", "Q 17"), ("", None), (None, None), (True, "True")],
)
def test_whole_numbers_are_written_without_a_fraction(value: object, text: str | None) -> None:
    assert id_text(value) == text


def test_an_empty_layer_is_named_by_numbers_and_gives_nothing(tmp_path: Path) -> None:
    path = named(tmp_path)
    assert identify(Source(path), Selection()).records == 0
    assert read(path) == []
