"""Deployments through a real worker: what is registered, how its runs end, what they refuse."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError

from deployments.register import PREFECT_YAML, register
from flows.tile import tile_campaign
from flows.upkeep import converge, verify
from tasks.chips.campaign import site, tile_campaign_of
from tests.flows.desk import Desk, contents

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]  # the first waits for Cassandra, server and worker

TILE = "H05V03"
CORNER = "2:4,0:4"
TILE_RUN = "tile-campaign/tile-campaign"
PATIENCE_S = 150.0
"""A worker looks for runs every few seconds, and a run's process takes some seconds to start."""


@pytest.fixture
def api(deployed: Desk) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def through_worker(deployed: Desk) -> FlowRun:
    """Return how a run of the corner ended that a worker took."""
    return finished(TILE_RUN, tile=TILE, window=CORNER)


def finished(deployment: str, **parameters: Any) -> FlowRun:
    """Start a deployment's run and wait until a worker has brought it to its end."""
    ended = run_deployment(
        deployment, parameters=parameters, timeout=PATIENCE_S, poll_interval=1, as_subflow=False
    )
    assert ended.state is not None
    assert ended.state.is_final(), f"{ended.name} is {ended.state.name} after {PATIENCE_S} s"
    return ended


def chips_in(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in contents(folder).items() if Path(name).name.startswith(TILE)}


def await_that(holds: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < until, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.5)
    return found


# How a run ends that a worker takes


def test_a_run_through_a_worker_gives_the_files_and_the_state_of_one_by_hand(
    through_worker: FlowRun, deployed: Desk, desk: Desk
) -> None:
    with desk.at_work():
        by_hand = tile_campaign(tile=TILE, window=CORNER, max_requests=100, return_state=True)

    assert through_worker.state is not None
    assert (through_worker.state.name, by_hand.name) == ("Waiting", "Waiting")
    assert chips_in(desk.out)
    assert chips_in(desk.out).items() <= chips_in(deployed.out).items()


def test_an_export_on_dask_through_a_worker_gives_the_files_of_one_by_hand(deployed: Desk, desk: Desk) -> None:
    ended = finished("tiles-export/tiles-export", tiles=TILE, window=CORNER, out=str(desk.out))

    assert ended.state is not None
    assert ended.state.name == "Waiting", ended.state.message
    assert chips_in(desk.out)
    assert chips_in(desk.out).items() <= chips_in(deployed.out).items()


def test_a_run_is_found_by_its_tile_region_and_algorithm(
    through_worker: FlowRun, services: dict[str, str]
) -> None:
    assert {TILE, "conus", services["OVERLANDER_ALGORITHM"]} <= set(through_worker.tags)
    assert through_worker.name == f"{TILE} run"


def test_a_run_that_finds_the_tile_taken_ends_skipped_with_the_holders_name(deployed: Desk) -> None:
    with deployed.at_work(), site(tile_campaign_of(TILE), words="the other run"):
        ended = finished(TILE_RUN, tile=TILE, window=CORNER)

    assert ended.state is not None
    assert (ended.state.name, ended.state.is_completed()) == ("Skipped", True)
    assert "'the other run' (process" in str(ended.state.message)


def test_a_tile_that_does_not_exist_fails_with_a_paragraph_and_no_traceback(
    deployed: Desk, api: SyncPrefectClient
) -> None:
    ended = finished(TILE_RUN, tile="H99V99")

    assert ended.state is not None
    assert ended.state.is_failed()
    assert re.search(r"H99V99|99", str(ended.state.message))
    logs = await_that(
        lambda: api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[ended.id]))), "the run's log"
    )
    assert "Traceback" not in " ".join(log.message for log in logs)


def test_a_relative_output_folder_is_refused_since_a_run_of_a_worker_has_none_that_stays(deployed: Desk) -> None:
    ended = finished("tile-campaign/tile-export", tile=TILE, window=CORNER, out="results")

    assert ended.state is not None
    assert ended.state.is_failed()
    assert "Set OVERLANDER_OUT for the worker to an absolute path" in str(ended.state.message)


@pytest.mark.parametrize(
    "wrong",
    [{"tile": "somewhere"}, {"tile": TILE, "window": "all"}, {"tile": TILE, "max_requests": 0}, {"mode": "count"}],
)
def test_parameters_that_cannot_be_meant_are_refused_before_there_is_a_run(
    deployed: Desk, wrong: dict[str, Any]
) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="409"):
        run_deployment(TILE_RUN, parameters=wrong, timeout=0, as_subflow=False)


# What is registered


def test_what_the_file_lists_is_registered_with_schedules_that_wait_for_an_operator(
    deployed: Desk, api: SyncPrefectClient
) -> None:
    listed = {one["name"]: one for one in yaml.safe_load(PREFECT_YAML.read_text())["deployments"]}

    found = {one.name: one for one in api.read_deployments() if one.work_pool_name == "overlander"}

    assert set(found) == set(listed)
    assert not any(schedule.active for one in found.values() for schedule in one.schedules)
    assert {name for name, one in found.items() if one.schedules} == {
        *("hourly", "nightly-survey", "weekly-verify", "region-campaign")
    }
    assert all(one.description for one in found.values())


def test_every_deployment_that_can_request_says_how_much_at_most() -> None:
    for one in yaml.safe_load(PREFECT_YAML.read_text())["deployments"]:
        asks = one["entrypoint"] not in ("flows.upkeep.verify", "flows.tiles.tiles_export") and one[
            "parameters"
        ].get("mode", "run") in (
            "run",
            "request",
        )
        assert ("max_requests" in one["parameters"]) >= asks, one["name"]


