"""tiles_export: save the chips of many tiles that are home, on a Dask cluster."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from deployments.blocks import use_blocks
from flows.artifacts import key_of
from flows.dask_cluster import DaskCluster, dask_cluster
from flows.deployed import ended, refuse_fleeting, tag_run
from flows.rounds import Wishes
from flows.tile import WINDOW_PATTERN, run_tile
from tasks.chips.campaign import Campaign, site, tile_campaign_of
from tasks.chips.chip_file import FailedPixels, Flawed
from tasks.chips.grid import Tile, region_named
from tasks.chips.layout import DEFAULT_TEMPLATE
from tasks.errors import LeaseHeld, OverlanderError
from tasks.files import beacon, sweep_parts
from tasks.settings import Settings, load_settings
from tasks.touching import tiles_meant

TILES_TAGGED = 20
"""A run of more tiles is found by its region and algorithm."""

_COUNTS = ("chips", "exported", "kept", "waiting", "needs_person")


@flow(
    name="tiles-export",
    flow_run_name="{region} export",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def tiles_export(
    tiles: str | None = None,
    region: Literal["conus", "alaska", "hawaii"] = "conus",
    touching: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    algorithm: str | None = None,
    window: Annotated[str, Field(pattern=WINDOW_PATTERN)] = "0:50,0:50",
    out: Path | None = None,
    path_template: str = DEFAULT_TEMPLATE,
    flawed: Flawed = "apart",
    failed_pixels: FailedPixels = "keep",
    recount: bool = False,
    chips_per_task: Annotated[int, Field(ge=1, le=50)] = 10,
    dask_address: str | None = None,
    results_block: str | None = None,
) -> State[dict[str, Any]]:
    """Look at the chips of some tiles and save those that are home, on a Dask cluster; request nothing.

    Files, ledger and manifests are as a tile's own export leaves them. Run it again at any time: it does only what
    is missing.

    Args:
        tiles: Which tiles, as H05V03,H05V04, or a file on the worker that lists them.
        region: Whose ARD grid.
        touching: A vector file on the worker; the tiles that its geometries touch.
        layer: Which layer of that file, where it has several.
        crs: Of that file, where it names none, for example EPSG:5070.
        algorithm: As the service spells it, for example lcmap-pyccd:2017.08.18. Empty takes the worker's setting.
        window: Rows and columns of each tile's chips, start:stop counted from 0 at the north-west.
        out: Folder that files go to, which the worker and every Dask worker see at the same place.
        path_template: Path of a chip's file below that folder, with {algorithm}, {tile}, {x} and {y}.
        flawed: Chips with failed pixels go to a folder apart, with the rest, or are skipped.
        failed_pixels: Keep the error text of a failed pixel, or write null, which existing readers take.
        recount: Count every chip again, and check kept files by their hash.
        chips_per_task: How many chips one task run handles.
        dask_address: The Dask scheduler, as tcp://10.0.0.5:8786. Empty starts a cluster on the worker's machine.
        results_block: ResultsCassandra block to read from. Empty takes the settings of worker and Dask workers.
    """
    started = time.monotonic()
    try:
        use_blocks(results=results_block)
        settings = load_settings()
        refuse_fleeting(OVERLANDER_OUT=out or settings.out, OVERLANDER_LEDGER=settings.ledger_place)
        named = tiles_meant(region_named(region), tiles, touching, layer, crs)
        campaign = partial(
            tile_campaign_of,
            region=region,
            window=window,
            algorithm=algorithm,
            out=out,
            template=path_template,
            flawed=flawed,
            failed_pixels=failed_pixels,
            recount=recount,
            settings=settings,
        )
        first = campaign(named[0].name)
        names = [tile.name for tile in named] if len(named) <= TILES_TAGGED else []
        tag_run((region, first.algorithm, *names))
        block = results_block or settings.results_block
        with (
            beacon(first.layout.root) as seen_by_all,
            dask_cluster(dask_address, settings, seen_by_all, block) as cluster,
        ):
            threads, ends = cluster.threads, dict(_export(named, campaign, cluster, settings, chips_per_task))
    except OverlanderError as error:
        return Failed(message=str(error), data=error)
    return _report(first, named, ends, _advice(threads, settings), time.monotonic() - started)


def _export(
    tiles: Sequence[Tile],
    campaign: Callable[[str], Campaign],
    cluster: DaskCluster,
    settings: Settings,
    chips_per_task: int,
) -> Iterator[tuple[Tile, State[Any]]]:
    """Export one tile after the other, and give the state that each ends in; end early with the cluster.

    One after the other, so that one limit holds for all that the run has under way at Cassandra.
    """
    rows_at_once = settings.cassandra.queries_in_flight + 1  # one waits, so that no slot stays free
    for tile in tiles:
        if cluster.is_over:
            return
        try:
            with site(campaign(tile.name), words=f"overlander region export {tile.name}") as place:
                cluster.work_for(place)
                state = run_tile(place, "export", Wishes(chips_per_task=chips_per_task), rows_at_once)
            _sweep(place.campaign)
            yield tile, state
        except LeaseHeld as held:
            yield tile, Completed(name="Skipped", message=str(held))
        except OverlanderError as error:
            yield tile, Failed(message=str(error), data=error)


def _sweep(work: Campaign) -> None:
    """Remove what workers that died have left half-written: their chips were saved by others."""
    for folder in {work.layout.file(work.tile, work.algorithm, chip).parent for chip in work.chips}:
        sweep_parts(folder)


def _report(
    first: Campaign, tiles: Sequence[Tile], ends: Mapping[Tile, State[Any]], advice: Sequence[str], seconds: float
) -> State[dict[str, Any]]:
    """Show what became of each tile in the UI, and return the run's last state."""
    lines = [_line(tile, ends.get(tile)) for tile in tiles]
    totals = {name: sum(line[name] for line in lines) for name in _COUNTS}
    counted = Counter(line["state"] for line in lines)
    words = f"{len(lines):,} tiles: " + ", ".join(f"{count:,} {state}" for state, count in counted.items())
    words += f". {totals['exported']:,} files written, {totals['kept']:,} kept."
    key = key_of(f"tiles export {first.tile.region.name} {first.algorithm}")
    create_table_artifact(lines, key=key, description=words)
    errors = [state.data for state in ends.values() if isinstance(state.data, OverlanderError)]
    if errors:
        told = " ".join(f"{line['tile']}: {line['message']}" for line in lines if line["state"] == "Failed")
        error = type(errors[0])(f"{words} {told}")
        return Failed(message=str(error), data=error)
    statuses = {line["exit_status"] for line in lines}
    status = next(status for status in (3, 4, 0) if status in statuses)
    summary = {
        "region": first.tile.region.name,
        "algorithm": first.algorithm,
        **totals,
        "tiles": lines,
        "seconds": round(seconds, 3),
        "next_steps": list(advice),
        "exit_status": status,
    }
    return ended(words, summary)


def _line(tile: Tile, state: State[Any] | None) -> dict[str, Any]:
    """Return what became of a tile; None for one that was not begun."""
    summary = state.data if state is not None and isinstance(state.data, dict) else {}
    return {
        "tile": tile.name,
        "state": "not begun" if state is None else state.name,
        **{name: summary.get(name, 0) for name in _COUNTS},
        "exit_status": summary.get("exit_status", 3),
        "message": "" if state is None else state.message or "",
    }


def _advice(threads: int, settings: Settings) -> list[str]:
    at_once = settings.cassandra.queries_in_flight
    words = (
        f"The cluster has {threads:,} threads, and at most {at_once:,} of them had work at a time: raise "
        "OVERLANDER_CASSANDRA_QUERIES_IN_FLIGHT if Cassandra bears it."
    )
    return [words] if threads > at_once else []
