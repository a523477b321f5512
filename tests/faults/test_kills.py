"""`kill -9` at random moments of a run with troubles: run again, the end is that of an undisturbed run."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.sandbox import cassandra, seed
from tasks.chips.campaign import tile_campaign_of
from tasks.chips.grid import Chip
from tests.faults.conftest import AtDesk
from tests.flows.desk import Desk
from tests.service_desk import Service

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

TILE, WINDOW = "H05V03", "45:47,0:4"
MAX_ATTEMPTS = 3
RANDOM = random.Random(20_170_801)
MOMENTS = [RANDOM.random() for _ in range(20)]
"""Each as a part of the time that the undisturbed run took, from the start of its process."""

TROUBLES: list[dict[str, Any]] = [
    {},  # complete beforehand
    {},
    {"rows_lost": 23, "times": 1},
    {"rows_lost": [17, 4_711]},
    {"failed_pixels": 5},
    {"crash_at": 5_000, "times": 1},
    {"error_after_publish": True, "times": 1},
    {"drop": True, "times": 1},
]
"""What goes wrong with each chip of the window, row by row."""

STATES = {"complete": 6, "flawed": 1, "quarantined": 1}
MOMENTS_IN_ROWS = {"result_produced", "chip_update_requested"}
COMMAND = ("tile", "run", TILE, "--window", WINDOW, "--json")


@dataclass(frozen=True)
class End:
    """How a campaign ended: exit status, states, and each file with what may differ taken out."""

    status: int
    states: dict[str, int]
    files: dict[str, object]


Prepared = Callable[[str], tuple[Service, Desk]]


@pytest.fixture
def prepared(service_named: Callable[[str], Service], at_desk: AtDesk, cassandra_node: cassandra.Node) -> Prepared:
    """Return a service with troubles, and an empty desk, for an algorithm that has one complete chip."""

    def prepare(name: str) -> tuple[Service, Desk]:
        service = service_named(f"test:kills-{name}")
        chips = chips_of(service)
        troubles = {chip: [trouble] for chip, trouble in zip(chips, TROUBLES, strict=True) if trouble}
        service.plan(troubles, workers=2, crash_pause_s=0.2)  # type: ignore[arg-type]
        texts = [f'{{"change_models": [], "n": {number}}}' for number in range(7)]
        with cassandra.session(cassandra_node, timeout_s=120) as connected:
            seed.write_chip(connected, chips[0].x, chips[0].y, results=texts, algorithm=service.algorithm)
        return service, at_desk(service, name)

    return prepare


@dataclass
class Undisturbed:
    """The end of a run that nobody kills, and how long its process took."""

    end: End | None = None
    seconds: float = 0.0


@pytest.fixture(scope="module")
def kept() -> Undisturbed:
    return Undisturbed()


@pytest.fixture
def undisturbed(kept: Undisturbed, prepared: Prepared) -> Undisturbed:
    """Return how a run ends that nobody kills, made once."""
    if kept.end is None:
        service, desk = prepared("00")
        begun = time.monotonic()
        run = desk.start(*COMMAND)
        out, err = run.communicate(timeout=300)
        assert run.returncode == 4, err
        kept.seconds = time.monotonic() - begun
        kept.end = End(run.returncode, states_in(out), files_of(desk, service))
        assert kept.end.states == STATES
        print(f"\nundisturbed: {kept.seconds:.1f} s, {len(service.received())} requests")
    return kept


@pytest.mark.parametrize("number", range(1, len(MOMENTS) + 1))
def test_a_run_killed_at_a_random_moment_ends_as_an_undisturbed_one_when_it_is_run_again(
    number: int, prepared: Prepared, undisturbed: Undisturbed
) -> None:
    service, desk = prepared(f"{number:02}")
    moment_s = MOMENTS[number - 1] * undisturbed.seconds
    killed = desk.start(*COMMAND)
    time.sleep(moment_s)  # a moment of a run is what is tried here
    family = psutil.Process(killed.pid).children(recursive=True) if killed.poll() is None else []
    killed.kill()
    killed.communicate(timeout=30)
    assert psutil.wait_procs(family, timeout=30)[1] == []
    sent = len(service.received())

    again = desk.run(*COMMAND, "--wait-hours", "0.05")

    print(f"\nkilled after {moment_s:.1f} s and {sent} requests; {len(service.received())} in the end", end="")
    assert End(again.status, states_in(again.out), files_of(desk, service)) == undisturbed.end
    counts = [len(service.received(chip)) for chip in chips_of(service)]
    assert counts[0] == 0
    assert max(counts) <= MAX_ATTEMPTS


def chips_of(service: Service) -> list[Chip]:
    return tile_campaign_of(TILE, window=WINDOW, algorithm=service.algorithm).chips


def states_in(summary: str) -> dict[str, int]:
    return {state: count for state, count in json.loads(summary)["states"].items() if count}


def files_of(desk: Desk, service: Service) -> dict[str, object]:
    """Return every file of a campaign by its name; of those that hold moments, the rest of what they hold."""
    before = chips_of(service)[0]
    folder = desk.out / service.algorithm.replace(":", "_")
    return {
        str(path.relative_to(folder)): contents_of(path, service.algorithm, f"_{before.x}_{before.y}.json")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents_of(path: Path, algorithm: str, complete_before: str) -> object:
    if path.name.endswith(complete_before) or path.name == "bad-pixels.csv":
        return path.read_bytes().replace(algorithm.encode(), b"")
    if path.suffix == ".json":
        rows = json.loads(path.read_bytes().replace(algorithm.encode(), b""))
        return [{name: row[name] for name in row.keys() - MOMENTS_IN_ROWS} for row in rows]
    return "there"  # map, page and manifests follow from the chips, and say when
