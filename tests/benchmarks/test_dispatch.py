"""Thousands of jobs sent and followed, by ours and by others, at one scripted WPS in the same run.

Run with `make bench`, or with fewer jobs as OVERLANDER_BENCHMARK_JOBS=500; docs/performance.md holds figures.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.sandbox import scripted_wps

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
JOBS = int(os.environ.get("OVERLANDER_BENCHMARK_JOBS", "10000"))
CONCURRENCY = 256
POLL_S = 2.0
LONG_EVERY = 50
LONG = {"when": "job", "every": LONG_EVERY, "duration_s": [30, 60]}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    scripted_wps.down(tmp_path / "wps")


def run(program: str, url: str, folder: Path, jobs: int = JOBS) -> dict[str, Any]:
    """Run a client against a service that has forgotten the one before; add the service's counts."""
    sandbox = url.removesuffix("/wps") + "/sandbox"
    httpx.post(f"{sandbox}/forget").raise_for_status()
    folder.mkdir()
    job = {"url": url, "jobs": jobs, "concurrency": CONCURRENCY, "folder": str(folder)}
    command = [sys.executable, str(HERE / program), json.dumps(job)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr
    summary = httpx.get(f"{sandbox}/summary", timeout=60).json()
    return json.loads(done.stdout) | {"polls": summary["polls"], "sent": summary["jobs"]}


def test_ten_thousand_short_jobs_cost_little_more_than_a_loop_that_remembers_nothing(folder: Path) -> None:
    url = scripted_wps.up(folder / "wps", {"duration_s": [0, 1]})
    names = {
        "ours, with its ledger": "our_dispatch.py",
        "bare httpx loop": "bare_dispatch.py",
        "notebook's method": "notebook_dispatch.py",
        "OWSLib in threads": "owslib_dispatch.py",
    }
    took = {name: run(program, url, folder / program, JOBS) for name, program in names.items()}
    ours = took["ours, with its ledger"]
    print(f"\n{JOBS} jobs of 0 to 1 s, {CONCURRENCY} at a time, load {os.getloadavg()[0]:.1f}")
    for name, one in took.items():
        print(
            f"{name:22} {one['seconds']:7.1f} s ({one['seconds'] / ours['seconds']:5.2f}), "
            f"{one['cpu_seconds']:7.1f} s at the processor ({one['cpu_seconds'] / ours['cpu_seconds']:5.2f}), "
            f"{one['polls']} looks, {one['done']} done"
        )
    assert ours["done"] == ours["sent"] == JOBS
    assert ours["cpu_seconds"] <= 4 * took["bare httpx loop"]["cpu_seconds"]
    assert ours["seconds"] <= 5 * took["bare httpx loop"]["seconds"] + 30


def test_of_short_and_long_jobs_the_ends_are_seen_soon_with_few_looks_and_in_little_memory(folder: Path) -> None:
    url = scripted_wps.up(folder / "wps", {"duration_s": [0, 1], "troubles": [LONG]})
    tenth = run("our_dispatch.py", url, folder / "tenth", max(JOBS // 10, 50))
    ours = run("our_dispatch.py", url, folder / "ours")
    jobs = httpx.get(url.removesuffix("/wps") + "/sandbox/jobs", timeout=60).json()
    fixed = sum(max(1, math.ceil((one["ends_at"] - one["received_at"]) / POLL_S)) for one in jobs)
    print(f"\n{JOBS} jobs, one in {LONG_EVERY} of 30 to 60 s, load {os.getloadavg()[0]:.1f}")
    print(f"{ours['seconds']:.1f} s, {ours['polls']} looks; a fixed {POLL_S:g} s poll takes {fixed}")
    print(f"most memory {ours['memory'] / 1e6:.1f} MB, of a tenth of the jobs {tenth['memory'] / 1e6:.1f} MB")
    late = {
        "short": [one for one in jobs if _duration_s(one) < 30],
        "long": [one for one in jobs if _duration_s(one) >= 30],
    }
    for kind, some in late.items():
        typical_s = statistics.median(one["end_seen_at"] - one["ends_at"] for one in some)
        print(f"{kind} jobs: end seen after {typical_s:.2f} s, in the median")
        assert statistics.median(_lateness(one) for one in some) <= 1
    assert ours["done"] == ours["sent"] == JOBS
    assert ours["polls"] < fixed
    assert ours["memory"] <= 1.1 * tenth["memory"] + 20e6


def _duration_s(job: dict[str, Any]) -> float:
    return float(job["ends_at"] - job["starts_at"])


def _lateness(job: dict[str, Any]) -> float:
    """Return how late an end was seen, as a part of what is allowed."""
    return float(job["end_seen_at"] - job["ends_at"]) / max(2.0, 0.1 * _duration_s(job))
