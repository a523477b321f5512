"""The sandbox as a whole: its seeded chips have jobs behind them, and stay as they are until somebody asks."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox import cassandra, change_results, pywps, seed, world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM, SeededChip
from tasks.chips.grid import Chip

TROUBLED = Chip(-1785585, 2834805)


@pytest.fixture(scope="module")
def sandbox(seeded_node: Node, cassandra_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Return the session's Cassandra as a sandbox that has just come up, with services of its own."""
    folder, wps_folder = (tmp_path_factory.mktemp(name) for name in ("change-results", "wps"))
    complete = world.seeded("complete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(world.JARS_VARIABLE, str(cassandra_jars))
        patch.setattr(world, "_service_folder", lambda: folder)
        patch.setattr(world, "_wps_folder", lambda: wps_folder)
        try:
            yield world.up(report=print)
        finally:
            change_results.down(folder)
            pywps.down(wps_folder)
            with cassandra.session(seeded_node) as connected:
                place = (complete.chip_x, complete.chip_y, ALGORITHM)
                seed.request_again(connected, *place, complete.requested)


@pytest.fixture
def service_url(sandbox: Node) -> str:
    del sandbox
    url = world.service_url()
    assert url is not None
    return url


def jobs(service_url: str, chip: SeededChip) -> list[Any]:
    everything = change_results.tell(service_url, "/sandbox/jobs")
    return [job["state"] for job in everything if (job["chip_x"], job["chip_y"]) == (chip.chip_x, chip.chip_y)]


def test_the_seeded_ticket_has_a_job_that_waits_for_the_first_request(sandbox: Node, service_url: str) -> None:
    queued = world.seeded("queued")
    time.sleep(0.5)  # a worker that may take it does so at once
    assert jobs(service_url, queued) == ["queued"]
    assert change_results.tell(service_url, "/sandbox/plan")["settings"]["wakes_on_request"] is True
    with cassandra.session(sandbox) as connected:
        asked = "SELECT count(result_ok) FROM results WHERE chip_x = %s AND chip_y = %s AND algorithm = %s"
        assert connected.execute(asked, (queued.chip_x, queued.chip_y, ALGORITHM)).one()[0] == 0


def test_coming_up_again_queues_nothing_and_leaves_the_plan(service_url: str) -> None:
    change_results.tell(service_url, "/sandbox/plan", {"settings": {"pixels_per_s": 7}}, "PUT")
    change_results.down(world._service_folder())

    world.up(report=print)

    assert jobs(service_url, world.seeded("queued")) == ["queued"]
    assert change_results.tell(service_url, "/sandbox/plan")["settings"]["pixels_per_s"] == 7


def test_somebody_elses_request_comes_once_with_its_job(sandbox: Node, service_url: str) -> None:
    chip = world.seeded("complete")

    assert [world.renew_one(), world.renew_one()] == [True, False]

    assert jobs(service_url, chip) == ["queued"]
    with cassandra.session(sandbox) as connected:
        requested = seed.requested_at(connected, chip.chip_x, chip.chip_y, ALGORITHM)
    assert requested is not None
    assert requested > chip.requested


def test_troubles_are_given_once_beside_those_that_were_there(service_url: str) -> None:
    there = {"*": [{"slow_answer_s": 0.1}]}
    change_results.tell(service_url, "/sandbox/plan", {"troubles": there}, "PUT")
    given = {TROUBLED: [{"rows_lost": 23, "times": 1}]}

    assert [world.give_troubles(given), world.give_troubles(given)] == [True, False]

    plan = change_results.tell(service_url, "/sandbox/plan")
    assert plan["troubles"] == {**there, f"{TROUBLED.x},{TROUBLED.y}": given[TROUBLED]}


def test_the_status_names_the_wps_and_where_it_writes_what_is_begun(service_url: str) -> None:
    running = world.wps()
    assert running is not None
    status = world.status()
    assert status["service_url"] == service_url
    assert (status["wps_url"], status["wps_executions"]) == (running.url, str(running.executions))
