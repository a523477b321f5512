"""`overlander tile`: a tile's campaign, from looking to saving."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console, options
from flows.cli.shared import DEFAULT_TEMPLATE, campaign_of, run_flow, settle
from flows.cli.tile_state import close, closed_words, release, reopen, status

app = typer.Typer(help="A tile's campaign: look, save, say where it stands.", no_args_is_help=True)


for command in (status, close, reopen, release):
    app.command(context_settings=options.NEGATIVE_COORDINATES)(command)


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
    yes: options.Yes = False,
    max_requests: options.MaxRequests = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask, and leave without waiting.")] = False,
    wait_hours: Annotated[float, typer.Option(min=0.001, help="Wait no longer than this.")] = 24,
    service_url: options.ServiceUrl = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Bring a tile home: ask for what is missing, wait, save.

    What went wrong is asked for again where that can help. Run it again at any time.
    """
    settle(algorithm, ledger, out, hosts, keyspace, service_url)
    wishes = {"yes": yes, "max_requests": max_requests, "wait": not no_wait, "deadline_hours": wait_hours}
    run_flow("run", tile, region, window, template, flawed, failed_pixels, recount, campaign, json, wishes)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def request(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    states: Annotated[str | None, typer.Option(help="With --again: in which states, separated by commas.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask again whatever is there, every pixel anew.")] = False,
    chips: Annotated[
        Path | None, typer.Option(help="Ask only for these chips: a file with x and y on each line.")
    ] = None,
    campaign: options.CampaignName = None,
    yes: options.Yes = False,
    max_requests: options.MaxRequests = None,
    service_url: options.ServiceUrl = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at each chip and ask for what is missing; save nothing.

    With --again, ask for chips that are there, too. What was asked for is not waited for.
    """
    from flows.cli.chip_lists import read_chips, read_states

    settle(algorithm, ledger, None, hosts, keyspace, service_url)
    work = campaign_of(tile, region, window)
    wishes = {
        "yes": yes,
        "max_requests": max_requests,
        "again": read_states(states, again=again, listed=chips is not None),
        "chips": None if chips is None else read_chips(chips, work),
    }
    apart, keep = options.FlawedChoice.APART, options.FailedPixelsChoice.KEEP
    run_flow("request", tile, region, window, DEFAULT_TEMPLATE, apart, keep, False, campaign, json, wishes)


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
    settle(algorithm, ledger, out, hosts, keyspace)
    run_flow("export", tile, region, window, template, flawed, failed_pixels, recount, campaign, json)


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
    settle(algorithm, ledger, None, hosts, keyspace)
    keep = options.FailedPixelsChoice.KEEP
    apart = options.FlawedChoice.APART
    run_flow("count", tile, region, window, DEFAULT_TEMPLATE, apart, keep, recount, campaign, json)


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

    settle(algorithm, ledger, out, hosts, keyspace)
    work = campaign_of(tile, region, window, template, flawed, failed_pixels, recount, campaign)
    with site(work, words=f"overlander tile plan {work.tile.name}") as place:
        note = place.ledger.write(lambda ledger: use_tile(ledger, place.ground, work.name), place.lease)
        found = plan_tile(place)
    closed = closed_words(note)
    if closed:
        found = replace(found, to_write=0, to_keep=0, bytes=0, requests=0, expected_seconds=0.0)
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
        "requests": found.requests,
        "expected_hours": found.expected_hours,
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
            "ask for": f"{console.counted(found.requests, 'chip')}, {_hours(found.expected_hours)}",
        },
    )


def _hours(expected: float | None) -> str:
    return "for how long nobody has measured yet" if expected is None else f"about {expected:,.1f} hours"
