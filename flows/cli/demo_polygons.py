"""The demo's polygons: 40 of Queensland with every trouble of geometry, and a real WPS with made-up results."""

import os
from pathlib import Path
from typing import Any

from flows.cli import console

INTERVAL = "2010-01-01/2011-01-01"
_LARGEST_KM2 = 10_000.0


def demo_polygons(out: Path) -> None:
    """Send the sandbox's polygons to its WPS, and collect the results.

    Args:
        out: folder that files go to.
    """
    from deployments.sandbox import polygons, world
    from flows.cli.polygon_run import run_polygons
    from flows.cli.polygons import show_summary

    console.say("\nPOLYGONS: 40 wetlands made up for the sandbox, each to be sent to a WPS.")
    found = world.wps()
    if found is None:
        found = world.wps_up(report=console.say)
    os.environ["OVERLANDER_WPS_URL"] = found.url
    source = polygons.make(out.absolute())
    console.say(f"  {source}: among them crossed rings, one without a shape, and one larger than all the others.")
    console.say(f"\n1. A run: {INTERVAL}, a few at a time; those that cannot be sent are left with the reason.")
    summary: dict[str, Any] = run_polygons(
        {
            "source": str(source),
            "process": "wit",
            "interval": INTERVAL,
            "max_area_km2": _LARGEST_KM2,
            "out": out.absolute() / "wetlands",
        }
    )
    console.say("\n2. How it ended.")
    show_summary(summary)
    if not summary["sent"]:
        console.say("Nothing was sent: what is done stays done.")
    console.say(f"`overlander polygons status {source.name}` says the same later, from the ledger alone.")
