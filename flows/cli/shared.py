"""What the commands of `overlander tile` share: which campaign is meant, and how its flow is run."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli import console, options

if TYPE_CHECKING:
    from tasks.chips.campaign import Campaign

DEFAULT_TEMPLATE = "{algorithm}/{tile}/{tile}_{x}_{y}.json"


def settle(
    algorithm: str | None,
    ledger: str | None,
    out: Path | None,
    hosts: str | None,
    keyspace: str | None,
    service_url: str | None = None,
) -> None:
    """Turn flags into settings, and name the sandbox where it is used."""
    named = options.settle(
        algorithm=algorithm, ledger=ledger, out=out, hosts=hosts, keyspace=keyspace, service_url=service_url
    )
    if named:
        console.say(named)


def campaign_of(
    tile: str,
    region: options.RegionName,
    window: str,
    template: str = DEFAULT_TEMPLATE,
    flawed: options.FlawedChoice = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixelsChoice = options.FailedPixelsChoice.KEEP,
    recount: bool = False,
    campaign: str | None = None,
) -> "Campaign":
    """Return the campaign that the arguments mean, checked before anything is started."""
    from tasks.chips.campaign import tile_campaign_of

    return tile_campaign_of(
        tile,
        region=region.value,
        window=window,
        template=template,
        flawed=flawed.value,
        failed_pixels=failed_pixels.value,
        recount=recount,
        name=campaign,
    )


def run_flow(
    mode: str,
    tile: str,
    region: options.RegionName,
    window: str,
    template: str,
    flawed: options.FlawedChoice,
    failed_pixels: options.FailedPixelsChoice,
    recount: bool,
    campaign: str | None,
    json: bool,
    wishes: dict[str, Any] | None = None,
) -> None:
    """Run the flow in this process, and leave with its exit status."""
    from flows.cli.run import run_tile, with_consent
    from tasks.settings import load_settings

    work = campaign_of(tile, region, window, template, flawed, failed_pixels, recount, campaign)
    _try_services(mode, work)
    parameters = {
        "tile": work.tile.name,
        "region": region.value,
        "algorithm": work.algorithm,
        "window": str(work.window),
        "out": load_settings().out.absolute(),
        "path_template": template,
        "flawed": flawed.value,
        "failed_pixels": failed_pixels.value,
        "recount": recount,
        "campaign": work.name,
    } | (wishes or {})
    summary = with_consent(partial(run_tile, mode), parameters)
    exit_status = summary.pop("exit_status")
    if json:
        console.give(summary)
    else:
        _show_run(work, summary)
    sys.exit(exit_status)


def _try_services(mode: str, work: "Campaign") -> None:
    """Fail now where table, ledger or service refuse, before a Prefect server is started for nothing.

    A service that is away fails later: what is home already is saved all the same.
    """
    from tasks.chips.results import ResultsTable
    from tasks.chips.service import Requester
    from tasks.errors import TransientError
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    settings = load_settings()
    with ResultsTable.open(settings.cassandra), Ledger.open(settings.ledger_place):
        if mode == "request" or (mode == "run" and settings.service_url is not None):
            with contextlib.suppress(TransientError):
                Requester(settings, work.algorithm).close()


def _show_run(work: "Campaign", summary: dict[str, Any]) -> None:
    if "closed" in summary:
        console.say(summary["closed"])
        return
    title = f"Tile {work.tile.name} ({work.tile.region.name}), {work.algorithm}: {summary['seconds']:.1f} s"
    console.show_states(summary["states"], title)
    for step in summary["next_steps"]:
        console.say(f"  * {step}")
    console.show_outcome(summary)
