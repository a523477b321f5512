"""270,421 polygons as units of the ledger, and claims of 500 of them, beside bare SQLite.

Run with `make bench`; docs/scaling.md holds figures. OVERLANDER_BENCHMARK_UNITS sets another number.
"""

import hashlib
import os
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from tasks.ledger.claims import Terms, claim, run_on
from tasks.ledger.polygons import Loader, use_campaign, use_series
from tasks.ledger.store import Ledger
from tests.polygon_desk import CAMPAIGN, URL, YEAR, Feature

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

UNITS = int(os.environ.get("OVERLANDER_BENCHMARK_UNITS", "270421"))
LOT, CLAIMS = 500, 100
RING = ",".join(f"[146.{point:06},-19.{point:06}]" for point in range(100))


def wetlands() -> Iterator[Feature]:
    """Give polygons of a hundred points, 2.3 kB of JSON each."""
    for number in range(UNITS):
        geometry = f'{{"type":"Polygon","coordinates":[[{RING},[{number}.0,0.0]]]}}'
        yield Feature(number, f"p{number}", hashlib.sha256(geometry.encode()).hexdigest(), geometry)


@pytest.mark.parametrize("ledger_place", ["sqlite", "postgres"])
def test_a_large_campaign_is_loaded_in_minutes_and_claimed_in_moments(
    ledger_place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = tmp_path / "ledger.sqlite" if ledger_place == "sqlite" else request.getfixturevalue("postgres_ledger")
    baseline_s = bare(tmp_path / "bare.sqlite")
    with Ledger.open(place) as ledger:
        ledger.write(lambda change: use_campaign(change, CAMPAIGN, "wetlands.zip", "OBJECTID"))
        of_series = ledger.write(lambda change: use_series(change, CAMPAIGN, URL, "wit", "v1", (YEAR,)))
        begun = time.monotonic()
        loader = Loader(ledger, CAMPAIGN, "OBJECTID", of_series)
        units = [unit for lot in loader.load(wetlands(), LOT) for unit in lot.units]
        load_s = time.monotonic() - begun
        with run_on(ledger, CAMPAIGN, "a benchmark") as held:
            claims_s = [
                claimed(ledger, held.name, units[at : at + LOT]) for at in range(0, min(CLAIMS * LOT, UNITS), LOT)
            ]

    load = f"load {os.getloadavg()[0]:.1f}"
    print(
        f"\n{ledger_place}: {len(units):,} units loaded in {load_s:.1f} s; bare SQLite {baseline_s:.1f} s; {load}"
    )
    print(f"a claim of {LOT}: {statistics.median(claims_s) * 1000:.0f} ms, at most {max(claims_s) * 1000:.0f} ms")
    assert len(set(units)) == UNITS
    assert load_s < 30 * baseline_s


def claimed(ledger: Ledger, run: str, units: list[int]) -> float:
    """Claim some units, and return the seconds that took."""
    begun = time.monotonic()
    taken = ledger.write(lambda change: claim(change, units, Terms(run), url=URL, limit=UNITS)).taken
    assert len(taken) == len(units)
    return time.monotonic() - begun


def bare(place: Path) -> float:
    """Write the same polygons with the sqlite3 module, nothing checked; return the seconds that took."""
    begun, found = time.monotonic(), wetlands()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE features (id TEXT PRIMARY KEY, fingerprint TEXT, geometry TEXT)")
        while lot := [(one.id, one.fingerprint, one.geometry) for one in islice(found, LOT)]:
            connection.executemany("INSERT INTO features VALUES (?, ?, ?)", lot)
            connection.commit()
    place.unlink()
    return time.monotonic() - begun
