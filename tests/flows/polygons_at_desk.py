"""What tests of the polygon flow and command share: a desk at a WPS, files of squares, what was sent."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk, Ran
from tests.tasks.polygons.wetlands import Record, squares, write

YEAR = "2010-01-01/2011-01-01"
QUICK = {"OVERLANDER_WPS_POLL_S": "0.05"}


def desk_at(folder: Path, url: str, **variables: str) -> Desk:
    """Return a desk whose WPS is the one given, looked at often."""
    return Desk(folder, {"OVERLANDER_WPS_URL": url, **QUICK, **variables})


def wetlands(
    desk: Desk, count: int = 5, *, size: float = 100.0, records: list[Record] | None = None, **options: Any
) -> Path:
    """Write the desk's file of squares, in place of the one that was there."""
    path = desk.folder / "wetlands.gpkg"
    path.unlink(missing_ok=True)
    return write(path, squares(count, size) if records is None else records, **options)


def run(desk: Desk, source: Path, *arguments: str, **changes: str | None) -> Ran:
    """Run the campaign over a year."""
    return desk.run("polygons", "run", str(source), "--interval", YEAR, "--json", *arguments, **changes)


def summary(ran: Ran) -> dict[str, Any]:
    """Return what a command that worked gave to programs."""
    assert ran.out, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def own(ran: Ran) -> dict[str, int]:
    """Return how many units are in which state, those without any left out."""
    return {state: number for state, number in summary(ran)["own"].items() if number}


def sent(wps: ScriptedWps) -> int:
    """Return how many requests to execute the service received."""
    return len(wps.received())


def times_sent(wps: ScriptedWps) -> list[int]:
    """Return how often each polygon and interval was sent, the most often first."""
    counted = Counter((one["geometry"], one["start"]) for one in wps.received())
    return sorted(counted.values(), reverse=True)


def paragraph(ran: Ran) -> str:
    """Return what a person was told, in one line."""
    return " ".join(ran.err.split())
