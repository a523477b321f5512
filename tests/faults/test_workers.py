"""Two workers, one of them killed in the middle: the other finishes everything, and nothing is sent twice."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.schedules import IntervalSchedule
from sqlalchemy import select

from deployments.automations import automations, notification_block, register_automations
from deployments.sandbox.scripted_wps import serving
from tasks.chips.campaign import tile_campaign_of
from tasks.chips.grid import Chip
from tasks.ledger.schema import leases, units
from tasks.ledger.store import Ledger
from tasks.ledger.units import AT_WORK, Own
from tests.crew import SILENT_FOR, Crew, Worker, await_that, crew
from tests.faults.conftest import AtDesk
from tests.flows.desk import Ran
from tests.flows.polygons_at_desk import YEAR, desk_at, wetlands
from tests.service_desk import Service
from tests.webhook import webhook

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

TILES = ("H05V03", "H05V04", "H06V03", "H06V04")
WINDOW = "0:2,0:2"
PATIENT = {"OVERLANDER_STALL_AFTER_S": "60"}
"""Nothing stalls meanwhile, so that nothing is asked for again."""


def chips_of(tile: str, service: Service) -> list[Chip]:
    return tile_campaign_of(tile, window=WINDOW, algorithm=service.algorithm).chips


# Tiles


def test_tiles_of_a_killed_worker_are_finished_by_the_other(
    service_named: Callable[[str], Service], desk_for: AtDesk
) -> None:
    service = service_named("test:two-workers")
    service.plan(pixels_per_s=4_000, workers=2)
    desk = desk_for(service, "region")
    chips = {tile: chips_of(tile, service) for tile in TILES}
    with (
        crew(desk, OVERLANDER_STALL_AFTER_S="60") as people,
        people.worker("south"),
        people.worker("north") as north,
    ):
        assert region(people).status == 3  # all are begun, none is waited for
        run = await_that(lambda: in_the_middle(north, people, service), "a run of north's in the middle")
        north.kill()

        last = await_that(lambda: finished(region(people)), "the whole region")
        killed = people.flow_run(run)

    assert last["conditions"]["finished"] == len(TILES)
    assert killed.state is not None
    assert killed.state.name == "Crashed"
    assert "No sign of life" in str(killed.state.message)
    assert {chip: len(service.received(chip)) for tile in TILES for chip in chips[tile]} == {
        chip: 1 for tile in TILES for chip in chips[tile]
    }
    for tile in TILES:
        assert len(list(desk.out.rglob(f"{tile}_*.json"))) == len(chips[tile])


def region(people: Crew) -> Ran:
    asked = ("--tiles", ",".join(TILES), "--window", WINDOW, "--at-once", str(len(TILES)))
    return people.run("region", "run", "conus", *asked, "--max-requests", "4", "--json")


def finished(ran: Ran) -> dict[str, Any] | None:
    """Return what a region's run gave when it was the last that was needed."""
    assert ran.status in (0, 3), ran.err
    return json.loads(ran.out) if ran.status == 0 else None


def in_the_middle(worker: Worker, people: Crew, service: Service) -> str | None:
    """Return which run of a worker has asked for chips of its tile and has not got all of them."""
    jobs = service.jobs()
    for run in worker.runs():
        tile = people.flow_run(run).parameters["tile"]
        states = [job["state"] for job in jobs if Chip(job["chip_x"], job["chip_y"]) in chips_of(tile, service)]
        if states and "done" in states and set(states) != {"done"}:
            return run
    return None


# Polygons

POLYGONS, CEILING = 60, 6
SLOW = {"duration_s": [1, 4], "troubles": [{"when": "execute", "share": 0.5, "slow_s": 2}]}
"""Jobs of some seconds, and every other request stays open for a while."""


@pytest.fixture(params=["SQLite", "Postgres"])
def shared_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a ledger is that two workers share."""
    if request.param == "SQLite":
        return str(tmp_path / "shared.sqlite")
    return str(request.getfixturevalue("postgres_ledger"))


def test_polygons_of_a_killed_worker_are_finished_by_the_other(tmp_path: Path, shared_ledger: str) -> None:
    desk = desk_at(tmp_path, "http://127.0.0.1:9/wps")
    source = wetlands(desk, POLYGONS, size=90)
    with serving(SLOW) as wps:
        settings = {"OVERLANDER_WPS_URL": wps.url, "OVERLANDER_WPS_CEILING": str(CEILING)}
        with (
            crew(desk, OVERLANDER_LEDGER=shared_ledger, **settings) as people,
            people.worker("north") as north,
            people.worker("south") as south,
            Ledger.open(shared_ledger) as ledger,
        ):
            asked = {"source": str(source), "interval": YEAR, "max_requests": 2 * POLYGONS}
            runs = [people.start_run("polygon-campaign/polygon-campaign", **asked) for _ in range(2)]
            await_that(lambda: set(north.runs()) & set(map(str, runs)), "a run in north's hands")
            dead = await_that(lambda: run_of(ledger, north), "north's run")
            await_that(lambda: run_of(ledger, south), "south's run")
            await_that(lambda: is_in_the_middle(ledger, dead), "north's run in the middle", every_s=0.05)
            assert wps.summary()["most_outstanding"] <= CEILING
            north.kill()
            perhaps_sent, in_flight = left_by(ledger, dead)

            ended = [people.await_end(run) for run in runs]
            states = own(ledger)
        received = Counter((one["geometry"], one["start"]) for one in wps.received())
        summary = wps.summary()
    print(f"\nkilled with {in_flight} jobs in flight and {len(perhaps_sent)} requests open: {states}, {summary}")
    names = sorted(str(one.state.name) for one in ended if one.state is not None)
    assert names == sorted(["Crashed", "NeedsAttention" if perhaps_sent else "Completed"])
    assert set(received.values()) == {1}
    assert states == Counter(done=POLYGONS - len(perhaps_sent)) + Counter(uncertain=len(perhaps_sent))
    assert summary["most_outstanding"] <= CEILING + len(perhaps_sent)  # those that arrived all the same


def run_of(ledger: Ledger, worker: Worker) -> str | None:
    """Return the lease of the polygon run that one of a worker's processes holds."""
    processes = {process.pid for process in worker.family()}
    with ledger.read() as reading:
        held = reading.execute(select(leases).where(leases.c.holder != "")).all()
    ours = (row.name for row in held if json.loads(row.holder)["pid"] in processes)
    return next((name for name in ours if name.startswith("polygons ")), None)


