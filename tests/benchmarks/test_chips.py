"""Survey and export against the notebook's way, on the same chips of the same node in the same run.

The results are as long as those of the notebook's time. Run with `make bench`; docs/performance.md
holds figures.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox import cassandra, seed
from tasks.chips.grid import REGIONS, Chip, parse_window, tile_named
from tests.flows.desk import variables_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
ALGORITHM = "lcmap-pyccd:benchmark"
SURVEYED = "20:24,20:30"
EXPORTED = "20:23,20:24"
NOTEBOOK_EXPORTED = "20:21,20:24"
"""Fewer chips: the notebook takes 15 s for each."""
TILE = tile_named("H05V03", REGIONS["conus"])


def chips_of(window: str) -> list[Chip]:
    return [chip for row in parse_window(window).rows(TILE) for chip in row]


@pytest.fixture(scope="module")
def full_node(cassandra_node: cassandra.Node) -> cassandra.Node:
    """The session's node with 40 complete chips of real results."""
    results = [_as_in_2017(text) for text in seed.shipped_results()]
    with cassandra.session(cassandra_node) as connected:
        for chip in chips_of(SURVEYED):
            seed.write_chip(connected, chip.x, chip.y, results=results, algorithm=ALGORITHM)
    return cassandra_node


def _as_in_2017(result: str) -> str:
    """Return a result as workers of the notebook's time wrote it: its mask in words, `true, false`.

    Source: lcmap-change-worker, 69a1244 of 2017-08-22, which made it numbers.
    """
    parts = json.loads(result)
    return json.dumps(parts | {"processing_mask": [bool(bit) for bit in parts["processing_mask"]]})


def run(program: str, what: str, job: dict[str, Any], node: cassandra.Node, ledger: Path) -> dict[str, Any]:
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent.parent),
        **variables_of(node),
        "OVERLANDER_LEDGER": str(ledger),
        "OVERLANDER_EXPORT_PROCESSES": "2",
    }
    command = [sys.executable, str(HERE / program), what, json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def notebook(
    what: str, window: str, node: cassandra.Node, out: Path, *, compression: bool = False
) -> dict[str, Any]:
    """Run the notebook's way; without lz4, a package of its own, which the notebook does not ask for."""
    out.mkdir(parents=True, exist_ok=True)
    chips = [(chip.x, chip.y) for chip in chips_of(window)]
    job = asdict(node) | {"algorithm": ALGORITHM, "chips": chips, "out": str(out), "compression": compression}
    return run("notebook.py", what, job, node, out / "none")


def ours(what: str, window: str, node: cassandra.Node, folder: Path) -> dict[str, Any]:
    job = {"tile": TILE.name, "window": window, "algorithm": ALGORITHM, "out": str(folder / "out")}
    return run("ours.py", what, job, node, folder / "ledger.sqlite")


def test_a_second_survey_is_20_times_faster_and_sees_a_chip_requested_again(
    full_node: cassandra.Node, tmp_path: Path
) -> None:
    baseline = notebook("count", SURVEYED, full_node, tmp_path / "notebook")
    first = ours("survey", SURVEYED, full_node, tmp_path)
    second = ours("survey", SURVEYED, full_node, tmp_path)
    chip = chips_of(SURVEYED)[5]
    with cassandra.session(full_node) as connected:
        again = seed.REQUESTED + timedelta(days=1)
        seed.request_again(connected, chip.x, chip.y, ALGORITHM, again)
    third = ours("survey", SURVEYED, full_node, tmp_path)
    for name, took in (("notebook", baseline), ("first", first), ("second", second), ("third", third)):
        print(f"\nsurvey of 40 chips, {name:9} {1000 * took['seconds'] / 40:8.1f} ms a chip", end="")
    print(f"\nsecond survey: {first['seconds'] / second['seconds']:.0f} times faster than the first")
    assert (first["counted"], second["counted"], third["counted"]) == (40, 0, 1)
    assert first["seconds"] >= 20 * second["seconds"]


def test_an_export_writes_ten_times_the_notebook_s_rows_a_second(
    full_node: cassandra.Node, tmp_path: Path
) -> None:
    baseline = notebook("save", NOTEBOOK_EXPORTED, full_node, tmp_path / "notebook")
    with_lz4 = notebook("save", NOTEBOOK_EXPORTED, full_node, tmp_path / "notebook-lz4", compression=True)
    export = ours("export", EXPORTED, full_node, tmp_path)
    rates = {"notebook": baseline, "notebook with lz4": with_lz4, "ours": export}
    for name, took in rates.items():
        print(f"\n{name:18} {took['rows'] / took['seconds']:8,.0f} rows/s, ", end="")
        memory = took["memory"] if isinstance(took["memory"], dict) else {"process": took["memory"]}
        print(", ".join(f"{what} {size / 1e6:,.0f} MB" for what, size in memory.items()), end="")
    assert export["rows"] == 120_000
    assert export["rows"] / export["seconds"] >= 10 * baseline["rows"] / baseline["seconds"]
