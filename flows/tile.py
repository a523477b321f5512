"""tile_campaign: look at a tile's chips, save those that are home, say where the rest stands."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import unmapped
from pydantic import Field
from sqlalchemy import Connection

from deployments.blocks import use_blocks
from flows.artifacts import ProgressArtifact, artifact_key, show_standing
from flows.deployed import ended, refuse_fleeting, tag_run
from flows.news import tell_of_tile
from flows.rounds import Brought, Wishes, batches, bring_home
from tasks.chips.campaign import Campaign, Site, chips_of, site, tile_campaign_of
from tasks.chips.chip_file import FailedPixels, Flawed
from tasks.chips.export import ExportTally
from tasks.chips.heal import rules_of
from tasks.chips.layout import DEFAULT_TEMPLATE, refuse_foreign_files
from tasks.chips.report import Standing, standing, summary_of, write_files
from tasks.chips.states import HOME, Again
from tasks.chips.states import State as ChipState
from tasks.chips.survey import Surveyed
from tasks.chips.tasks import export_row, survey_row
from tasks.chips.upkeep import asked_of
from tasks.errors import LeaseHeld, OverlanderError
from tasks.files import check_writable
from tasks.ledger.chips import TileNote, note_rate, use_tile
from tasks.ledger.upkeep import note_last_run
from tasks.settings import load_settings

Mode = Literal["run", "count", "export", "request"]

TILE_PATTERN = r"^([Hh]\d+[Vv]\d+|\d{6}|[+-]?\d+[, ]+[+-]?\d+)$"
WINDOW_PATTERN = r"^[\d: ]+,[\d: ]+$"
"""What the UI's form takes; which tiles there are, the grid knows (tasks/chips/grid.py)."""

ROWS_SURVEYED_AT_ONCE = 2
ROWS_EXPORTED_AT_ONCE = 2
"""Two, so that the next row's first chips fill the slots that this row's last ones leave empty."""

WAVE = 500
"""So many task runs of a stage are handed out at once. Each makes three events at least, and the server drops what
comes when 10,000 wait in its memory."""


