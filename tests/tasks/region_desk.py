"""A region's ledger for tests: what is noted of chips of many tiles, without any service."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.chips.grid import PIXELS, REGIONS, Chip, Tile, tile_named
from tasks.chips.heal import Rules
from tasks.chips.region import RegionCampaign, RegionStanding, region_campaign_of, region_standing
from tasks.chips.states import Look, Record, State
from tasks.ledger.chips import Saved, note_saved, remember, use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.store import Ledger
from tasks.settings import Settings

CONUS = REGIONS["conus"]
SOURCE = "LCMAP/changes.results"
ALGORITHM = "lcmap-pyccd:2017.08.18"
NOW = datetime.now(UTC).replace(microsecond=0)
REQUESTED = datetime(2026, 3, 1, 6)  # noqa: DTZ001 - the service's clock is naive
RULES = Rules(max_attempts=3, stall_after=timedelta(hours=1), wait_limit=timedelta(days=14), max_outstanding=2500)
CORNER = "0:2,0:2"
"""Four chips of every tile."""


@dataclass
class RegionDesk:
    """A ledger, an output folder, and what is noted of tiles in them."""

    ledger: Ledger
    out: Path
    algorithm: str = ALGORITHM

    def campaign(self, *names: str, window: str = CORNER, **options: str) -> RegionCampaign:
        return region_campaign_of(
            "conus",
            [tile_named(name, CONUS) for name in names],
            settings=Settings(algorithm=self.algorithm, out=self.out),
            window=window,
            **options,
        )

    def standing(self, *names: str, **options: str) -> RegionStanding:
        with self.ledger.read() as reading:
            return region_standing(reading, self.campaign(*names, **options), SOURCE, RULES)

    def condition(self, name: str, **options: str) -> str:
        return self.standing(name, **options).lines[0].condition

    def ground(self, name: str) -> Ground:
        return Ground(SOURCE, self.algorithm, "conus", name)

    def use(self, name: str) -> None:
        self.ledger.write(lambda ledger: use_tile(ledger, self.ground(name), "a test"))

    def note(
        self, name: str, states: Iterable[State], since: datetime = NOW, requested: datetime = REQUESTED
    ) -> list[Chip]:
        """Note where the chips of a tile's corner stand, one state each."""
        tile = tile_named(name, CONUS)
        self.use(name)
        records = {}
        for chip, state in zip(corner(tile), states, strict=False):
            look = Look(NOW, True, PIXELS, True, False, REQUESTED, REQUESTED, requested)
            records[chip] = Record(state, since, look)
        self.ledger.write(lambda ledger: remember(ledger, self.ground(name), records))
        return list(records)

    def save(self, name: str, chips: Iterable[Chip], requested: datetime = REQUESTED, problem: str = "") -> None:
        """Note files of chips, or why there are none."""
        for chip in chips:
            file = None if problem else self.out / name / f"{chip.x}_{chip.y}.json"
            saved = Saved(NOW, "", file, update_requested=requested, problem=problem)
            self.ledger.write(
                lambda ledger, chip=chip, saved=saved: note_saved(ledger, self.ground(name), self.out, chip, saved)
            )

    def finish(self, name: str) -> None:
        """Note that a tile's corner is home and saved."""
        self.save(name, self.note(name, [State.COMPLETE] * 4))


def corner(tile: Tile) -> list[Chip]:
    return [tile.chip(row, column) for row in range(2) for column in range(2)]
