"""polygon_campaign: read polygons, send each to a process service, follow each job to its end, collect."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import unmapped
from pydantic import Field

from deployments.blocks import use_blocks
from flows.artifacts import ProgressArtifact
from flows.deployed import ended, refuse_fleeting, tag_run
from flows.news import tell
from flows.polygon_artifacts import artifact_key, show_polygons
from tasks.consent import check_consent
from tasks.errors import OverlanderError
from tasks.ledger.tally import Open, open_units
from tasks.ledger.units import Own
from tasks.polygons.campaign import polygon_campaign_of, refuse_url_beside
from tasks.polygons.load import Read, retry_units, retryable_units
from tasks.polygons.report import Drawn, standing, summary_of
from tasks.polygons.rules import OnUncertain
from tasks.polygons.site import PolygonSite, polygon_site
from tasks.polygons.tasks import TIME_BOX_S, collect_results, dispatch_batch, draw_report, read_polygons
from tasks.settings import load_settings

_MOST_BATCHES_AT_ONCE = 64
_LINGER_S = 30.0


@dataclass(frozen=True)
class Wishes:
    """What a person wants of a run beyond the campaign itself.

    Attributes:
        agreed: whether the person has agreed to more than a handful of requests.
        deadline_s: it goes on no longer than that.
        again: units to be sent again that came to such an end.
        polygons_per_task: how many one task run sees through.
    """

    agreed: bool = False
    deadline_s: float = 30 * 86400.0
    again: tuple[Own, ...] = ()
    polygons_per_task: int = 500


def _file_of(source: str) -> Path | None:
    """Return the file that a source names; one inside a zip file is GDAL's to find."""
    return None if "://" in str(source) else Path(source)


def _run_name() -> str:
    given = flow_run.parameters
    words = (given.get("campaign") or Path(str(given["source"])).stem, given["process"], given["interval"] or "")
    return " ".join(str(word) for word in words).strip()


@flow(name="polygon-campaign", flow_run_name=_run_name, persist_result=False)
def polygon_campaign(
    source: str,
    process: str = "wit",
    interval: str | None = None,
    url: str | None = None,
    split: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    where: str | None = None,
    bbox: str | None = None,
    limit: Annotated[int, Field(ge=1)] | None = None,
    ids: Path | None = None,
    id_field: str | None = None,
    split_multipolygons: bool = False,
    repair: bool = False,
    precision: Annotated[int, Field(ge=0, le=15)] = 7,
    max_request_bytes: Annotated[int, Field(ge=1)] | None = None,
    max_area_km2: Annotated[float, Field(gt=0)] | None = None,
    properties: list[str] | None = None,
    accept_changes: bool = False,
    concurrency: Annotated[int, Field(ge=1)] | Literal["flood"] | None = None,
    sync: bool = False,
    no_progress_s: Annotated[float, Field(gt=0)] | None = None,
    on_uncertain: OnUncertain | None = None,
    retry_ended: list[Literal["failed", "given_up", "uncertain"]] | None = None,
    cancel_remote: bool = False,
    yes: bool = False,
    max_requests: Annotated[int, Field(ge=1)] | None = None,
    deadline_hours: Annotated[float, Field(gt=0)] = 720,
    campaign: str | None = None,
    out: Path | None = None,
    polygons_per_task: Annotated[int, Field(ge=1, le=5000)] = 500,
    process_block: str | None = None,
) -> State[dict[str, Any]]:
    """Have a process executed for each polygon of a file, and collect what came of it.

    Run it again at any time: jobs in flight are taken up again, and only what is missing is sent.

    Args:
        source: Vector file on the worker, such as a zipped shapefile or a GeoPackage.
        process: wit, wofs-drill, fractional-cover-drill, mangrove-cover-drill, or a TOML file that describes one.
        interval: From when to when, as 2010-01-01/2011-01-01.
        url: URL of the WPS. Empty takes the worker's setting, or the block's.
        split: Divide the interval by 1Y, 6M, 2W or 30D; each part is a job of its own.
        layer: Layer of the file, where it has several.
        crs: CRS of a file that names none, as EPSG:3577.
        where: Only records that meet a condition in OGR SQL, as Shape_Leng <= 2000.
        bbox: Only records in a box of degrees, west,south,east,north.
        limit: Only the first so many.
        ids: Only records whose ids this file lists, one a line.
        id_field: Field that names a record. Empty guesses one, or takes the record's number.
        split_multipolygons: Send each part of a MultiPolygon on its own.
        repair: Send what can be made valid of an invalid geometry.
        precision: Decimals of a degree; 7 is a centimetre.
        max_request_bytes: Larger requests are not sent.
        max_area_km2: Larger polygons are not sent.
        properties: Fields to send along.
        accept_changes: Send polygons whose geometry changed under an old id.
        concurrency: Jobs at a time, or flood for all at once. Empty lets the pacer find out.
        sync: Take each answer as the result, without following a job.
        no_progress_s: Give up a job of which nothing new is said for so many seconds. Empty is no limit.
        on_uncertain: What becomes of polygons whose request may have arrived. Empty takes the worker's setting.
        retry_ended: Send polygons again that came to these ends.
        cancel_remote: At Ctrl-C in the command, ask the service to dismiss the jobs. Other ends leave them.
        yes: Agree to more than a hundred requests.
        max_requests: Send at most so many requests. Empty sends what is needed.
        deadline_hours: Go on no longer than this.
        campaign: What to call the campaign. Empty takes the file's name.
        out: Folder on the worker that files go to. Empty takes the worker's setting.
        polygons_per_task: How many polygons one task run sees through.
        process_block: ProcessService block to ask. Empty takes the worker's settings.
    """
    try:
        refuse_url_beside(process_block or load_settings().process_block, url)
        use_blocks(process=process_block)
        settings = load_settings()
        refuse_fleeting(
            OVERLANDER_OUT=out or settings.out, OVERLANDER_LEDGER=settings.ledger_place, source=_file_of(source)
        )
        work = polygon_campaign_of(
            source,
            process=process,
            interval=interval,
            split_by=split,
            url=url,
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
            max_area_km2=max_area_km2,
            properties=tuple(properties or ()),
            concurrency=concurrency,
            sync=sync,
            no_progress_s=no_progress_s,
            on_uncertain=on_uncertain,
            max_requests=max_requests,
            accept_changes=accept_changes,
            name=campaign,
            out=out,
        )
        wishes = Wishes(
            agreed=yes or max_requests is not None,
            deadline_s=deadline_hours * 3600,
            again=tuple(Own(name) for name in retry_ended or ()),
            polygons_per_task=polygons_per_task,
        )
        tag_run((work.name, work.process.name))
        with polygon_site(work, words=f"overlander polygons run {source}") as place:
            place.cancel_remote = cancel_remote
            return _run(place, wishes)
    except OverlanderError as error:
        return Failed(message=str(error), data=error)  # raised, it would stand in the log with a traceback


