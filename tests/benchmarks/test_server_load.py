"""7,500 task runs through the tuned server: a tile of chips that nobody asked for, one chip to a task run.

Run with `make bench`; docs/performance.md holds figures.
"""

import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client

from deployments import server
from deployments.sandbox import cassandra, seed
from flows.tile import tile_campaign
from tasks.chips.campaign import tile_campaign_of
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.desk import Desk, variables_of
from tests.service_desk import Service, begin_anew

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

TILE, SEEN_TILE, ALGORITHM = "H08V03", "H09V03", "test:server-load"
CHIPS, STAGES = 2500, 3
PATIENCE_S = 300.0


@pytest.fixture
def desk(tmp_path: Path, cassandra_node: cassandra.Node, change_results: str) -> Desk:
    return Desk(
        tmp_path,
        {
            **variables_of(cassandra_node),
            "OVERLANDER_ALGORITHM": ALGORITHM,
            "OVERLANDER_SERVICE_URL": change_results,
            "OVERLANDER_SERVICE_INTERVAL_S": "0",
        },
    )


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the HTTP statuses that this process gets from whatever it asks."""
    seen: Counter[int] = Counter()
    given, given_async = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = given(self, request)
        seen[answer.status_code] += 1
        return answer

    async def handle_async(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = await given_async(self, request)
        seen[answer.status_code] += 1
        return answer

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle_async)
    return seen


def test_every_one_of_7500_task_runs_reaches_its_final_state_on_the_server(
    desk: Desk,
    cassandra_node: cassandra.Node,
    change_results: str,
    prefect_server: server.Server,
    prefect_api: str,  # noqa: F811
    statuses: Counter[int],
) -> None:
    service = Service(change_results, ALGORITHM)
    service.enable()
    service.plan(paused=True)
    serving = psutil.Process(prefect_server.pid)
    with desk.at_work():
        the_algorithm_is_known(cassandra_node, desk)
        before, begun = cpu_s(serving), time.monotonic()
        state = tile_campaign(tile=TILE, out=desk.out, chips_per_task=1, yes=True, wait=False, return_state=True)
        took_s, own_s = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
        recorded_s = seconds_until_recorded(state.state_details.flow_run_id)
    begin_anew(change_results)

    print(f"\n{STAGES * CHIPS:,} task runs in {took_s:.0f} s; the last one recorded {recorded_s:.0f} s later")
    print(f"server: {(cpu_s(serving) - before) / STAGES / CHIPS * 1000:.1f} ms of CPU a task run,")
    print(f"  {serving.memory_info().rss / 1e6:.0f} MB; the run's process {own_s.ru_maxrss / 1e3:.0f} MB at most")
    print(f"HTTP statuses: {dict(statuses)}")
    assert (state.name, state.result()["requested"]) == ("Waiting", CHIPS)
    assert not [status for status in statuses if status >= 500]
    assert "queue is full" not in prefect_server.log.read_text()


def the_algorithm_is_known(node: cassandra.Node, desk: Desk) -> None:
    """Let one chip of another tile be home, or the first request would go alone."""
    work = tile_campaign_of(SEEN_TILE, window="0:1,0:1")
    with cassandra.session(node) as connected:
        seed.write_chip(connected, work.chips[0].x, work.chips[0].y, results=["[]"], algorithm=ALGORITHM)
    tile_campaign(tile=SEEN_TILE, window="0:1,0:1", out=desk.out, mode="count", return_state=True)


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def seconds_until_recorded(flow_run_id: Any) -> float:
    """Wait until the server has each task run in its last state, and return how long that took."""
    begun = time.monotonic()
    asked = {
        "task_runs": {"flow_run_id": {"any_": [str(flow_run_id)]}, "state": {"type": {"any_": ["COMPLETED"]}}}
    }
    with get_client(sync_client=True) as client:
        while (found := client._client.post("/task_runs/count", json=asked).json()) < STAGES * CHIPS:
            assert time.monotonic() - begun < PATIENCE_S, f"{found:,} of {STAGES * CHIPS:,} are recorded"
            time.sleep(0.5)
    return time.monotonic() - begun
