"""`overlander region`: many tiles, run by workers, and where they stand by the ledger alone."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import console, options
from flows.cli.shared import DEFAULT_TEMPLATE, settle
from tasks.errors import BadInput

if TYPE_CHECKING:
    from tasks.chips.grid import Tile
    from tasks.chips.region import RegionCampaign, RegionStanding

app = typer.Typer(help="Many tiles: run them, save them, say where they stand.", no_args_is_help=True)

Name = Annotated[options.RegionName, typer.Argument(help="Whose ARD grid.")]
Tiles = Annotated[str | None, typer.Option(help="H05V03,H05V04, or a file that lists tiles.")]
Touching = Annotated[Path | None, typer.Option(help="A vector file: the tiles that its geometries touch.")]
Layer = Annotated[str | None, typer.Option(help="Which layer of that file, where it has several.")]
Crs = Annotated[str | None, typer.Option(help="Of that file, where it names none: EPSG:5070.")]


@app.command(short_help="Start runs of tiles that are not finished.")
def run(
    region: Name,
    tiles: Tiles = None,
    touching: Touching = None,
    layer: Layer = None,
    crs: Crs = None,
    at_once: Annotated[int, typer.Option(min=1, help="How many tiles' runs may be under way.")] = 4,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    template: options.Template = DEFAULT_TEMPLATE,
    flawed: options.Flawed = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixels = options.FailedPixelsChoice.KEEP,
    campaign: options.CampaignName = None,
    yes: options.Yes = False,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Each tile's run sends at most so many requests; agrees to those.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Tiles' runs ask, and do not wait.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Start tiles that need a person, too.")] = False,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Start runs of tiles that are not finished, so that a few are under way, and end.

    Workers do them: see `overlander server up`. Run it again, or switch on the schedule of its deployment; without
    tiles it goes on with those that it was last run with.
    """
    from flows.cli.run import leave_promptly, summary_at_the_end, use_prefect_api
    from tasks.chips.region import tiles_before
    from tasks.settings import load_settings

    settle(algorithm, ledger, out, hosts, keyspace)
    if tiles is None and touching is None:
        named = tiles_before(load_settings(), region.value, name=campaign, algorithm=algorithm)
    else:
        named = _tiles(region, tiles, touching, layer, crs)
    use_prefect_api(console.say)
    with leave_promptly(list):
        from flows.region import region_campaign

        ended = region_campaign(
            region=region.value,
            tiles=",".join(tile.name for tile in named),
            at_once=at_once,
            algorithm=algorithm,
            window=window,
            out=load_settings().out.absolute(),
            path_template=template,
            flawed=flawed.value,
            failed_pixels=failed_pixels.value,
            campaign=campaign,
            yes=yes,
            max_requests=max_requests,
            wait=not no_wait,
            again=again,
            return_state=True,
        )
        summary = summary_at_the_end(ended)
    exit_status = summary.pop("exit_status")
    if json:
        console.give(summary)
    else:
        console.say(str(ended.message))
        for step in summary["next_steps"]:
            console.say(f"  * {step}")
        console.show_facts("Files", summary["files"])
    sys.exit(exit_status)


@app.command(short_help="Save the chips of tiles that are home, on Dask.")
def export(
    region: Name,
    tiles: Tiles = None,
    touching: Touching = None,
    layer: Layer = None,
    crs: Crs = None,
    dask: Annotated[
        str | None,
        typer.Option(help="The Dask scheduler, tcp://host:8786; without it, processes of this machine."),
    ] = None,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    template: options.Template = DEFAULT_TEMPLATE,
    flawed: options.Flawed = options.FlawedChoice.APART,
    failed_pixels: options.FailedPixels = options.FailedPixelsChoice.KEEP,
    recount: options.Recount = False,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
    json: options.Json = False,
) -> None:
    """Look at the chips of some tiles and save what is home, on a Dask cluster; request nothing.

    Files and ledger are as `overlander tile export` leaves them, tile after tile.
    """
    from flows.cli.run import leave_promptly, summary_at_the_end, use_prefect_api
    from tasks.chips.campaign import open_sites, tile_campaign_of
    from tasks.chips.results import ResultsTable
    from tasks.ledger.store import Ledger
    from tasks.parts import need_dask
    from tasks.settings import load_settings

    settle(algorithm, ledger, out, hosts, keyspace)
    need_dask()
    named, settings = _tiles(region, tiles, touching, layer, crs), load_settings()
    tile_campaign_of(named[0].name, region=region.value, window=window, template=template)
    with ResultsTable.open(settings.cassandra), Ledger.open(settings.ledger_place):
        pass  # fails now, before a Prefect server is started for nothing
    use_prefect_api(console.say)
    with leave_promptly(open_sites), console.live_progress(f"{region.value} export"):
        from flows.tiles import tiles_export

        ended = tiles_export(
            tiles=",".join(tile.name for tile in named),
            region=region.value,
            algorithm=algorithm,
            window=window,
            out=settings.out.absolute(),
            path_template=template,
            flawed=flawed.value,
            failed_pixels=failed_pixels.value,
            recount=recount,
            dask_address=dask,
            return_state=True,
        )
        summary = summary_at_the_end(ended)
    exit_status = summary.pop("exit_status")
    if json:
        console.give(summary)
    else:
        for line in summary["tiles"]:
            console.say(f"{line['tile']}: {line['state']}. {line['message']}")
        console.say(str(ended.message))
        for step in summary["next_steps"]:
            console.say(f"  * {step}")
    sys.exit(exit_status)


