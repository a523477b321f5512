"""The `overlander` command.

What a command needs is imported when it runs: `--help`, `grid`, `plan` and `status` start without Prefect.
"""

import sys
from typing import Annotated

import typer

from flows.cli import demo, deploy, doctor, grid, polygons, region, sandbox, server, tile
from tasks.errors import OverlanderError

app = typer.Typer(
    help="Drives remote Earth-observation jobs, chip by chip and polygon by polygon, until every result is home.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take half of the time that --help takes
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("deploy")(deploy.deploy)
app.add_typer(server.app, name="server")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(grid.app, name="grid")
app.add_typer(tile.app, name="tile")
app.add_typer(region.app, name="region")
app.add_typer(polygons.app, name="polygons")

_debug = False


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    global _debug
    _debug = debug


def main() -> None:
    """Run the command; whatever fails reaches a person as one paragraph, and a program as an exit status."""
    from flows.cli import console

    try:
        app()
    except OverlanderError as error:
        if _debug:
            raise
        console.paragraph(str(error))
        sys.exit(error.exit_status)
    except Exception as error:
        if _debug:
            raise
        console.paragraph(
            f"Overlander failed in a way it does not know ({type(error).__name__}: {error}). Run it again "
            "as `overlander --debug ...` and send the traceback with a bug report."
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
