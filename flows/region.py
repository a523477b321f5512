"""region_campaign: keep so many runs of a region's tiles under way, and say where every tile stands."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field
from sqlalchemy import Connection

from deployments.blocks import use_blocks
from flows import children
from flows.artifacts import key_of
from flows.deployed import ended, refuse_fleeting, tag_run
from flows.news import tell
from flows.region_artifacts import show_region
from flows.tile import WINDOW_PATTERN
from tasks.chips.chip_file import FailedPixels, Flawed
from tasks.chips.grid import region_named
from tasks.chips.heal import rules_of
from tasks.chips.layout import DEFAULT_TEMPLATE
from tasks.chips.region import (
    RegionCampaign,
    RegionStanding,
    region_campaign_of,
    region_standing,
    region_summary,
    tiles_before,
    to_start,
)
from tasks.chips.region_report import write_region_files
from tasks.chips.results import ResultsTable
from tasks.chips.upkeep import asked_of
from tasks.consent import check_consent
from tasks.errors import LeaseHeld, OverlanderError
from tasks.ledger.leases import Lease, lease
from tasks.ledger.regions import Pass, RegionGround, choose_tiles, last_passes, note_asked, note_ended, note_pass
from tasks.ledger.store import Ledger
from tasks.report.tiles import TileLine
from tasks.settings import Settings, load_settings
from tasks.touching import tiles_meant


@flow(name="region-campaign", flow_run_name="{region} region", persist_result=False)
def region_campaign(
    region: Literal["conus", "alaska", "hawaii"] = "conus",
    tiles: str | None = None,
    touching: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    at_once: Annotated[int, Field(ge=1)] = 4,
    algorithm: str | None = None,
    window: Annotated[str, Field(pattern=WINDOW_PATTERN)] = "0:50,0:50",
    out: Path | None = None,
    path_template: str = DEFAULT_TEMPLATE,
    flawed: Flawed = "apart",
    failed_pixels: FailedPixels = "keep",
    campaign: str | None = None,
    yes: bool = False,
    max_requests: Annotated[int, Field(ge=1)] | None = None,
    wait: bool = True,
    deadline_hours: Annotated[float, Field(gt=0)] = 24,
    again: bool = False,
    deployment: children.DeploymentName = "tile-campaign/tile-campaign",
    results_block: str | None = None,
    service_block: str | None = None,
) -> State[dict[str, Any]]:
    """Bring many tiles home: start runs of those that are not, so that a few are under way, and end.

    Run it again, or let its schedule do so: it goes on where it was.

    Args:
        region: Whose ARD grid.
        tiles: Which tiles, as H05V03,H05V04, or a file on the worker that lists them. With neither this nor
            touching, those that the campaign was last run with.
        touching: A vector file on the worker; the tiles that its geometries touch.
        layer: Which layer of that file, where it has several.
        crs: Of that file, where it names none, for example EPSG:5070.
        at_once: How many tiles' runs may be under way.
        algorithm: As the service spells it, for example lcmap-pyccd:2017.08.18. Empty takes the worker's setting.
        window: Rows and columns of each tile's chips, start:stop counted from 0 at the north-west.
        out: Folder on the worker that files go to. Empty takes the worker's setting.
        path_template: Path of a chip's file below that folder, with {algorithm}, {tile}, {x} and {y}.
        flawed: Chips with failed pixels go to a folder apart, with the rest, or are skipped.
        failed_pixels: Keep the error text of a failed pixel, or write null, which existing readers take.
        campaign: What to call the campaign. Empty gives the region with its algorithm.
        yes: Agree to requests for more than a hundred chips.
        max_requests: Each tile's run sends at most so many requests. Empty sends what is needed.
        wait: Each tile's run waits for what it asked for.
        deadline_hours: And no longer than this.
        again: Start tiles that need a person, too.
        deployment: Which deployment the tiles' runs are of, flow/deployment.
        results_block: ResultsCassandra block to read from. Empty takes the worker's settings.
        service_block: ChangeResultsService block to ask. Empty takes the worker's settings.
    """
    try:
        use_blocks(results=results_block)
        settings = load_settings()
        refuse_fleeting(OVERLANDER_OUT=out or settings.out, OVERLANDER_LEDGER=settings.ledger_place)
        if tiles is None and touching is None:
            named = tiles_before(settings, region, name=campaign, algorithm=algorithm)
        else:
            named = tiles_meant(region_named(region), tiles, touching, layer, crs)
        work = region_campaign_of(
            region,
            named,
            name=campaign,
            settings=settings,
            algorithm=algorithm,
            window=window,
            out=out,
            template=path_template,
            flawed=flawed,
            failed_pixels=failed_pixels,
        )
        tag_run((work.region.name, work.pattern.algorithm))
        how: dict[str, Any] = {"mode": "run", "wait": wait, "deadline_hours": deadline_hours}
        how |= {"yes": yes, "max_requests": max_requests}
        how |= {"results_block": results_block, "service_block": service_block}
        with _at_work(work, settings, deployment) as desk:
            return _top_up(desk, how, at_once, again=again)
    except LeaseHeld as held:
        return Completed(name="Skipped", message=str(held))
    except OverlanderError as error:
        return Failed(message=str(error), data=error)


@dataclass(frozen=True)
class _Desk:
    """A region's campaign at work: its ledger, and the lease that keeps a second run of it away."""

    work: RegionCampaign
    settings: Settings
    deployment: str
    source: str
    ledger: Ledger
    lease: Lease

    @property
    def ground(self) -> RegionGround:
        return self.work.ground(self.source)

    def passes(self) -> dict[str, Pass]:
        with self.ledger.read() as reading:
            return last_passes(reading, self.ground)

    def standing(self) -> RegionStanding:
        """Return where the tiles stand, with what Prefect has under way of them, whoever started it."""
        tags = (self.work.region.name, self.work.pattern.algorithm)
        runs = children.under_way(self.deployment, tags)
        at_work = {tag: run.name for run in runs for tag in run.tags}
        with self.ledger.read() as reading:
            passes = last_passes(reading, self.ground).values()
            at_work |= {one.tile: one.flow_run_name for one in passes if one.flow_run and one.outcome is None}
            return region_standing(reading, self.work, self.source, rules_of(self.settings), at_work)


