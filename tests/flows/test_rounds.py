"""Bringing a tile home: whatever comes home in a run is saved by it, and what holds it back is told."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows import rounds
from flows.tile import tile_campaign
from tasks.chips import export as export_stage
from tasks.chips import settle as settle_stage
from tasks.chips.campaign import Site
from tasks.chips.export import ExportTally
from tasks.chips.heal import Step
from tasks.chips.request import Asking, decide
from tasks.chips.settle import Settled, settle
from tasks.errors import ServiceAway
from tests.flows.desk import Desk
from tests.service_desk import QUICK, Service, await_that

TILE = "H05V03"


@pytest.fixture
def service(
    change_results_anew: str, desk: Desk, prefect_api: str, request: pytest.FixtureRequest
) -> Iterator[Service]:
    """The real service without troubles, with an algorithm of the test's own, set for a person in a hurry."""
    found = Service(change_results_anew, f"test:{zlib.crc32(request.node.nodeid.encode())}")
    found.enable()
    given = {**QUICK, "SERVICE_URL": found.url, "ALGORITHM": found.algorithm}
    with desk.at_work(**{f"OVERLANDER_{name}": value for name, value in given.items()}):
        yield found


def run(desk: Desk, window: str, **parameters: Any) -> State[Any]:
    given = {"tile": TILE, "window": window, "out": desk.out} | parameters
    return tile_campaign(**given, return_state=True)  # type: ignore[no-any-return]


def saved(desk: Desk) -> list[Path]:
    return sorted(desk.out.rglob("H05V03_*.json"))


def test_what_a_round_saw_come_home_before_it_failed_is_saved(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Settled] = []

    def failing_once(place: Site, *given: Any, **how: Any) -> Settled:
        seen = settle(place, *given, **how)
        if seen.home and not lost:
            lost.append(seen)
            raise ServiceAway("Cassandra is away.")
        return seen

    monkeypatch.setattr(settle_stage, "settle", failing_once)
    monkeypatch.setattr(rounds, "settle_round", rounds.settle_round.with_options(retry_delay_seconds=0))

    state = run(desk, "20:21,0:1")

    assert (state.name, state.result()["exported"], len(saved(desk))) == ("Completed", 1, 1)
    assert len(lost) == 1


def test_what_came_home_before_the_rounds_failed_for_good_is_saved(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(place: Site, *given: Any, **how: Any) -> Settled:
        seen = settle(place, *given, **how)
        if seen.home:
            raise ServiceAway("Cassandra is away.")
        return seen

    monkeypatch.setattr(settle_stage, "settle", failing)
    monkeypatch.setattr(rounds, "settle_round", rounds.settle_round.with_options(retries=0))

    state = run(desk, "21:22,0:1")

    assert (state.is_failed(), len(saved(desk))) == (True, 1)


@pytest.mark.parametrize(("mode", "files"), [("run", 1), ("request", 0)])
def test_a_chip_found_home_when_it_was_its_turn_to_be_requested_is_saved_by_a_run_that_saves(
    mode: str, files: int, desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.plan(paused=True)
    run(desk, "22:23,0:1", wait=False)

    def late(place: Site, **how: Any) -> Asking:
        (chip,) = place.campaign.chips
        service.plan(paused=False)
        await_that(lambda: place.table.last_pixel(chip, service.algorithm))
        return replace(decide(place, **how), steps={chip: Step("request", refresh=True, look_first=True)})

    monkeypatch.setattr(rounds, "decide", late)
    state = run(desk, "22:23,0:1", wait=False, mode=mode)

    assert (state.name, len(saved(desk))) == ("Completed", files)
    assert service.refreshes() == [False]


def test_a_run_that_leaves_a_chip_at_home_without_its_file_ends_waiting(
    desk: Desk, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(desk, "23:24,0:1", max_requests=1)
    elsewhere = desk.folder / "elsewhere"
    monkeypatch.setattr(export_stage, "export", lambda *_: ExportTally())

    state = run(desk, "23:24,0:1", out=elsewhere)

    assert (state.name, state.result()["exit_status"], state.result()["waiting"]) == ("Waiting", 3, 1)
    assert any("not saved" in step for step in state.result()["next_steps"])
    assert run(desk, "23:24,0:1", out=elsewhere, mode="count").name == "Completed"
