"""`overlander tile`: what it gives to programs, how it ends, and what survives an interruption."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments import supervise
from deployments.sandbox import cassandra, seed
from flows.cli.run import INTERRUPTED
from tasks.chips.campaign import site, tile_campaign_of
from tasks.chips.states import State
from tests.flows.desk import Desk, Ran, contents

TILE = "H05V03"
CORNER = ("--window", "0:4,0:4")
STATUS_KEYS = {"tile", "region", "algorithm", "chips", "states", "seconds", "next_steps"}
COUNT_KEYS = STATUS_KEYS | {"changed"}
RUN_KEYS = COUNT_KEYS | {"exported", "kept", "waiting", "needs_person", "requested", "quarantined", "files"}

STUCK = """
import os, threading, time
from tasks.chips.results import ResultsTable

def stuck(self, chip, algorithm):
    os.write(1, b"stuck\\n")  # in one piece, whichever threads come first
    threading.Event().wait()

ResultsTable.look = stuck
"""
"""A query that never returns, as a script for the command's own process."""


@pytest.fixture(scope="module")
def finished(shared_desk: Desk, prefect_api: str) -> Ran:
    """Return how an undisturbed run of the corner ended; its files are on the shared desk."""
    return shared_desk.run("tile", "run", TILE, *CORNER, "--json")


# What programs are given


def test_run_gives_its_summary(finished: Ran, shared_desk: Desk) -> None:
    summary = json.loads(finished.out)

    assert finished.status == 3
    assert set(summary) == RUN_KEYS
    assert (summary["tile"], summary["region"], summary["algorithm"]) == (TILE, "conus", seed.ALGORITHM)
    assert set(summary["states"]) == {state.value for state in State}
    assert sum(summary["states"].values()) == summary["chips"] == 16
    assert [summary[name] for name in ("exported", "kept", "waiting", "needs_person")] == [12, 0, 3, 0]
    assert all(Path(file).is_relative_to(shared_desk.out) for file in summary["files"].values())


def test_running_again_changes_no_file_and_says_so(finished: Ran, shared_desk: Desk) -> None:
    before = contents(shared_desk.out)

    again = shared_desk.run("tile", "run", TILE, *CORNER)

    assert again.status == finished.status
    assert "0 files written, 12 kept." in again.err
    assert "Nothing has changed" in again.err
    assert contents(shared_desk.out) == before


def test_a_deleted_file_is_written_again_and_nobody_is_told_that_nothing_changed(
    finished: Ran, shared_desk: Desk
) -> None:
    before = bytes_of(shared_desk)
    chips_of(shared_desk)[0].unlink()

    again = shared_desk.run("tile", "run", TILE, *CORNER)

    assert "1 file written, 11 kept." in again.err
    assert "Nothing has changed" not in again.err
    assert bytes_of(shared_desk) == before


def test_status_gives_the_same_states_without_cassandra_or_prefect(finished: Ran, shared_desk: Desk) -> None:
    away = str(supervise.free_port())

    ran = shared_desk.run(
        "tile", "status", TILE, *CORNER, "--json", OVERLANDER_CASSANDRA_PORT=away, PREFECT_API_URL=None
    )

    assert ran.status == finished.status
    assert set(json.loads(ran.out)) == STATUS_KEYS | {"not_home"}
    away = json.loads(ran.out)["not_home"]
    assert sorted(one["state"] for one in away) == ["incomplete", "queued", "unrequested"]
    assert all(one["since"] and one["reason"] and one["next_step"] for one in away)
    assert json.loads(ran.out)["states"] == json.loads(finished.out)["states"]


def test_status_counts_what_was_never_looked_at_as_unknown(finished: Ran, shared_desk: Desk) -> None:
    ran = shared_desk.run("tile", "status", TILE, "--window", "0:5,0:4", "--json")

    assert (ran.status, json.loads(ran.out)["states"]["unknown"]) == (3, 4)


def test_status_of_a_tile_nobody_looked_at_says_how_to_look(desk: Desk) -> None:
    desk.run("tile", "plan", TILE, "--window", "0:1,0:1")

    ran = desk.run("tile", "status", "H06V03", "--json")

    assert (ran.status, ran.out) == (2, "")
    assert "overlander tile count H06V03" in " ".join(ran.err.split())


def test_count_gives_states_and_writes_no_files(desk: Desk, prefect_api: str) -> None:
    ran = desk.run("tile", "count", TILE, "--window", "0:1,0:3", "--json")

    assert (ran.status, set(json.loads(ran.out))) == (0, COUNT_KEYS)
    assert json.loads(ran.out)["states"]["complete"] == json.loads(ran.out)["chips"] == 3
    assert not desk.out.exists()


def test_plan_foretells_what_an_export_does(desk: Desk, prefect_api: str) -> None:
    window = ("--window", "1:2,0:3")
    plan = json.loads(desk.run("tile", "plan", TILE, *window, "--json").out)
    export = desk.run("tile", "export", TILE, *window, "--json")
    after = json.loads(desk.run("tile", "plan", TILE, *window, "--json").out)

    assert (plan["to_write"], plan["to_keep"], plan["expected_seconds"]) == (3, 0, None)
    assert plan["bytes"] > 0
    assert (export.status, json.loads(export.out)["exported"]) == (0, 3)
    assert set(json.loads(export.out)) == RUN_KEYS
    assert (after["to_write"], after["to_keep"], after["bytes"]) == (0, 3, 0)
    assert sorted(path.parent.name for path in desk.out.rglob("H05V03_*.json")) == [TILE, TILE, "flawed"]


