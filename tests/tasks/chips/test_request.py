"""What is asked of the real service, counted there: for each trouble, for each guard, and after each accident."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments import supervise
from tasks.chips.campaign import Site
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.heal import SAMPLE, UNCLEAR_IN_A_ROW, Step
from tasks.chips.request import LONGEST_REST_S, Released, cost, decide, release_tile, request
from tasks.chips.service import ChangeResults, Receipt, WrongChip
from tasks.chips.states import Asked, Look, Record, State
from tasks.consent import ConsentMissing, check_consent
from tasks.errors import BadInput, PermanentError, ServiceAway, ThrottledError
from tasks.ledger.chips import remember, tile_note
from tasks.ledger.requests import note_request
from tests.service_desk import Service, await_that
from tests.tasks.chips.rounds import Working, a_run, ask, bring_home, known, look, only, states

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(service: Service) -> None:
    """Every test asks the real service."""


# What a chip's trouble leads to


def trouble(place: Site, service: Service, *listed: dict[str, Any], **settings: Any) -> None:
    service.plan({place.campaign.chips[0]: list(listed)}, **settings)


def test_each_chip_is_asked_for_once_without_refresh(working: Working, service: Service) -> None:
    with a_run(working, service, "30,30:33") as place:
        bring_home(place)
        assert states(place) == ["complete"] * 3
        assert [service.refreshes(chip) for chip in place.campaign.chips] == [[False]] * 3
    with a_run(working, service, "30,30:33") as place:
        assert decide(place).steps == {}


def test_rows_lost_once_are_asked_for_again_and_the_chip_is_complete(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"rows_lost": 23, "times": 1})
        bring_home(place)
        assert states(place) == ["complete"]
    assert service.refreshes() == [False, True]


def test_the_same_rows_lost_each_time_are_left_to_a_person_after_the_second_pass(
    working: Working, service: Service
) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"rows_lost": [17, 4_711]})
        bring_home(place)
        assert states(place) == ["quarantined"]
        assert only(place).missing == (17, 4_711)
        assert "same 2 pixels" in only(place).reason
    assert service.refreshes() == [False, True]
    with a_run(working, service) as place:
        assert states(place) == ["quarantined"]
        assert decide(place).steps == {}


def test_a_worker_that_dies_once_is_not_asked_twice(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"crash_at": 5_000}, crash_pause_s=0.2)
        bring_home(place)
        assert states(place) == ["complete"]
    assert service.refreshes() == [False]


def test_a_crash_loop_stalls_is_asked_again_and_then_left_to_a_person(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "1")
    monkeypatch.setenv("OVERLANDER_MAX_ATTEMPTS", "2")
    with a_run(working, service) as place:
        trouble(place, service, {"crash_loop": True}, crash_pause_s=0.2)
        bring_home(place)
        assert states(place) == ["quarantined"]
        assert only(place).reason.startswith("Requested 2 times in vain. Stopped at 150 of 10,000 pixels")
        assert len(only(place).missing) == PIXELS - 150
    assert service.refreshes() == [False, True]


@pytest.mark.parametrize(
    ("first", "state"),
    [
        ({"never": True, "times": 1}, "queued"),
        ({"lost_job": True, "times": 1}, "queued"),
        ({"other_version": "pyccd:other", "times": 1}, "queued"),
        ({"error_before_publish": True, "times": 1}, "uncertain"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else given,
)
def test_what_only_waits_is_asked_again_when_chips_requested_later_have_rows(
    first: dict[str, Any], state: str, working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "3")
    with a_run(working, service, "30,30:32") as place:
        silent, later = place.campaign.chips
        trouble(place, service, first)
        ask(place, only={silent})
        long_after = known(place)[silent].asked.at + timedelta(seconds=3.1)
        await_that(lambda: datetime.now(UTC) > long_after)
        assert look(place)[silent].state.value == state
        assert silent not in decide(place).steps
        bring_home(place)
        assert states(place) == ["complete", "complete"]
    assert service.refreshes(silent) == [False, True]
    assert service.refreshes(later) == [False]


def test_one_second_request_does_not_lead_to_others(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the first job of a chip asked for twice are no sign that its second job, far behind, has started."""
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "3")
    with a_run(working, service, "30,30:32") as place:
        twice, once = place.campaign.chips
        service.plan(paused=True)
        ask(place)
        long_after = known(place)[once].asked.at + timedelta(seconds=3.1)
        await_that(lambda: datetime.now(UTC) > long_after)
        ask(place, again={State.QUEUED}, only={twice})
        service.plan({once: [{"lost_job": True}]}, paused=False)
        await_that(lambda: look(place)[twice].look.pixels)
        assert known(place)[twice].asked.rows_at is not None
        assert once not in decide(place).steps
    assert service.refreshes(once) == [False]


