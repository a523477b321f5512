"""Options that several commands share, and how a flag becomes a setting."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.errors import BadInput

if TYPE_CHECKING:
    from deployments.sandbox.cassandra import Node


class RegionName(StrEnum):
    """Whose ARD grid."""

    CONUS = "conus"
    ALASKA = "alaska"
    HAWAII = "hawaii"


class FlawedChoice(StrEnum):
    """Where chips with failed pixels go."""

    APART = "apart"
    WITH_REST = "with-rest"
    SKIP = "skip"


class FailedPixelsChoice(StrEnum):
    """What is written for a failed pixel."""

    KEEP = "keep"
    NULL = "null"


Tile = Annotated[str, typer.Argument(help="H05V03, 005003, or its upper left corner in metres: -1815585,2864805.")]
Region = Annotated[RegionName, typer.Option(help="Whose ARD grid.")]
Algorithm = Annotated[
    str | None, typer.Option(help="As the service spells it, for example lcmap-pyccd:2017.08.18.")
]
Window = Annotated[str, typer.Option(help="Rows and columns of chips from the north-west: 0:4,0:4 is 16 chips.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Ledger = Annotated[str | None, typer.Option(help="The ledger: a SQLite file, or postgresql://user@host/database.")]
Out = Annotated[Path | None, typer.Option(help="Folder that files go to.")]
Template = Annotated[str, typer.Option("--template", help="Path of a chip's file: {algorithm}, {tile}, {x}, {y}.")]
Flawed = Annotated[FlawedChoice, typer.Option(help="Chips with failed pixels: where they go.")]
FailedPixels = Annotated[
    FailedPixelsChoice, typer.Option(help="A failed pixel's text: kept, or null, which existing readers take.")
]
Recount = Annotated[
    bool, typer.Option("--recount", help="Count every chip again, and check kept files by their hash.")
]
CampaignName = Annotated[str | None, typer.Option("--campaign", help="What to call the campaign.")]
Hosts = Annotated[str | None, typer.Option(help="Cassandra's contact points, separated by commas.")]
Keyspace = Annotated[str | None, typer.Option(help="Keyspace that holds the results.")]

Yes = Annotated[bool, typer.Option("--yes", help="Agree to requests for more than a hundred chips.")]
MaxRequests = Annotated[int | None, typer.Option(min=1, help="Send at most so many requests, and agree to those.")]
ServiceUrl = Annotated[str | None, typer.Option(help="Base URL of the change-results service.")]

NEGATIVE_COORDINATES = {"ignore_unknown_options": True}
"""Context settings of commands whose arguments may begin with a minus."""

SANDBOX_PACE = {"stall_after_s": 8, "poll_first_s": 0.5, "poll_longest_s": 2}
"""How patient a run is with the sandbox's service, where nobody set it: its chips take seconds, not hours."""


def settle(
    *,
    algorithm: str | None = None,
    ledger: str | None = None,
    out: Path | None = None,
    hosts: str | None = None,
    keyspace: str | None = None,
    service_url: str | None = None,
    use_blocks: bool = True,
) -> str | None:
    """Turn flags into `OVERLANDER_*` variables, which child processes see too, and fall back on the sandbox.

    With no Cassandra set anywhere, a running sandbox is used, with its own ledger and algorithm.

    Returns:
        A sentence that names the sandbox when it is used.
    """
    from deployments.sandbox import world
    from tasks.settings import load_settings

    set_variable("OVERLANDER_ALGORITHM", algorithm)
    set_variable("OVERLANDER_LEDGER", ledger)
    set_variable("OVERLANDER_OUT", out)
    set_variable("OVERLANDER_CASSANDRA_HOSTS", hosts)
    set_variable("OVERLANDER_CASSANDRA_KEYSPACE", keyspace)
    set_variable("OVERLANDER_SERVICE_URL", service_url)
    settings = load_settings()
    if settings.results_block or settings.service_block or settings.process_block:
        for block, flag in ((settings.results_block, hosts or keyspace), (settings.service_block, service_url)):
            if block and flag:
                raise BadInput(
                    f"{flag} is given, and so is the block {block!r}, which stands for all settings of that "
                    "service. Leave out the flag, or unset OVERLANDER_RESULTS_BLOCK or OVERLANDER_SERVICE_BLOCK."
                )
        if not use_blocks:
            return None  # the worker's runs load them
        _load_blocks()
        settings = load_settings()
    if settings.cassandra.hosts or (node := world.node()) is None:
        return None
    if settings.service_url not in (None, world.service_url()):
        return None  # a real service must never be asked for what the sandbox's table lacks
    use_sandbox(node)
    service_url = load_settings().service_url
    words = f"No Cassandra is set: using the sandbox at {', '.join(node.hosts)} port {node.port}"
    return f"{words} and its service at {service_url}." if service_url else f"{words}."


def settle_wps(*, ledger: str | None = None, url: str | None = None, use_blocks: bool = True) -> str | None:
    """Turn the flags of a polygon campaign into `OVERLANDER_*` variables, and fall back on the sandbox's WPS.

    A block that the settings name takes the WPS's place; `use_blocks` tells whether it is needed and loaded.

    Returns:
        A sentence that names the sandbox when it is used.
    """
    from deployments.sandbox import world
    from tasks.polygons.campaign import refuse_url_beside
    from tasks.settings import load_settings

    set_variable("OVERLANDER_LEDGER", ledger)
    settings = load_settings()
    if settings.process_block:
        refuse_url_beside(settings.process_block, url)
        if use_blocks:
            _load_blocks()
        return None
    set_variable("OVERLANDER_WPS_URL", url)
    if load_settings().wps_url is not None or (found := world.wps()) is None:
        return None
    set_variable("OVERLANDER_WPS_URL", found.url)
    if settings.ledger is None:
        set_variable("OVERLANDER_LEDGER", world.ledger_file())
    return f"No WPS is set: using the sandbox's at {found.url}."


def _load_blocks() -> None:
    from flows.cli.console import say
    from flows.cli.run import use_prefect_api

    use_prefect_api(say)  # before Prefect is imported
    from deployments.blocks import use_blocks

    use_blocks()


def use_sandbox(node: "Node") -> None:
    """Point this process and its children at the sandbox; where unset, algorithm, ledger and pace are its own."""
    from deployments.sandbox import world
    from tasks.settings import load_settings

    for name, value in {
        "CASSANDRA_HOSTS": ",".join(node.hosts),
        "CASSANDRA_PORT": node.port,
        "CASSANDRA_USERNAME": node.username,
        "CASSANDRA_PASSWORD": node.password,
    }.items():
        set_variable(f"OVERLANDER_{name}", value)
    settings = load_settings()
    if settings.cassandra.keyspace is None:
        set_variable("OVERLANDER_CASSANDRA_KEYSPACE", node.keyspace)
    sandbox = {
        "algorithm": world.ALGORITHM,
        "ledger": world.ledger_file(),
        "service_url": world.service_url(),
        **SANDBOX_PACE,
    }
    for name in sandbox.keys() - settings.model_fields_set:
        set_variable(f"OVERLANDER_{name.upper()}", sandbox[name])


def set_variable(name: str, value: object) -> None:
    """Set a variable of this process and its children; None leaves it as it is."""
    if value is not None:
        os.environ[name] = str(value)
