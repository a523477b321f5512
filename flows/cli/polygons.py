"""`overlander polygons`: a process executed for each polygon of a file."""

import sys
import time
from typing import Annotated, Any

import typer

from flows.cli import console, options
from flows.cli import polygon_options as given

_MOST_PROBLEMS = 20

app = typer.Typer(help="A process executed for each polygon of a file.", no_args_is_help=True)


@app.command(
    short_help="Send each polygon and follow every job to its end.", context_settings=options.NEGATIVE_COORDINATES
)
def run(
    source: given.Source,
    process: given.ProcessName = "wit",
    interval: given.IntervalText = None,
    url: given.Url = None,
    split: given.Split = None,
    layer: given.Layer = None,
    crs: given.Crs = None,
    where: given.Where = None,
    bbox: given.Bbox = None,
    limit: given.Limit = None,
    ids: given.Ids = None,
    id_field: given.IdField = None,
    split_multipolygons: given.SplitParts = False,
    repair: given.Repair = False,
    precision: given.Precision = 7,
    max_request_bytes: given.MaxBytes = None,
    max_area: given.MaxArea = None,
    properties: given.Properties = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Send polygons that changed under an old id.")
    ] = False,
    concurrency: Annotated[
        str, typer.Option(help="Jobs at a time: auto, a number (2 is a trickle), or flood for all at once.")
    ] = "auto",
    sync: Annotated[bool, typer.Option("--sync", help="Take each answer as the result.")] = False,
    poll: Annotated[str | None, typer.Option(help="First look at a job, and measure of later ones: 2s.")] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Requests for a polygon whose job fails.")] = None,
    no_progress: Annotated[
        str | None, typer.Option(help="Give up a job of which nothing new is said for so long: 30m.")
    ] = None,
    on_uncertain: Annotated[
        given.OnUncertainChoice | None, typer.Option(help="Polygons that were perhaps sent: what becomes of them.")
    ] = None,
    retry: Annotated[
        str | None, typer.Option(help="Send again what came to such an end: failed, given_up, uncertain.")
    ] = None,
    cancel_remote: Annotated[
        bool, typer.Option("--cancel-remote", help="At Ctrl-C ask the service to dismiss its jobs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to more than a hundred requests.")] = False,
    max_requests: options.MaxRequests = None,
    hours: Annotated[float, typer.Option(min=0.001, help="Go on no longer than this.")] = 720,
    campaign: given.CampaignName = None,
    out: options.Out = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Send each polygon, follow every job to its end, and leave one table of what became of it.

    Run it again at any time: jobs in flight are taken up again, and none is sent twice.
    """
    from flows.cli.polygon_run import run_polygons

    _settle(ledger, url)
    options.set_variable("OVERLANDER_WPS_POLL_S", given.seconds(poll, "--poll"))
    options.set_variable("OVERLANDER_WPS_ATTEMPTS", attempts)
    parameters = {
        "source": source,
        "process": process,
        "interval": interval,
        "url": url,
        "split": split,
        "layer": layer,
        "crs": crs,
        "where": where,
        "bbox": bbox,
        "limit": limit,
        "ids": ids,
        "id_field": id_field,
        "split_multipolygons": split_multipolygons,
        "repair": repair,
        "precision": precision,
        "max_request_bytes": max_request_bytes,
        "max_area_km2": max_area,
        "properties": given.listed(properties),
        "accept_changes": accept_changes,
        "concurrency": given.concurrency(concurrency),
        "sync": sync,
        "no_progress_s": given.seconds(no_progress, "--no-progress"),
        "on_uncertain": on_uncertain.value if on_uncertain else None,
        "retry_ended": given.retried(retry),
        "cancel_remote": cancel_remote,
        "yes": yes,
        "max_requests": max_requests,
        "deadline_hours": hours,
        "campaign": campaign,
        "out": out.absolute() if out else None,
    }
    summary = run_polygons(parameters)
    exit_status = summary.pop("exit_status")
    if json:
        console.give(summary)
    else:
        show_summary(summary)
    sys.exit(exit_status)


@app.command(
    short_help="Read the polygons and say what a run would send.", context_settings=options.NEGATIVE_COORDINATES
)
def plan(
    source: given.Source,
    process: given.ProcessName = "wit",
    interval: given.IntervalText = None,
    url: given.Url = None,
    split: given.Split = None,
    layer: given.Layer = None,
    crs: given.Crs = None,
    where: given.Where = None,
    bbox: given.Bbox = None,
    limit: given.Limit = None,
    ids: given.Ids = None,
    id_field: given.IdField = None,
    split_multipolygons: given.SplitParts = False,
    repair: given.Repair = False,
    precision: given.Precision = 7,
    max_request_bytes: given.MaxBytes = None,
    max_area: given.MaxArea = None,
    properties: given.Properties = None,
    campaign: given.CampaignName = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Read the polygons and say what a run would send, without sending or keeping anything."""
    from tasks.polygons.campaign import polygon_campaign_of
    from tasks.polygons.plan import plan_polygons
    from tasks.settings import load_settings

    _settle(ledger, url)
    settings = load_settings()
    work = polygon_campaign_of(
        source,
        process=process,
        interval=interval,
        url=url,
        split_by=split,
        layer=layer,
        crs=crs,
        where=where,
        bbox=bbox,
        limit=limit,
        ids=ids,
        id_field=id_field,
        split_multipolygons=split_multipolygons,
        repair=repair,
        precision=precision,
        max_request_bytes=max_request_bytes,
        max_area_km2=max_area,
        properties=tuple(given.listed(properties)),
        name=campaign,
        settings=settings,
    )
    found = plan_polygons(work, settings)
    if json:
        console.give(
            {
                "campaign": work.name,
                "polygons": found.features,
                "new": found.new,
                "changed": found.changed,
                "cannot_be_sent": found.problems.total(),
                "intervals": found.intervals,
                "requests": found.to_send,
                "identity": found.identity.words,
                "largest_km2": round(found.largest_km2, 3),
            }
        )
        return
    console.show_facts(
        f"Campaign {work.name}: a run would",
        {
            "read": f"{console.counted(found.features, 'polygon')}, named by {found.identity.words}; "
            f"{found.new:,} new, {found.changed:,} changed under an old id",
            "send": f"{console.counted(found.to_send, 'request')} to {work.process.identifier} at {work.url}",
            "each with": f"{found.vertices / max(1, found.features):,.0f} vertices on average; the largest has "
            f"{found.largest_km2:,.1f} km2",
        },
    )
    for reason, number in found.problems.most_common(_MOST_PROBLEMS):
        console.say(f"  * {console.counted(number, 'polygon')} cannot be sent: {reason}")


