"""`overlander polygons`: what it gives to programs and to people."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import supervise
from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk, Ran, contents
from tests.flows.polygons_at_desk import (
    YEAR,
    desk_at,
    own,
    paragraph,
    run,
    sent,
    summary,
    wetlands,
)

STATUS_KEYS = {"campaign", "units", "own", "remote", "seconds", "out", "next_steps"}
RUN_KEYS = STATUS_KEYS | {"sent", "new", "changed", "files"}
COMPLETED, WRONG = 0, 2


@pytest.fixture(scope="module")
def shared_wps() -> Iterator[ScriptedWps]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def shared_wps_desk(tmp_path_factory: pytest.TempPathFactory, shared_wps: ScriptedWps) -> Desk:
    return desk_at(tmp_path_factory.mktemp("desk"), shared_wps.url)


@pytest.fixture(scope="module")
def finished(shared_wps_desk: Desk, prefect_api: str) -> Ran:
    """Return how an undisturbed run of five polygons ended; its files are on the shared desk."""
    return run(shared_wps_desk, wetlands(shared_wps_desk))


# What programs and people are given


def test_run_gives_its_summary(finished: Ran, shared_wps_desk: Desk) -> None:
    found = summary(finished)

    assert finished.status == COMPLETED
    assert set(found) == RUN_KEYS
    assert (found["campaign"], found["units"], found["sent"], found["new"]) == ("wetlands", 5, 5, 5)
    assert set(found["own"]) == {"pending", "submitting", "in_flight", "uncertain", "done", "failed", "given_up"}
    assert own(finished) == {"done": 5}
    assert found["remote"]["successful"] == sum(found["remote"].values()) == 5
    assert found["out"] == str(shared_wps_desk.out / "wetlands")
    assert all(Path(file).is_relative_to(found["out"]) for file in found["files"].values())
    assert found["next_steps"] == []


def test_each_polygon_has_a_row_in_the_sources_order_and_its_url_a_line(finished: Ran) -> None:
    files = summary(finished)["files"]

    rows = list(csv.DictReader(Path(files["csv"]).read_text().splitlines()))
    urls = Path(files["urls"]).read_text().splitlines()

    assert [(row["id"], row["interval"], row["own"], row["attempts"]) for row in rows] == [
        (str(number), YEAR, "done", "1") for number in range(1, 6)
    ]
    assert [json.loads(row["outputs"])["url"] for row in rows] == urls
    assert all(url.startswith("s3://") for url in urls)


def test_running_again_sends_nothing_changes_no_file_and_says_so(
    finished: Ran, shared_wps_desk: Desk, shared_wps: ScriptedWps
) -> None:
    before = contents(shared_wps_desk.out)

    again = run(shared_wps_desk, shared_wps_desk.folder / "wetlands.gpkg")

    assert again.status == COMPLETED
    assert (summary(again)["sent"], summary(again)["new"]) == (0, 0)
    assert sent(shared_wps) == 5
    assert contents(shared_wps_desk.out) == before


def test_status_gives_the_same_by_the_ledger_alone(finished: Ran, shared_wps_desk: Desk) -> None:
    away = f"http://127.0.0.1:{supervise.free_port()}"
    elsewhere = {"OVERLANDER_WPS_URL": away, "PREFECT_API_URL": away}

    ran = shared_wps_desk.run("polygons", "status", "wetlands.gpkg", "--json", **elsewhere)

    assert (ran.status, set(summary(ran))) == (finished.status, STATUS_KEYS)
    for name in ("campaign", "units", "own", "remote", "out"):
        assert summary(ran)[name] == summary(finished)[name]


def test_status_of_a_campaign_that_nobody_began_says_how_to_begin(shared_wps_desk: Desk, finished: Ran) -> None:
    ran = shared_wps_desk.run("polygons", "status", "lakes.gpkg", "--json")

    assert (ran.status, ran.out) == (WRONG, "")
    assert "overlander polygons run lakes.gpkg" in paragraph(ran)


def test_results_selects_rows_and_columns(finished: Ran, shared_wps_desk: Desk) -> None:
    some = ("--where", "id in ('2', '4')", "--columns", "id,own")

    ran = shared_wps_desk.run("polygons", "results", "wetlands.gpkg", *some)
    as_json = shared_wps_desk.run("polygons", "results", "wetlands.gpkg", *some, "--json")

    assert (ran.status, ran.out.splitlines()) == (COMPLETED, ["id,own", "2,done", "4,done"])
    assert json.loads(as_json.out) == {"rows": [{"id": "2", "own": "done"}, {"id": "4", "own": "done"}]}


def test_a_person_reads_states_and_files_on_stderr_alone(finished: Ran, shared_wps_desk: Desk) -> None:
    source = str(shared_wps_desk.folder / "wetlands.gpkg")

    ran = shared_wps_desk.run("polygons", "run", source, "--interval", YEAR)

    assert (ran.status, ran.out) == (COMPLETED, "")
    assert "0 requests sent." in ran.err
    assert all(file in ran.err for file in summary(finished)["files"].values())


def test_plan_foretells_what_a_run_sends_and_sends_nothing(wps_desk: Desk, scripted_wps: ScriptedWps) -> None:
    source = wetlands(wps_desk, 7)

    ran = wps_desk.run(
        "polygons", "plan", str(source), "--interval", "2010-01-01/2012-01-01", "--split", "1Y", "--json"
    )

    assert (ran.status, sent(scripted_wps)) == (COMPLETED, 0)
    assert (summary(ran)["polygons"], summary(ran)["intervals"], summary(ran)["requests"]) == (7, 2, 14)
    assert {path.name for path in wps_desk.folder.iterdir()} == {source.name}
