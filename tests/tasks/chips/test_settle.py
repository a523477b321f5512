"""Watching what was asked for: what a round ends by, and what it hands on."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.chips import settle as settle_stage
from tasks.chips.campaign import Site
from tasks.chips.grid import Chip
from tasks.chips.report import standing
from tasks.chips.results import ResultsTable
from tasks.chips.settle import Settled, settle
from tasks.chips.states import Record
from tasks.chips.survey import look_again
from tasks.errors import ServiceTimedOut
from tests.service_desk import Service, await_that
from tests.tasks.chips.rounds import Working, a_run, ask, bring_home, known, only, states


def test_a_round_hands_on_the_chips_that_came_home(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_stage, "HAND_ON_AFTER_S", 0.0)
    with a_run(working, service, "40,40:42") as place:
        first, second = place.campaign.chips
        service.plan({second: [{"never": True}]})
        ask(place)
        assert settle(place, 30) == Settled((first,), (), 1)
        assert place.progress.settled == 1


def test_a_chip_that_ended_short_ends_the_round_for_it_may_be_asked_again(
    working: Working, service: Service
) -> None:
    with a_run(working, service) as place:
        service.plan({place.campaign.chips[0]: [{"rows_lost": 3}]})
        ask(place)
        assert settle(place, 30) == Settled((), tuple(place.campaign.chips), 0)


def test_a_round_ends_with_its_time_whatever_is_out(working: Working, service: Service) -> None:
    service.plan(paused=True)
    with a_run(working, service) as place:
        ask(place)
        started = time.monotonic()
        assert settle(place, 0.4) == Settled((), (), 1)
        assert 0.4 <= time.monotonic() - started < 3


def test_a_round_begins_no_look_after_its_time_and_remembers_what_it_saw(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_QUERIES_IN_FLIGHT", "1")
    with a_run(working, service, "40,40:43") as place:
        ask(place)
        await_that(lambda: all(place.table.last_pixel(chip, service.algorithm) for chip in known(place)))

        over = time.monotonic() + 0.4

        def slow(site: Site, chip: Chip, before: Record | None) -> Record:
            await_that(lambda: time.monotonic() > over)
            return look_again(site, chip, before)

        monkeypatch.setattr(settle_stage, "look_again", slow)
        seen = settle(place, 0.4)
        assert (len(seen.home), seen.out) == (1, 2)
        assert sorted(states(place)) == ["complete", "queued", "queued"]


def test_the_first_rows_of_a_pilot_end_the_round(working: Working, service: Service) -> None:
    with a_run(working, service, pilot=True) as place:
        service.plan(pixels_per_s=300)
        ask(place)
        assert settle(place, 30, first_rows=True) == Settled((), (), 1)
        assert states(place) == ["running"]


def test_a_run_that_is_being_stopped_looks_at_nothing_more(working: Working, service: Service) -> None:
    service.plan(paused=True)
    with a_run(working, service) as place:
        ask(place)
        before = known(place)
        place.stopping.set()
        assert settle(place, 30) == Settled((), (), 1)
        assert known(place) == before


def test_a_chip_that_waits_too_long_is_not_waited_for_and_needs_a_person(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_WAIT_LIMIT_S", "0.5")
    with a_run(working, service) as place:
        service.plan({"*": [{"lost_job": True}]})
        bring_home(place)
        assert states(place) == ["queued"]
        work = place.campaign
        with place.ledger.read() as ledger:
            found = standing(ledger, place.ground, work.tile, work.chips, work.layout.root, rules(place))
        assert (found.needs_person, found.exit_status) == (1, 4)
    assert service.refreshes() == [False]


def test_a_round_does_not_go_on_for_a_chip_that_has_waited_too_long_meanwhile(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_WAIT_LIMIT_S", "1")
    service.plan(paused=True)
    with a_run(working, service) as place:
        ask(place)
        assert settle(place, 60).out == 0


def rules(place: Site) -> Any:
    from tasks.chips.heal import rules_of

    return rules_of(place.settings)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Chip]:
    """Return where each look at all of a chip's rows is noted from now on."""
    looked: list[Chip] = []
    look: Callable[..., Any] = ResultsTable.look

    def noting(table: ResultsTable, chip: Chip, algorithm: str) -> Any:
        looked.append(chip)
        return look(table, chip, algorithm)

    monkeypatch.setattr(ResultsTable, "look", noting)
    return looked


def test_a_renewed_chip_is_not_counted_before_its_last_pixel_is_written(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_run(working, service) as place:
        bring_home(place)
        (chip,) = place.campaign.chips
        service.plan(paused=True)
        ask(place, again={only(place).state})
        looked = counting(monkeypatch)
        assert settle(place, 1.5).out == 1
        assert looked == []
        service.plan(paused=False)
        assert settle(place, 30).home == (chip,)
        assert looked == [chip]


def test_one_chip_that_cannot_be_looked_at_keeps_no_other_from_coming_home(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_stage, "HAND_ON_AFTER_S", 0.0)

    with a_run(working, service, "40,40:42") as place:
        bad, good = place.campaign.chips

        def impatient(site: Site, chip: Chip, before: Record | None) -> Record:
            if chip == bad:
                raise ServiceTimedOut("Cassandra did not answer in time.")
            return look_again(site, chip, before)

        monkeypatch.setattr(settle_stage, "look_again", impatient)
        ask(place)
        assert settle(place, 30) == Settled((good,), (), 1)


def test_a_stall_is_seen_on_our_clock_whatever_the_workers_says(
    working: Working, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "0.6")
    with a_run(working, service) as place:
        service.plan({"*": [{"crash_loop": True}]}, worker_clock_offset_h=10, crash_pause_s=0.1)
        ask(place)
        await_that(lambda: settle(place, 5).ended)
        assert states(place) == ["stalled"]
        assert only(place).asked.settled_at <= datetime.now(UTC)
