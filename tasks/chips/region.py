"""A region: many tiles, each with a campaign of its own, and where they stand by the ledger alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tasks.chips.campaign import Campaign, tile_campaign_of
from tasks.chips.chip_file import Flawed
from tasks.chips.grid import Region, Tile, region_named, tile_named
from tasks.chips.heal import WAITS, Rules
from tasks.chips.states import HOME, NEEDS_PERSON, State
from tasks.chips.tile_lists import how_to_name, refuse_whole_region
from tasks.errors import BadInput
from tasks.ledger.regions import (
    Pass,
    RegionGround,
    TileCounts,
    TileMarks,
    chosen_tiles,
    count_tiles,
    last_passes,
    last_source,
    marks_of,
)
from tasks.ledger.store import Ledger
from tasks.report.tiles import TileLine, count_conditions
from tasks.settings import Settings

_TROUBLE = ("Failed", "Crashed", "Cancelled", "TimedOut")


@dataclass(frozen=True)
class RegionCampaign:
    """What a region's run is about.

    Attributes:
        region: whose grid.
        tiles: which of its tiles, each once, in the order in which they are begun.
        name: what people call the campaign; its passes are kept under it.
        pattern: the campaign of the first tile: algorithm, window, folder and options are the same for all.
    """

    region: Region
    tiles: tuple[Tile, ...]
    name: str
    pattern: Campaign

    @property
    def title(self) -> str:
        """For the top of a page."""
        return f"{self.region.name}, {self.pattern.algorithm}"

    @property
    def folder(self) -> Path:
        """Where the region's map and page go."""
        return self.pattern.layout.root / "regions"

    def ground(self, source: str) -> RegionGround:
        """Return under which key the ledger keeps it."""
        return RegionGround(source, self.pattern.algorithm, self.region.name, self.name)


@dataclass(frozen=True)
class RegionStanding:
    """Where a region's tiles stand.

    Attributes:
        lines: each tile, in the campaign's order.
        conditions: how many tiles are in which condition; lists every one.
        next_steps: what to do, in sentences.
    """

    lines: tuple[TileLine, ...]
    conditions: dict[str, int]
    next_steps: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """0 all finished, 3 running again will help, 4 a person has to; 3 beats 4."""
        if any(line.a_run_helps for line in self.lines):
            return 3
        return 4 if self.conditions["needs_person"] or self.conditions["guarded"] else 0


