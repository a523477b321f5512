"""Upkeep, for schedules: run again what is not home yet, and see that what was delivered is still as it was.

Both converge like everything else, so a schedule needs no memory of its own.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from deployments.blocks import use_blocks
from flows.deployed import refuse_fleeting
from flows.news import tell
from tasks.chips.grid import region_named, tile_named
from tasks.chips.results import ResultsTable
from tasks.chips.tasks import verify_tile
from tasks.chips.upkeep import OpenTile, Verified, open_tiles
from tasks.errors import BadInput, OverlanderError
from tasks.ledger.store import Ledger
from tasks.ledger.upkeep import deliveries
from tasks.settings import Settings, load_settings

TILES_VERIFIED_AT_ONCE = 2
TO_COME = [StateType.SCHEDULED, StateType.PENDING]
TAKEN_WITHIN = timedelta(days=1)
"""A run that no worker has taken for so long is not waited for any more."""


@flow(name="converge", flow_run_name="{mode} open tiles", persist_result=False)
def converge(
    mode: Literal["run", "count"] = "run",
    max_requests: Annotated[int, Field(ge=1)] = 100,
    deployment: str = "tile-campaign/tile-campaign",
    results_block: str | None = None,
    service_block: str | None = None,
) -> State[dict[str, Any]]:
    """Start a run of every tile that was run before and that another run would help; wait for none of them.

    Each is asked for as its last run was: window, folder and options are kept with the tile. A tile that a run is
    at work on, or is to come for, is left to that.

    Args:
        mode: run asks for what is missing and saves what is home; count only looks.
        max_requests: Each tile's run sends at most so many requests.
        deployment: Which deployment the tiles' runs are of, flow/deployment.
        results_block: ResultsCassandra block to read from. Empty takes the worker's settings.
        service_block: ChangeResultsService block to ask. Empty takes the worker's settings.
    """
    try:
        use_blocks(results=results_block)
        settings = load_settings()
        refuse_fleeting(OVERLANDER_LEDGER=settings.ledger_place)
        found = _open_tiles(settings)
        how: dict[str, Any] = {"mode": mode, "wait": False, "max_requests": max_requests}
        how |= {"results_block": results_block, "service_block": service_block}
        rows = [
            {"tile": tile.tile, "region": tile.region, "algorithm": tile.algorithm, "chips waiting": tile.waiting}
            | {"chips to save": tile.unsaved, "now": _start(deployment, tile, how)}
            for tile in found
        ]
    except OverlanderError as error:
        return Failed(message=str(error), data=error)
    started = sum(row["now"] == "started" for row in rows)
    words = (
        f"{len(rows):,} tiles are open: {started:,} runs started, {len(rows) - started:,} are at work or to come."
    )
    if rows:
        create_table_artifact(rows, key="open-tiles", description=words)
    return Completed(message=words if rows else "No tile is open.", data={"open": len(rows), "started": started})


@flow(
    name="verify",
    flow_run_name="verify delivered files",
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=TILES_VERIFIED_AT_ONCE),  # type: ignore[arg-type]
)
def verify(
    tile: str | None = None, region: Literal["conus", "alaska", "hawaii"] = "conus"
) -> State[dict[str, Any]]:
    """Read every delivered file again and compare it with its manifest, by SHA-256. Nothing is changed.

    Args:
        tile: Only this tile, as H05V03. Empty verifies all.
        region: Whose ARD grid.
    """
    try:
        settings = load_settings()
        refuse_fleeting(OVERLANDER_LEDGER=settings.ledger_place)
        where = region_named(region)
        named = None if tile is None else tile_named(tile, where).name
        with Ledger.open(settings.ledger_place, create=False) as ledger, ledger.read() as reading:
            places = deliveries(reading, where.name, named)
    except OverlanderError as error:
        return Failed(message=str(error), data=error)
    looks = [verify_tile.submit(ground, root) for ground, root in places]
    wait(looks)
    seen: list[Verified] = [look.result() for look in looks if look.state.is_completed()]
    for look in looks:
        if not look.state.is_completed():
            return Failed(message=str(look.state.message))
    return _verified(seen)


def _open_tiles(settings: Settings) -> list[OpenTile]:
    with ResultsTable.open(settings.cassandra) as table:
        source = table.source  # tiles of other tables are not this worker's
    with Ledger.open(settings.ledger_place) as ledger, ledger.read() as reading:
        return open_tiles(reading, source, settings)


def _start(deployment: str, tile: OpenTile, how: Mapping[str, Any]) -> str:
    """Start a tile's run unless one is at work on it or to come; return which.

    Whether one is at work the lease says: a killed run stays Running in the UI for a while.
    """
    if tile.held:
        return "at work"
    tags = [tile.tile, tile.region, tile.algorithm]
    with get_client(sync_client=True) as client:
        others = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[deployment.partition("/")[0]])),
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=tags),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=TO_COME)),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC) - TAKEN_WITHIN),
            ),
            limit=1,
        )
    if others:
        return f"to come: {others[0].name}"
    try:
        run_deployment(deployment, parameters={**tile.asked, **how}, tags=tags, timeout=0, as_subflow=False)
    except ObjectNotFound:
        raise BadInput(
            f"The Prefect server knows no deployment {deployment}: `overlander deploy` registers it. Nothing was "
            "started."
        ) from None
    return "started"


def _verified(seen: list[Verified]) -> State[dict[str, Any]]:
    files, wrong = sum(tile.files for tile in seen), sum(tile.wrong for tile in seen)
    counts = {"tiles": len(seen), "files": files, "wrong": wrong}
    if not wrong:
        return Completed(message=f"{files:,} files of {len(seen):,} tiles are as delivered.", data=counts)
    rows = [{"tile": tile.tile, "file": file, "what": what} for tile in seen for file, what in tile.problems]
    tiles = ", ".join(sorted({tile.tile for tile in seen if tile.wrong}))
    words = (
        f"{wrong:,} of {files:,} delivered files are not as their manifest says, in {tiles}. "
        "`overlander tile export TILE --recount` writes what is missing or changed again."
    )
    create_table_artifact(rows, key="changed-files", description=words)
    tell("needs-attention", "verify", "delivered files", words)
    return Completed(name="NeedsAttention", message=words, data=counts)
