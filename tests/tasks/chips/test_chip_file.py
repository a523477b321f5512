"""A chip's file holds what the table holds, checked row by row, or is not there at all."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import ordered_dict_factory

from deployments.sandbox import seed
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM, FAILED_RESULT, SEEDED
from tasks.chips import results
from tasks.chips.chip_file import ExportOrder, export_chip
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.results import FIRST_ROW_BYTES, ResultsTable
from tasks.errors import OutputUnusable

CHIP = Chip(-1785585, 2834805)  # of the seeded tile, outside the seeded corner
OWN = "lcmap-pyccd:test-chip-file"
REQUESTED = datetime(2026, 5, 1, 6, tzinfo=UTC)
KEY = "chip_x = %s AND chip_y = %s AND algorithm = %s"


@pytest.fixture(scope="module")
def own_chip(writing: Session) -> Chip:
    """A complete chip that tests may change, with a ticket for a point inside it that is no pixel's corner."""
    seed.write_chip(writing, CHIP.x, CHIP.y, results=["[]", '["ü"]'], algorithm=OWN, update_requested=REQUESTED)
    writing.execute(
        "INSERT INTO results (chip_x, chip_y, algorithm, x, y) VALUES (%s, %s, %s, %s, %s)",
        (CHIP.x, CHIP.y, OWN, CHIP.x + 7, CHIP.y - 11),
    )
    return CHIP


@contextmanager
def changed(writing: Session, position: int, **values: object) -> Iterator[None]:
    """Change one pixel of the own chip, and put it back."""
    names = "result, result_md5, result_ok"
    key = (CHIP.x, CHIP.y, OWN, *CHIP.pixel_at(position))
    before = writing.execute(f"SELECT {names} FROM results WHERE {KEY} AND x = %s AND y = %s", key).one()

    def write(result: object, result_md5: object, result_ok: object) -> None:
        writing.execute(
            f"UPDATE results SET result = %s, result_md5 = %s, result_ok = %s WHERE {KEY} AND x = %s AND y = %s",
            (result, result_md5, result_ok, *key),
        )

    write(**(before._asdict() | values))
    try:
        yield
    finally:
        write(**before._asdict())


def order_for(kind: str, folder: Path, **how: object) -> ExportOrder:
    """An order for the first seeded chip of a kind, or for the own chip."""
    if kind == "own":
        chip, algorithm, requested = CHIP, OWN, REQUESTED
    else:
        found = next(chip for chip in SEEDED if chip.kind == kind)
        chip, algorithm, requested = Chip(found.chip_x, found.chip_y), ALGORITHM, found.requested
    order = ExportOrder(
        chip=chip,
        algorithm=algorithm,
        file=folder / "chip.json",
        flawed_file=folder / "flawed" / "chip.json",
        failed_pixels="keep",
        update_requested=None if kind == "unrequested" else requested.replace(tzinfo=None),
        row_bytes=FIRST_ROW_BYTES,
    )
    return replace(order, **how)


def files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def as_the_notebook_did(writing: Session, order: ExportOrder) -> list[dict[str, Any]]:
    """The records of the operators' notebook, for the same rows: what existing readers depend on."""
    profile = writing.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=ordered_dict_factory)
    key = (order.chip.x, order.chip.y, order.algorithm)
    result = writing.execute(f"SELECT * FROM results WHERE {KEY}", key, execution_profile=profile)
    records: list[dict[str, Any]] = json.loads(json.dumps(list(result), default=lambda one: one.isoformat()))
    return records


# The content


def test_the_file_holds_record_by_record_what_the_notebook_wrote(
    table: ResultsTable, writing: Session, seeded_node: Node, tmp_path: Path
) -> None:
    order = order_for("flawed", tmp_path)
    saved = export_chip(table, order)
    assert saved.file == order.flawed_file
    with saved.file.open() as file:
        records = json.load(file)
    assert len(records) == PIXELS
    for record, expected in zip(records, as_the_notebook_did(writing, order), strict=True):
        assert list(record.items()) == list(expected.items())  # with the columns in the same order


def test_a_failed_pixel_can_be_written_as_null_with_the_md5_of_that(
    table: ResultsTable, writing: Session, seeded_node: Node, tmp_path: Path
) -> None:
    order = order_for("flawed", tmp_path, failed_pixels="null")
    saved = export_chip(table, order)
    expected = as_the_notebook_did(writing, order)
    for record in expected:
        if not record["result_ok"]:
            assert record["result"] == FAILED_RESULT
            record |= {"result": "null", "result_md5": "37a6259cc0c1dae299a7866489dff0bd"}
    assert saved.file is not None
    assert json.loads(saved.file.read_bytes()) == expected
    assert all(json.loads(record["result"]) is None for record in expected if not record["result_ok"])


def test_a_ticket_for_a_point_inside_the_chip_is_left_out_and_each_pixel_stands_once(
    table: ResultsTable, own_chip: Chip, tmp_path: Path
) -> None:
    order = order_for("own", tmp_path)
    saved = export_chip(table, order)
    assert saved.file == order.file
    records = json.loads(saved.file.read_bytes())
    assert sorted((record["x"], record["y"]) for record in records) == sorted(own_chip.pixels())
    assert {record["result"] for record in records} == {"[]", '["ü"]'}


