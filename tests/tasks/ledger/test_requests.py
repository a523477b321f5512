"""What the ledger keeps of requests comes back as it was noted, and is written off when a person says so."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from tasks.chips.grid import Chip
from tasks.chips.states import Asked, Look, Record, State
from tasks.ledger.chips import close_tile, recall, remember, use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.requests import (
    asked_for,
    drop_request,
    last_answers,
    last_ends,
    last_request,
    note_asked,
    note_request,
    outstanding_elsewhere,
    release,
    seen_anywhere,
    worker_clock,
)
from tasks.ledger.store import Ledger

HERE = Ground("LCMAP/changes.results", "lcmap-pyccd:2017.08.18", "conus", "H05V03")
CHIP, OTHER_CHIP = Chip(-1815585, 2864805), Chip(-1812585, 2864805)
NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
LABELLED = datetime(2026, 3, 1, 6, 1, 0, 40_000)  # noqa: DTZ001 - other clocks are naive
ASKED = Asked(
    number=1,
    attempts=1,
    at=NOW,
    refresh=True,
    renew=True,
    update_before=LABELLED,
    answer="queued",
    update_requested=LABELLED + timedelta(hours=1),
    missing=(0, 7, 9_999),
    rows_at=NOW + timedelta(minutes=1),
    settled_at=NOW + timedelta(minutes=2),
    outcome=State.FLAWED,
    alone=True,
    unsettled_at=NOW + timedelta(minutes=1, seconds=30),
    end_produced=LABELLED + timedelta(minutes=90),
)
UNSETTLED = replace(ASKED, settled_at=None, outcome=None)


def note(ledger: Ledger, chip: Chip, *requests: Asked, ground: Ground = HERE) -> None:
    for number, asked in enumerate(requests, start=1):
        numbered = replace(asked, number=number)
        ledger.write(lambda connection, one=numbered: note_request(connection, ground, chip, one, LABELLED))
        ledger.write(lambda connection, one=numbered: note_asked(connection, ground, chip, one))


def found(ledger: Ledger) -> dict[Chip, Asked]:
    with ledger.read() as connection:
        return asked_for(connection, HERE)


def test_every_field_of_a_request_comes_back(ledger: Ledger) -> None:
    assert all(getattr(ASKED, field.name) for field in fields(ASKED))
    note(ledger, CHIP, ASKED)
    assert found(ledger) == {CHIP: ASKED}


def test_the_latest_request_counts_all_since_the_release(ledger: Ledger) -> None:
    note(ledger, CHIP, ASKED, ASKED, UNSETTLED)
    assert found(ledger) == {CHIP: replace(UNSETTLED, number=3, attempts=3)}


def test_a_chips_record_brings_its_request_along(ledger: Ledger) -> None:
    note(ledger, CHIP, ASKED)
    record = Record(State.QUEUED, NOW, Look(NOW, ticketed=True), asked=UNSETTLED)
    ledger.write(lambda connection: remember(connection, HERE, {CHIP: record}))
    with ledger.read() as connection:
        assert recall(connection, HERE) == {CHIP: record}


def test_released_requests_that_have_ended_are_gone_and_one_still_out_has_no_attempts(ledger: Ledger) -> None:
    note(ledger, CHIP, UNSETTLED, ASKED)
    note(ledger, OTHER_CHIP, ASKED, UNSETTLED)
    ledger.write(lambda connection: release(connection, HERE, [CHIP, OTHER_CHIP]))
    assert found(ledger) == {OTHER_CHIP: replace(UNSETTLED, number=2, attempts=0)}


def test_a_released_request_that_was_given_up_while_it_waited_is_still_known(ledger: Ledger) -> None:
    given_up = replace(UNSETTLED, settled_at=NOW, outcome=State.QUARANTINED)
    note(ledger, CHIP, given_up)
    ledger.write(lambda connection: release(connection, HERE, [CHIP]))
    assert found(ledger) == {CHIP: replace(given_up, attempts=0)}


def test_attempts_count_anew_after_a_release_and_numbers_go_on(ledger: Ledger) -> None:
    note(ledger, CHIP, ASKED, ASKED)
    ledger.write(lambda connection: release(connection, HERE, [CHIP]))
    with ledger.read() as connection:
        number = last_request(connection, HERE, CHIP).number + 1
    again = replace(UNSETTLED, number=number)
    ledger.write(lambda connection: note_request(connection, HERE, CHIP, again, None))
    assert (number, found(ledger)[CHIP].number, found(ledger)[CHIP].attempts) == (3, 3, 1)


def test_a_request_taken_back_leaves_the_one_before(ledger: Ledger) -> None:
    note(ledger, CHIP, ASKED, UNSETTLED)
    ledger.write(lambda connection: drop_request(connection, HERE, CHIP, 2))
    assert found(ledger) == {CHIP: ASKED}


def test_the_last_ends_are_the_newest_and_none_that_was_written_off(ledger: Ledger) -> None:
    chips = [CHIP, OTHER_CHIP, Chip(0, 0)]
    for minute, end in enumerate([State.FLAWED, State.COMPLETE, State.STALLED]):
        note(ledger, chips[minute], replace(ASKED, outcome=end, settled_at=NOW + timedelta(minutes=minute)))
    note(ledger, Chip(3000, 0), UNSETTLED)
    with ledger.read() as connection:
        assert last_ends(connection, HERE, 2) == [State.STALLED, State.COMPLETE]
    ledger.write(lambda connection: release(connection, HERE, chips))
    with ledger.read() as connection:
        assert last_ends(connection, HERE, 2) == []


def test_a_chip_that_came_back_several_times_counts_once_by_its_last_end(ledger: Ledger) -> None:
    ends = [State.INCOMPLETE, State.INCOMPLETE, State.COMPLETE]
    again = [replace(ASKED, outcome=end, settled_at=NOW + timedelta(hours=n)) for n, end in enumerate(ends)]
    note(ledger, CHIP, *again)
    note(ledger, OTHER_CHIP, replace(ASKED, outcome=State.FLAWED, settled_at=NOW + timedelta(minutes=1)))
    with ledger.read() as connection:
        assert last_ends(connection, HERE, 20) == [State.COMPLETE, State.FLAWED]


def test_the_last_answers_are_the_newest_and_none_that_was_written_off(ledger: Ledger) -> None:
    note(ledger, CHIP, replace(UNSETTLED, answer="uncertain", at=NOW), replace(UNSETTLED, at=NOW + timedelta(1)))
    with ledger.read() as connection:
        assert last_answers(connection, HERE, 9) == ["queued", "uncertain"]
        assert last_answers(connection, HERE, 1) == ["queued"]
    ledger.write(lambda connection: release(connection, HERE, [CHIP]))
    with ledger.read() as connection:
        assert last_answers(connection, HERE, 9) == []


def test_rows_of_the_algorithm_on_any_tile_of_the_cluster_count_as_seen(ledger: Ledger) -> None:
    record = Record(State.COMPLETE, NOW, Look(NOW, ticketed=True, pixels=1))
    ledger.write(lambda connection: remember(connection, replace(HERE, tile="H01V01"), {CHIP: record}))
    with ledger.read() as connection:
        assert seen_anywhere(connection, HERE.source, HERE.algorithm)
        assert not seen_anywhere(connection, HERE.source, "lcmap-pyccd:2017.8.18")
        assert not seen_anywhere(connection, "another cluster", HERE.algorithm)


def out_elsewhere(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return outstanding_elsewhere(connection, HERE)


def stands(ledger: Ledger, chip: Chip, state: State, ground: Ground) -> None:
    record = Record(state, NOW, Look(NOW, ticketed=True))
    ledger.write(lambda connection: remember(connection, ground, {chip: record}))


def test_chips_that_wait_on_other_tiles_are_counted_once_each(ledger: Ledger) -> None:
    there = replace(HERE, tile="H01V01")
    for number, (ground, state, requests) in enumerate(
        [
            (HERE, State.QUEUED, [UNSETTLED]),
            (there, State.QUEUED, [UNSETTLED, UNSETTLED]),
            (there, State.QUEUED, []),  # somebody else's
            (there, State.COMPLETE, [UNSETTLED]),
            (there, State.QUARANTINED, [UNSETTLED]),
            (replace(there, source="another cluster"), State.QUEUED, [UNSETTLED]),
        ]
    ):
        note(ledger, Chip(3000 * number, 0), *requests, ground=ground)
        stands(ledger, Chip(3000 * number, 0), state, ground)
    assert out_elsewhere(ledger) == 1
    ledger.write(lambda connection: release(connection, there, [Chip(3000, 0)]))
    assert out_elsewhere(ledger) == 0


def test_chips_of_a_closed_tile_keep_no_other_tile_waiting(ledger: Ledger) -> None:
    there = replace(HERE, tile="H01V01")
    note(ledger, CHIP, UNSETTLED, ground=there)
    stands(ledger, CHIP, State.RUNNING, there)
    ledger.write(lambda connection: use_tile(connection, there, "a test"))
    assert out_elsewhere(ledger) == 1
    ledger.write(lambda connection: close_tile(connection, there, NOW, "delivered"))
    assert out_elsewhere(ledger) == 0


def test_the_workers_clock_is_known_as_closely_as_the_chips_that_agree_tell(ledger: Ledger) -> None:
    start = NOW.replace(microsecond=0)

    def came_back(minute: int, looked_before: int, looked: int, ahead: timedelta) -> Asked:
        produced = (start + timedelta(minutes=minute) + ahead).replace(tzinfo=None)
        at = start + timedelta(minutes=looked_before)
        return replace(
            ASKED, at=at, unsettled_at=at, settled_at=start + timedelta(minutes=looked), end_produced=produced
        )

    west = timedelta(hours=-6)
    note(ledger, CHIP, came_back(5, 0, 60, timedelta(hours=3)), came_back(100, 99, 160, west))
    note(ledger, OTHER_CHIP, came_back(170, 120, 171, west))
    with ledger.read() as connection:
        found = worker_clock(connection, HERE.source, HERE.algorithm)
        assert worker_clock(connection, HERE.source, None) == found
        assert worker_clock(connection, "another cluster", HERE.algorithm) is None
        assert worker_clock(connection, HERE.source, "lcmap-pyccd:2017.8.18") is None
    assert (found.least, found.most) == (west - timedelta(minutes=1), west + timedelta(minutes=1))
    assert found.at == start + timedelta(minutes=171)


def test_of_the_workers_clock_nothing_is_known_before_a_chip_came_back(ledger: Ledger) -> None:
    note(ledger, CHIP, replace(UNSETTLED, end_produced=None))
    with ledger.read() as connection:
        assert worker_clock(connection, HERE.source, HERE.algorithm) is None
