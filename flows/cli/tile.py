"""`overlander tile`: a tile's campaign, from looking to saving."""

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import console, options

if TYPE_CHECKING:
    from tasks.chips.campaign import Campaign
    from tasks.chips.report import Standing
    from tasks.ledger.chips import TileNote

app = typer.Typer(help="A tile's campaign: look, save, say where it stands.", no_args_is_help=True)

DEFAULT_TEMPLATE = "{algorithm}/{tile}/{tile}_{x}_{y}.json"


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def run(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    template: options.Template = DEFAULT_TEMPLATE,
    flawed: options.Flawed = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixels = options.FailedPixelsChoice.KEEP,
    recount: options.Recount = False,
    campaign: options.CampaignName = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at each chip, save what is home, say where the rest stands. Run it again at any time."""
    _settle(algorithm, ledger, out, hosts, keyspace)
    _flow("run", tile, region, window, template, flawed, failed_pixels, recount, campaign, json)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def export(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    template: options.Template = DEFAULT_TEMPLATE,
    flawed: options.Flawed = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixels = options.FailedPixelsChoice.KEEP,
    recount: options.Recount = False,
    campaign: options.CampaignName = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at each chip and save what is home; request nothing."""
    _settle(algorithm, ledger, out, hosts, keyspace)
    _flow("export", tile, region, window, template, flawed, failed_pixels, recount, campaign, json)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def count(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    recount: options.Recount = False,
    campaign: options.CampaignName = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at each chip and say where it stands; write no files."""
    _settle(algorithm, ledger, None, hosts, keyspace)
    keep = options.FailedPixelsChoice.KEEP
    apart = options.FlawedChoice.APART
    _flow("count", tile, region, window, DEFAULT_TEMPLATE, apart, keep, recount, campaign, json)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def plan(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    template: options.Template = DEFAULT_TEMPLATE,
    flawed: options.Flawed = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixels = options.FailedPixelsChoice.KEEP,
    recount: options.Recount = False,
    campaign: options.CampaignName = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at each chip and say what a run would do, without doing it."""
    from tasks.chips.campaign import site
    from tasks.chips.plan import plan_tile
    from tasks.ledger.chips import use_tile

    _settle(algorithm, ledger, out, hosts, keyspace)
    work = _campaign(tile, region, window, template, flawed, failed_pixels, recount, campaign)
    with site(work, words=f"overlander tile plan {work.tile.name}") as place:
        note = place.ledger.write(lambda ledger: use_tile(ledger, place.ground, work.name), place.lease)
        found = plan_tile(place)
    closed = _closed(note)
    if closed:
        found = replace(found, to_write=0, to_keep=0, bytes=0, expected_seconds=0.0)
    answer = {
        "tile": work.tile.name,
        "region": work.tile.region.name,
        "algorithm": work.algorithm,
        "chips": len(work.chips),
        "states": found.standing.states,
        "to_write": found.to_write,
        "to_keep": found.to_keep,
        "bytes": found.bytes,
        "expected_seconds": found.expected_seconds,
    }
    if json:
        console.give(answer)
        return
    console.show(found.standing, f"Tile {work.tile.name} ({work.tile.region.name}), {work.algorithm}")
    if closed:
        console.say(f"{closed} A run would do nothing.")
        return
    time_words = "unknown: no run has measured yet"
    if found.expected_seconds is not None:
        time_words = f"about {found.expected_seconds:,.0f} s at the rate of the last run"
    console.show_facts(
        "A run would",
        {
            "write": f"{found.to_write:,} files, about {found.bytes / 1e6:,.0f} MB, below {work.layout.root}",
            "keep": f"{found.to_keep:,} files",
            "take": time_words,
        },
    )


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def status(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Say where a tile stands by the ledger alone: no service is asked."""
    from tasks.chips.report import standing
    from tasks.errors import BadInput
    from tasks.ledger.chips import find_tiles
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    started = time.monotonic()
    options.settle(algorithm=algorithm, ledger=ledger, out=out)
    work = _campaign(tile, region, window)
    with Ledger.open(load_settings().ledger_file, create=False) as kept, kept.read() as reading:
        notes = find_tiles(reading, work.tile.region.name, work.tile.name, work.algorithm)
        if not notes:
            raise BadInput(
                f"The ledger {kept.path} knows nothing of tile {work.tile.name} ({work.tile.region.name}) with "
                f"{work.algorithm}. Look at it first: overlander tile count {work.tile.name}."
            )
        note = notes[0]
        found = standing(reading, note.ground, work.tile, work.chips, work.layout.root)
    closed = _closed(note)
    if json:
        console.give(_summary(work, found, time.monotonic() - started))
    else:
        _show_status(work, found, f"{note.ground.source}, last used {note.last_used_at:%Y-%m-%d %H:%M} UTC")
        if closed:
            console.say(closed)
    sys.exit(0 if closed else found.exit_status)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def close(
    tile: options.Tile,
    reason: Annotated[str, typer.Option(help="Why, for whoever finds it closed.")] = "delivered",
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
) -> None:
    """Mark a tile as delivered. Runs leave it alone until it is reopened."""
    _settle(algorithm, ledger, None, hosts, keyspace)
    _set_closed(_campaign(tile, region, "0:50,0:50"), datetime.now(UTC), reason)
    console.say("Closed. `overlander tile reopen` opens it again.")


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def reopen(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
) -> None:
    """Open a closed tile again."""
    _settle(algorithm, ledger, None, hosts, keyspace)
    _set_closed(_campaign(tile, region, "0:50,0:50"), None, "")
    console.say("Open.")


def _settle(
    algorithm: str | None, ledger: Path | None, out: Path | None, hosts: str | None, keyspace: str | None
) -> None:
    named = options.settle(algorithm=algorithm, ledger=ledger, out=out, hosts=hosts, keyspace=keyspace)
    if named:
        console.say(named)


def _campaign(
    tile: str,
    region: options.RegionName,
    window: str,
    template: str = DEFAULT_TEMPLATE,
    flawed: options.FlawedChoice = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixelsChoice = options.FailedPixelsChoice.KEEP,
    recount: bool = False,
    campaign: str | None = None,
) -> "Campaign":
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


def _flow(
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
) -> None:
    """Run the flow in this process, and leave with its exit status."""
    from flows.cli.run import run_tile
    from tasks.settings import load_settings

    work = _campaign(tile, region, window, template, flawed, failed_pixels, recount, campaign)
    _try_services()
    summary = run_tile(
        mode,
        {
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
        },
    )
    exit_status = summary.pop("exit_status")
    if json:
        console.give(summary)
    else:
        _show_run(work, summary)
    sys.exit(exit_status)


def _try_services() -> None:
    """Fail now where the table or the ledger refuse, before a Prefect server is started for nothing."""
    from tasks.chips.results import ResultsTable
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    settings = load_settings()
    with ResultsTable.open(settings.cassandra), Ledger.open(settings.ledger_file):
        pass


def _show_run(work: "Campaign", summary: dict[str, Any]) -> None:
    from tasks.chips.report import steps_for

    if "closed" in summary:
        console.say(summary["closed"])
        return
    stuck = summary.get("needs_person", 0)
    title = f"Tile {work.tile.name} ({work.tile.region.name}), {work.algorithm}: {summary['seconds']:.1f} s"
    console.show_states(summary["states"], title)
    for step in steps_for(summary["states"], stuck):
        console.say(f"  * {step}")
    console.show_outcome(summary)


def _show_status(work: "Campaign", found: "Standing", where: str) -> None:
    from rich.table import Table

    from tasks.chips.states import HOME

    console.show(found, f"Tile {work.tile.name} ({work.tile.region.name}), {work.algorithm} in {where}")
    away = [line for line in found.lines if line.state not in HOME and line.state != "unknown"]
    if not away:
        return
    table = Table(title="Not home", title_justify="left")
    for name in ("Chip", "State", "Since", "Reason"):
        table.add_column(name)
    for line in away:
        since = f"{line.since:%Y-%m-%d %H:%M}" if line.since else ""
        table.add_row(f"{line.chip_x},{line.chip_y}", line.state, since, line.reason)
    console.err().print(table)


def _summary(work: "Campaign", found: "Standing", seconds: float) -> dict[str, Any]:
    return {
        "tile": work.tile.name,
        "region": work.tile.region.name,
        "algorithm": work.algorithm,
        "chips": len(found.lines),
        "states": found.states,
        "seconds": round(seconds, 3),
    }


def _closed(note: "TileNote") -> str:
    """Return the sentence that a tile was closed; empty for an open one."""
    return "" if note.closed_at is None else f"Closed on {note.closed_at:%Y-%m-%d}: {note.closed_reason}."


def _set_closed(work: "Campaign", closed_at: datetime | None, reason: str) -> None:
    from sqlalchemy import Connection

    from tasks.chips.campaign import site
    from tasks.ledger.chips import close_tile, use_tile

    with site(work, words=f"overlander tile close {work.tile.name}") as place:

        def change(ledger: Connection) -> None:
            use_tile(ledger, place.ground, work.name)
            close_tile(ledger, place.ground, closed_at, reason)

        place.ledger.write(change, place.lease)
