"""From what was seen to a state; the worker's clock is hours off ours on purpose."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.chips.grid import PIXELS
from tasks.chips.states import Asked, Look, Pixel, Record, State, judge, needs_pixels, still_stands

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STALL_AFTER = timedelta(hours=1)
REQUESTED = datetime(2026, 11, 23, 6, 0)  # noqa: DTZ001 - the service's clock is naive
LAST = PIXELS - 1


@pytest.fixture(params=[-6, 10], ids=["worker at UTC-6", "worker at UTC+10"])
def produced(request: pytest.FixtureRequest) -> datetime:
    """When the worker, by its own clock, begins the pass that was requested at REQUESTED."""
    return REQUESTED + timedelta(hours=request.param, minutes=10)


def a_look(pixels: int, first: datetime, last: datetime, *, at: datetime = NOW, **how: object) -> Look:
    look = Look(
        at=at,
        ticketed=True,
        pixels=pixels,
        some_good=pixels > 0,
        first_produced=first,
        last_produced=last,
        update_requested=REQUESTED,
    )
    return replace(look, **how)


def the_pixels(positions: range | list[int], produced: datetime) -> list[Pixel]:
    return [Pixel(position, ok=True, produced=produced) for position in positions]


def first_look(look: Look, pixels: list[Pixel] | None = None) -> Record:
    return judge(look, pixels, None, STALL_AFTER)


def test_a_chip_without_a_partition_is_unrequested() -> None:
    assert first_look(Look(NOW, ticketed=False)).state == State.UNREQUESTED


def test_a_ticket_without_rows_is_queued() -> None:
    assert first_look(Look(NOW, ticketed=True, update_requested=REQUESTED)).state == State.QUEUED


def test_a_chip_with_all_pixels_good_is_complete(produced: datetime) -> None:
    assert first_look(a_look(PIXELS, produced, produced)).state == State.COMPLETE


def test_a_chip_whose_failed_pixels_fill_it_is_flawed_not_complete(produced: datetime) -> None:
    look = a_look(PIXELS, produced, produced, some_failed=True)
    pixels = [Pixel(position, ok=position != 17, produced=produced) for position in range(PIXELS)]
    assert needs_pixels(look, None)
    record = first_look(look, pixels)
    assert (record.state, record.failed) == (State.FLAWED, (17,))


def test_a_chip_on_all_of_whose_pixels_the_algorithm_failed_has_no_data(produced: datetime) -> None:
    look = a_look(PIXELS, produced, produced, some_good=False, some_failed=True)
    assert first_look(look, []).state == State.NO_DATA


def test_a_chip_whose_last_pixel_is_written_and_others_are_missing_is_incomplete(produced: datetime) -> None:
    look = a_look(PIXELS - 2, produced, produced)
    record = first_look(look, the_pixels([p for p in range(PIXELS) if p not in (5, 6)], produced))
    assert (record.state, record.missing) == (State.INCOMPLETE, (5, 6))


def test_a_chip_without_its_last_pixel_is_running_at_the_first_look(produced: datetime) -> None:
    record = first_look(a_look(500, produced, produced), the_pixels(range(500), produced))
    assert (record.state, record.farthest, record.farthest_at) == (State.RUNNING, 499, NOW)


def test_a_pass_that_moves_between_looks_is_running_however_long_it_takes(produced: datetime) -> None:
    before = first_look(a_look(500, produced, produced), the_pixels(range(500), produced))
    later = NOW + timedelta(days=3)
    look = a_look(501, produced, produced, at=later)
    record = judge(look, the_pixels(range(501), produced), before, STALL_AFTER)
    assert (record.state, record.farthest_at, record.since) == (State.RUNNING, later, NOW)


def test_a_pass_that_has_not_moved_for_stall_after_on_our_clock_is_stalled(produced: datetime) -> None:
    before = first_look(a_look(500, produced, produced), the_pixels(range(500), produced))
    for minutes, state in ((59, State.RUNNING), (60, State.STALLED)):
        look = a_look(500, produced, produced, at=NOW + timedelta(minutes=minutes))
        assert judge(look, the_pixels(range(500), produced), before, STALL_AFTER).state == state


def test_a_crash_loop_that_rewrites_its_first_rows_is_stalled_though_rows_are_new(produced: datetime) -> None:
    before = first_look(a_look(500, produced, produced), the_pixels(range(500), produced))
    rewritten = produced + timedelta(minutes=59)
    look = a_look(500, produced, rewritten, at=NOW + timedelta(hours=1))
    pixels = the_pixels(range(100), rewritten) + the_pixels(range(100, 500), produced)
    assert judge(look, pixels, before, STALL_AFTER).state == State.STALLED


def requested_again(before: Record) -> dict[str, object]:
    """A look later on: someone else has asked for the chip again."""
    return {"at": NOW + timedelta(minutes=5), "update_requested": REQUESTED + timedelta(hours=5)}


def test_a_complete_chip_requested_again_by_someone_else_is_stale_until_rows_are_new(produced: datetime) -> None:
    before = first_look(a_look(PIXELS, produced, produced))
    look = a_look(PIXELS, produced, produced, **requested_again(before))
    record = judge(look, None, before, STALL_AFTER)
    assert (record.state, record.renew, record.baseline) == (State.STALE, True, produced)


def test_a_renewed_chip_is_running_while_old_rows_are_left_and_complete_when_none_is(produced: datetime) -> None:
    before = first_look(a_look(PIXELS, produced, produced))
    stale = judge(a_look(PIXELS, produced, produced, **requested_again(before)), None, before, STALL_AFTER)
    renewed = produced + timedelta(hours=5)
    again = {"at": NOW + timedelta(minutes=9), "update_requested": stale.look.update_requested}

    half = a_look(PIXELS, produced, renewed, **again)
    assert needs_pixels(half, stale)
    pixels = the_pixels(range(5000), renewed) + the_pixels(range(5000, PIXELS), produced)
    running = judge(half, pixels, stale, STALL_AFTER)
    assert (running.state, running.farthest) == (State.RUNNING, 4999)

    whole = a_look(PIXELS, renewed, renewed, **again)
    assert not needs_pixels(whole, running)
    assert judge(whole, None, running, STALL_AFTER).state == State.COMPLETE


def test_a_renewed_chip_whose_pass_ended_with_old_rows_left_is_incomplete(produced: datetime) -> None:
    before = first_look(a_look(PIXELS, produced, produced))
    renewed = produced + timedelta(hours=5)
    look = a_look(PIXELS, produced, renewed, **requested_again(before))
    pixels = the_pixels([p for p in range(PIXELS) if p != 7], renewed) + the_pixels([7], produced)
    record = judge(look, pixels, before, STALL_AFTER)
    assert (record.state, record.missing) == (State.INCOMPLETE, (7,))


def test_an_incomplete_chip_requested_again_is_queued_until_rows_are_new(produced: datetime) -> None:
    some = [p for p in range(PIXELS) if p != 3]
    before = first_look(a_look(PIXELS - 1, produced, produced), the_pixels(some, produced))
    look = a_look(PIXELS - 1, produced, produced, **requested_again(before))
    assert judge(look, None, before, STALL_AFTER).state == State.QUEUED


def test_a_first_look_judges_by_rows_alone_though_the_request_seems_later(produced: datetime) -> None:
    years_ago = produced - timedelta(days=900)
    assert first_look(a_look(PIXELS, years_ago, years_ago)).state == State.COMPLETE


def test_a_chip_at_home_stands_until_it_is_requested_again(produced: datetime) -> None:
    record = first_look(a_look(PIXELS, produced, produced))
    assert still_stands(record, True, REQUESTED)
    assert not still_stands(record, True, REQUESTED + timedelta(milliseconds=1))


def test_an_unrequested_chip_stands_until_it_is_requested() -> None:
    record = first_look(Look(NOW, ticketed=False))
    assert still_stands(record, False, None)
    assert not still_stands(record, True, REQUESTED)


def test_a_chip_that_waits_is_looked_at_each_time(produced: datetime) -> None:
    for pixels, rows in ((0, []), (10, the_pixels(range(10), produced))):
        record = first_look(a_look(pixels, produced, produced, some_good=bool(pixels)), rows)
        assert not still_stands(record, True, REQUESTED)


def test_the_three_clocks_cannot_be_compared_in_silence(produced: datetime) -> None:
    with pytest.raises(TypeError):
        assert produced < NOW


TICKET = REQUESTED + timedelta(hours=5)
"""`chip_update_requested` that our own request leaves behind."""


def after_our_request(before: Record, answer: str, missing: tuple[int, ...] = ()) -> Record:
    """What the ledger holds after a gap-filling request of ours for a chip."""
    ticket = TICKET if answer == "queued" else None
    asked = Asked(1, 1, NOW, True, False, before.look.update_requested, answer, ticket, missing)
    state = State.QUEUED if answer == "queued" else State.UNCERTAIN
    return replace(before, state=state, baseline=before.look.last_produced, asked=asked)


def short_by_one(produced: datetime) -> Record:
    some = [p for p in range(PIXELS) if p != 3]
    return first_look(a_look(PIXELS - 1, produced, produced), the_pixels(some, produced))


def test_a_pass_of_ours_that_only_fills_gaps_is_complete_with_rows_of_an_earlier_one(produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), "queued", (3,))
    renewed = produced + timedelta(hours=5)
    look = a_look(PIXELS, produced, renewed, at=NOW + timedelta(minutes=9), update_requested=TICKET)
    record = judge(look, None, before, STALL_AFTER)
    assert record.state == State.COMPLETE
    assert record.asked is not None
    assert (record.asked.outcome, record.asked.settled_at) == (State.COMPLETE, look.at)


def test_the_ticket_of_our_own_request_is_no_one_else_s(produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), "queued")
    look = a_look(PIXELS - 1, produced, produced, at=NOW + timedelta(minutes=9), update_requested=TICKET)
    record = judge(look, None, before, STALL_AFTER)
    assert (record.state, record.renew, record.baseline) == (State.QUEUED, False, produced)


def test_a_request_without_an_answer_is_uncertain_while_nothing_changes(produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), "uncertain")
    for hours in (1, 100):
        look = a_look(PIXELS - 1, produced, produced, at=NOW + timedelta(hours=hours))
        assert judge(look, None, before, STALL_AFTER).state == State.UNCERTAIN


@pytest.mark.parametrize("answer", ["uncertain", "sending"])
def test_a_changed_ticket_proves_that_a_request_without_an_answer_arrived(answer: str, produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), answer)
    look = a_look(PIXELS - 1, produced, produced, at=NOW + timedelta(minutes=9), update_requested=TICKET)
    record = judge(look, None, before, STALL_AFTER)
    assert record.asked is not None
    assert (record.state, record.renew, record.asked.answer) == (State.QUEUED, False, "queued")


def test_new_rows_prove_it_too_though_the_ticket_was_never_written(produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), "uncertain")
    renewed = produced + timedelta(hours=5)
    look = a_look(PIXELS - 1, produced, renewed, at=NOW + timedelta(minutes=9))
    pixels = the_pixels([0, 1], renewed) + the_pixels([p for p in range(2, PIXELS) if p != 3], produced)
    record = judge(look, pixels, before, STALL_AFTER)
    assert record.asked is not None
    assert (record.state, record.asked.answer, record.asked.rows_at) == (State.RUNNING, "queued", look.at)


def test_someone_else_s_request_on_top_of_ours_has_to_renew_every_row(produced: datetime) -> None:
    before = after_our_request(short_by_one(produced), "queued")
    theirs = TICKET + timedelta(hours=1)
    look = a_look(PIXELS - 1, produced, produced, at=NOW + timedelta(minutes=9), update_requested=theirs)
    assert judge(look, None, before, STALL_AFTER).renew


def test_somebody_elses_request_is_waited_for_from_when_we_first_saw_it_and_ours_from_when_we_sent_it() -> None:
    first = first_look(Look(NOW, ticketed=True, update_requested=REQUESTED))
    later = Look(NOW + timedelta(hours=5), ticketed=True, update_requested=REQUESTED + timedelta(hours=4))
    seen = judge(later, None, first, STALL_AFTER)
    assert (seen.state, seen.since) == (State.QUEUED, later.at)
    again = judge(replace(later, at=NOW + timedelta(hours=6)), None, seen, STALL_AFTER)
    assert again.since == later.at
    ours = after_our_request(first, "queued")
    ticket = replace(later, update_requested=TICKET)
    assert judge(ticket, None, ours, STALL_AFTER).since == NOW


def test_a_quarantined_chip_stays_so_until_it_is_home_or_someone_asks_for_it(produced: datetime) -> None:
    before = replace(short_by_one(produced), state=State.QUARANTINED, reason="Requested 3 times in vain.")
    some = the_pixels([p for p in range(PIXELS) if p != 3], produced)
    same = a_look(PIXELS - 1, produced, produced, at=NOW + timedelta(days=1))
    left = judge(same, some, before, STALL_AFTER)
    assert (left.state, left.reason, left.since) == (State.QUARANTINED, before.reason, before.since)
    whole = replace(same, pixels=PIXELS)
    assert judge(whole, None, before, STALL_AFTER).state == State.COMPLETE
    asked = replace(same, update_requested=TICKET)
    assert judge(asked, None, before, STALL_AFTER).state == State.QUEUED


def test_a_request_that_was_taken_but_left_no_ticket_is_uncertain_and_not_asked_for_again() -> None:
    before = after_our_request(first_look(Look(NOW, ticketed=False)), "queued")
    record = judge(Look(NOW + timedelta(hours=9), ticketed=False), None, before, STALL_AFTER)
    assert (record.state, "no ticket" in record.reason) == (State.UNCERTAIN, True)
