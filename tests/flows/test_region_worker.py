"""A region through a real worker: interrupted in the middle, run again, and no tile begun twice for one pass."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State

from flows import children
from flows.region import region_campaign
from tests.flows.desk import Desk

PATIENCE_S = 600.0
CAMPAIGN = "a region for a worker"
"""Of H05V03 one chip is there; of H05V04 none is, and no service is set that could be asked."""


@pytest.fixture
def api(deployed: Desk) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


class _Killed(BaseException):
    """The process is gone."""


def run(desk: Desk) -> State[Any]:
    with desk.at_work():
        return region_campaign(  # type: ignore[no-any-return]
            tiles="H05V03,H05V04", window="0:1,0:1", max_requests=1, campaign=CAMPAIGN, return_state=True
        )


def runs(api: SyncPrefectClient) -> list[FlowRun]:
    found = api.read_flow_runs(limit=200)
    return [run for run in found if str(run.idempotency_key or "").startswith(CAMPAIGN)]


def await_ends(api: SyncPrefectClient) -> dict[str, str]:
    """Wait until every run of the region has ended; return their last states by tile and pass."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = runs(api)
        if all(run.state and run.state.is_final() for run in found):
            break
        assert time.monotonic() < until, f"not within {PATIENCE_S} s: {[run.state_name for run in found]}"
        time.sleep(1)
    return passes(api)


def passes(api: SyncPrefectClient) -> dict[str, str]:
    """Return the names of the runs' states by tile and pass."""
    return {" ".join(str(run.idempotency_key).split()[-5:-1]): str(run.state_name) for run in runs(api)}


@pytest.mark.faults
@pytest.mark.timeout(2400)  # a server, Cassandra, a worker and three processes of its own, one after the other
def test_a_region_interrupted_in_the_middle_goes_on_and_begins_no_tile_twice(
    deployed: Desk, api: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_start: Callable[..., children.Child] = children.start
    begun: list[str] = []

    def die_after_the_second(*asked: Any) -> children.Child:
        child = really_start(*asked)
        begun.append(child.id)
        if len(begun) == 2:
            raise _Killed
        return child

    with monkeypatch.context() as patch:
        patch.setattr(children, "start", die_after_the_second)
        with pytest.raises(_Killed):
            run(deployed)

    assert run(deployed).name == "Waiting"
    assert {str(one.id) for one in runs(api)} == set(begun)

    assert await_ends(api) == {"worker H05V03 pass 1": "Completed", "worker H05V04 pass 1": "Waiting"}
    assert list(deployed.out.rglob("H05V03_*.json"))

    again = run(deployed)

    conditions = again.result()["conditions"]
    assert (again.name, conditions["finished"], conditions["open"]) == ("Waiting", 1, 1)
    assert sorted(passes(api)) == ["worker H05V03 pass 1", "worker H05V04 pass 1", "worker H05V04 pass 2"]
