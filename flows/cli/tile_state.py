"""What `overlander tile` says and keeps of a tile: status, closed or open, released."""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import console, options
from flows.cli.shared import campaign_of, settle

if TYPE_CHECKING:
    from tasks.chips.campaign import Campaign
    from tasks.chips.report import Standing
    from tasks.ledger.chips import TileNote


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
    from tasks.chips.heal import rules_of
    from tasks.chips.report import not_home, standing, summary_of
    from tasks.errors import BadInput
    from tasks.ledger.chips import find_tiles
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    started = time.monotonic()
    options.settle(algorithm=algorithm, ledger=ledger, out=out)
    work = campaign_of(tile, region, window)
    with Ledger.open(load_settings().ledger_place, create=False) as kept, kept.read() as reading:
        notes = find_tiles(reading, work.tile.region.name, work.tile.name, work.algorithm)
        if not notes:
            raise BadInput(
                f"The ledger {kept.name} knows nothing of tile {work.tile.name} ({work.tile.region.name}) with "
                f"{work.algorithm}. Look at it first: overlander tile count {work.tile.name}."
            )
        note = notes[0]
        found = standing(reading, note.ground, work.tile, work.chips, work.layout.root, rules_of(load_settings()))
    closed = closed_words(note)
    if json:
        console.give(summary_of(work, found, time.monotonic() - started) | {"not_home": not_home(found)})
    else:
        _show_status(work, found, f"{note.ground.source}, last used {note.last_used_at:%Y-%m-%d %H:%M} UTC")
        if closed:
            console.say(closed)
    sys.exit(0 if closed else found.exit_status)


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
    settle(algorithm, ledger, None, hosts, keyspace)
    _set_closed("close", campaign_of(tile, region, "0:50,0:50"), datetime.now(UTC), reason)
    console.say("Closed. `overlander tile reopen` opens it again.")


def reopen(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
) -> None:
    """Open a closed tile again."""
    settle(algorithm, ledger, None, hosts, keyspace)
    _set_closed("reopen", campaign_of(tile, region, "0:50,0:50"), None, "")
    console.say("Open.")


def release(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    algorithm: options.Algorithm = None,
    window: options.Window = "0:50,0:50",
    ledger: options.Ledger = None,
    hosts: options.Hosts = None,
    keyspace: options.Keyspace = None,
) -> None:
    """Let quarantined chips be asked for again.

    Lifts the guard, too, that stopped requesting; what was asked for and has not come is written off, and counts
    as no attempt any more.
    """
    from tasks.chips.campaign import site
    from tasks.chips.request import release_tile

    settle(algorithm, ledger, None, hosts, keyspace)
    work = campaign_of(tile, region, window)
    with site(work, words=f"overlander tile release {work.tile.name}") as place:
        released = release_tile(place)
    said = []
    if released.guard:
        said.append("The guard is lifted.")
    if released.quarantined:
        chips = console.counted(released.quarantined, "quarantined chip")
        said.append(f"{chips} released: the next run asks again.")
    if released.waiting:
        chips = console.counted(released.waiting, "chip")
        said.append(
            f"{chips} waited for anew; to ask for those again: "
            f"overlander tile request {work.tile.name} --states queued,stale,uncertain --again."
        )
    console.say(" ".join(said) or "Nothing was quarantined, and no guard was up.")


def _show_status(work: "Campaign", found: "Standing", where: str) -> None:
    from rich.table import Table

    from tasks.chips.states import HOME

    console.show(found, f"Tile {work.tile.name} ({work.tile.region.name}), {work.algorithm} in {where}")
    away = [line for line in found.lines if line.state not in HOME and line.state != "unknown"]
    if not away:
        return
    table = Table(title="Not home", title_justify="left")
    for name in ("Chip", "State", "Since", "Attempts", "Reason", "The next run"):
        table.add_column(name)
    for line in away:
        since = f"{line.since:%Y-%m-%d %H:%M}" if line.since else ""
        chip = f"{line.chip_x},{line.chip_y}"
        table.add_row(chip, line.state, since, str(line.attempts), line.reason, line.next_step)
    console.err().print(table)


def closed_words(note: "TileNote") -> str:
    """Return the sentence that a tile was closed; empty for an open one."""
    return "" if note.closed_at is None else f"Closed on {note.closed_at:%Y-%m-%d}: {note.closed_reason}."


def _set_closed(command: str, work: "Campaign", closed_at: datetime | None, reason: str) -> None:
    from sqlalchemy import Connection

    from tasks.chips.campaign import site
    from tasks.ledger.chips import close_tile, use_tile

    with site(work, words=f"overlander tile {command} {work.tile.name}") as place:

        def change(ledger: Connection) -> None:
            use_tile(ledger, place.ground, work.name)
            close_tile(ledger, place.ground, closed_at, reason)

        place.ledger.write(change, place.lease)
