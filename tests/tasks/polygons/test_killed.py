"""Runs that are killed, at a scripted WPS over real sockets: what it received is counted there."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from tasks.ledger.store import Ledger
from tests.polygon_desk import LIMIT_S, rows

ROOT = Path(__file__).parents[3]
POLYGONS = 60


KILLS = [pytest.param(None, 2, id="one host"), pytest.param("127.0.0.2", 1, id="status documents elsewhere")]


def start(ledger: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.polygon_run", str(ledger), url, str(POLYGONS)]
    return subprocess.Popen(command, cwd=ROOT)


def accepted(wps: ScriptedWps) -> Counter[str]:
    """Return how often each geometry became a job."""
    return Counter(one["geometry"] for one in wps.received() if one["job"] is not None)


@pytest.mark.campaign
@pytest.mark.parametrize(("status_host", "kills"), KILLS)
def test_a_run_killed_again_and_again_executes_nothing_twice_and_comes_home(
    status_host: str | None, kills: int, tmp_path: Path
) -> None:
    ledger_file = tmp_path / "ledger.sqlite"
    with serving({"duration_s": [0, 1]}, status_host=status_host) as wps:
        kill_and_start_again(wps, ledger_file, kills)
        jobs = accepted(wps)
    with Ledger.open(ledger_file) as ledger:
        ends = Counter(row.own for row in rows(ledger).values())
    assert set(jobs.values()) == {1}
    assert set(ends) <= {"done", "uncertain"}
    assert ends["done"] <= len(jobs) <= POLYGONS
    assert ends["uncertain"] <= kills * 8


def kill_and_start_again(wps: ScriptedWps, ledger_file: Path, kills: int) -> None:
    """Kill runs at random moments, and let the last one come to its end."""
    chance = random.Random(5)
    for kill in range(kills):
        run = start(ledger_file, wps.url)
        try:
            enough = kill * 15 + chance.randint(1, 15)
            deadline = time.monotonic() + LIMIT_S
            while len(wps.received()) < enough and run.poll() is None and time.monotonic() < deadline:
                time.sleep(chance.uniform(0, 0.02))
        finally:
            run.kill()
            run.wait(LIMIT_S)
    last = start(ledger_file, wps.url)
    assert last.wait(LIMIT_S) == 0