@contextmanager
def _at_work(work: RegionCampaign, settings: Settings, deployment: str) -> Iterator[_Desk]:
    with ResultsTable.open(settings.cassandra) as table:
        source = table.source  # the rest is in the ledger, and in the tiles' own runs
    ground = work.ground(source)
    name = f"region {source} {ground.algorithm} {ground.region} {ground.campaign}"
    with (
        Ledger.open(settings.ledger_place) as ledger,
        lease(ledger, name, f"overlander region run {ground.region}") as held,
    ):
        yield _Desk(work, settings, deployment, source, ledger, held)


def _top_up(desk: _Desk, how: Mapping[str, Any], at_once: int, *, again: bool) -> State[dict[str, Any]]:
    began = time.monotonic()
    names = [tile.name for tile in desk.work.tiles]
    desk.ledger.write(lambda ledger: choose_tiles(ledger, desk.ground, names), desk.lease)
    _note_ends(desk)
    started = 0
    for before in _without_answer(desk):
        _ask(desk, before, how)  # under the key it has: the answer may have been lost, and not the run
        started += 1
    chosen = to_start(desk.standing().lines, at_once, again=again)
    _check_consent(chosen, how)
    for line in chosen:
        noted = desk.ledger.write(partial(note_pass, ground=desk.ground, tile=line.name), desk.lease)
        _ask(desk, noted, how)
        started += 1
    return _report(desk, started, time.monotonic() - began)


def _note_ends(desk: _Desk) -> None:
    """Write down how the passes ended that have ended since the last look."""
    open_ones = {one.flow_run: one for one in desk.passes().values() if one.outcome is None and one.flow_run}
    ends = children.ended(open_ones)

    def note(ledger: Connection) -> None:
        for flow_run, child in ends.items():
            note_ended(ledger, desk.ground, open_ones[flow_run], child.outcome, child.message)

    if ends:
        desk.ledger.write(note, desk.lease)


def _without_answer(desk: _Desk) -> list[Pass]:
    """Return the passes of the campaign's tiles that were written down and whose run was never seen."""
    names = {tile.name for tile in desk.work.tiles}
    return [one for one in desk.passes().values() if one.flow_run is None and one.tile in names]


def _ask(desk: _Desk, asked: Pass, how: Mapping[str, Any]) -> None:
    """Ask for a tile's run under the key of its pass, and write down what it became."""
    pattern = desk.work.pattern
    tile = next(tile for tile in desk.work.tiles if tile.name == asked.tile)
    parameters = asked_of(replace(pattern, tile=tile, name=f"{tile.name} {pattern.algorithm}"))
    tags = (tile.name, tile.region.name, pattern.algorithm)
    child = children.start(desk.deployment, {**parameters, **how}, tags, asked.key)
    desk.ledger.write(lambda ledger: note_asked(ledger, desk.ground, asked, child.id, child.name), desk.lease)


def _check_consent(chosen: Sequence[TileLine], how: Mapping[str, Any]) -> None:
    if how["yes"] or how["max_requests"] is not None:
        return
    chips = sum(line.waiting for line in chosen)
    check_consent(chips, f"up to {chips:,} chips of {len(chosen):,} tiles")


def _report(desk: _Desk, started: int, seconds: float) -> State[dict[str, Any]]:
    """Write the region's map and page, show them in the UI and return the run's last state."""
    work = desk.work
    found = desk.standing()
    at_work = sum(bool(line.under_way) for line in found.lines)
    words = f"{len(found.lines):,} tiles: " + ", ".join(
        f"{count:,} {condition.replace('_', ' ')}" for condition, count in found.conditions.items() if count
    )
    words += f". {at_work:,} under way, {started:,} of them asked for now."
    if at_work and (waits_for := children.nobody_takes(desk.deployment)):
        words += f" {waits_for}"
        found = replace(found, next_steps=(waits_for, *found.next_steps))
    files = write_region_files(work, found, desk.source)
    show_region(work, found, words, files)
    status = 3 if at_work else found.exit_status
    if status == 4:
        tell("needs-attention", key_of(f"region {work.name}"), work.name, f"{words} {' '.join(found.next_steps)}")
    summary = region_summary(work, found, seconds) | {
        "under_way": at_work,
        "started": started,
        "files": {what: str(path) for what, path in files.items()},
        "exit_status": status,
    }
    return ended(words, summary)