def test_a_person_reads_the_same_on_stderr_and_can_copy_every_path(finished: Ran, shared_desk: Desk) -> None:
    ran = {what: shared_desk.run("tile", what, TILE, *CORNER) for what in ("plan", "status", "run")}

    for one in ran.values():
        assert one.out == ""
        assert "incomplete" in one.err
        assert "1 chip waiting in the service's queue: run again later." in one.err
    for file in json.loads(finished.out)["files"].values():
        assert file in ran["run"].err


def test_a_closed_tile_is_left_alone_until_it_is_reopened(desk: Desk, prefect_api: str) -> None:
    window = ("--window", "0:1,0:1")
    assert desk.run("tile", "close", TILE, "--reason", "on tape").status == 0

    closed = desk.run("tile", "run", TILE, *window)
    plan = json.loads(desk.run("tile", "plan", TILE, *window, "--json").out)
    status = desk.run("tile", "status", TILE, *window)

    assert closed.status == 0
    assert "on tape" in closed.err
    assert not desk.out.exists()
    assert plan["to_write"] == 0
    assert (status.status, "on tape" in status.err) == (0, True)

    assert desk.run("tile", "reopen", TILE).status == 0
    assert json.loads(desk.run("tile", "run", TILE, *window, "--json").out)["exported"] == 1


# The sandbox


def test_with_no_cassandra_set_a_running_sandbox_is_used_and_named(
    tmp_path: Path, seeded_node: cassandra.Node
) -> None:
    desk = Desk(tmp_path)

    ran = desk.run("tile", "plan", TILE, *CORNER, "--json")

    assert ran.status == 0
    assert f"using the sandbox at 127.0.0.1 port {seeded_node.port}" in ran.err
    assert json.loads(ran.out)["algorithm"] == seed.ALGORITHM
    assert json.loads(ran.out)["states"]["complete"] == 11


def test_sandbox_status_tells_other_programs_where_it_is(desk: Desk, seeded_node: cassandra.Node) -> None:
    ran = desk.run("sandbox", "status", "--json")

    found = json.loads(ran.out)
    assert set(found) == {"cassandra", "service_url", "wps_url", "wps_executions", "prefect_api_url"}
    assert found["cassandra"] == {
        "hosts": ["127.0.0.1"],
        "port": seeded_node.port,
        "username": seeded_node.username,
        "password": seeded_node.password,
        "keyspace": seeded_node.keyspace,
    }


# Interruptions


@pytest.mark.campaign
def test_a_run_that_is_killed_leaves_nothing_behind_and_the_next_one_completes_it(
    desk: Desk, finished: Ran, shared_desk: Desk
) -> None:
    killed = desk.start("tile", "run", TILE, *CORNER, "--json", OVERLANDER_EXPORT_PROCESSES="2")
    await_first_chip(desk, killed)
    family = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.communicate(timeout=30)
    _, left = psutil.wait_procs(family, timeout=30)
    assert family, "it had no processes that save chips"
    assert left == []
    assert len(chips_of(desk)) < 12, "it had finished before it was killed"

    again = desk.run("tile", "run", TILE, *CORNER, "--json")

    assert again.status == finished.status
    assert bytes_of(desk) == bytes_of(shared_desk)


@pytest.mark.campaign
def test_ctrl_c_keeps_what_is_done_and_the_next_run_completes_it(
    desk: Desk, finished: Ran, shared_desk: Desk
) -> None:
    stopped = desk.start("tile", "run", TILE, *CORNER, "--json", OVERLANDER_EXPORT_PROCESSES="2")
    await_first_chip(desk, stopped)
    family = psutil.Process(stopped.pid).children(recursive=True)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: to each process of the group
    out, err = stopped.communicate(timeout=30)
    assert (stopped.returncode, out) == (INTERRUPTED, "")
    assert "what is done is kept" in err
    assert "Traceback" not in err
    assert psutil.wait_procs(family, timeout=30)[1] == []
    whole = bytes_of(shared_desk)
    kept = bytes_of(desk)
    assert kept.items() <= whole.items()
    assert any(name.endswith(".json") for name in kept)

    desk.run("tile", "run", TILE, *CORNER, "--json")

    assert bytes_of(desk) == whole


@pytest.mark.campaign
def test_a_stuck_run_is_named_to_the_next_one_and_leaves_at_ctrl_c(desk: Desk, prefect_api: str) -> None:
    stuck = desk.start("tile", "run", TILE, *CORNER, "--json", script=STUCK)
    assert stuck.stdout is not None
    try:
        assert stuck.stdout.readline() == "stuck\n"

        second = desk.run("tile", "run", TILE, *CORNER, "--json")

        assert (second.status, second.out) == (3, "")
        assert f"overlander tile run {TILE}" in second.err
        assert f"process {stuck.pid}" in second.err
        assert time.strftime("since %Y-%m-%d", time.gmtime()) in second.err

        os.killpg(stuck.pid, signal.SIGINT)
        assert stuck.wait(timeout=30) == INTERRUPTED
    finally:
        stuck.kill()
        stuck.communicate(timeout=30)


def test_a_tile_in_use_is_refused_to_whoever_comes_second(desk: Desk, prefect_api: str) -> None:
    with desk.at_work(), site(tile_campaign_of(TILE), words="somebody else"):
        for what in ("export", "plan", "close"):
            ran = desk.run("tile", what, TILE)
            assert (ran.status, ran.out) == (3, "")
            assert "somebody else" in ran.err
    assert not desk.out.exists()


def await_first_chip(desk: Desk, started: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 60
    while not chips_of(desk):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def chips_of(desk: Desk) -> list[Path]:
    return list(desk.out.rglob("H05V03_*.json"))


def bytes_of(desk: Desk) -> dict[str, Any]:
    return {name: data for name, (data, _) in contents(desk.out).items()}