def test_a_chip_whose_rows_came_since_it_was_looked_at_is_not_asked_for_again(
    working: Working, service: Service
) -> None:
    with a_run(working, service) as place:
        (chip,) = place.campaign.chips
        ask(place)
        await_that(lambda: place.table.last_pixel(chip, service.algorithm))
        assert states(place) == ["queued"]
        step = Step("request", "The queue moved past it.", refresh=True, look_first=True)
        assert request(place, [(chip, step)], datetime.now(UTC)).sent == 0
        assert states(place) == ["complete"]
    assert service.refreshes() == [False]


@pytest.mark.parametrize(
    ("listed", "state"), [({"no_data": True}, "no_data"), ({"failed_pixels": 5}, "flawed")], ids=["none", "five"]
)
def test_a_chip_with_failed_pixels_is_home_and_not_asked_again(
    listed: dict[str, Any], state: str, working: Working, service: Service
) -> None:
    with a_run(working, service) as place:
        trouble(place, service, listed)
        bring_home(place)
        assert states(place) == [state]
        assert decide(place).steps == {}
    assert service.refreshes() == [False]


# Answers that leave it open whether a job is queued


@pytest.mark.parametrize(
    "listed",
    [
        {"error_after_publish": True},
        {"drop": True},
        {"slow_answer_s": 3},
        {"html": 502, "queued": True},
        {"html": 200, "queued": True},
    ],
    ids=["500", "drop", "slow", "html 502", "html 200"],
)
def test_a_request_without_an_answer_is_not_sent_twice(
    listed: dict[str, Any], working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_SERVICE_TIMEOUT_S", "0.5")
    with a_run(working, service) as place:
        trouble(place, service, listed)
        assert ask(place).uncertain == 1
        assert states(place) == ["uncertain"]
        assert decide(place).steps == {}
        bring_home(place)
        assert states(place) == ["complete"]
    assert len(service.jobs()) == len(service.received()) == 1


def test_a_changed_ticket_proves_that_a_request_arrived(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"drop": True}, paused=True)
        ask(place)
        assert only(place).asked.answer == "uncertain"
        look(place)
        assert (only(place).state, only(place).asked.answer) == (State.QUEUED, "queued")


def test_a_proxys_page_says_nothing_and_the_chip_waits(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"html": 502})
        ask(place)
        assert look(place)[place.campaign.chips[0]].state == State.UNCERTAIN
        assert decide(place).steps == {}
    assert service.jobs() == []


# Refusals and accidents


def test_an_algorithm_disabled_in_mid_run_stops_it_and_nothing_is_noted_of_the_refused_request(
    working: Working, service: Service
) -> None:
    with a_run(working, service, "30,30:33") as place:
        service.plan(paused=True)
        assert ask(place, limit=1).sent == 1
        service.enable(False)
        with pytest.raises(PermanentError, match="422"):
            ask(place)
        assert states(place) == ["queued", "unrequested", "unrequested"]
        assert [record.asked is None for record in known(place).values()] == [False, True, True]
    assert [one["status"] for one in service.received()] == [202, 422]


def test_a_proxys_refusal_in_mid_run_is_not_noted_as_a_request(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"html": 403})
        with pytest.raises(PermanentError, match="403"):
            ask(place)
        assert states(place) == ["unrequested"]
        assert only(place).asked is None


def test_a_service_that_goes_away_leaves_no_request_noted_and_a_retry_sends_only_the_rest(
    working: Working, service: Service
) -> None:
    with a_run(working, service, "30,30:33") as place:
        service.plan(paused=True)
        asking = decide(place)
        steps = list(asking.steps.items())
        request(place, steps[:1], asking.at)
        before = known(place)
        client = place.requester._client
        client.url = f"http://127.0.0.1:{supervise.free_port()}"
        with pytest.raises(ServiceAway):
            request(place, steps, asking.at)
        assert known(place) == before
        client.url = service.url
        assert request(place, steps, asking.at).sent == 3
        assert [record.asked.attempts for record in known(place).values()] == [1, 1, 1]
    assert [service.refreshes(chip) for chip in before] == [[False]] * 3