@flow(
    name="tile-campaign",
    flow_run_name="{tile} {mode}",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def tile_campaign(
    tile: Annotated[str, Field(pattern=TILE_PATTERN)],
    region: Literal["conus", "alaska", "hawaii"] = "conus",
    mode: Mode = "run",
    algorithm: str | None = None,
    window: Annotated[str, Field(pattern=WINDOW_PATTERN)] = "0:50,0:50",
    out: Path | None = None,
    path_template: str = DEFAULT_TEMPLATE,
    flawed: Flawed = "apart",
    failed_pixels: FailedPixels = "keep",
    recount: bool = False,
    campaign: str | None = None,
    yes: bool = False,
    max_requests: Annotated[int, Field(ge=1)] | None = None,
    wait: bool = True,
    deadline_hours: Annotated[float, Field(gt=0)] = 24,
    again: list[Again] | None = None,
    chips: list[tuple[int, int]] | None = None,
    chips_per_task: Annotated[int, Field(ge=1, le=50)] = 50,
    results_block: str | None = None,
    service_block: str | None = None,
) -> State[dict[str, Any]]:
    """Bring a tile of change-detection results home: look, ask for what is missing, wait, save, ask again.

    Run it again at any time: it does only what is missing.

    Args:
        tile: The tile, as H05V03, 005003 or its upper left corner in metres (-1815585,2864805).
        region: Whose ARD grid.
        mode: run does all; count only looks; export looks and saves; request looks and asks.
        algorithm: As the service spells it, for example lcmap-pyccd:2017.08.18. Empty takes the worker's setting.
        window: Rows and columns of chips, start:stop counted from 0 at the north-west. 0:4,0:4 is 16 chips.
        out: Folder on the worker that files go to. Empty takes the worker's setting.
        path_template: Path of a chip's file below that folder, with {algorithm}, {tile}, {x} and {y}.
        flawed: Chips with failed pixels go to a folder apart, with the rest, or are skipped.
        failed_pixels: Keep the error text of a failed pixel, or write null, which existing readers take.
        recount: Count every chip again, and check kept files by their hash.
        campaign: What to call the campaign. Empty gives the tile with its algorithm.
        yes: Agree to requests for more than a hundred chips.
        max_requests: Send at most so many requests. Empty sends what is needed.
        wait: Wait for what was asked for, and save it as it comes home.
        deadline_hours: Wait no longer than this.
        again: Ask again for chips in these states, every pixel anew.
        chips: Ask only for these chips, given by x and y of their upper left corners in metres.
        chips_per_task: How many chips one task run handles.
        results_block: ResultsCassandra block to read from. Empty takes the worker's settings.
        service_block: ChangeResultsService block to ask. Empty takes the worker's settings.
    """
    try:
        use_blocks(results=results_block, service=service_block)
        settings = load_settings()
        refuse_fleeting(OVERLANDER_OUT=out or settings.out, OVERLANDER_LEDGER=settings.ledger_place)
        work = tile_campaign_of(
            tile,
            region=region,
            window=window,
            algorithm=algorithm,
            name=campaign,
            out=out,
            template=path_template,
            flawed=flawed,
            failed_pixels=failed_pixels,
            recount=recount,
        )
        wishes = Wishes(
            agreed=yes,
            max_requests=max_requests,
            wait=wait and mode == "run",
            deadline_s=deadline_hours * 3600,
            again=frozenset(ChipState(name) for name in again or ()),
            only=None if chips is None else frozenset(chips_of(work, chips)),
            chips_per_task=chips_per_task,
        )
        tag_run((work.tile.name, work.tile.region.name, work.algorithm))
        with site(work, words=f"overlander tile {mode} {work.tile.name}") as place:
            return run_tile(place, mode, wishes)
    except LeaseHeld as held:
        return Completed(name="Skipped", message=str(held))
    except OverlanderError as error:
        return Failed(message=str(error), data=error)  # raised, it would stand in the log with a traceback


def run_tile(
    place: Site, mode: Mode, wishes: Wishes, rows_at_once: int = ROWS_EXPORTED_AT_ONCE
) -> State[dict[str, Any]]:
    """Do with an open tile what a run is for, and return the run's last state.

    Args:
        place: the tile's campaign at work.
        mode: what to do, as `tile_campaign` takes it.
        wishes: what a person wants beyond the campaign.
        rows_at_once: how many task runs save chips at the same time.

    Raises:
        OverlanderError: what could not be done; what was done is kept.
    """
    work = place.campaign
    note = place.ledger.write(lambda ledger: use_tile(ledger, place.ground, work.name), place.lease)
    if note.closed_at is not None and mode != "count":
        return _closed(place, note)
    if mode == "run":
        asked = asked_of(work)
        place.ledger.write(lambda ledger: note_last_run(ledger, place.ground, asked), place.lease)
    try:
        return _run(place, mode, wishes, rows_at_once)
    finally:
        place.stopping.set()


def _run(place: Site, mode: Mode, wishes: Wishes, rows_at_once: int) -> State[dict[str, Any]]:
    work, started = place.campaign, time.monotonic()
    before = _standing(place)
    saving = mode in ("run", "export")
    if saving:
        _check_output(work, before)
    parts = batches(work, work.chips, wishes.chips_per_task)
    bar = ProgressArtifact(artifact_key(work), f"{work.name}: chips done")
    surveyed: list[PrefectFuture[Any]] = []
    exported: list[PrefectFuture[Any]] = []
    brought, failure = Brought(), None
    with (
        _threads(ROWS_SURVEYED_AT_ONCE) as surveying,
        _threads(rows_at_once) as exporting,
        _threads(1) as requesting,
    ):
        try:
            for start in range(0, len(parts), WAVE):
                names, rows = zip(*parts[start : start + WAVE], strict=True)
                given = {"campaign": unmapped(work), "where": names}
                wave = list(surveying.map(survey_row, given | {"chips": rows}))
                surveyed += wave
                if saving:
                    wait(exported)  # of the waves before
                    exported += exporting.map(export_row, given | {"surveyed": wave})
                bar.follow(wave, len(parts) * (1 + saving) - len(surveyed))
            seen: list[Surveyed] = [future.result() for future in surveyed if future.state.is_completed()]
            all_home = len(seen) == len(surveyed) and all(set(row.states) <= HOME for row in seen)
            asks = mode == "request" or (mode == "run" and place.settings.service_url is not None)
            if asks and (wishes.again or not all_home):
                if wishes.again:
                    wait(exported)  # one under way would note what it read over the request of the same chip
                try:
                    bring_home(place, wishes, brought, requesting, exporting if saving else None)
                except OverlanderError as error:
                    failure = error  # what came home before it is saved and reported all the same
            exported += brought.exported
            bar.follow(exported, 0)
        except BaseException:
            place.stopping.set()
            raise
    tally = sum((future.result() for future in exported if future.state.is_completed()), ExportTally())
    _note_rates(place, seen, tally, brought)
    # A tile of 2,500 chips takes half a second to read.
    moved = not all_home or any(row.counted for row in seen)
    found = _standing(place) if moved or tally.has_news or brought.requested.sent else before
    state = _report(place, mode, tally, brought, before, found, time.monotonic() - started)
    if failure is not None:
        raise failure
    for future in (*surveyed, *exported):
        if future.state.is_failed() or future.state.is_crashed():
            future.result()
    return state


def _threads(rows: int) -> ThreadPoolTaskRunner[Any]:
    """Return a runner of its own for a stage, so that a row's export waits for no other row's survey."""
    return ThreadPoolTaskRunner(max_workers=rows)


def _check_output(work: Campaign, before: Standing) -> None:
    known = {file.file for file in before.files.values() if file.file}
    check_writable(work.layout.folder(work.tile, work.algorithm))
    refuse_foreign_files(work.layout, work.tile, work.algorithm, work.chips, known)


def _report(
    place: Site,
    mode: Mode,
    tally: ExportTally,
    brought: Brought,
    before: Standing,
    found: Standing,
    seconds: float,
) -> State[dict[str, Any]]:
    """Write the tile's files, show it in the UI and return the run's last state."""
    work = place.campaign
    files: dict[str, Path] = {}
    to_save = 0
    if mode in ("run", "export"):
        files = write_files(place.ground.source, work, found)
        to_save = max(found.unsaved, tally.changed)  # what changed while it was read has a file, if an older one
    summary = summary_of(work, found, seconds)
    summary["changed"] = sum(now != then for now, then in zip(found.lines, before.lines, strict=True))
    if mode != "count":
        summary |= {
            "exported": tally.exported,
            "kept": tally.kept,
            "waiting": found.waiting + to_save,
            "needs_person": found.needs_person,
            "requested": brought.requested.sent,
            "quarantined": found.states["quarantined"],
            "files": {what: str(path) for what, path in files.items()},
        }
    if mode == "run" and found.waiting and place.settings.service_url is None:
        summary["next_steps"].insert(
            0, "No change-results service is set (OVERLANDER_SERVICE_URL): this run requested nothing."
        )
    if to_save:
        summary["next_steps"].append(f"{to_save:,} chips are home and not saved as they are now: run again.")
    words = f"{len(found.lines):,} chips: " + ", ".join(
        f"{count:,} {state}" for state, count in found.states.items() if count
    )
    if mode != "count":
        words += f". {brought.requested.sent:,} requested, {tally.exported:,} exported, {tally.kept:,} kept."
    show_standing(work, found, words, files)
    if mode in ("run", "request"):
        tell_of_tile(place, before, found)
    status = 3 if to_save else found.exit_status
    if not status and brought.held_back:  # chips at home that a person wants again
        status = 4 if found.guard else 3
    return ended(words, summary | {"exit_status": status})


def _closed(place: Site, note: TileNote) -> State[dict[str, Any]]:
    """Return the last state of a run on a tile that was delivered elsewhere: nothing is done."""
    work = place.campaign
    words = (
        f"Tile {work.tile.name} was closed on {note.closed_at:%Y-%m-%d} ({note.closed_reason}): nothing of it is "
        "requested or written. `overlander tile reopen` opens it again."
    )
    counts = ("changed", "exported", "kept", "waiting", "needs_person", "requested", "quarantined")
    nothing: dict[str, Any] = dict.fromkeys(counts, 0) | {"files": {}}
    summary = summary_of(work, _standing(place), 0.0) | nothing | {"closed": words}
    return Completed(message=words, data=summary | {"exit_status": 0})


def _standing(place: Site) -> Standing:
    work = place.campaign
    with place.ledger.read() as ledger:
        root, rules = work.layout.root, rules_of(place.settings)
        return standing(ledger, place.ground, work.tile, work.chips, root, rules, flawed=work.flawed)


def _note_rates(place: Site, seen: list[Surveyed], tally: ExportTally, brought: Brought) -> None:
    """Write down how long counting a chip, writing a row and bringing a chip home took, for `plan`."""
    counted = sum(row.counted for row in seen)
    source = place.ground.source
    threads, processes = place.settings.cassandra.queries_in_flight, place.settings.export_processes

    def note(ledger: Connection) -> None:
        if counted:
            seconds = sum(row.seconds for row in seen) / counted / threads
            note_rate(ledger, source, "count", seconds, "s/chip")
        if tally.rows:
            note_rate(ledger, source, "export", tally.rows / tally.seconds * processes, "rows/s")
        if brought.settled:
            note_rate(ledger, source, "settle", brought.seconds / brought.settled, "s/chip")

    place.ledger.write(note, place.lease)
