"""Upkeep, for schedules: run again what is not home yet, and see that what was delivered is still as it was.

Both converge like everything else, so a schedule needs no memory of its own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from deployments.blocks import use_blocks
from flows import children
from flows.deployed import refuse_fleeting
from flows.news import tell
from tasks.chips.grid import region_named, tile_named
from tasks.chips.results import ResultsTable
from tasks.chips.tasks import verify_tile
from tasks.chips.upkeep import OpenTile, Verified, open_tiles
from tasks.errors import OverlanderError
from tasks.ledger.store import Ledger
from tasks.ledger.upkeep import deliveries
from tasks.settings import Settings, load_settings

TILES_VERIFIED_AT_ONCE = 2


@flow(name="converge", flow_run_name="{mode} open tiles", persist_result=False)
def converge(
    mode: Literal["run", "count"] = "run",
    max_requests: Annotated[int, Field(ge=1)] = 100,
    deployment: children.DeploymentName = "tile-campaign/tile-campaign",
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
    verified = _verified(seen)
    failed = [str(look.state.message) for look in looks if not look.state.is_completed()]
    if failed:
        words = f"{len(failed):,} of {len(looks):,} tiles could not be looked at: {failed[0]} {verified.message}"
        tell("needs-attention", "verify-failed", "delivered files", words)
        return Failed(message=words)
    return verified


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
    if others := children.to_come(deployment, tags):
        return f"to come: {others[0].name}"
    children.start(deployment, {**tile.asked, **how}, tags)
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
