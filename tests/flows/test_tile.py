"""The tile campaign as a flow: how it ends, what it leaves, and what the Prefect API shows of it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State, TaskRun

from deployments.sandbox import cassandra, seed
from flows import tile as flow_module
from flows.rounds import batches
from flows.tile import tile_campaign
from tasks.chips import survey as survey_stage
from tasks.chips.campaign import Site, site, tile_campaign_of
from tasks.chips.grid import Chip
from tasks.chips.states import State as ChipState
from tasks.chips.survey import Surveyed
from tasks.errors import PermanentError, ServiceAway
from tasks.ledger.chips import close_tile, use_tile
from tests.flows.desk import Desk

TILE = "H05V03"
CORNER = "0:4,0:4"
SEEN_WITHIN_S = 60.0
"""Task runs, logs and artifacts reach the API a moment after the run has ended."""


@pytest.fixture
def at_desk(desk: Desk, prefect_api: str) -> Iterator[Desk]:
    with desk.at_work():
        yield desk


@pytest.fixture(scope="module")
def runs(shared_desk: Desk, prefect_api: str) -> list[State[Any]]:
    """Return how two runs of one campaign ended, the second after the first."""
    with shared_desk.at_work():
        return [run(shared_desk, window=CORNER), run(shared_desk, window=CORNER)]


@pytest.fixture(scope="module")
def api(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def run(desk: Desk, **parameters: Any) -> State[Any]:
    given = {"tile": TILE, "out": desk.out} | parameters
    return tile_campaign(**given, return_state=True)  # type: ignore[no-any-return]


def chips_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("H05V03_*.json"))


# How a run ends


def test_a_window_with_chips_that_are_not_home_yet_ends_waiting(runs: list[State[Any]]) -> None:
    summary = runs[0].result()

    assert runs[0].is_completed()
    assert (runs[0].name, summary["exit_status"]) == ("Waiting", 3)
    assert {state: count for state, count in summary["states"].items() if count} == {
        "complete": 11,
        "flawed": 1,
        "no_data": 1,
        "incomplete": 1,
        "queued": 1,
        "unrequested": 1,
    }
    assert set(summary["states"]) == {state.value for state in ChipState}
    assert sum(summary["states"].values()) == summary["chips"] == 16
    assert (summary["exported"], summary["kept"]) == (12, 0)
    assert (summary["waiting"], summary["needs_person"]) == (3, 0)
    assert all(Path(path).is_file() for path in summary["files"].values())


def test_a_second_run_keeps_all_that_the_first_one_saved(runs: list[State[Any]]) -> None:
    first, second = (state.result() for state in runs)

    assert (second["exported"], second["kept"]) == (0, 12)
    assert second["states"] == first["states"]


def test_a_window_whose_chips_are_home_ends_completed(at_desk: Desk) -> None:
    state = run(at_desk, window="0:2,0:4")

    assert (state.name, state.result()["exit_status"]) == ("Completed", 0)
    assert (state.result()["exported"], state.result()["waiting"]) == (7, 0)


def test_a_count_looks_and_writes_no_files(at_desk: Desk) -> None:
    state = run(at_desk, window=CORNER, mode="count")

    assert (state.name, state.result()["states"]["complete"]) == ("Waiting", 11)
    assert not at_desk.out.exists()


def test_a_chip_whose_results_do_not_match_their_md5_needs_a_person(
    at_desk: Desk, seeded_node: cassandra.Node
) -> None:
    algorithm = "damaged:1"
    chip = tile_campaign_of(TILE, window="7:8,7:8").chips[0]
    with cassandra.session(seeded_node) as connected:
        rows = list(seed.rows_of(chip.x, chip.y, results=['{"change_models": []}'], produced_from=seed.REQUESTED))
        rows[41] = rows[41]._replace(result_md5="0" * 32)
        seed.write_ticket(connected, chip.x, chip.y, algorithm, seed.REQUESTED)
        seed.write_rows(connected, chip.x, chip.y, algorithm, rows)

    state = run(at_desk, window="7:8,7:8", algorithm=algorithm)

    summary = state.result()
    assert state.is_completed()
    assert (state.name, summary["exit_status"], summary["needs_person"]) == ("NeedsAttention", 4, 1)
    assert chips_in(at_desk.out) == []
    bad = Path(summary["files"]["bad_pixels"]).read_text().splitlines()
    assert bad[1:] == [f"{chip.x},{chip.y},{rows[41].x},{rows[41].y},md5"]


def test_a_run_is_skipped_while_another_one_is_at_work_on_the_tile(at_desk: Desk) -> None:
    with site(tile_campaign_of(TILE), words="the other run"):
        state = run(at_desk, window=CORNER)

    assert state.is_completed()
    assert state.name == "Skipped"
    assert "the other run" in str(state.message)
    assert "since" in str(state.message)
    assert not at_desk.out.exists()


def test_a_closed_tile_is_left_alone_and_the_run_ends_completed(at_desk: Desk) -> None:
    run(at_desk, window="0:1,0:2", mode="count")
    with site(tile_campaign_of(TILE), words="closing") as place:

        def close(ledger: Any) -> None:
            use_tile(ledger, place.ground, "closed")
            close_tile(ledger, place.ground, datetime(2026, 11, 1, tzinfo=UTC), "on the archive's tape")

        place.ledger.write(close, place.lease)

    state = run(at_desk, window="0:1,0:2")

    assert (state.name, state.result()["exit_status"]) == ("Completed", 0)
    assert state.result()["states"]["complete"] == 2
    assert "on the archive's tape" in str(state.message)
    assert not at_desk.out.exists()


def test_a_row_that_fails_does_not_stop_the_others_and_the_run_fails_with_its_paragraph(
    at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = failing_in_row(monkeypatch, 0, PermanentError("Row 0 is on a disk that is gone."), times=99)

    state = run(at_desk, window="0:3,0:2")

    assert state.is_failed()
    assert state.result(raise_on_failure=False).args == ("Row 0 is on a disk that is gone.",)
    assert "Row 0 is on a disk that is gone." in str(state.message)
    assert len(chips_in(at_desk.out)) == 4
    assert len(tries) == 1, "a permanent failure is not tried again"


def test_a_row_that_fails_for_a_moment_is_tried_again(at_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "survey_row", flow_module.survey_row.with_options(retry_delay_seconds=0))
    tries = failing_in_row(monkeypatch, 1, ServiceAway("Cassandra is away."), times=2)

    state = run(at_desk, window="0:2,0:2")

    assert state.name == "Completed"
    assert len(tries) == 2
    assert len(chips_in(at_desk.out)) == 4


def failing_in_row(patch: pytest.MonkeyPatch, row: int, failure: Exception, times: int) -> list[Exception]:
    """Let the survey of one of the tile's rows fail so many times; the list grows with each failure."""
    survey: Callable[[Site, list[Chip]], Surveyed] = survey_stage.survey
    failures: list[Exception] = []

    def failing(place: Site, chips: list[Chip]) -> Surveyed:
        if chips[0].y == place.campaign.tile.chip(row, 0).y and len(failures) < times:
            failures.append(failure)
            raise failure
        return survey(place, chips)

    patch.setattr(survey_stage, "survey", failing)
    return failures


