"""`overlander polygons run` killed on a real PyWPS and begun again: nothing is executed twice."""

import csv
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from sqlalchemy import select

from deployments.sandbox import pywps
from deployments.sandbox.wps_orders import geometry_hash
from tasks.ledger.schema import features, units
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.desk import Desk
from tests.flows.polygons_at_desk import YEAR, desk_at, own, run, summary, wetlands

CEILING = 8
"""Jobs at a service at a time, unless told otherwise: so many requests can be open, at most."""

LIMIT_S = 600.0


@contextmanager
def service(folder: Path, outputs_host: str) -> Iterator[pywps.Wps]:
    """Run a PyWPS of the test's own, whose jobs take up to a second."""
    try:
        found = pywps.up(folder, report=print, settings=pywps.Settings(outputs_host=outputs_host))
        httpx.put(f"{found.sandbox_url}/plan", json={"duration_s": [0, 1]}, trust_env=False).raise_for_status()
        yield found
    finally:
        pywps.down(folder)


@pytest.mark.campaign
def test_twenty_polygons_and_one_kill(wps_sandbox_anew: pywps.Wps, tmp_path: Path, prefect_api: str) -> None:  # noqa: F811
    httpx.put(f"{wps_sandbox_anew.sandbox_url}/plan", json={"duration_s": [0, 1]}, trust_env=False)

    killed_and_begun_again(wps_sandbox_anew, desk_at(tmp_path, wps_sandbox_anew.url), polygons=20, kills=1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("outputs_host", ["127.0.0.1", "127.0.0.2"], ids=["same host", "outputs elsewhere"])
def test_two_hundred_polygons_and_three_kills(tmp_path: Path, prefect_api: str, outputs_host: str) -> None:  # noqa: F811
    with service(tmp_path / "wps", outputs_host) as wps:
        desk = desk_at(tmp_path, wps.url, OVERLANDER_WPS_ALLOWED_HOSTS="127.0.0.2")

        killed_and_begun_again(wps, desk, polygons=200, kills=3)


def killed_and_begun_again(wps: pywps.Wps, desk: Desk, polygons: int, kills: int) -> None:
    """Kill a campaign at random moments, begin it again each time, and check what was executed and told."""
    chance = random.Random(polygons)
    source = wetlands(desk, polygons, size=90)
    before = len(begun(wps))
    perhaps_sent: set[str] = set()
    for kill in range(kills):
        enough = before + polygons * kill // kills + chance.randint(1, polygons // kills - 1)
        perhaps_sent |= kill_when(desk, source, lambda enough=enough: len(begun(wps)) >= enough, chance)
    last = run(desk, source, "--yes")

    rows = {row["id"]: row for row in csv.DictReader(Path(summary(last)["files"]["csv"]).read_text().splitlines())}
    uncertain = {name for name, row in rows.items() if row["own"] == "uncertain"}
    executed = Counter(one["geometry"] for one in begun(wps))
    by_id = {name: executed[hashed] for name, hashed in geometries(summary(last)["files"]["polygons"]).items()}
    print(f"{polygons} polygons, {kills} kills: {own(last)}; perhaps sent at a kill {len(perhaps_sent)}")
    assert len(rows) == polygons
    assert own(last) == Counter(done=polygons - len(uncertain)) | Counter(uncertain=len(uncertain))
    assert last.status == (4 if uncertain else 0)
    assert uncertain == perhaps_sent
    assert {number for name, number in by_id.items() if name not in uncertain} == {1}
    assert {number for name, number in by_id.items() if name in uncertain} <= {0, 1}


def kill_when(desk: Desk, source: Path, condition: Callable[[], bool], chance: random.Random) -> set[str]:
    """Start a run, kill it a random moment after something is so, and return the ids of what was being sent."""
    arguments = ("polygons", "run", str(source), "--interval", YEAR, "--yes", "--json")
    process = desk.start(*arguments)
    try:
        until = time.monotonic() + LIMIT_S
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "it had finished before it was killed"
    finally:
        process.kill()
        process.communicate(timeout=30)
    with Ledger.open(Path(desk.variables["OVERLANDER_LEDGER"])) as ledger, ledger.read() as reading:
        of_feature = select(features.c.id).join(units, units.c.feature == features.c.feature)
        open_then = {row.id for row in reading.execute(of_feature.where(units.c.own == Own.SUBMITTING.value))}
    assert len(open_then) <= CEILING
    return open_then


def begun(wps: pywps.Wps) -> list[dict[str, str]]:
    """Return what the service began to execute, in order."""
    if not wps.executions.exists():
        return []
    return [orjson.loads(line) for line in wps.executions.read_text().split("\n")[:-1]]


def geometries(file: str) -> dict[str, str]:
    """Return the hash of each polygon as it was sent, by its id."""
    found = orjson.loads(Path(file).read_bytes())["features"]
    return {one["properties"]["id"]: geometry_hash(one["geometry"]) for one in found}