def _run(place: PolygonSite, wishes: Wishes) -> State[dict[str, Any]]:
    work, started = place.campaign, time.monotonic()
    failure = None
    at_once = min(work.rules.most_at_once // wishes.polygons_per_task + 2, _MOST_BATCHES_AT_ONCE)
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=at_once)
    with runner:
        read: Read = runner.submit(read_polygons, {"campaign": work}).result()
        if not wishes.agreed:
            requests = _open(place).to_send + retryable_units(place, wishes.again)
            check_consent(requests, f"{requests:,} jobs at {work.url}, which cannot be called back")
        retry_units(place, wishes.again)
        try:
            _dispatch(place, wishes, runner, at_once)
        except OverlanderError as error:
            failure = error  # what came of the others is collected and reported all the same
        files: dict[str, str] = runner.submit(collect_results, {"campaign": work}).result()
        # A run that was stopped may not have read all that it was to send.
        beyond = {} if place.stopping.is_set() else _open(place).beyond
        with place.ledger.read() as ledger:
            found = standing(ledger, place.series_numbers, work.rules, read, beyond)
        drawn: Drawn = runner.submit(draw_report, {"campaign": work, "found": found}).result()
        files |= {"map": str(drawn.map), "page": str(drawn.page)}
    show_polygons(work, found, drawn.reasons, files)
    if failure is not None:
        raise failure
    if found.needs_person and not found.waiting:
        advice = " ".join(found.next_steps)
        words = f"{work.name} needs a person: no run changes anything any more. {advice}"
        tell("needs-attention", artifact_key(work.name), work.name, words)
    summary = summary_of(work.name, found, time.monotonic() - started, work.out) | {
        "sent": place.dispatcher.progress.sent,
        "new": read.new,
        "changed": read.changed,
        "files": files,
    }
    return ended(found.words, summary | {"exit_status": found.exit_status})


def _dispatch(place: PolygonSite, wishes: Wishes, runner: ThreadPoolTaskRunner[Any], batches_at_once: int) -> None:
    """Map the dispatch over what is left, in rounds, until nothing is that this run can do."""
    work, size, rounds = place.campaign, wishes.polygons_per_task, 0
    until = time.monotonic() + wishes.deadline_s
    bar = ProgressArtifact(artifact_key(work.name), f"{work.name}: polygons settled")
    most = 0
    while not place.dispatcher.is_over and (left_s := until - time.monotonic()) > 0:
        units = _open(place).units
        most = place.units_at_start = max(most, len(units))
        bar.show(most - len(units), most)
        if not units:
            break
        rounds += 1
        starts = range(0, min(len(units), size * batches_at_once), size)
        given = {
            "campaign": unmapped(work),
            "where": [f"round {rounds}, batch {number}" for number, _ in enumerate(starts, start=1)],
            "units": [units[start : start + size] for start in starts],
            "time_box_s": unmapped(min(left_s, TIME_BOX_S)),
            # Others wait to be sent: a job that takes long, or hangs, must not keep the next round from them.
            "linger_s": unmapped(_LINGER_S if len(units) > size * batches_at_once else TIME_BOX_S),
        }
        for future in list(runner.map(dispatch_batch, given)):
            future.result()


def _open(place: PolygonSite) -> Open:
    with place.ledger.read() as ledger:
        return open_units(ledger, place.series_numbers, place.selected, place.dispatcher.terms)
