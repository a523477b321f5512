"""`overlander region status` of CONUS: 420 tiles and 1,050,000 chips in the ledger."""

import json
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.chips.grid import REGIONS, Tile
from tasks.ledger import schema
from tasks.ledger.chips import use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.regions import RegionGround, choose_tiles
from tasks.ledger.store import Ledger

CONUS = REGIONS["conus"]
SOURCE, ALGORITHM = "LCMAP/lcmap_changes_conus.results", "lcmap-pyccd:2017.08.18"
TILES = [Tile(CONUS, number % 33, number // 33) for number in range(420)]
FINISHED = 280
"""Tiles; of the others a third of the chips waits."""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the ledger of a region of which two thirds are home."""
    folder = tmp_path_factory.mktemp("region")
    place, out = folder / "ledger.sqlite", folder / "out"
    ground = RegionGround(SOURCE, ALGORITHM, "conus", f"conus {ALGORITHM}")
    with Ledger.open(place) as ledger:
        ledger.write(lambda change: choose_tiles(change, ground, [tile.name for tile in TILES]))
        for tile in TILES:
            at = Ground(SOURCE, ALGORITHM, "conus", tile.name)
            ledger.write(lambda change, at=at: use_tile(change, at, "a benchmark"))
    with closing(sqlite3.connect(place)) as writing:
        writing.execute("PRAGMA synchronous = OFF")
        for number, tile in enumerate(TILES):
            seed(writing, tile, out, finished=number < FINISHED)
        writing.commit()
    return folder


def seed(writing: sqlite3.Connection, tile: Tile, out: Path, *, finished: bool) -> None:
    """Write down 2,500 chips of a tile, and the files of those that are home."""
    now = datetime.now(UTC)
    requested = datetime(2026, 3, 1)  # noqa: DTZ001 - the service's clock is naive
    chips, exports = [], []
    for number, chip in enumerate(tile.chips()):
        key = {"source": SOURCE, "algorithm": ALGORITHM, "region": "conus", "tile": tile.name}
        key |= {"chip_x": chip.x, "chip_y": chip.y}
        home = finished or number % 3 > 0
        at = requested + timedelta(seconds=number)
        chips.append(
            key
            | {"state": "complete" if home else "queued", "since": str(now)[:26], "reason": "", "renew": 0}
            | {"looked_at": str(now)[:26], "pixels": 10_000 if home else 0, "update_requested": f"{at}.000000"}
        )
        if home:
            file = f"{out}/lcmap-pyccd_2017.08.18/{tile.name}/{tile.name}_{chip.x}_{chip.y}.json"
            exports.append(
                key
                | {"root": str(out), "file": file, "kind": "main", "options": "failed_pixels=keep"}
                | {"bytes": 70_000_000, "mtime_ns": 10**18, "sha256": "ab" * 32, "pixels": 10_000, "failed": 0}
                | {"update_requested": f"{at}.000000", "exported_at": str(now)[:26]}
            )
    for table, rows in ((schema.chips, chips), (schema.exports, exports)):
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        writing.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_the_status_of_a_region_of_a_million_chips(seeded: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "OVERLANDER_LEDGER": str(seeded / "ledger.sqlite"),
        "OVERLANDER_OUT": str(seeded / "out"),
        "OVERLANDER_ALGORITHM": ALGORITHM,
        "OVERLANDER_STATE_FOLDER": str(seeded),
    }
    seconds, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        began = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "flows.cli.main", "region", "status", "conus", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.monotonic() - began)
        assert ran.returncode == 3, ran.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(seconds)
    summary = json.loads(ran.stdout)

    assert (summary["tiles"], summary["chips"]) == (420, 1_050_000)
    assert (summary["conditions"]["finished"], summary["conditions"]["open"]) == (FINISHED, 420 - FINISHED)
    size = (seeded / "ledger.sqlite").stat().st_size
    print(f"\nregion status, 420 tiles, 1,050,000 chips, ledger of {size / 1e6:,.0f} MB:", end=" ")
    print(", ".join(f"{one:.1f} s" for one in seconds), f"from start to end, {cpu:.1f} s of CPU each")
