"""`overlander polygons run` as processes: watched, interrupted, killed, two at once."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.sandbox.wps_answers import ScriptedWps
from flows.cli import polygon_run
from flows.cli.run import INTERRUPTED
from tests.flows.desk import Desk, Ran
from tests.flows.polygons_at_desk import YEAR, own, paragraph, run, sent, times_sent, wetlands

pytestmark = pytest.mark.campaign

WITHIN_S = 90.0
COMPLETED, LEFT = 0, 3


@contextmanager
def started(desk: Desk, source: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a run, and end it if the test did not."""
    process = desk.start("polygons", "run", str(source), "--interval", YEAR, "--json", *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def await_that(condition: Callable[[], bool], *processes: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + WITHIN_S
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_run_can_be_watched_and_ctrl_c_leaves_what_the_next_run_goes_on_with(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "jobs": [1, 2, 3], "stays": "started"}])
    source = wetlands(wps_desk, 8)
    with started(wps_desk, source, "--concurrency", "3") as stopped:
        await_that(lambda: sent(scripted_wps) == 4, stopped)
        await_that(lambda: own(status(wps_desk)) == {"done": 1, "in_flight": 3, "pending": 4}, stopped)
        assert status(wps_desk).status == LEFT

        os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: to each process of the group
        out, err = stopped.communicate(timeout=30)

    assert (stopped.returncode, out) == (INTERRUPTED, "")
    assert "Run the same command again to go on." in err
    assert "Traceback" not in err
    assert own(status(wps_desk)) == {"done": 1, "in_flight": 3, "pending": 4}

    scripted_wps.plan(troubles=[])
    again = run(wps_desk, source, "--concurrency", "8", "--hours", "0.004")
    assert own(again) == {"done": 5, "in_flight": 3}
    assert times_sent(scripted_wps) == [1] * 8


def test_ctrl_c_with_cancel_remote_leaves_the_jobs_where_the_service_cannot_dismiss_them(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(duration_s=3600)
    with started(wps_desk, wetlands(wps_desk, 2), "--cancel-remote") as stopped:
        await_that(lambda: sent(scripted_wps) == 2, stopped)
        os.killpg(stopped.pid, signal.SIGINT)
        stopped.communicate(timeout=30)

    assert stopped.returncode == INTERRUPTED
    assert own(status(wps_desk)) == {"in_flight": 2}


def test_two_runs_at_once_share_the_campaign_and_send_nothing_twice(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(duration_s=0.5)
    source = wetlands(wps_desk, 24)
    with started(wps_desk, source) as first, started(wps_desk, source) as second:
        ends = [process.communicate(timeout=WITHIN_S) for process in (first, second)]

    assert (first.returncode, second.returncode) == (COMPLETED, COMPLETED), ends
    assert own(status(wps_desk)) == {"done": 24}
    assert times_sent(scripted_wps) == [1] * 24


def test_a_run_without_a_terminal_says_now_and_then_how_far_it_is(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygon_run, "_SECONDS_BETWEEN_LINES", 0)
    scripted_wps.plan(troubles=[{"when": "job", "jobs": [2], "stays": "started"}])

    ran = run(wps_desk, wetlands(wps_desk, 3), "--concurrency", "2", "--hours", "0.003")

    assert "wetlands: 3 sent, 1 in flight (limit 2), 2 done, 0 failed, 0 uncertain, 0 given up" in paragraph(ran)
    assert re.search(r"a minute, about .* left", paragraph(ran))


def status(desk: Desk) -> Ran:
    """Return what the ledger says meanwhile."""
    return desk.run("polygons", "status", "wetlands.gpkg", "--json")
