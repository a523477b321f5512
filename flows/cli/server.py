"""`overlander server`: a local Prefect server with a tuned profile."""

import typer

from flows.cli import options
from flows.cli.console import give, say

app = typer.Typer(help="A local Prefect server for this user.", no_args_is_help=True)


@app.command()
def up(json: options.Json = False) -> None:
    """Start the server, or find it up."""
    from deployments import server

    server.up(say)
    _show(json)


@app.command()
def down() -> None:
    """Stop the server. Its runs and their history stay for the next time."""
    from deployments import server

    say("The Prefect server is down." if server.down() else "The Prefect server was not up.")


@app.command()
def status(json: options.Json = False) -> None:
    """Say where the server is."""
    _show(json)


def _show(json: bool) -> None:
    from deployments import server

    found = server.status()
    if json:
        give({"prefect_api_url": found and found.api_url, "prefect_ui_url": found and found.ui_url})
    elif found is None:
        say("The Prefect server is not up. Start it with `overlander server up`.")
    else:
        say(f"The Prefect server is up: {found.ui_url} (API {found.api_url}, process {found.pid}).")
