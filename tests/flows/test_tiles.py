"""Many tiles exported on a Dask cluster: files and notes as a tile's own export leaves them, whatever happens."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from deployments.sandbox import cassandra, seed
from flows import dask_cluster as cluster_module
from flows.tile import tile_campaign
from flows.tiles import tiles_export
from tasks.chips.campaign import site, tile_campaign_of
from tasks.chips.grid import REGIONS, tile_named
from tasks.ledger.chips import recall, saved
from tasks.ledger.keys import Ground
from tasks.ledger.regions import last_source
from tasks.ledger.store import Ledger
from tests.flows.conftest import PASSWORD
from tests.flows.desk import Desk, contents
from tests.service_desk import await_that

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]  # the first waits for Cassandra and server

TILES = ("H05V03", "H05V04")
ALGORITHM = "test:dask"
ROW = "0:1,0:3"
FAILED = {(-1815585 + 30, 2864805 - 60)}
"""A pixel of the first chip of H05V03."""


@pytest.fixture(scope="module")
def chips(seeded_node: cassandra.Node) -> None:
    """Three chips of each of two tiles are home; a pixel of one of them failed."""
    with cassandra.session(seeded_node, timeout_s=120) as connected:
        for name in TILES:
            tile = tile_named(name, REGIONS["conus"])
            for column in range(3):
                chip = tile.chip(0, column)
                failed = {point for point in FAILED if chip.position_of(*point) is not None}
                seed.write_chip(connected, chip.x, chip.y, results=["[]"], algorithm=ALGORITHM, failed=failed)


@pytest.fixture(scope="module")
def workers(chips: None) -> Iterator[Any]:
    """Return a Dask cluster of two processes that are not told where Cassandra is."""
    with cluster_of(2) as cluster:
        yield cluster


@pytest.fixture
def at_desk(desk: Desk, prefect_api: str, chips: None) -> Iterator[Desk]:
    with desk.at_work(OVERLANDER_ALGORITHM=ALGORITHM):
        yield desk


@pytest.fixture
def api(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def cluster_of(workers: int) -> Any:
    import distributed

    return distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


def on_dask(**how: Any) -> Any:
    """Return the flow with a cluster given from outside."""
    from prefect_dask import DaskTaskRunner

    return tiles_export.with_options(task_runner=DaskTaskRunner(**how))


def asked_at(desk: Desk) -> dict[str, Any]:
    return {"tiles": ",".join(TILES), "window": ROW, "out": desk.out}


def export(desk: Desk, **parameters: Any) -> State[Any]:
    given = asked_at(desk) | {"chips_per_task": 1} | parameters
    return tiles_export(**given, return_state=True)  # type: ignore[no-any-return]


def by_itself(desk: Desk) -> Desk:
    """Return another desk, at which each tile's own export has saved it."""
    other = Desk(desk.folder / "other", desk.services)
    with other.at_work(OVERLANDER_ALGORITHM=ALGORITHM):
        for tile in TILES:
            tile_campaign(tile=tile, window=ROW, mode="export", out=other.out, return_state=True)
    return other


def files(desk: Desk) -> dict[str, bytes]:
    return {name: content for name, (content, _) in contents(desk.out).items()}


def chips_in(desk: Desk) -> list[str]:
    return [name for name in files(desk) if name.endswith(".json")]


def notes(desk: Desk, tile: str) -> list[Any]:
    """Return what the ledger keeps of a tile's files and chips, without when it was written and where."""
    with Ledger.open(desk.folder / "ledger.sqlite") as opened, opened.read() as ledger:
        ground = Ground(str(last_source(ledger, ALGORITHM, "conus")), ALGORITHM, "conus", tile)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        kept = [
            replace(one, exported_at=at, mtime_ns=0, file=one.file and one.file.relative_to(desk.out))
            for _, one in sorted(saved(ledger, ground, desk.out).items())
        ]
        records = [
            replace(record, since=at, farthest_at=None, look=replace(record.look, at=at))
            for _, record in sorted(recall(ledger, ground).items())
        ]
    return [*kept, *records]


def test_tiles_are_saved_as_their_own_exports_save_them_and_a_second_run_keeps_all(at_desk: Desk) -> None:
    state = export(at_desk)

    assert state.name == "Completed", state.message
    assert [line["exported"] for line in state.result()["tiles"]] == [3, 3]
    other = by_itself(at_desk)
    assert len(chips_in(at_desk)) == 6
    assert files(at_desk) == files(other)
    for tile in TILES:
        assert len(notes(at_desk, tile)) == 6
        assert notes(at_desk, tile) == notes(other, tile)

    before = contents(at_desk.out)
    again = at_desk.run(
        *("region", "export", "conus", "--tiles", ",".join(TILES), "--window", ROW, "--json"),
        OVERLANDER_ALGORITHM=ALGORITHM,
    )

    assert again.status == 0, again.err
    summary = json.loads(again.out)
    assert (summary["exported"], summary["kept"]) == (0, 6)
    assert contents(at_desk.out) == before


