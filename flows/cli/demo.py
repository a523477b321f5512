"""`overlander demo`: a small campaign against the sandbox, from nothing to files, map and page."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import console, options


def demo(
    out: Annotated[Path, typer.Option(help="Folder that the demo's files go to.")] = Path("overlander-demo"),
) -> None:
    """Run a small campaign against a Cassandra on this machine. Run it again and nothing changes."""
    from deployments.sandbox import world

    console.say("Overlander's demo: the north-west corner of tile H05V03, 16 chips of 100 x 100 pixels.")
    node = world.up(report=console.say)
    for name in [name for name in os.environ if name.startswith("OVERLANDER_CASSANDRA_")]:
        del os.environ[name]  # the demo never touches services that the settings name
    options.use_sandbox(node)
    options.settle(algorithm=world.ALGORITHM, ledger=str(world.ledger_file()), keyspace=node.keyspace, out=out)

    console.say("\n1. A first look: which chips are there?")
    _tile("count")
    console.say("\n2. Meanwhile someone else asks the service for one of them again.")
    world.renew_one()
    console.say("\n3. A run: look again, save what is home, check every pixel on the way.")
    summary = _tile("run")
    console.show_states(summary["states"], f"Tile {summary['tile']}: {summary['seconds']:.1f} s")
    console.show_outcome({**summary, "files": {"folder": out.absolute(), **summary["files"]}})
    console.say("Open the page in a browser. Then run the demo again: it changes nothing, and says so.")
    console.say("`overlander sandbox down` and `overlander server down` stop what it started.")


def _tile(mode: str) -> dict[str, Any]:
    from flows.cli.run import run_tile
    from tasks.settings import load_settings

    settings = load_settings()
    return run_tile(
        mode,
        {
            "tile": "H05V03",
            "window": "0:4,0:4",
            "algorithm": settings.algorithm,
            "out": settings.out.absolute(),
            "campaign": "demo",
        },
    )