# Batches


def test_a_batch_is_a_row_of_fifty_chips() -> None:
    work = tile_campaign_of(TILE, algorithm="a")

    found = batches(work, work.chips, 50)

    assert [len(chips) for _, chips in found] == [50] * 50
    assert [words for words, _ in found][:2] == ["row 0", "row 1"]


def test_a_row_is_cut_where_it_holds_more_chips_than_a_task_takes() -> None:
    work = tile_campaign_of(TILE, algorithm="a", window="3:5,10:15")

    found = batches(work, work.chips, 2)

    assert [words for words, _ in found][:3] == [
        "row 3, from column 10",
        "row 3, from column 12",
        "row 3, from column 14",
    ]
    assert [chip for _, chips in found for chip in chips] == work.chips


def test_a_task_may_take_one_chip() -> None:
    work = tile_campaign_of(TILE, algorithm="a", window="0:2,0:3")

    assert [chips for _, chips in batches(work, work.chips, 1)] == [[chip] for chip in work.chips]


# What the Prefect API shows


def test_names_of_runs_say_tile_stage_and_row(runs: list[State[Any]], api: SyncPrefectClient) -> None:
    flow_run_id = runs[0].state_details.flow_run_id

    assert api.read_flow_run(flow_run_id).name == "H05V03 run"
    assert {found.name for found in task_runs_of(runs[0], api)} == {
        f"H05V03 {stage} row {row}" for stage in ("survey", "export") for row in range(4)
    }