def test_a_cluster_given_from_outside_reads_with_a_block_and_its_password_is_told_nowhere(
    at_desk: Desk, workers: Any, results_block: str, api: SyncPrefectClient
) -> None:
    given = on_dask(address=workers.scheduler_address)
    state = given(**asked_at(at_desk), chips_per_task=2, results_block=results_block, return_state=True)

    assert state.name == "Completed", state.message
    assert len(chips_in(at_desk)) == 6
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    runs = api.read_task_runs(flow_run_filter=of_this_run)
    assert sum(run.name.startswith("write H05") for run in runs) == 4, "batches of two chips and of one"
    assert PASSWORD not in "".join(run.model_dump_json() for run in runs)


def test_a_worker_killed_in_the_middle_costs_no_chip(at_desk: Desk, prefect_api: str) -> None:
    with cluster_of(2) as cluster:

        def kill_one_at_the_first_file() -> None:
            await_that(lambda: list(at_desk.out.rglob("H05*.json")), within_s=300)
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_one_at_the_first_file)
        killer.start()
        state = export(at_desk, dask_address=cluster.scheduler_address)
        killer.join()

    assert state.name == "Completed", state.message
    assert files(at_desk) == files(by_itself(at_desk))
    assert sum(line["exported"] for line in state.result()["tiles"]) == 6


def test_a_worker_that_does_not_know_where_cassandra_is_says_so(at_desk: Desk, workers: Any) -> None:
    state = export(at_desk, tiles=TILES[0], dask_address=workers.scheduler_address)

    assert state.is_failed()
    assert "Set OVERLANDER_CASSANDRA_HOSTS" in str(state.message)
    assert chips_in(at_desk) == []


def test_a_tile_that_another_run_is_at_work_on_is_skipped_and_told(
    at_desk: Desk, workers: Any, results_block: str
) -> None:
    with site(tile_campaign_of(TILES[0]), words="the other run"):
        state = export(at_desk, dask_address=workers.scheduler_address, results_block=results_block)

    skipped, other = state.result()["tiles"]
    assert (state.name, state.result()["exit_status"]) == ("Waiting", 3)
    assert (skipped["state"], other["state"], other["exported"]) == ("Skipped", "Completed", 3)
    assert "the other run" in skipped["message"]


def test_a_chip_that_cannot_be_written_is_told_and_the_others_are_saved(
    at_desk: Desk, workers: Any, results_block: str
) -> None:
    in_the_way = at_desk.out / "test_dask" / TILES[0] / "flawed"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder")

    state = export(at_desk, dask_address=workers.scheduler_address, results_block=results_block)

    assert state.is_failed()
    assert "Something else stands at that place" in str(state.message)
    assert "1 Failed, 1 Completed" in str(state.message)
    assert len(chips_in(at_desk)) == 5


def test_a_cluster_without_workers_is_not_waited_for_without_end(
    at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "WORKERS_WITHIN_S", 0.1)
    empty = on_dask(cluster_kwargs={"n_workers": 0, "dashboard_address": None})
    state = empty(**asked_at(at_desk), return_state=True)

    assert state.is_failed()
    assert "has had no worker" in str(state.message)
    assert "1 Failed, 1 not begun" in str(state.message)


def test_an_interrupted_export_is_gone_soon_with_its_workers_and_goes_on_where_it_was(at_desk: Desk) -> None:
    command = ("region", "export", "conus", "--tiles", ",".join(TILES), "--window", ROW, "--json")
    running = at_desk.start(*command, OVERLANDER_ALGORITHM=ALGORITHM)
    await_that(lambda: list(at_desk.out.rglob("H05*.json")), within_s=300)
    family = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: Dask's processes hear it, too

    out, err = running.communicate(timeout=60)

    assert (running.returncode, out) == (130, "")
    assert "Run the same command again to go on" in err
    assert "Traceback" not in err
    await_that(lambda: not any(process.is_running() for process in family), within_s=30)
    again = at_desk.run(*command, OVERLANDER_ALGORITHM=ALGORITHM)
    summary = json.loads(again.out)
    assert summary["exported"] + summary["kept"] == 6
    assert len(chips_in(at_desk)) == 6
