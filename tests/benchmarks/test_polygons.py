"""Polygons made ready against the notebook's way, on the same file in the same run. Run with `make bench`.

The file is as the Queensland wetlands are: EPSG:3577, some 100 points a polygon, 4 % MultiPolygons, 8 % with a
hole; a zipped shapefile.
"""

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.polygons.wetlands import Record, ring, write

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
FEATURES = 20_000
NOTEBOOK_FEATURES = 200
"""Fewer: it takes some 30 ms for each."""


def outline(x: float, y: float, chance: random.Random, points: int = 98) -> list[tuple[float, float]]:
    """A ragged lake of 100 to 700 m across."""
    radius = chance.uniform(50, 300)
    around = [-2 * math.pi * n / points for n in range(points)]
    open_ring = [
        (x + far * math.cos(angle), y + far * math.sin(angle))
        for angle in around
        for far in (radius * chance.uniform(1, 1.2),)
    ]
    return [*open_ring, open_ring[0]]


def wetlands(count: int) -> Iterator[Record]:
    chance = random.Random(3577)
    for n in range(count):
        x, y = chance.uniform(1.0e6, 1.9e6), chance.uniform(-3.2e6, -1.3e6)
        rings = [outline(x, y, chance)]
        if n % 12 == 0:
            rings.append(ring(x, y, 5)[::-1])
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rings}
        if n % 25 == 0:
            geometry = {"type": "MultiPolygon", "coordinates": [rings, [outline(x + 2000, y, chance)]]}
        yield geometry, {"OBJECTID": n + 1, "Shape_Leng": 1000.5, "NAME": "riverine swamp"}


def run(program: str, path: Path, count: int) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, str(HERE / program), str(path), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_polygons_are_ready_sixty_times_as_fast_as_in_the_notebook(tmp_path: Path) -> None:
    path = write(tmp_path / "wetlands.zip", wetlands(FEATURES))
    baseline = run("notebook_polygons.py", path, NOTEBOOK_FEATURES)
    tenth = run("our_polygons.py", path, FEATURES // 10)
    ours = run("our_polygons.py", path, FEATURES)
    for name, took in (("notebook", baseline), ("ours, a tenth", tenth), ("ours", ours)):
        rate = took["features"] / took["seconds"]
        print(f"\n{name:14} {rate:8,.0f} features/s, process {took['memory'] / 1e6:,.0f} MB", end="")
    assert (baseline["features"], ours["features"]) == (NOTEBOOK_FEATURES, FEATURES)
    assert ours["features"] / ours["seconds"] >= 60 * baseline["features"] / baseline["seconds"]
    assert ours["memory"] <= 1.1 * tenth["memory"] + 20e6