@app.command(short_help="Say where a region's tiles stand, by the ledger.")
def status(
    region: Name,
    tiles: Tiles = None,
    touching: Touching = None,
    layer: Layer = None,
    crs: Crs = None,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    out: options.Out = None,
    flawed: options.Flawed = options.FlawedChoice.APART,
    campaign: options.CampaignName = None,
    report: Annotated[bool, typer.Option("--report", help="Write the region's map and page, too.")] = False,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Say where a region's tiles stand by the ledger alone: no service is asked.

    Without --tiles and --touching these are the tiles that the campaign was last run with.
    """
    from tasks.chips.grid import region_named, tile_named
    from tasks.chips.heal import rules_of
    from tasks.chips.region import region_campaign_of, region_standing, region_summary
    from tasks.ledger.regions import chosen_tiles, known_tiles, last_source
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    started = time.monotonic()
    options.settle(algorithm=algorithm, ledger=ledger, out=out)
    settings, where = load_settings(), region_named(region.value)
    named = [] if tiles is None and touching is None else _tiles(region, tiles, touching, layer, crs)
    stand_in = region_campaign_of(where.name, named or [tile_named("H00V00", where)], name=campaign)
    with Ledger.open(settings.ledger_place, create=False) as kept, kept.read() as reading:
        source = last_source(reading, stand_in.pattern.algorithm, where.name)
        if source is None:
            raise BadInput(
                f"The ledger {kept.name} knows nothing of {stand_in.title}. Run it first: overlander region run "
                f"{where.name} --tiles ..."
            )
        ground = stand_in.ground(source)
        names = chosen_tiles(reading, ground) or known_tiles(reading, ground)
        work = region_campaign_of(
            where.name,
            named or [tile_named(name, where) for name in names],
            name=campaign,
            settings=settings,
            window=window,
            flawed=flawed.value,
        )
        found = region_standing(reading, work, source, rules_of(settings))
    files = {}
    if report:
        from tasks.chips.region_report import write_region_files

        files = {what: str(path) for what, path in write_region_files(work, found, source).items()}
    if json:
        console.give(
            region_summary(work, found, time.monotonic() - started) | ({"files": files} if report else {})
        )
    else:
        _show(work, found)
        if report:
            console.show_facts("Files", files)
    sys.exit(found.exit_status)


def _tiles(
    region: options.RegionName, tiles: str | None, touching: Path | None, layer: str | None, crs: str | None
) -> "list[Tile]":
    """Return the tiles that the arguments mean; the libraries for vector files are imported only here."""
    from tasks.chips.grid import region_named
    from tasks.touching import tiles_meant

    return tiles_meant(region_named(region.value), tiles, touching, layer, crs)


def _show(work: "RegionCampaign", found: "RegionStanding") -> None:
    from rich.table import Table

    from tasks.report.tiles import TILE_LOOKS

    summary = Table(title=f"{work.name}: {len(found.lines):,} tiles", title_justify="left")
    summary.add_column("Condition")
    summary.add_column("Tiles", justify="right")
    summary.add_column("Meaning")
    for condition, count in found.conditions.items():
        if count:
            look = TILE_LOOKS[condition]
            summary.add_row(f"[{look.colour}]■[/] {condition.replace('_', ' ')}", f"{count:,}", look.words)
    console.err().print(summary)
    for step in found.next_steps:
        console.say(f"  * {step}")
    begun = [line for line in found.lines if not TILE_LOOKS[line.condition].home and line.condition != "unknown"]
    if not begun:
        return
    table = Table(title="Begun and not finished", title_justify="left")
    for name in ("Tile", "Condition", "Home", "Saved", "Need a person", "Runs", "Last run", "Note"):
        table.add_column(name)
    for line in begun:
        home = f"{line.home:,} of {line.chips:,}"
        person = f"{line.needs_person:,}" if line.needs_person else ""
        condition = line.condition.replace("_", " ")
        table.add_row(
            line.name, condition, home, f"{line.saved:,}", person, str(line.passes), line.last_run, line.note
        )
    console.err().print(table)