def test_the_content_does_not_depend_on_the_size_of_pages(
    table: ResultsTable, own_chip: Chip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_chip(table, order_for("own", tmp_path / "whole", row_bytes=1))
    monkeypatch.setattr(results, "PAGE_BYTES", 500_000)
    in_pages = export_chip(table, order_for("own", tmp_path / "in pages"))
    assert len(in_pages.page_seconds) > len(whole.page_seconds)
    assert in_pages.sha256 == whole.sha256


def test_what_is_told_of_a_file_is_so(table: ResultsTable, seeded_node: Node, tmp_path: Path) -> None:
    saved = export_chip(table, order_for("flawed", tmp_path))
    assert saved.file is not None
    assert saved.bytes == saved.file.stat().st_size
    assert saved.mtime_ns == saved.file.stat().st_mtime_ns
    assert saved.sha256 == hashlib.sha256(saved.file.read_bytes()).hexdigest()
    assert saved.failed == tuple(range(137, PIXELS, 270))
    assert saved.bad == ()
    assert files_in(tmp_path) == [saved.file]


def test_the_rows_show_the_same_as_a_count(table: ResultsTable, seeded_node: Node, tmp_path: Path) -> None:
    order = order_for("flawed", tmp_path)
    saved = export_chip(table, order)
    assert replace(saved.look, at=REQUESTED) == replace(table.look(order.chip, ALGORITHM), at=REQUESTED)


# What is not saved


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("incomplete", "Only 9,977 of 10,000 pixels are there."),
        ("queued", "Only 0 of 10,000 pixels are there."),
        ("unrequested", "Only 0 of 10,000 pixels are there."),
        ("no_data", "The algorithm failed on every pixel."),
    ],
)
def test_a_chip_that_is_not_all_there_has_no_file(
    kind: str, problem: str, table: ResultsTable, seeded_node: Node, tmp_path: Path
) -> None:
    saved = export_chip(table, order_for(kind, tmp_path))
    assert (saved.file, saved.problem) == (None, problem)
    assert files_in(tmp_path) == []


def test_a_flawed_chip_has_no_file_where_none_is_wanted(
    table: ResultsTable, seeded_node: Node, tmp_path: Path
) -> None:
    saved = export_chip(table, order_for("flawed", tmp_path, flawed_file=None))
    assert (saved.file, saved.problem) == (None, "The algorithm failed on 37 pixels.")
    assert files_in(tmp_path) == []


def test_results_that_do_not_match_their_md5_are_told_by_pixel_and_not_saved(
    table: ResultsTable, writing: Session, own_chip: Chip, tmp_path: Path
) -> None:
    with changed(writing, 4321, result_md5="0" * 32), changed(writing, 8, result="[1]"):
        saved = export_chip(table, order_for("own", tmp_path))
    assert (saved.file, saved.bad) == (None, (8, 4321))
    assert saved.problem == "The results of 2 pixels do not match their md5."
    assert files_in(tmp_path) == []


def test_a_good_pixel_without_a_result_does_not_match(
    table: ResultsTable, writing: Session, own_chip: Chip, tmp_path: Path
) -> None:
    with changed(writing, 5, result=None, result_md5=None):
        assert export_chip(table, order_for("own", tmp_path)).bad == (5,)


def test_a_failed_pixel_without_a_result_as_workers_once_wrote_it_is_failed_and_no_more(
    table: ResultsTable, writing: Session, own_chip: Chip, tmp_path: Path
) -> None:
    with changed(writing, 5, result=None, result_md5=None, result_ok=False):
        saved = export_chip(table, order_for("own", tmp_path))
    assert (saved.failed, saved.bad, saved.file) == ((5,), (), tmp_path / "flawed" / "chip.json")


def test_a_chip_requested_again_since_it_was_counted_is_not_saved(
    table: ResultsTable, own_chip: Chip, tmp_path: Path
) -> None:
    earlier = (REQUESTED - timedelta(days=1)).replace(tzinfo=None)
    saved = export_chip(table, order_for("own", tmp_path, update_requested=earlier))
    assert (saved.file, saved.problem) == (None, "It was requested again while it was being read.")
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be_is_one_paragraph_and_nothing_is_left(
    table: ResultsTable, own_chip: Chip, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(OutputUnusable, match=r"Something else stands at that place"):
        export_chip(table, order_for("own", tmp_path / "out"))
    assert files_in(tmp_path) == [tmp_path / "out"]


def test_a_chip_that_is_not_saved_leaves_an_earlier_file_as_it_was(
    table: ResultsTable, writing: Session, own_chip: Chip, tmp_path: Path
) -> None:
    order = order_for("own", tmp_path)
    order.file.write_text("earlier")
    with changed(writing, 8, result="[1]"):
        assert export_chip(table, order).file is None
    assert order.file.read_text() == "earlier"
    assert files_in(tmp_path) == [order.file]