def test_the_run_shows_a_table_of_states_a_picture_of_the_tile_and_how_far_it_is(
    runs: list[State[Any]], api: SyncPrefectClient
) -> None:
    artifacts = {found.type: found for found in artifacts_of(runs[0], api)}

    assert set(artifacts) == {"table", "markdown", "progress"}
    rows = json.loads(str(artifacts["table"].data))
    assert {row["state"]: row["chips"] for row in rows}["complete"] == 11
    assert sum(row["chips"] for row in rows) == 16
    text = str(artifacts["markdown"].data)
    assert "](data:image/png;base64,iVBOR" in text
    assert "1 chip never requested" in text
    assert str(runs[0].result()["files"]["page"]) in text
    assert artifacts["progress"].data == 100


def test_artifacts_have_keys_of_their_campaign_and_are_small(
    runs: list[State[Any]], api: SyncPrefectClient
) -> None:
    for artifact in artifacts_of(runs[0], api):
        assert re.fullmatch(r"tile-cu-h05v03-lcmap-pyccd-2021-07-19(-[a-z]+)?", str(artifact.key))
        assert len(json.dumps(artifact.data)) < 500_000


def test_the_password_is_nowhere_in_what_the_api_keeps_of_a_run(
    runs: list[State[Any]], api: SyncPrefectClient, services: dict[str, str]
) -> None:
    flow_run_id = runs[0].state_details.flow_run_id
    logs = awaited(
        lambda: api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), limit=200),
        lambda found: any("Waiting" in log.message for log in found),
    )
    kept = [
        api.read_flow_run(flow_run_id),
        *task_runs_of(runs[0], api),
        *artifacts_of(runs[0], api),
        *logs,
    ]

    assert len(kept) > 20
    assert [record for record in kept if services["OVERLANDER_CASSANDRA_PASSWORD"] in str(record)] == []


def task_runs_of(state: State[Any], api: SyncPrefectClient) -> list[TaskRun]:
    of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    return awaited(
        lambda: api.read_task_runs(flow_run_filter=of_this_run),
        lambda found: len(found) >= 8 and all(one.state and one.state.is_final() for one in found),
    )


def artifacts_of(state: State[Any], api: SyncPrefectClient) -> list[Any]:
    of_this_run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    return list(api.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_this_run)))


def awaited(look: Callable[[], list[Any]], enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Return what is seen once it is enough."""
    until = time.monotonic() + SEEN_WITHIN_S
    while not enough(found := look()):
        assert time.monotonic() < until, found
        time.sleep(0.2)
    return found


# The form in the UI


def test_every_parameter_of_the_form_says_what_it_is() -> None:
    parameters = form()["properties"]

    assert [name for name, field in parameters.items() if len(field.get("description", "")) < 15] == []
    assert form()["required"] == ["tile"]


def test_choices_are_lists_and_numbers_have_bounds() -> None:
    parameters = form()["properties"]

    choices = {name: field["enum"] for name, field in parameters.items() if "enum" in field}
    assert choices == {
        "region": ["conus", "alaska", "hawaii"],
        "mode": ["run", "count", "export", "request"],
        "flawed": ["apart", "with-rest", "skip"],
        "failed_pixels": ["keep", "null"],
    }
    numbers = [field for field in parameters.values() if field.get("type") in ("integer", "number")]
    assert all("minimum" in field or "exclusiveMinimum" in field for field in numbers)


def test_nothing_secret_is_asked_for_in_the_form() -> None:
    assert not re.search(r"(?i)password|secret|token|username", json.dumps(form()))


def form() -> dict[str, Any]:
    return tile_campaign.parameters.model_dump_for_openapi()
