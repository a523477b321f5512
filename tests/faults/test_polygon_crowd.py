"""Ten thousand polygons at a scripted WPS with a fault in every tenth answer: each ends as the script says.

Figures on the way: the run's peak memory beside that of a tenth of the polygons.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_orders import geometry_hash
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.desk import Desk
from tests.flows.polygons_at_desk import YEAR, desk_at, wetlands

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

FEW, MANY = 1_000, 10_000
NEEDS_PERSON = 4

EXECUTES: list[tuple[int, int, dict[str, Any], str]] = [
    (1000, 10, {"busy": True, "times": 1}, "done"),
    (1000, 110, {"status": 503, "retry_after": "0", "times": 1}, "done"),
    (100, 10, {"slow_s": 1}, "done"),
    (100, 20, {"slow_s": 0.5}, "done"),
    (100, 30, {"reset": "before"}, "uncertain"),
    (100, 40, {"reset": "after"}, "uncertain"),
    (100, 50, {"html": 200}, "uncertain"),
    (100, 60, {"empty": True}, "uncertain"),
    (100, 70, {"cut": "connection"}, "uncertain"),
    (100, 80, {"refuse": "FileSizeExceeded"}, "failed"),
]
JOBS: list[tuple[int, int, dict[str, Any], str]] = [
    (100, 0, {"second_location": "elsewhere"}, "done"),
    (200, 90, {"fails": "cloudy"}, "failed"),
    (200, 190, {"fails": "cloudy", "times": 1}, "done"),
]
"""Every so many units from such a one on: what goes wrong with their request or job, and where that leads."""

POLLS = [{"empty": True}, {"cut": "document"}, {"html": 502}, {"missing": True}, {"reset": "before"}]

PEAK = """
import atexit, os, pathlib, re
def write():
    memory = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(os.environ["PEAK_FILE"]).write_text(re.search(r"VmHWM:\\s+(\\d+)", memory)[1])
atexit.register(write)
"""
"""A script for the command's own process, which tells its peak memory in KiB at its end."""


@dataclass(frozen=True)
class Crowd:
    """How a run of so many polygons ended."""

    status: int
    states: dict[str, str]
    expected: dict[str, str]
    executed: dict[str, int]
    seconds: float
    peak_mib: float


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Crowd:  # noqa: F811
    return crowd(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Crowd:  # noqa: F811
    return crowd(tmp_path_factory.mktemp("many"), MANY)


def test_every_polygon_ends_in_the_state_that_the_script_says(many: Crowd) -> None:
    assert many.status == NEEDS_PERSON
    assert len(many.states) == MANY
    wrong = {name: state for name, state in many.states.items() if state != many.expected[name]}
    assert wrong == {}


def test_no_polygon_becomes_two_jobs_but_those_whose_job_failed(many: Crowd) -> None:
    twice = {name for name, jobs in many.executed.items() if jobs > 1}
    assert {many.expected[name] for name in twice} <= {"done", "failed"}
    assert len(twice) == MANY // 100


def test_memory_does_not_grow_with_the_polygons(few: Crowd, many: Crowd) -> None:
    print(f"Peak memory: {few.peak_mib:.0f} MiB at {FEW:,} polygons, {many.peak_mib:.0f} MiB at {MANY:,}.")
    assert many.peak_mib <= 1.1 * few.peak_mib + 20


def crowd(folder: Path, polygons: int) -> Crowd:
    """Run a campaign of so many polygons through every fault."""
    with serving({"duration_s": [0, 1], "troubles": list(troubles())}) as wps:
        desk = desk_at(folder, wps.url, OVERLANDER_WPS_POLL_S="0.5")
        ended = run(desk, wetlands(desk, polygons), folder / "peak")
        arrival = {job["geometry"]: index for index, job in enumerate(order_of_arrival(wps.received()))}
        jobs = wps.counts()
    summary = json.loads(ended[1])
    files = {what: Path(file) for what, file in summary["files"].items()}
    shapes = json.loads(files["polygons"].read_bytes())["features"]
    hashes = {one["properties"]["id"]: geometry_hash(one["geometry"]) for one in shapes}
    states = {row["id"]: row["own"] for row in csv.DictReader(files["csv"].read_text().splitlines())}
    found = Crowd(
        status=ended[0],
        states=states,
        expected={name: end_of(arrival[hashed]) for name, hashed in hashes.items()},
        executed={name: jobs[hashed]["jobs"] for name, hashed in hashes.items()},
        seconds=summary["seconds"],
        peak_mib=int((folder / "peak").read_text()) / 1024,
    )
    print(f"{polygons:,} polygons in {found.seconds:.0f} s: {summary['own']}")
    return found


def run(desk: Desk, source: Path, peak: Path) -> tuple[int, str]:
    """Run the command in a process of its own; return its exit status and what it gave."""
    arguments = ("--interval", YEAR, "--yes", "--concurrency", "64", "--json")
    process = desk.start("polygons", "run", str(source), *arguments, script=PEAK, PEAK_FILE=str(peak))
    try:
        out, err = process.communicate(timeout=3000)
    finally:
        process.kill()
    assert out, err
    return process.returncode, out


def troubles() -> Iterator[dict[str, Any]]:
    """Yield the plan's troubles."""
    for when, listed in (("execute", EXECUTES), ("job", JOBS)):
        for every, offset, what, _ in listed:
            yield {"when": when, "every": every, "offset": offset, **what}
    for what in POLLS:
        yield {"when": "poll", "every_answer": 10 * len(POLLS), **what}


def end_of(index: int) -> str:
    """Return the state that the script leads a unit to, by its place in order of first arrival."""
    for every, offset, _, end in EXECUTES + JOBS:
        if index % every == offset % every:
            return end
    return "done"


def order_of_arrival(received: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first request for each geometry."""
    first: dict[str, dict[str, Any]] = {}
    for one in received:
        first.setdefault(one["geometry"], one)
    return list(first.values())
