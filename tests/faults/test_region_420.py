"""A region of many tiles, one chip of each, through two workers; interrupted in the middle and begun again.

`REGION_TILES=420` is CONUS's land; what it took is printed.
"""

import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.children import UNDER_WAY
from tasks.chips.grid import REGIONS, Tile
from tests.crew import Crew, Worker, await_that, crew
from tests.debian_postgres import debian_postgres
from tests.faults.conftest import AtDesk
from tests.service_desk import Service

TILES = int(os.environ.get("REGION_TILES", "12"))
RUNS = 2
"""Of each worker at once: one waits while the other works."""
AT_ONCE = 8 if TILES >= 100 else 4
"""Of many, twice what the two workers take: they have something to do while the region is run again."""
LIMIT_S = 600.0 + 60.0 * TILES
OF_TILES = FlowFilter(name=FlowFilterName(any_=["tile-campaign"]))

pytestmark = [pytest.mark.faults, pytest.mark.timeout(LIMIT_S + 600)]


def inland(count: int) -> list[str]:
    """Return the tiles nearest to the middle of CONUS's grid: most of what they hold is land."""
    conus = REGIONS["conus"]
    tiles = [Tile(conus, h, v) for h in range(conus.columns) for v in range(conus.rows)]
    middle_h, middle_v = (conus.columns - 1) / 2, (conus.rows - 1) / 2
    tiles.sort(key=lambda tile: abs(tile.h - middle_h) / conus.columns + abs(tile.v - middle_v) / conus.rows)
    return [tile.name for tile in tiles[:count]]


@dataclass
class Operator:
    """Runs a region again and again, as a schedule does, whenever there is something to top up."""

    people: Crew
    listed: Path
    ended_before: int = -1

    @property
    def command(self) -> tuple[str, ...]:
        asked = ("--tiles", str(self.listed), "--window", "0:1,0:1", "--at-once", str(AT_ONCE))
        return ("region", "run", "conus", *asked, "--max-requests", "1", "--json")

    def top_up(self) -> dict[str, Any] | None:
        """Run the region when half of its runs have ended; return what it gave when all tiles are finished."""
        left = runs_of_tiles(self.people, UNDER_WAY)
        ended = runs_of_tiles(self.people) - left
        if left > AT_ONCE // 2 or ended == self.ended_before:
            return None
        ran = self.people.run(*self.command)
        assert ran.status in (0, 3), ran.err
        if ran.out:  # else skipped: a dead run holds the lease
            self.ended_before = ended
        return json.loads(ran.out) if ran.status == 0 else None

    def half(self, service: Service) -> bool:
        """Top up; tell whether half of the chips are home."""
        self.top_up()
        return sum(job["state"] == "done" for job in service.jobs()) >= TILES // 2

    def interrupt(self, workers: list[Worker]) -> None:
        """Kill the region's run while it asks for runs, and the workers with all that they have under way."""
        await_that(lambda: runs_of_tiles(self.people, UNDER_WAY) < AT_ONCE, "room for another run")
        before = runs_of_tiles(self.people)
        asking = self.people.start(*self.command)
        try:
            await_that(lambda: runs_of_tiles(self.people) > before or asking.poll() is not None, "a run asked for")
        finally:
            asking.kill()
            asking.communicate(timeout=30)
        for worker in workers:
            worker.kill()


def test_a_region_interrupted_in_the_middle_comes_home_with_one_request_a_chip(
    service_named: Callable[[str], Service], desk_for: AtDesk
) -> None:
    service = service_named("test:region-420")
    desk = desk_for(service, "region")
    listed = desk.folder / "tiles.txt"
    listed.write_text("\n".join(inland(TILES)))
    began = time.monotonic()
    with (
        debian_postgres() as database,
        crew(desk, database, OVERLANDER_STALL_AFTER_S="3600") as people,
        watched(people) as figures,
    ):
        operator = Operator(people, listed)
        with people.worker("north", RUNS) as north, people.worker("south", RUNS) as south:
            figures.workers += [north, south]
            await_that(lambda: operator.half(service), "half of the tiles", LIMIT_S, every_s=3)
            operator.interrupt([north, south])
        with people.worker("east", RUNS) as east, people.worker("west", RUNS) as west:
            figures.workers += [east, west]
            last = await_that(operator.top_up, "all tiles", LIMIT_S, every_s=3)
        ended = all_runs_of_tiles(people)
    load = os.getloadavg()[1]
    print(f"\n{TILES} tiles in {time.monotonic() - began:.0f} s at load {load:.1f}. {figures.told(ended)}")

    chips = [(one["chip_x"], one["chip_y"]) for one in service.received()]
    assert (last["conditions"]["finished"], last["saved"]) == (TILES, TILES)
    assert len(chips) == len(set(chips)) == TILES
    assert len(list(desk.out.rglob("H*V*_*.json"))) == TILES


def runs_of_tiles(people: Crew, states: list[StateType] | None = None) -> int:
    """Return how many runs of tiles there are in some states; None: in any."""
    wanted = (
        None
        if states is None
        else FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    )
    with people.api() as api:
        return api.count_flow_runs(flow_filter=OF_TILES, flow_run_filter=wanted)


def all_runs_of_tiles(people: Crew) -> list[FlowRun]:
    found: list[FlowRun] = []
    with people.api() as api:
        while page := api.read_flow_runs(flow_filter=OF_TILES, limit=200, offset=len(found)):
            found += page
    return found


@dataclass
class Figures:
    """What server, workers and runs took, looked at again and again."""

    server: psutil.Process
    workers: list[Worker] = field(default_factory=list)
    most_mib: dict[str, float] = field(default_factory=lambda: {"server": 0.0, "worker": 0.0, "run": 0.0})
    cpu_s: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        self._memory("server", [self.server, *self.server.children(recursive=True)])
        self.cpu_s["server"] = _cpu(self.server)
        for worker in self.workers:
            if worker.process.is_running():
                self._memory("worker", [worker.process])
                self.cpu_s[worker.name] = _cpu(worker.process)
                for run in worker.runs().values():
                    self._memory("run", [run, *run.children(recursive=True)])

    def told(self, ended: list[FlowRun]) -> str:
        took = [run.total_run_time.total_seconds() for run in ended if run.state and run.state.is_completed()]
        workers_s = sum(self.cpu_s[worker.name] for worker in self.workers)
        memory = ", ".join(f"{what} {mib:.0f} MiB" for what, mib in self.most_mib.items())
        return (
            f"{len(ended)} runs, of {statistics.median(took):.1f} s each (median). Resident at most: {memory}. "
            f"CPU: server {self.cpu_s['server'] / len(ended):.1f} s a run, worker with its runs "
            f"{workers_s / len(ended):.1f} s a run."
        )

    def _memory(self, what: str, family: list[psutil.Process]) -> None:
        mib = 0.0
        for process in family:
            try:
                mib += process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
        self.most_mib[what] = max(self.most_mib[what], mib)


def _cpu(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process has used, and those of its children that have ended."""
    return float(sum(process.cpu_times()[:4]))


@contextmanager
def watched(people: Crew) -> Iterator[Figures]:
    """Look at server and workers every few seconds while the block runs."""
    figures, over = Figures(psutil.Process(people.server.pid)), threading.Event()

    def watch() -> None:
        while not over.wait(5):
            try:
                figures.look()
            except psutil.NoSuchProcess:
                continue  # it has just ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield figures
    finally:
        over.set()
        thread.join()
