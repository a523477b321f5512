"""Blocks by name, in a run and in the command: used, and never told."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State

from deployments.blocks import ChangeResultsService, ProcessService, ResultsCassandra
from deployments.sandbox.wps_answers import ScriptedWps
from flows.polygons import polygon_campaign
from flows.tile import tile_campaign
from tests.flows.conftest import PASSWORD
from tests.flows.desk import Desk
from tests.flows.polygons_at_desk import YEAR, own, run, wetlands

CORNER = "0:1,0:2"
SEEN_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def api(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def blank_desk(desk: Desk) -> Iterator[Desk]:
    """Return a desk at work whose settings name no service."""
    own = {name: value for name, value in desk.services.items() if not name.startswith("OVERLANDER_CASSANDRA_")}
    blank = Desk(desk.folder, own)
    with blank.at_work():
        yield blank


def count(**parameters: Any) -> State[Any]:
    return tile_campaign(tile="H05V03", window=CORNER, mode="count", return_state=True, **parameters)  # type: ignore[no-any-return]


def test_a_run_reads_from_the_block_that_it_names_and_tells_its_password_nowhere(
    results_block: str, blank_desk: Desk, api: SyncPrefectClient
) -> None:
    ended = count(results_block=results_block)

    assert ended.is_completed(), ended.message
    assert ended.result()["states"]["complete"] == 2
    run_id = ended.state_details.flow_run_id
    assert run_id is not None
    run = api.read_flow_run(run_id)
    assert run.parameters["results_block"] == results_block
    logs = api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
    until = time.monotonic() + SEEN_WITHIN_S
    while not any("Finished" in log.message for log in logs) and time.monotonic() < until:
        time.sleep(0.2)
        logs = api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
    artifacts = api.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    )
    ledger = b"".join(file.read_bytes() for file in blank_desk.folder.glob("ledger.sqlite*"))
    told = (
        f"{run.model_dump_json()} {[log.message for log in logs]} {[one.model_dump_json() for one in artifacts]}"
    )
    assert artifacts
    assert logs
    assert PASSWORD not in " ".join(told)
    assert PASSWORD.encode() not in ledger


def test_a_block_that_is_missing_is_told_in_a_paragraph_with_what_to_do(blank_desk: Desk, api: object) -> None:
    ended = count(results_block="none-such")

    assert ended.is_failed()
    assert "has no ResultsCassandra block 'none-such'" in str(ended.message)
    assert "under Blocks" in str(ended.message)


def test_a_half_filled_block_is_told_by_its_fields(blank_desk: Desk, api: SyncPrefectClient) -> None:
    ResultsCassandra.register_type_and_schema()
    schema = api.read_block_schema_by_checksum(ResultsCassandra._calculate_schema_checksum())
    given = {"hosts": ["127.0.0.1"], "keyspace": "k", "username": "someone"}
    half = BlockDocumentCreate(
        name="half", data=given, block_type_id=schema.block_type_id, block_schema_id=schema.id
    )
    document = api.create_block_document(half)
    try:
        ended = count(results_block="half")
    finally:
        api.delete_block_document(document.id)

    assert ended.is_failed()
    assert "'half' is half filled: password is empty" in str(ended.message)
    assert "someone" not in str(ended.message)


def test_the_command_uses_the_block_that_its_settings_name(results_block: str, blank_desk: Desk) -> None:
    ran = blank_desk.run("tile", "count", "H05V03", "--window", CORNER, OVERLANDER_RESULTS_BLOCK=results_block)

    assert ran.status == 0, ran.err
    assert "complete" in ran.err
    assert PASSWORD not in ran.err + ran.out


def test_a_flag_beside_a_block_for_the_same_service_is_refused(results_block: str, blank_desk: Desk) -> None:
    ran = blank_desk.run(
        "tile", "count", "H05V03", "--hosts", "db1.example.org", OVERLANDER_RESULTS_BLOCK=results_block
    )

    assert ran.status == 2
    assert "Leave out the flag" in ran.err


def test_a_service_block_gives_a_run_the_service_to_ask(blank_desk: Desk, results_block: str) -> None:
    ChangeResultsService(url="http://127.0.0.1:9/v1/changes").save("nobody", overwrite=True)

    ended = tile_campaign(
        tile="H05V03", window="0:4,0:4", results_block=results_block, service_block="nobody", return_state=True
    )

    assert ended.is_failed()
    assert "127.0.0.1:9" in str(ended.message)


@pytest.fixture
def process_block(scripted_wps: ScriptedWps, prefect_api: str) -> str:
    """Return the name of a block that holds the test's WPS."""
    ProcessService(url=scripted_wps.url).save("wetlands", overwrite=True)
    return "wetlands"


def test_the_command_sends_polygons_to_the_service_of_the_block_that_its_settings_name(
    process_block: str, wps_desk: Desk
) -> None:
    named = {"OVERLANDER_WPS_URL": None, "OVERLANDER_PROCESS_BLOCK": process_block}

    assert own(run(wps_desk, wetlands(wps_desk, 2), **named)) == {"done": 2}


def test_polygons_are_not_sent_to_a_url_beside_a_block(
    process_block: str, wps_desk: Desk, scripted_wps: ScriptedWps
) -> None:
    source, elsewhere = wetlands(wps_desk, 2), "http://127.0.0.1:9/wps"

    ran = run(wps_desk, source, "--url", elsewhere, OVERLANDER_PROCESS_BLOCK=process_block)
    assert ran.status == 2
    assert "Leave out the URL" in ran.err

    with wps_desk.at_work():
        ended = polygon_campaign(
            source=str(source), interval=YEAR, url=elsewhere, process_block=process_block, return_state=True
        )
    assert ended.is_failed()
    assert "Leave out the URL" in str(ended.message)
    assert scripted_wps.received() == []
