"""`overlander sandbox`: a real Cassandra with a seeded tile and a real WPS, to try things on."""

from typing import Annotated

import typer

from flows.cli import options
from flows.cli.console import give, say, show_facts

app = typer.Typer(help="A real Cassandra and a real WPS to try things on.", no_args_is_help=True)


@app.command()
def up(
    fresh: Annotated[bool, typer.Option("--fresh", help="Drop what the sandbox holds and seed it anew.")] = False,
    wps_only: Annotated[bool, typer.Option("--wps-only", help="The WPS alone, without downloads.")] = False,
    json: options.Json = False,
) -> None:
    """Start the sandbox, or find it up. The first time downloads about 66 MB of jars."""
    from deployments.sandbox import world

    if wps_only:
        world.wps_up(report=say, fresh=fresh)
    else:
        world.up(report=say, fresh=fresh)
    _show(json)


@app.command()
def down() -> None:
    """Stop the sandbox; its data stay for the next time."""
    from deployments.sandbox import world

    say("The sandbox is down." if world.down() else "The sandbox was not up.")


@app.command()
def status(json: options.Json = False) -> None:
    """Say where the sandbox is, so that other programs can use it."""
    _show(json)


def _show(json: bool) -> None:
    from deployments.sandbox import world

    found = world.status()
    if json:
        give(found)
        return
    cassandra = found["cassandra"] or {}
    if not cassandra and not found["service_url"] and not found["wps_url"]:
        say("The sandbox is not up. Start it with `overlander sandbox up`.")
        return
    show_facts(
        "Sandbox", cassandra | {name: value for name, value in found.items() if name != "cassandra" and value}
    )
