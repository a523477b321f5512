"""`overlander demo`: a small campaign of each kind against the sandbox, from nothing to files, maps and pages."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console


def demo(
    out: Annotated[Path, typer.Option(help="Folder that the demo's files go to.")] = Path("overlander-demo"),
    down: Annotated[
        bool, typer.Option("--down", help="Stop all that the demo started, and do nothing else.")
    ] = False,
) -> None:
    """Bring small campaigns home from services on this machine. Run it again and nothing changes."""
    from deployments import local, server
    from deployments.sandbox import world
    from flows.cli.demo_chips import demo_chips
    from flows.cli.demo_polygons import demo_polygons

    if down:
        stopped = [world.down(), local.down()]
        console.say("The demo's services are down." if any(stopped) else "Nothing of the demo was up.")
        return
    console.say("Overlander's demo: a campaign of chips and one of polygons, on services of this machine.")
    node = world.up(report=console.say)
    demo_chips(node, out)
    demo_polygons(out)
    found = server.status()
    console.say("\nOpen the pages in a browser. Then run the demo again: it changes nothing, and says so.")
    if found is not None:
        console.say(f"The runs in Prefect's UI: {found.ui_url}")
    console.say("`overlander sandbox up --fresh` forgets it all, for a first time again.")
    console.say("`overlander demo --down` stops all that it started.")
