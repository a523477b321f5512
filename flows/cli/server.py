"""`overlander server`: a local Prefect server with a tuned profile, Overlander's deployments and a worker."""

from typing import Annotated

import typer

from flows.cli import options
from flows.cli.console import give, say

app = typer.Typer(help="A local Prefect server and worker for this user.", no_args_is_help=True)


@app.command()
def up(
    runs: Annotated[int, typer.Option(min=1, max=64, help="Runs that the worker takes at once.")] = 2,
    json: options.Json = False,
) -> None:
    """Start server and worker, and register the deployments.

    What is up is left as it is. The worker's runs get the settings of this moment.
    """
    from deployments import local, server, worker
    from tasks.settings import as_variables, load_settings

    if sandbox := options.settle(use_blocks=False):
        say(sandbox)
    settings = as_variables(load_settings())
    found = local.up(settings, runs, say)
    if found.worker.digest != worker.digest_of(settings) or found.worker.runs != runs:
        say(
            "The worker that is up was started with other settings. `overlander server down`, then `up`, gives it "
            "these; runs that are under way are cut short then, and go on when they are run again."
        )
    if found.server.sqlite and found.worker.runs > server.RUNS_ON_SQLITE:
        say(
            f"The server keeps its records in SQLite, which stands still for a minute at a time with more than "
            f"{server.RUNS_ON_SQLITE} runs at once. Take fewer, or put it on Postgres: `overlander server down`, "
            f"then `up` with {server.DATABASE_URL}=postgresql+asyncpg://... set."
        )
    _show(json)


@app.command()
def down() -> None:
    """Stop worker and server. Their runs and their history stay for the next time."""
    from deployments import local

    say("The Prefect server is down." if local.down() else "The Prefect server was not up.")


@app.command()
def status(json: options.Json = False) -> None:
    """Say where the server is, and whether a worker is up."""
    _show(json)


def _show(json: bool) -> None:
    from deployments import server, worker

    found, takes = server.status(), worker.status()
    if json:
        told = takes and {"pid": takes.pid, "runs": takes.runs, "log": takes.log}
        give(
            {
                "prefect_api_url": found and found.api_url,
                "prefect_ui_url": found and found.ui_url,
                "worker": told,
            }
        )
        return
    if found is None:
        say("The Prefect server is not up. Start it with `overlander server up`.")
    else:
        say(f"The Prefect server is up: {found.ui_url} (API {found.api_url}, process {found.pid}).")
    if takes is not None:
        at_once = "1 run" if takes.runs == 1 else f"{takes.runs} runs"
        say(f"A worker takes {at_once} at once from the pool {worker.POOL!r} (process {takes.pid}).")
    elif found is not None:
        say("No local worker is up: what is started in the UI waits. Start one with `overlander server up`.")
