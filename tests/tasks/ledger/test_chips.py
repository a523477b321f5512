"""What the ledger keeps of chips comes back as it was given, each campaign's apart from the others'."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tasks.chips.grid import PIXELS, Chip
from tasks.chips.states import Look, Record, State
from tasks.ledger.chips import (
    Ground,
    Saved,
    close_tile,
    find_tiles,
    forget,
    last_rate,
    mean_row_bytes,
    note_rate,
    note_saved,
    recall,
    remember,
    saved,
    use_tile,
)
from tasks.ledger.store import Ledger

HERE = Ground("LCMAP/changes.results", "lcmap-pyccd:2017.08.18", "conus", "H05V03")
CHIP, OTHER_CHIP = Chip(-1815585, 2864805), Chip(-1812585, 2864805)
NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
PRODUCED = datetime(2026, 3, 1, 6, 1, 0, 40_000)  # noqa: DTZ001 - the worker's clock is naive
ROOT = Path("/results")

INCOMPLETE = Record(
    state=State.INCOMPLETE,
    since=NOW - timedelta(days=2),
    look=Look(
        at=NOW,
        ticketed=True,
        pixels=9_000,
        some_good=True,
        some_failed=True,
        first_produced=PRODUCED,
        last_produced=PRODUCED + timedelta(hours=3),
        update_requested=PRODUCED - timedelta(minutes=5),
    ),
    reason="The last pixel is written, but 3 of 10,000 are missing.",
    baseline=PRODUCED - timedelta(days=30),
    renew=True,
    farthest=9_999,
    farthest_at=NOW - timedelta(minutes=1),
    missing=(0, 7, 9_998),
    failed=(1, 9_999),
)
SAVED = Saved(
    exported_at=NOW,
    options="failed_pixels=null",
    file=ROOT / "a" / "chip.json",
    kind="flawed",
    bytes=126_000_000_000,
    mtime_ns=1_790_000_000_123_456_789,
    sha256="ab" * 32,
    pixels=PIXELS,
    failed=2,
    first_produced=PRODUCED,
    last_produced=PRODUCED + timedelta(hours=3),
    update_requested=PRODUCED - timedelta(minutes=5),
    problem="The results of 2 pixels do not match their md5.",
    bad=(3, 9_999),
)


def recalled(ledger: Ledger, ground: Ground = HERE, chips: list[Chip] | None = None) -> dict[Chip, Record]:
    with ledger.read() as connection:
        return recall(connection, ground, chips)


def saved_files(ledger: Ledger, root: Path = ROOT, chips: list[Chip] | None = None) -> dict[Chip, Saved]:
    with ledger.read() as connection:
        return saved(connection, HERE, root, chips)


def full(state: State, **how: object) -> Record:
    """A chip with 10,000 rows in a state."""
    look = replace(INCOMPLETE.look, pixels=PIXELS, **how)
    return Record(state=state, since=NOW, look=look)


def test_every_field_of_a_record_and_a_file_is_set_to_something_in_these_tests() -> None:
    """Else a field that is not kept would go unnoticed."""
    for example in (INCOMPLETE, INCOMPLETE.look, SAVED):
        for field in fields(example):
            if field.name != "asked":  # of another table, see test_requests.py
                assert getattr(example, field.name), field.name


@pytest.mark.parametrize(
    "record",
    [
        INCOMPLETE,
        Record(State.UNREQUESTED, NOW, Look(NOW, ticketed=False), reason="Never requested."),
        Record(State.QUEUED, NOW, Look(NOW, ticketed=True, update_requested=PRODUCED)),
        full(State.COMPLETE, some_failed=False),
        full(State.NO_DATA, some_good=False),
        replace(full(State.FLAWED), failed=(0,)),
        Record(State.RUNNING, NOW, replace(INCOMPLETE.look, pixels=1, some_failed=False), farthest=0),
    ],
    ids=lambda record: record.state.value,
)
def test_a_record_comes_back_as_it_was_remembered(record: Record, ledger: Ledger) -> None:
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: record}))
    assert recalled(ledger) == {CHIP: record}


def test_a_later_look_replaces_an_earlier_one_wholly(ledger: Ledger) -> None:
    later = full(State.COMPLETE, some_failed=False)
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: INCOMPLETE}))
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: later}))
    assert recalled(ledger) == {CHIP: later}


def test_only_the_chips_asked_for_are_recalled(ledger: Ledger) -> None:
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: INCOMPLETE, OTHER_CHIP: INCOMPLETE}))
    assert set(recalled(ledger)) == {CHIP, OTHER_CHIP}
    assert set(recalled(ledger, chips=[OTHER_CHIP])) == {OTHER_CHIP}
    assert recalled(ledger, chips=[]) == {}


@pytest.mark.parametrize("what", ["source", "algorithm", "tile"])
def test_another_cluster_algorithm_or_tile_knows_nothing_of_the_chip(what: str, ledger: Ledger) -> None:
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: INCOMPLETE}))
    assert recalled(ledger, replace(HERE, **{what: "another"})) == {}


def test_a_forgotten_chip_is_gone_and_its_file_and_the_other_chips_are_not(ledger: Ledger) -> None:
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: INCOMPLETE, OTHER_CHIP: INCOMPLETE}))
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, SAVED))
    ledger.write(lambda connection: forget(connection, HERE, CHIP))
    assert set(recalled(ledger)) == {OTHER_CHIP}
    assert set(saved_files(ledger)) == {CHIP}


@pytest.mark.parametrize("outcome", [SAVED, Saved(exported_at=NOW, options="")], ids=["whole", "not saved"])
def test_a_file_comes_back_as_it_was_noted(outcome: Saved, ledger: Ledger) -> None:
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, outcome))
    assert saved_files(ledger) == {CHIP: outcome}


def test_a_file_noted_again_replaces_the_first_and_leaves_nothing_of_it(ledger: Ledger) -> None:
    again = Saved(exported_at=NOW, options="", file=ROOT / "b.json", sha256="cd" * 32)
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, SAVED))
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, again))
    assert saved_files(ledger) == {CHIP: again}


def test_each_output_folder_has_files_of_its_own(ledger: Ledger) -> None:
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, SAVED))
    assert saved_files(ledger, Path("/elsewhere")) == {}


def test_only_the_files_of_the_chips_asked_for_are_given(ledger: Ledger) -> None:
    for chip in (CHIP, OTHER_CHIP):
        ledger.write(lambda connection, chip=chip: note_saved(connection, HERE, ROOT, chip, SAVED))
    assert set(saved_files(ledger, chips=[CHIP])) == {CHIP}


def test_the_mean_row_is_of_the_files_of_one_algorithm_and_unknown_before_the_first(ledger: Ledger) -> None:
    other = replace(HERE, algorithm="lcmap-pyccd:1.4.0rc1")
    small, large = replace(SAVED, bytes=10_000_000), replace(SAVED, bytes=30_000_000)

    def note(connection: Connection) -> None:
        note_saved(connection, HERE, ROOT, CHIP, small)
        note_saved(connection, HERE, ROOT, OTHER_CHIP, large)
        note_saved(connection, other, ROOT, CHIP, SAVED)

    with ledger.read() as connection:
        assert mean_row_bytes(connection, HERE.source, HERE.algorithm) is None
    ledger.write(note)
    with ledger.read() as connection:
        assert mean_row_bytes(connection, HERE.source, HERE.algorithm) == 2_000


def test_a_chip_that_was_not_saved_does_not_make_the_mean_row_small(ledger: Ledger) -> None:
    whole, unsaved = replace(SAVED, bytes=10_000_000), replace(SAVED, file=None, bytes=0)
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, CHIP, unsaved))
    with ledger.read() as connection:
        assert mean_row_bytes(connection, HERE.source, HERE.algorithm) is None
    ledger.write(lambda connection: note_saved(connection, HERE, ROOT, OTHER_CHIP, whole))
    with ledger.read() as connection:
        assert mean_row_bytes(connection, HERE.source, HERE.algorithm) == 1_000


def test_a_tile_in_use_is_open_until_it_is_closed_and_open_again_after(ledger: Ledger) -> None:
    used = ledger.write(lambda connection: use_tile(connection, HERE, "winter"))
    assert (used.ground, used.campaign, used.closed_at, used.closed_reason) == (HERE, "winter", None, "")

    ledger.write(lambda connection: close_tile(connection, HERE, NOW, "delivered on disk 7"))
    closed = ledger.write(lambda connection: use_tile(connection, HERE, "spring"))
    assert (closed.campaign, closed.closed_at, closed.closed_reason) == ("spring", NOW, "delivered on disk 7")
    assert closed.last_used_at > used.last_used_at

    ledger.write(lambda connection: close_tile(connection, HERE, None))
    opened = ledger.write(lambda connection: use_tile(connection, HERE, "spring"))
    assert (opened.closed_at, opened.closed_reason) == (None, "")


def test_closing_one_tile_leaves_the_others_open(ledger: Ledger) -> None:
    other = replace(HERE, tile="H05V04")
    for ground in (HERE, other):
        ledger.write(lambda connection, ground=ground: use_tile(connection, ground, "winter"))
    ledger.write(lambda connection: close_tile(connection, HERE, NOW, "delivered"))
    assert ledger.write(lambda connection: use_tile(connection, other, "winter")).closed_at is None


def test_a_tile_is_found_under_every_source_and_algorithm_the_latest_used_first(ledger: Ledger) -> None:
    grounds = [HERE, replace(HERE, source="sandbox/results"), replace(HERE, algorithm="lcmap-pyccd:1.4.0rc1")]
    for ground in (*grounds, replace(HERE, tile="H05V04"), replace(HERE, region="alaska")):
        ledger.write(lambda connection, ground=ground: use_tile(connection, ground, "winter"))
    ledger.write(lambda connection: use_tile(connection, HERE, "winter"))

    with ledger.read() as connection:
        found = find_tiles(connection, "conus", "H05V03")
        of_one = find_tiles(connection, "conus", "H05V03", HERE.algorithm)
    assert [note.ground for note in found] == [grounds[0], grounds[2], grounds[1]]
    assert [note.ground for note in of_one] == [grounds[0], grounds[1]]


def test_the_rate_measured_last_is_given_for_each_source_and_stage(ledger: Ledger) -> None:
    def note(connection: Connection) -> None:
        note_rate(connection, "here", "export", 9_000.0, "rows/s")
        note_rate(connection, "here", "export", 11_500.5, "rows/s")
        note_rate(connection, "here", "count", 0.05, "s/chip")

    ledger.write(note)
    with ledger.read() as connection:
        rates = [last_rate(connection, "here", "export"), last_rate(connection, "here", "count")]
        assert rates == [11_500.5, 0.05]
        assert last_rate(connection, "elsewhere", "export") is None