def test_the_deployments_bear_the_version_that_is_installed() -> None:
    from importlib.metadata import version

    deployments = yaml.safe_load(PREFECT_YAML.read_text())["deployments"]
    assert {one["version"] for one in deployments} == {version("overlander")}


def test_registering_again_changes_nothing_and_leaves_what_an_operator_has_set(
    deployed: Desk, api: SyncPrefectClient
) -> None:
    weekly = api.read_deployment_by_name("verify/weekly-verify")
    region = api.read_deployment_by_name("region-campaign/region-campaign")
    before = {one.id for one in api.read_deployments()}
    api.update_deployment_schedule(weekly.id, weekly.schedules[0].id, active=True)
    api.create_deployment_schedules(region.id, [(IntervalSchedule(interval=timedelta(minutes=10)), False)])
    api.update_deployment(region.id, DeploymentUpdate(parameters={"tiles": "H05V03", "max_requests": 2500}))
    try:
        again = register(print)

        schedules = api.read_deployment_by_name("verify/weekly-verify").schedules
        assert [(one.active, one.slug) for one in schedules] == [(True, "weekly")]
        found = api.read_deployment_by_name("region-campaign/region-campaign")
        assert found.parameters == {"tiles": "H05V03", "max_requests": 2500}
        assert {type(one.schedule).__name__ for one in found.schedules} == {"CronSchedule", "IntervalSchedule"}
        assert {one.id for one in api.read_deployments()} == before
        assert TILE_RUN in again.deployments
        assert len(api.read_automations()) == len(again.automations)
    finally:
        for schedule in api.read_deployment_by_name("region-campaign/region-campaign").schedules:
            if isinstance(schedule.schedule, IntervalSchedule):
                api.delete_deployment_schedule(region.id, schedule.id)
        api.update_deployment(region.id, DeploymentUpdate(parameters=region.parameters))
        schedule = api.read_deployment_by_name("verify/weekly-verify").schedules[0]
        api.update_deployment_schedule(weekly.id, schedule.id, active=False)


def test_a_worker_with_room_takes_what_starts_runs_first(deployed: Desk, api: SyncPrefectClient) -> None:
    priorities = {queue.name: queue.priority for queue in api.read_work_queues(work_pool_name="overlander")}

    assert max(priorities["upkeep"], priorities["regions"]) < priorities["default"]


# Upkeep


def test_upkeep_starts_a_run_of_an_open_tile_as_it_was_run_last_and_leaves_one_to_come_alone(
    through_worker: FlowRun, deployed: Desk, api: SyncPrefectClient
) -> None:
    before = {run.id for run in api.read_flow_runs()}

    def runs() -> list[FlowRun]:
        new = [one for one in api.read_flow_runs() if one.deployment_id and one.id not in before]
        return [one for one in new if one.parameters.get("max_requests") == 7]

    queue = api.read_work_queue_by_name("default", work_pool_name="overlander")
    api.update_work_queue(queue.id, is_paused=True)  # so that the first one is still to come when the second looks
    try:
        with deployed.at_work():
            first, second = (converge(max_requests=7, return_state=True) for _ in range(2))
    finally:
        api.update_work_queue(queue.id, is_paused=False)

    assert first.result() == {"open": 1, "started": 1}
    assert second.result() == {"open": 1, "started": 0}

    started = await_that(runs, "a run")
    assert len(started) == 1
    wanted = {"tile": TILE, "window": CORNER, "wait": False, "out": str(deployed.out)}
    assert wanted.items() <= started[0].parameters.items()
    ended = await_that(lambda: (run := api.read_flow_run(started[0].id)).state.is_final() and run, "its end")
    assert ended.state.name == "Waiting"


def test_upkeep_leaves_a_tile_alone_that_somebody_is_at_work_on(through_worker: FlowRun, deployed: Desk) -> None:
    with deployed.at_work(), site(tile_campaign_of(TILE), words="the other run"):
        assert converge(return_state=True).result() == {"open": 1, "started": 0}


def test_upkeep_without_its_deployment_says_who_registers_it(through_worker: FlowRun, deployed: Desk) -> None:
    with deployed.at_work():
        ended = converge(deployment="tile-campaign/none-such", return_state=True)

    assert ended.is_failed()
    assert "`overlander deploy` registers it" in str(ended.message)


def test_a_delivered_file_that_changed_is_told_of_and_what_writes_it_again(desk: Desk, prefect_api: str) -> None:
    with desk.at_work():
        tile_campaign(tile=TILE, window="2:3,0:1", mode="export", return_state=True)
        assert verify(return_state=True).name == "Completed"
        changed = next(desk.out.rglob(f"{TILE}_*.json"))
        changed.write_bytes(changed.read_bytes() + b" ")

        ended = verify(tile=TILE, return_state=True)

    assert ended.name == "NeedsAttention"
    assert ended.result() == {"tiles": 1, "files": 1, "wrong": 1}
    assert "overlander tile export TILE --recount" in str(ended.message)


def test_a_scheduled_run_fires_by_itself_and_finds_delivered_files_as_they_were(
    through_worker: FlowRun, deployed: Desk, api: SyncPrefectClient
) -> None:
    weekly = api.read_deployment_by_name("verify/weekly-verify")
    every_minute = IntervalSchedule(interval=timedelta(seconds=60))
    schedule = api.create_deployment_schedules(weekly.id, [(every_minute, True)])[0]
    try:
        ended = await_that(
            lambda: [
                run
                for run in api.read_flow_runs()
                if run.deployment_id == weekly.id and run.auto_scheduled and run.state and run.state.is_final()
            ],
            "a scheduled run's end",
        )
    finally:
        api.delete_deployment_schedule(weekly.id, schedule.id)
    assert ended[0].state.name == "Completed"
    assert "are as delivered" in ended[0].state.message