@app.command(short_help="Say where a campaign stands by the ledger alone.")
def status(
    source: given.Source,
    campaign: given.CampaignName = None,
    out: options.Out = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Say where a campaign stands by the ledger alone, also while it runs: no service is asked."""
    from tasks.ledger.store import Ledger
    from tasks.polygons.report import standing, summary_of
    from tasks.polygons.rules import rules_of
    from tasks.settings import load_settings

    started = time.monotonic()
    options.settle_wps(ledger=ledger, use_blocks=False)
    settings = load_settings()
    with Ledger.open(settings.ledger_place, create=False) as kept, kept.read() as reading:
        name, series = _latest(reading, source, campaign)
        found = standing(reading, [one.number for one in series], rules_of(settings))
    folder = (out or settings.out / name).absolute()
    summary = summary_of(name, found, time.monotonic() - started, folder)
    if json:
        console.give(summary)
    else:
        show_summary(summary)
    sys.exit(found.exit_status)


@app.command(short_help="Print rows of the campaign's table, as CSV.")
def results(
    source: given.Source,
    where: Annotated[str | None, typer.Option(help="Which rows, as: own = 'done' and attempts > 1.")] = None,
    columns: Annotated[str | None, typer.Option(help="Which columns, separated by commas.")] = None,
    campaign: given.CampaignName = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Print rows of the campaign's table, as CSV, from the ledger: all, or those that meet a condition."""
    from tasks.ledger.store import Ledger
    from tasks.polygons.collect import selected
    from tasks.settings import load_settings

    options.settle_wps(ledger=ledger, use_blocks=False)
    with Ledger.open(load_settings().ledger_place, create=False) as kept, kept.read() as reading:
        _, series = _latest(reading, source, campaign)
        names, rows = selected(reading, [one.number for one in series], where or "", given.listed(columns))
        console.give_rows(names, rows, as_json=json)


def _latest(reading: Any, source: str, campaign: str | None) -> tuple[str, list[Any]]:
    """Return a campaign's name and what its latest run did with each polygon."""
    from tasks.errors import BadInput
    from tasks.ledger.polygons import latest_series
    from tasks.polygons.campaign import campaign_name

    name = campaign_name(source, campaign)
    series = latest_series(reading, name)
    if not series:
        raise BadInput(
            f"The ledger knows no campaign {name!r}. Begin it with `overlander polygons run {source}`, or name it "
            "with --campaign as its run did."
        )
    return name, series


def _settle(ledger: str | None, url: str | None) -> None:
    named = options.settle_wps(ledger=ledger, url=url)
    if named:
        console.say(named)


def show_summary(summary: dict[str, Any]) -> None:
    """Show a person where a campaign stands, what to do next, and its files."""
    from rich.table import Table

    from tasks.report.polygon_palette import UNIT_LOOKS

    units = console.counted(summary["units"], "unit")
    title = f"Campaign {summary['campaign']}: {units}, {summary['seconds']:.1f} s"
    table = Table(title=title, title_justify="left")
    table.add_column("State")
    table.add_column("Units", justify="right")
    table.add_column("Meaning")
    for own, number in summary["own"].items():
        if number:
            table.add_row(f"[{UNIT_LOOKS[own].colour}]■[/] {own}", f"{number:,}", UNIT_LOOKS[own].words)
    console.err().print(table)
    for step in summary["next_steps"]:
        console.say(f"  * {step}")
    if "sent" in summary:
        console.say(f"{console.counted(summary['sent'], 'request')} sent.")
    if "files" in summary:
        console.show_facts("Files", summary["files"])