def region_campaign_of(
    region: str,
    tiles: Collection[Tile],
    *,
    name: str | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> RegionCampaign:
    """Return the campaign that a person means, checked as far as that goes without any service.

    Args:
        region: `conus`, `alaska` or `hawaii`.
        tiles: which; each counts once.
        name: what to call it; None gives the region with its algorithm.
        settings: what was set; None loads it.
        options: algorithm, window, out, template, flawed and failed_pixels, as `tile_campaign_of` takes them.

    Raises:
        BadInput: as `tile_campaign_of`, or there are no tiles.
    """
    where = region_named(region)
    chosen = tuple(dict.fromkeys(tiles))
    if not chosen:
        raise BadInput(f"No tile of {where.name} is named. {how_to_name(where)}")
    pattern = tile_campaign_of(chosen[0].name, region=where.name, settings=settings, **options)
    return RegionCampaign(where, chosen, name or f"{where.name} {pattern.algorithm}", pattern)


def tiles_before(settings: Settings, region: str, *, name: str | None, algorithm: str | None) -> list[Tile]:
    """Return the tiles that a campaign was last run with, by the ledger.

    Args:
        settings: where the ledger is.
        region: `conus`, `alaska` or `hawaii`.
        name, algorithm: of the campaign, as `region_campaign_of` takes them.

    Raises:
        BadInput: it was never run.
    """
    where = region_named(region)
    anywhere = [tile_named("H00V00", where)]
    work = region_campaign_of(where.name, anywhere, name=name, settings=settings, algorithm=algorithm)
    with Ledger.open(settings.ledger_place) as ledger, ledger.read() as reading:
        source = last_source(reading, work.pattern.algorithm, where.name)
        names = [] if source is None else chosen_tiles(reading, work.ground(source))
    if not names:
        raise refuse_whole_region(where)
    return [tile_named(one, where) for one in names]


def region_standing(
    ledger: Connection,
    work: RegionCampaign,
    source: str,
    rules: Rules,
    under_way: Mapping[str, str] | None = None,
) -> RegionStanding:
    """Return where a region's tiles stand, by the ledger alone.

    A tile is finished when its chips are home and as many as can be saved have files, none asked for later than
    the last one saved, and its last run did not end badly.

    Args:
        ledger: to read.
        work: which tiles.
        source: the table that their chips are in.
        rules: how far asking goes.
        under_way: runs that Prefect has under way, by tile; None where nobody asked it.
    """
    ground, pattern = work.ground(source), work.pattern
    late_before = datetime.now(UTC) - rules.wait_limit
    counts = count_tiles(ledger, ground, work.region, pattern.layout.root, late_before, pattern.window)
    marks, passes = marks_of(ledger, ground), last_passes(ledger, ground)
    expected = len(pattern.chips)
    lines = tuple(
        _line(
            tile,
            expected,
            counts.get(tile.name, TileCounts()),
            marks.get(tile.name, TileMarks()),
            passes.get(tile.name),
            (under_way or {}).get(tile.name, ""),
            pattern.flawed,
        )
        for tile in work.tiles
    )
    return RegionStanding(lines, count_conditions(lines), _steps(lines))


def to_start(lines: Sequence[TileLine], at_once: int, *, again: bool = False) -> list[TileLine]:
    """Return the tiles whose runs are to be started now, so that `at_once` are under way.

    Those that were never begun come first, then those whose last run is longest ago. Finished and closed tiles
    are left alone, and so are those that only a person can help.

    Args:
        lines: the region's tiles, with what is under way.
        at_once: how many tiles' runs may be under way.
        again: start those that need a person, too.
    """
    room = at_once - sum(bool(line.under_way) for line in lines)
    stuck = ("needs_person", "guarded")
    fit = [
        line for line in lines if not line.under_way and (line.a_run_helps or (again and line.condition in stuck))
    ]
    fit.sort(key=lambda line: line.asked_at.timestamp() if line.asked_at else 0.0)
    return fit[: max(0, room)]


def region_summary(work: RegionCampaign, found: RegionStanding, seconds: float) -> dict[str, Any]:
    """Return what the command's `--json` gives for a region: `conditions` lists every one and sums to `tiles`."""
    return {
        "region": work.region.name,
        "campaign": work.name,
        "algorithm": work.pattern.algorithm,
        "tiles": len(found.lines),
        "conditions": found.conditions,
        "chips": sum(line.chips for line in found.lines),
        "home": sum(line.home for line in found.lines),
        "saved": sum(line.saved for line in found.lines),
        "waiting": sum(line.waiting + line.unsaved for line in found.lines if line.a_run_helps),
        "needs_person": sum(line.needs_person for line in found.lines),
        "seconds": round(seconds, 3),
        "next_steps": list(found.next_steps),
    }


def _line(
    tile: Tile,
    expected: int,
    counts: TileCounts,
    marks: TileMarks,
    last: Pass | None,
    under_way: str,
    flawed: Flawed,
) -> TileLine:
    states = {State(name): number for name, number in counts.states.items()}
    looked_at = sum(states.values())
    home = sum(number for state, number in states.items() if state in HOME)
    waits = sum(number for state, number in states.items() if state in WAITS)
    quarantined = sum(number for state, number in states.items() if state in NEEDS_PERSON)
    away = max(0, expected - home - quarantined)  # chips never looked at are away, too
    held = away - waits if marks.guard else 0
    waiting, needs_person = max(0, away - counts.late - held), quarantined + counts.stuck + counts.late + held
    troubled = last is not None and last.outcome in _TROUBLE
    # A run that ended badly may have left an older file beside newer ones, which counting does not tell.
    unsaved = max(_unsaved(states, counts, flawed), int(troubled and home > 0))
    if marks.closed:
        condition, waiting, unsaved, needs_person = "closed", 0, 0, 0
    elif not (waiting or unsaved or needs_person):
        condition = "finished"
    elif marks.guard:
        condition = "guarded"
    elif waiting or unsaved:
        condition = "open" if looked_at else "unknown"
    else:
        condition = "needs_person"
    trouble = last.message if last is not None and troubled else ""
    return TileLine(
        name=tile.name,
        h=tile.h,
        v=tile.v,
        condition=condition,
        chips=expected,
        home=home,
        saved=counts.saved,
        waiting=waiting,
        unsaved=unsaved,
        needs_person=needs_person,
        under_way=under_way,
        passes=last.number if last else 0,
        asked_at=last.noted_at if last else None,
        last_run=last.outcome or "" if last else "",
        note=marks.closed or marks.guard or trouble,
    )


def _unsaved(states: Mapping[State, int], counts: TileCounts, flawed: Flawed) -> int:
    """Return how many chips a run would save; one renewed since the last file is at least one."""
    savable = [State.COMPLETE] if flawed == "skip" else [State.COMPLETE, State.FLAWED]
    lacking = sum(states.get(state, 0) for state in savable) - counts.saved - counts.stuck
    newest = max((counts.newest[state.value] for state in savable if state.value in counts.newest), default=None)
    renewed = (
        newest is not None
        and counts.newest_saved is not None
        and newest > counts.newest_saved
        and not counts.stuck
    )
    return max(lacking, int(renewed), 0)


def _steps(lines: Sequence[TileLine]) -> tuple[str, ...]:
    def named(found: Sequence[TileLine]) -> str:
        names = ", ".join(line.name for line in found[:5])
        return names if len(found) <= 5 else f"{names} and {len(found) - 5:,} more"

    steps = []
    helped = [line for line in lines if line.a_run_helps]
    if helped:
        steps.append(f"{_tiles(helped)} not finished yet: `overlander region run` goes on with them.")
    if failed := [line for line in helped if line.last_run in _TROUBLE]:
        steps.append(f"The last run of {_tiles(failed)} did not end well ({named(failed)}): see the notes.")
    if guarded := [line for line in lines if line.condition == "guarded"]:
        steps.append(
            f"{_tiles(guarded)} guarded ({named(guarded)}): find out why, then `overlander tile release TILE`."
        )
    if stuck := [line for line in lines if line.condition == "needs_person"]:
        steps.append(
            f"{_tiles(stuck)} in need of a person ({named(stuck)}): `overlander tile status TILE` says why."
        )
    return tuple(steps)


def _tiles(found: Sequence[TileLine]) -> str:
    return "1 tile" if len(found) == 1 else f"{len(found):,} tiles"
