"""The polygon campaign as a flow: how it ends, what the Prefect API shows, and what a real PyWPS makes of it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from deployments.sandbox import polygons, pywps
from deployments.sandbox.wps_answers import ScriptedWps
from deployments.sandbox.wps_orders import geometry_hash
from flows import polygons as flow_module
from flows.polygons import polygon_campaign
from tasks.errors import PermanentError, RequestRefused, ServiceTimedOut
from tasks.ledger.units import Own
from tasks.polygons.dispatch import Dispatcher
from tests.flows.desk import Desk
from tests.flows.polygons_at_desk import YEAR, desk_at, times_sent, wetlands

SEEN_WITHIN_S = 60.0
"""Task runs and artifacts reach the API a moment after the run has ended."""


@pytest.fixture
def at_desk(wps_desk: Desk, prefect_api: str) -> Iterator[Desk]:
    with wps_desk.at_work():
        yield wps_desk


def run(source: Path, **parameters: Any) -> State[Any]:
    given: dict[str, Any] = {"source": str(source), "interval": YEAR} | parameters
    return polygon_campaign(**given, return_state=True)  # type: ignore[no-any-return]


# How a run ends


@pytest.mark.parametrize(
    ("troubles", "name", "exit_status"),
    [
        ([], "Completed", 0),
        ([{"when": "job", "jobs": [1], "fails": "cloudy"}], "NeedsAttention", 4),
    ],
)
def test_the_flow_ends_in_a_state_that_says_what_is_left(
    at_desk: Desk, scripted_wps: ScriptedWps, troubles: list[dict[str, Any]], name: str, exit_status: int
) -> None:
    scripted_wps.plan(troubles=troubles)

    state = run(wetlands(at_desk, 3))

    assert (state.type, state.name) == ("COMPLETED", name)
    assert state.result()["exit_status"] == exit_status


def test_a_run_cut_short_is_waiting_and_the_next_completes_it(at_desk: Desk, scripted_wps: ScriptedWps) -> None:
    source = wetlands(at_desk, 3)

    assert run(source, max_requests=1).name == "Waiting"
    assert run(source).name == "Completed"
    assert times_sent(scripted_wps) == [1] * 3


def test_a_run_on_a_part_of_a_campaign_has_its_end_when_that_part_is_done(
    at_desk: Desk, scripted_wps: ScriptedWps
) -> None:
    source = wetlands(at_desk, 4)
    run(source, max_requests=1)

    state = run(source, limit=2)

    assert (state.name, state.result()["exit_status"]) == ("Completed", 0)
    assert (state.result()["own"]["done"], state.result()["own"]["pending"]) == (2, 2)
    assert state.result()["next_steps"] == [
        "2 polygons to be sent, but not among those that this run may send: run it without its selection."
    ]


def test_when_every_request_is_refused_for_the_same_reason_the_run_fails_and_the_rest_is_not_sent(
    at_desk: Desk, scripted_wps: ScriptedWps
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "refuse": "InvalidParameterValue"}])

    state = run(wetlands(at_desk, 12))

    assert state.is_failed()
    with pytest.raises(RequestRefused, match="The first 5 requests were all refused for the same reason"):
        state.result()
    assert len(scripted_wps.received()) < 12
    assert (at_desk.out / "wetlands" / "results.csv").exists(), "what came of the others is told all the same"


def test_batches_go_in_rounds_of_the_size_that_was_asked_for(at_desk: Desk, scripted_wps: ScriptedWps) -> None:
    state = run(wetlands(at_desk, 9), polygons_per_task=2)

    assert (state.name, times_sent(scripted_wps)) == ("Completed", [1] * 9)


def test_a_batch_that_fails_for_a_moment_is_tried_again_and_sends_nothing_twice(
    at_desk: Desk, scripted_wps: ScriptedWps, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = flow_module.dispatch_batch.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(flow_module, "dispatch_batch", at_once)
    tries = failing_after_its_work(monkeypatch, ServiceTimedOut("The ledger was busy."))

    state = run(wetlands(at_desk, 4))

    assert (state.name, len(tries)) == ("Completed", 2)
    assert times_sent(scripted_wps) == [1] * 4


def test_a_batch_that_fails_for_good_fails_the_run_at_once(at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = failing_after_its_work(monkeypatch, PermanentError("The disk is full."))

    state = run(wetlands(at_desk, 4))

    assert (state.is_failed(), len(tries)) == (True, 1)


def failing_after_its_work(patch: pytest.MonkeyPatch, failure: Exception) -> list[int]:
    """Let the first batch fail once it has been seen through; the list grows with each try."""
    dispatch: Callable[..., dict[Own, int]] = Dispatcher.dispatch
    tries: list[int] = []

    def failing(dispatcher: Dispatcher, units: Sequence[int], *times: float) -> dict[Own, int]:
        found = dispatch(dispatcher, units, *times)
        tries.append(len(units))
        if len(tries) == 1:
            raise failure
        return found

    patch.setattr(Dispatcher, "dispatch", failing)
    return tries


# What the Prefect API shows


def test_states_reasons_and_next_steps_are_artifacts_of_the_run(at_desk: Desk, scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "jobs": [1], "fails": "cloudy"}])

    state = run(wetlands(at_desk, 3))

    run_id = state.state_details.flow_run_id
    assert run_id is not None
    keys = {"polygons-wetlands", "polygons-wetlands-states", "polygons-wetlands-reasons"}
    with get_client(sync_client=True) as client:
        until = time.monotonic() + SEEN_WITHIN_S
        by_key: dict[str | None, Any] = {}
        while not keys <= set(by_key) and time.monotonic() < until:
            of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            by_key = {one.key: one.data for one in client.read_artifacts(artifact_filter=of_run)}
        assert keys <= set(by_key)
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    assert found[0].name == f"wetlands wit {YEAR}"
    assert json.loads(by_key["polygons-wetlands-states"]) == [
        {"state": "done", "units": 2},
        {"state": "failed", "units": 1},
    ]
    assert "cloudy" in by_key["polygons-wetlands-reasons"]
    assert "--retry failed" in by_key["polygons-wetlands"]


# A real PyWPS


def test_the_demos_polygons_come_home_from_a_real_wps(
    wps_sandbox_anew: pywps.Wps, tmp_path: Path, prefect_api: str
) -> None:
    source = polygons.make(tmp_path)
    chosen = one_of_each_kind()
    (tmp_path / "ids.txt").write_text("\n".join(map(str, chosen.values())))
    desk = desk_at(tmp_path, wps_sandbox_anew.url)
    wishes: dict[str, Any] = {"ids": tmp_path / "ids.txt", "properties": ["NAME"], "repair": True}

    with desk.at_work():
        first = run(source, max_area_km2=1000, **wishes)
        again = run(source, max_area_km2=1000, **wishes)

    rows = pd.read_csv(desk.out / "wetlands" / "results.csv").set_index("id")
    failed = {name for name, number in chosen.items() if rows.own[number] == "failed"}
    assert failed == {"null", "huge", "degenerate"}
    assert set(rows.error_class[rows.own == "failed"]) == {"BadGeometry"}
    assert (first.name, again.name) == ("NeedsAttention", "NeedsAttention")
    assert (first.result()["own"]["done"], again.result()["sent"]) == (len(chosen) - 3, 0)
    shapes = json.loads((desk.out / "wetlands" / "polygons.geojson").read_text())["features"]
    done = [shape for shape in shapes if shape["properties"]["own"] == "done"]
    begun = Counter(one["geometry"] for one in httpx.get(f"{wps_sandbox_anew.sandbox_url}/executions").json())
    assert [begun[geometry_hash(shape["geometry"])] for shape in done] == [1] * len(done)
    urls = (desk.out / "wetlands" / "urls.txt").read_text().split()
    (tmp_path / "one.parquet").write_bytes(httpx.get(urls[0], trust_env=False).content)
    assert list(pd.read_parquet(tmp_path / "one.parquet").columns[:5]) == ["water", "wet", "bs", "pv", "npv"]


def one_of_each_kind() -> dict[str, int]:
    """Return the number of a polygon of each kind."""
    found: dict[str, int] = {}
    for number, kind in polygons.kinds().items():
        found.setdefault(kind, number)
    return found
