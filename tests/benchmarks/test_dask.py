"""The export on a Dask cluster of this machine against a tile's own export: same chips, same node, same run.

Run with `make bench`; docs/scaling.md holds figures.
"""

import json
from pathlib import Path

import pytest

from deployments import server
from deployments.sandbox import cassandra, seed
from tasks.chips.grid import REGIONS, parse_window, tile_named
from tests.flows.desk import Desk, contents, variables_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ALGORITHM = "lcmap-pyccd:dask"
TILE = tile_named("H05V03", REGIONS["conus"])
WINDOW = "30:32,30:36"
PROCESSES = 2


@pytest.fixture(scope="module")
def chips(cassandra_node: cassandra.Node) -> int:
    """12 complete chips of real results; return how many rows they have."""
    found = [chip for row in parse_window(WINDOW).rows(TILE) for chip in row]
    with cassandra.session(cassandra_node, timeout_s=120) as connected:
        for chip in found:
            seed.write_chip(connected, chip.x, chip.y, results=seed.shipped_results(), algorithm=ALGORITHM)
    return 10_000 * len(found)


def test_dask_on_one_machine_writes_the_same_files_and_its_cluster_costs_seconds(
    chips: int, cassandra_node: cassandra.Node, prefect_server: server.Server, tmp_path: Path
) -> None:
    services = {
        **variables_of(cassandra_node),
        "OVERLANDER_ALGORITHM": ALGORITHM,
        "OVERLANDER_EXPORT_PROCESSES": str(PROCESSES),
        "PREFECT_API_URL": prefect_server.api_url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        **server.CLIENT_SETTINGS,
    }
    commands = {
        "own processes": ("tile", "export", TILE.name),
        "Dask": ("region", "export", "conus", "--tiles", TILE.name),
    }
    saved: dict[str, dict[str, bytes]] = {}
    for number, (what, command) in enumerate(commands.items()):
        desk = Desk(tmp_path / str(number), services)
        seconds = export(desk, *command)
        saved[what] = {
            name: content for name, (content, _) in contents(desk.out).items() if name.endswith(".json")
        }
        print(f"\n{what:14} {chips / seconds:8,.0f} rows/s, {seconds:6.1f} s", end="")
    assert saved["own processes"] == saved["Dask"]
    assert len(saved["Dask"]) * 10_000 == chips


def export(desk: Desk, *command: str) -> float:
    """Run the command; return for how many seconds the run was at work, whatever Prefect took to start."""
    desk.folder.mkdir()
    running = desk.start(*command, "--window", WINDOW, "--json")
    out, err = running.communicate(timeout=900)
    assert running.returncode == 0, err
    return float(json.loads(out)["seconds"])
