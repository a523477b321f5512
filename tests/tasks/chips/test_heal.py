"""What to do next about each chip, and when to stop asking."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.chips.grid import Chip
from tasks.chips.heal import (
    Room,
    Rules,
    in_words,
    is_outstanding,
    next_step,
    pilot_needed,
    queue_moved_past,
    room_for,
    tripped,
    unclear,
    waits_too_long,
)
from tasks.chips.states import Asked, Look, Record, State

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULES = Rules(max_attempts=3, stall_after=HOUR, wait_limit=14 * 24 * HOUR, max_outstanding=2500)


def asked(attempts: int = 1, at: datetime = NOW, **how: object) -> Asked:
    number = attempts
    return replace(Asked(number, attempts, at, True, False, None, "queued", alone=True), **how)


def a_chip(state: State, *, request: Asked | None = None, **how: object) -> Record:
    look = Look(NOW, ticketed=True, pixels=0)
    return replace(Record(state, NOW, look, "A reason.", asked=request), **how)


def test_an_unrequested_chip_is_requested_without_refresh() -> None:
    step = next_step(a_chip(State.UNREQUESTED), RULES, None)
    assert (step.do, step.refresh, step.renew) == ("request", False, False)


@pytest.mark.parametrize("state", [State.INCOMPLETE, State.STALLED])
def test_a_chip_that_ended_short_is_requested_with_refresh(state: State) -> None:
    step = next_step(a_chip(state), RULES, None)
    assert (step.do, step.refresh, step.renew) == ("request", True, False)


@pytest.mark.parametrize("state", [State.COMPLETE, State.FLAWED, State.NO_DATA, State.QUARANTINED])
def test_a_chip_at_home_or_quarantined_is_left(state: State) -> None:
    assert next_step(a_chip(state), RULES, NOW + 9 * HOUR).do == "leave"


@pytest.mark.parametrize("state", [State.FLAWED, State.QUARANTINED, State.COMPLETE])
def test_a_person_can_have_any_state_requested_again_and_every_row_renewed(state: State) -> None:
    step = next_step(a_chip(state, request=asked(9)), RULES, None, again={state})
    assert (step.do, step.refresh, step.renew) == ("request", True, True)


@pytest.mark.parametrize("state", [State.QUEUED, State.STALE, State.UNCERTAIN])
def test_what_waits_is_asked_for_again_only_when_the_queue_has_demonstrably_moved_past_it(state: State) -> None:
    waiting = a_chip(state, request=asked(at=NOW))
    for moved_past, do in ((None, "wait"), (NOW + 0.99 * HOUR, "wait"), (NOW + HOUR, "request")):
        assert next_step(waiting, RULES, moved_past).do == do


def test_a_chip_that_someone_else_requested_counts_from_when_we_first_saw_it_wait() -> None:
    waiting = a_chip(State.QUEUED, since=NOW - HOUR)
    assert next_step(waiting, RULES, NOW).do == "request"
    assert next_step(replace(waiting, since=NOW), RULES, NOW).do == "wait"


def test_somebody_elses_request_on_top_of_ours_is_waited_for_from_when_we_first_saw_it() -> None:
    theirs = datetime(2026, 11, 23, 11)  # noqa: DTZ001 - the service's clock is naive
    look = Look(NOW, ticketed=True, update_requested=theirs)
    waiting = a_chip(State.QUEUED, request=asked(at=NOW - 5 * HOUR), since=NOW, look=look)
    assert next_step(waiting, RULES, NOW).do == "wait"
    ours = replace(waiting, asked=replace(waiting.asked, update_requested=theirs))
    assert next_step(ours, RULES, NOW).do == "request"


@pytest.mark.parametrize("state", [State.QUEUED, State.STALE, State.UNCERTAIN])
def test_a_chip_given_up_while_it_waited_and_released_since_is_requested_unless_somebody_else_has(
    state: State,
) -> None:
    given_up = asked(attempts=0, settled_at=NOW, outcome=State.QUARANTINED)
    step = next_step(a_chip(state, request=given_up), RULES, None)
    assert (step.do, step.refresh, step.look_first) == ("request", True, True)
    theirs = Look(NOW, ticketed=True, update_requested=datetime(2026, 11, 23, 11))  # noqa: DTZ001
    assert next_step(a_chip(state, request=given_up, look=theirs), RULES, None).do == "wait"


def test_a_running_chip_is_waited_for_whatever_the_queue_did() -> None:
    assert next_step(a_chip(State.RUNNING, request=asked()), RULES, NOW + 99 * HOUR).do == "wait"


def test_the_third_attempt_is_the_last() -> None:
    for attempts, do in ((1, "request"), (2, "request"), (3, "quarantine")):
        short = a_chip(State.INCOMPLETE, request=asked(attempts, missing=(1, 2)), missing=(3,))
        assert next_step(short, RULES, None).do == do


def test_a_chip_requested_three_times_and_still_waiting_is_left_to_a_person_when_the_queue_moved_past() -> None:
    step = next_step(a_chip(State.QUEUED, request=asked(3)), RULES, NOW + HOUR)
    assert (step.do, step.reason.startswith("Requested 3 times in vain.")) == ("quarantine", True)


def test_the_same_pixels_missing_twice_are_left_to_a_person_at_once() -> None:
    short = a_chip(State.INCOMPLETE, request=asked(1, missing=(5, 6)), missing=(5, 6))
    step = next_step(short, RULES, None)
    assert (step.do, "same 2 pixels" in step.reason) == ("quarantine", True)


def test_other_pixels_missing_is_a_reason_to_ask_again() -> None:
    short = a_chip(State.INCOMPLETE, request=asked(1, missing=(5, 6)), missing=(7,))
    assert next_step(short, RULES, None).do == "request"


def test_the_queue_has_moved_past_the_latest_request_whose_pass_has_rows() -> None:
    records = [
        a_chip(State.COMPLETE, request=asked(at=NOW, rows_at=NOW + HOUR)),
        a_chip(State.RUNNING, request=asked(at=NOW + HOUR, rows_at=NOW + 2 * HOUR)),
        a_chip(State.QUEUED, request=asked(at=NOW + 5 * HOUR)),
        a_chip(State.COMPLETE),
    ]
    assert queue_moved_past(records) == NOW + HOUR
    assert queue_moved_past(records[2:]) is None


def test_rows_that_an_earlier_job_of_the_chip_can_explain_do_not_show_that_the_queue_moved() -> None:
    twice = a_chip(State.RUNNING, request=asked(2, at=NOW + HOUR, rows_at=NOW + 2 * HOUR, alone=False))
    assert queue_moved_past([twice]) is None


def test_what_we_asked_for_is_outstanding_until_it_ends_or_is_written_off() -> None:
    states = [State.QUEUED, State.UNCERTAIN, State.STALE, State.RUNNING, State.COMPLETE, State.INCOMPLETE]
    assert [is_outstanding(a_chip(state, request=asked())) for state in states] == [True] * 4 + [False] * 2
    assert not is_outstanding(a_chip(State.QUEUED))
    assert not is_outstanding(a_chip(State.QUEUED, request=asked(attempts=0)))


def test_a_chip_that_waits_beyond_the_limit_needs_a_person() -> None:
    waiting = a_chip(State.QUEUED)
    assert not waits_too_long(waiting, NOW + RULES.wait_limit - HOUR, RULES)
    assert waits_too_long(waiting, NOW + RULES.wait_limit, RULES)
    assert not waits_too_long(a_chip(State.COMPLETE), NOW + 2 * RULES.wait_limit, RULES)


def test_one_chip_goes_first_where_nothing_of_the_algorithm_was_ever_seen() -> None:
    silent = {Chip(0, 0): a_chip(State.QUEUED)}
    seen = {Chip(0, 0): a_chip(State.RUNNING, look=Look(NOW, ticketed=True, pixels=1))}
    assert pilot_needed(silent, seen_elsewhere=False)
    assert not pilot_needed(silent, seen_elsewhere=True)
    assert not pilot_needed(seen, seen_elsewhere=False)


def test_what_is_out_already_takes_no_second_place_and_a_guard_leaves_none() -> None:
    chips = [Chip(3000 * n, 0) for n in range(4)]
    records = {chips[0]: a_chip(State.QUEUED, request=asked()), **dict.fromkeys(chips[1:], a_chip(State.STALLED))}

    def room(guard: str = "", most: int = 3, elsewhere: int = 1, seen: bool = True) -> Room:
        rules = replace(RULES, max_outstanding=most)
        return room_for(records, guard, rules, seen_elsewhere=seen, out_elsewhere=elsewhere)

    assert (room().held_by, room().take(chips)) == ("limit", chips[:2])
    assert room(elsewhere=9).take(chips) == chips[:1]
    assert (room(seen=False).held_by, room(seen=False).take(chips)) == ("pilot", chips[:1])
    assert (room("Stop.").held_by, room("Stop.").take(chips)) == ("guard", [])


def test_requesting_stops_when_ten_answers_in_a_row_do_not_say_whether_the_request_arrived() -> None:
    assert "--states uncertain --again" in unclear(["uncertain"] * 10)
    assert not unclear(["uncertain"] * 9)
    assert not unclear(["uncertain"] * 9 + ["queued"] + ["uncertain"] * 9)


def test_requesting_stops_when_most_of_the_last_twenty_came_back_bad() -> None:
    good, bad = State.COMPLETE, State.INCOMPLETE
    assert tripped([], [bad] * 11 + [good] * 9, NOW, RULES).startswith("11 of the last 20")
    assert not tripped([], [bad] * 10 + [good] * 10, NOW, RULES)
    assert not tripped([], [bad] * 19, NOW, RULES)
    assert not tripped([], [good] * 20 + [bad] * 20, NOW, RULES)


def test_requesting_stops_when_twenty_chips_are_silent_and_none_has_a_row() -> None:
    silent = [a_chip(State.QUEUED, request=asked(at=NOW - HOUR)) for _ in range(20)]
    assert tripped(silent, [], NOW, RULES).startswith("20 chips were requested")
    assert not tripped(silent[1:], [], NOW, RULES)
    talking = a_chip(State.RUNNING, request=asked(at=NOW, rows_at=NOW))
    assert not tripped([*silent, talking], [], NOW, RULES)


def test_people_read_what_the_next_run_will_do() -> None:
    for record, words in (
        (a_chip(State.INCOMPLETE, request=asked(1), missing=(3,)), "will be requested (attempt 2 of 3)"),
        (a_chip(State.QUEUED, request=asked(1)), "will be waited for"),
        (a_chip(State.QUARANTINED, request=asked(3)), "is left alone until `overlander tile release`"),
        (a_chip(State.COMPLETE), ""),
    ):
        assert in_words(next_step(record, RULES, None), record, RULES, NOW) == words
    short = a_chip(State.INCOMPLETE, request=asked(1), missing=(3,))
    held = in_words(next_step(short, RULES, None), short, RULES, NOW, "guard")
    assert held == "is not requested before `overlander tile release`"
    late = a_chip(State.QUEUED, request=asked(1))
    words = in_words(next_step(late, RULES, None), late, RULES, NOW + RULES.wait_limit)
    assert words.startswith("is not waited for any more")