def is_in_the_middle(ledger: Ledger, run: str) -> bool:
    """Return whether a run has jobs in flight and requests open."""
    query = select(units.c.own).where(units.c.run == run).distinct()
    with ledger.read() as reading:
        return set(reading.scalars(query)) >= set(AT_WORK)


def left_by(ledger: Ledger, run: str) -> tuple[set[int], int]:
    """Return the units that a dead run was sending, and how many jobs it had that no other run has taken over."""
    with ledger.read() as reading:
        rows = reading.execute(select(units.c.unit, units.c.own).where(units.c.run == run)).all()
    sending = {row.unit for row in rows if row.own in (Own.SUBMITTING.value, Own.UNCERTAIN.value)}
    return sending, sum(row.own == Own.IN_FLIGHT.value for row in rows)


def own(ledger: Ledger) -> Counter[str]:
    """Return how many units are in which state."""
    with ledger.read() as reading:
        return Counter(reading.scalars(select(units.c.own)))


# A schedule

TILE_RUN = "tile-campaign/tile-campaign"


def test_a_killed_run_is_marked_its_schedules_next_run_finishes_it_and_a_person_is_told(
    service_named: Callable[[str], Service], desk_for: AtDesk
) -> None:
    service = service_named("test:schedule")
    good, poisoned = chips_of(TILES[0], service)[:3], chips_of(TILES[0], service)[3]
    service.plan({poisoned: [{"rows_lost": [17]}]}, pixels_per_s=3_000)
    desk = desk_for(service, "schedule")
    with (
        webhook() as (url, notices),
        crew(desk, OVERLANDER_MAX_ATTEMPTS="1", OVERLANDER_STALL_AFTER_S="60") as people,
    ):
        notify(people, url)
        with people.worker("north") as north:
            killed = people.start_run(TILE_RUN, tile=TILES[0], window=WINDOW, max_requests=10)
            await_that(lambda: in_the_middle(north, people, service), "the run in the middle")
            north.kill()
        assert "No sign of life" in str(people.await_end(killed).state.message)  # type: ignore[union-attr]
        assert notices == []

        with people.worker("south", runs=2):
            switch_on(people, "converge/hourly", every=timedelta(seconds=60))
            await_that(lambda: states_of_tile_runs(people, but=killed) >= {"NeedsAttention"}, "the finished tile")
            await_that(lambda: notices, "a notice")

    assert {chip: len(service.received(chip)) for chip in (*good, poisoned)} == dict.fromkeys((*good, poisoned), 1)
    assert len(list(desk.out.rglob(f"{TILES[0]}_*.json"))) == len(good)
    assert {notice["subject"] for notice in notices} == {f"Overlander: {TILES[0]} {service.algorithm}"}
    assert all("1" in notice["body"] for notice in notices)


def notify(people: Crew, url: str) -> None:
    """Have a webhook told of what needs a person."""
    with people.api() as api:
        fields = {"subject": "{{subject}}", "body": "{{body}}"}
        block = CustomWebhookNotificationBlock(name="operators", url=url, json_data=fields)
        block.save("operators", overwrite=True)
        told = notification_block(api, "custom-webhook/operators")
        register_automations(api, automations(told, silent_for=SILENT_FOR))


def switch_on(people: Crew, deployment: str, every: timedelta) -> None:
    """Have a deployment started by a schedule."""
    with people.api() as api:
        found = api.read_deployment_by_name(deployment)
        api.create_deployment_schedules(found.id, [(IntervalSchedule(interval=every), True)])


def states_of_tile_runs(people: Crew, but: UUID) -> set[str]:
    """Return the states of the tile's other runs."""
    named = FlowFilter(name=FlowFilterName(any_=["tile-campaign"]))
    with people.api() as api:
        found = api.read_flow_runs(flow_filter=named, limit=50)
    return {str(run.state.name) for run in found if run.state is not None and run.id != but}