def test_a_refused_second_request_leaves_the_first_one_noted(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"rows_lost": [9]})
        bring_home(place, until=lambda: states(place) == ["incomplete"])
        before = only(place)
        service.enable(False)
        with pytest.raises(PermanentError):
            ask(place)
        assert only(place) == before
    assert [one["status"] for one in service.received()] == [202, 422]


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.chips.campaign import Campaign, site
from tasks.chips.grid import REGIONS, parse_window, tile_named
from tasks.chips.layout import Layout
from tasks.chips.request import decide, request
from tasks.chips.service import ChangeResults
from tasks.chips.survey import survey
from tasks.ledger.chips import use_tile

really, when = ChangeResults.request, sys.argv[2]

def killed(*given, **named):
    if when == "after":
        really(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

ChangeResults.request = killed
tile = tile_named("H05V03", REGIONS["conus"])
campaign = Campaign(tile, parse_window("30,30"), sys.argv[1], "a", Layout(Path("o")))
with site(campaign, words="a run to be killed") as place:
    place.ledger.write(lambda ledger: use_tile(ledger, place.ground, "a"))
    survey(place, campaign.chips)
    asking = decide(place)
    request(place, list(asking.steps.items()), asking.at)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_killed_while_it_asks_has_noted_the_request(when: str, working: Working, service: Service) -> None:
    service.plan(paused=True)
    command = [sys.executable, "-c", KILLED, service.algorithm, when]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    assert killed.returncode == -9
    with a_run(working, service) as place:
        assert only(place).asked.attempts == 1
        assert states(place) == ["uncertain" if when == "before" else "queued"]
        assert decide(place).steps == {}
    assert len(service.received()) == (when == "after")


def test_a_service_of_another_grid_is_found_out_by_its_first_answer(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ChangeResults._receipt

    def moved(self: ChangeResults, chip: Chip, answer: httpx.Response) -> Receipt:
        body = {**answer.json(), "chip_x": chip.x + 30}
        return said(self, chip, httpx.Response(answer.status_code, json=body))

    with a_run(working, service, "30,30:32") as place:
        with monkeypatch.context() as patch:
            patch.setattr(ChangeResults, "_receipt", moved)
            with pytest.raises(WrongChip, match="its grid is another"):
                ask(place)
        assert known(place)[place.campaign.chips[0]].asked.attempts == 1
        asking = decide(place)
        assert (asking.steps, "its grid is another" in asking.guard) == ({}, True)
    assert len(service.received()) == 1


# One first, and no more than was meant


def test_for_an_algorithm_without_rows_one_chip_goes_first(working: Working, service: Service) -> None:
    service.plan(paused=True)
    with a_run(working, service, "30,30:34", pilot=True) as place:
        asking = decide(place)
        assert (len(asking.steps), asking.held_back, asking.pilot) == (1, 3, True)
        ask(place)
        assert (decide(place).steps, decide(place).held_back) == ({}, 3)
    with a_run(working, service, "30,30:34", pilot=True) as place:
        assert decide(place).steps == {}
        service.plan(paused=False)
        bring_home(place)
        assert states(place) == ["complete"] * 4
    assert service.refreshes() == [False] * 4


def test_a_person_can_ask_again_for_a_pilot_that_was_lost(working: Working, service: Service) -> None:
    with a_run(working, service, "30,30:32", pilot=True) as place:
        trouble(place, service, {"lost_job": True, "times": 1})
        ask(place)
        assert decide(place).steps == {}
        assert list(decide(place, again={State.QUEUED}).steps) == place.campaign.chips[:1]


def test_no_more_chips_are_out_at_once_than_is_set(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_MAX_OUTSTANDING", "2")
    service.plan(paused=True)
    with a_run(working, service, "30,30:35") as place:
        assert ask(place).sent == 2
        assert (decide(place).steps, decide(place).held_back) == ({}, 3)
        service.plan(paused=False)
        bring_home(place)
        assert states(place) == ["complete"] * 5


def test_chips_out_on_other_tiles_count_and_one_asked_for_again_takes_no_second_place(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_MAX_OUTSTANDING", "3")
    service.plan(paused=True)
    with a_run(working, service, "30,30:35") as place:
        elsewhere = replace(place.ground, tile="H01V01")
        out = Asked(1, 1, datetime.now(UTC), refresh=False, renew=False, update_before=None, answer="queued")
        there = Chip(-2412585, 3164805)
        place.ledger.write(lambda ledger: note_request(ledger, elsewhere, there, out, None))
        waiting = Record(State.QUEUED, out.at, Look(out.at, ticketed=True), asked=out)
        place.ledger.write(lambda ledger: remember(ledger, elsewhere, {there: waiting}))
        assert len(decide(place).steps) == 2
        assert ask(place, limit=1).sent == 1
        asking = decide(place, again={State.QUEUED})
        assert list(asking.steps) == place.campaign.chips[:2]


@pytest.mark.parametrize("limit", [0, 2, -1])
def test_a_run_sends_no_more_than_its_limit(limit: int, working: Working, service: Service) -> None:
    with a_run(working, service, "30,30:35") as place:
        assert len(decide(place, limit=limit).steps) == max(0, limit)


def test_more_than_a_hundred_requests_want_a_persons_consent(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        check_consent(100, cost(place, 100))
        with pytest.raises(ConsentMissing, match="101 chips, 1,010,000 pixels") as refusal:
            check_consent(101, cost(place, 101))
    assert isinstance(refusal.value, BadInput)


def test_a_chip_not_looked_at_in_this_run_is_not_asked_for(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        chip, record = next(iter(known(place).items()))
        earlier = replace(record, look=replace(record.look, at=place.campaign.started - timedelta(seconds=1)))
        place.ledger.write(lambda ledger: remember(ledger, place.ground, {chip: earlier}))
        assert decide(place).steps == {}


# Guards


def long_ago(place: Site, **how: Any) -> dict[Chip, Record]:
    """Twenty chips of the tile that were asked for an hour ago, by the ledger."""
    at = datetime.now(UTC) - timedelta(hours=1)
    asked = Asked(1, 1, at, refresh=False, renew=False, update_before=None, answer="queued")
    record = Record(State.QUEUED, at, Look(at, ticketed=True), asked=replace(asked, **how))
    chips = [Chip(-1815585 + 3000 * column, 2864805) for column in range(SAMPLE)]

    def note(ledger: Any) -> None:
        for chip in chips:
            note_request(ledger, place.ground, chip, asked, None)
        remember(ledger, place.ground, dict.fromkeys(chips, record))

    place.ledger.write(note)
    return dict.fromkeys(chips, record)


@pytest.mark.parametrize("kind", ["bad ends", "silence"])
def test_a_guard_trips_stays_so_and_is_lifted_by_a_person(kind: str, working: Working, service: Service) -> None:
    now = datetime.now(UTC)
    bad = {"rows_at": now, "settled_at": now, "outcome": State.FLAWED} if kind == "bad ends" else {}
    with a_run(working, service) as place:
        long_ago(place, **bad)
        asking = decide(place)
        assert (asking.steps, asking.held_back) == ({}, 1)
        assert "`overlander tile release`" in asking.guard
        with place.ledger.read() as ledger:
            assert tile_note(ledger, place.ground).guard == asking.guard
    with a_run(working, service) as place:
        assert decide(place).steps == {}
    with a_run(working, service, "0,0:20") as place:
        release_tile(place)
    with a_run(working, service) as place:
        assert (len(decide(place).steps), decide(place).guard) == (1, "")
    assert service.received() == []


def test_a_service_that_never_says_whether_a_request_arrived_is_sent_no_more(
    working: Working, service: Service
) -> None:
    service.plan({"*": [{"html": 502}]})
    with a_run(working, service, "30,30:45") as place:
        asked = ask(place)
        assert (asked.sent, asked.uncertain) == (UNCLEAR_IN_A_ROW, UNCLEAR_IN_A_ROW)
        asking = decide(place)
        assert (asking.steps, asking.held_back) == ({}, 15 - UNCLEAR_IN_A_ROW)
        assert "`overlander tile request --states uncertain --again`" in asking.guard
        chip = place.campaign.chips[-1]
        assert request(place, [(chip, Step("request"))], datetime.now(UTC)).sent == 0
        assert len(service.received()) == UNCLEAR_IN_A_ROW
        service.plan({})
        release_tile(place)
        assert ask(place, again={State.UNCERTAIN}).sent == 15
        bring_home(place)
        assert states(place) == ["complete"] * 15


def test_too_many_requests_are_no_attempt_and_the_rest_that_is_asked_for_is_given(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_run(working, service) as place:
        rests: list[float] = []
        monkeypatch.setattr(place.stopping, "wait", rests.append)

        def busy(*_: Any) -> Receipt:
            raise ThrottledError("Too many requests.", 3_600.0)

        with monkeypatch.context() as patch:
            patch.setattr(ChangeResults, "_receipt", busy)
            with pytest.raises(ThrottledError):
                ask(place)
        assert (rests, only(place).asked) == ([LONGEST_REST_S], None)


def test_requests_written_off_are_still_known_as_ours(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"error_before_publish": True})
        ask(place)
        release_tile(place)
        look(place)
        assert (only(place).state, only(place).asked.attempts) == (State.UNCERTAIN, 0)
        assert decide(place).steps == {}
    assert len(service.received()) == 1


def test_a_released_chip_is_asked_for_again_by_the_next_run(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"rows_lost": [5], "times": 2})
        bring_home(place)
        assert states(place) == ["quarantined"]
        assert release_tile(place) == Released(quarantined=1, waiting=0, guard="")
    with a_run(working, service) as place:
        bring_home(place)
        assert (states(place), only(place).asked.attempts) == (["complete"], 1)
    assert service.refreshes() == [False, True, True]


def test_a_chip_given_up_while_it_waited_is_asked_for_again_after_its_release(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "1")
    monkeypatch.setenv("OVERLANDER_MAX_ATTEMPTS", "1")
    with a_run(working, service, "30,30:32") as place:
        silent = place.campaign.chips[0]
        trouble(place, service, {"lost_job": True, "times": 1})
        ask(place, only={silent})
        long_after = known(place)[silent].asked.at + timedelta(seconds=1.1)
        await_that(lambda: datetime.now(UTC) > long_after)
        bring_home(place)
        assert states(place) == ["quarantined", "complete"]
        assert release_tile(place).quarantined == 1
    with a_run(working, service, "30,30:32") as place:
        bring_home(place)
        assert states(place) == ["complete", "complete"]
    assert service.refreshes(silent) == [False, True]


# Clocks, and other people


@pytest.mark.campaign
@pytest.mark.parametrize(("hours", "queue_s"), [(-6, 12), (10, 1)], ids=["UTC-6, long", "UTC+10, short"])
def test_a_queue_ten_times_as_long_as_the_patience_gets_one_request_a_chip(
    hours: int, queue_s: float, working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "1.2")
    with a_run(working, service, "30,30:33") as place:
        service.plan(worker_clock_offset_h=hours, queue_delay_s=queue_s)
        bring_home(place)
        assert states(place) == ["complete"] * 3
    assert [service.refreshes(chip) for chip in place.campaign.chips] == [[False]] * 3


def test_somebody_elses_request_is_waited_for_however_long_ago_ours_was(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "3")
    with a_run(working, service, "30,30:32") as place:
        ours, later = place.campaign.chips
        ask(place, only={ours})
        bring_home(place, until=lambda: known(place)[ours].state == State.COMPLETE)
        long_after = known(place)[ours].asked.at + timedelta(seconds=3.1)
        await_that(lambda: datetime.now(UTC) > long_after)
        bring_home(place, until=lambda: known(place)[later].state == State.COMPLETE)
        service.plan(paused=True)
        service.somebody_else_asks(ours)
        look(place)
        assert states(place) == ["stale", "complete"]
        assert decide(place).steps == {}
        service.plan(paused=False)
        bring_home(place)
        assert states(place) == ["complete", "complete"]
    assert service.refreshes(ours) == [False, True]


def test_a_chip_that_somebody_else_asked_for_since_it_was_looked_at_is_not_asked_for_again(
    working: Working, service: Service
) -> None:
    service.plan(paused=True)
    with a_run(working, service) as place:
        (chip,) = place.campaign.chips
        ask(place)
        look(place)
        service.somebody_else_asks(chip)
        step = Step("request", "The queue moved past it.", refresh=True, look_first=True)
        assert request(place, [(chip, step)], datetime.now(UTC)).sent == 0
        assert states(place) == ["queued"]
    assert service.refreshes() == [False, True]


# Asking again, every row anew


def test_a_chip_asked_for_again_is_home_only_when_every_row_is_new(working: Working, service: Service) -> None:
    with a_run(working, service) as place:
        trouble(place, service, {"failed_pixels": 5, "times": 1}, {"rows_lost": 7, "times": 1})
        bring_home(place)
        assert states(place) == ["flawed"]
        last = only(place).look.last_produced
        assert ask(place, again={State.FLAWED}).sent == 1
        bring_home(place, until=lambda: states(place) == ["incomplete"])
        assert len(only(place).missing) == 7
        assert only(place).look.pixels == PIXELS
        bring_home(place)
        assert states(place) == ["complete"]
        assert only(place).look.first_produced > last
    assert service.refreshes() == [False, True, True]


def test_only_the_chips_that_were_named_are_asked_for(working: Working, service: Service) -> None:
    service.plan(paused=True)
    with a_run(working, service, "30,30:32") as place:
        ask(place, only={place.campaign.chips[1]})
        assert states(place) == ["unrequested", "queued"]
