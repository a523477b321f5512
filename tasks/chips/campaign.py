"""A tile campaign: what a run is about, and the resources it works with."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from tasks.chips.chip_file import Exported, ExportOrder, FailedPixels, Flawed
from tasks.chips.grid import Chip, Tile, Window, chip_at, parse_window, region_named, tile_named
from tasks.chips.layout import DEFAULT_TEMPLATE, Layout, checked_layout
from tasks.chips.processes import ExportPool
from tasks.chips.results import ResultsTable
from tasks.chips.service import Requester
from tasks.errors import BadInput, OverlanderError
from tasks.ledger.keys import Ground
from tasks.ledger.leases import Lease, lease
from tasks.ledger.store import Ledger
from tasks.pacing import Pacer, PacerRule
from tasks.settings import Settings, load_settings

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SaveTogether = Callable[[Sequence[ExportOrder]], Sequence[Exported | OverlanderError]]
"""Saves some chips by other means than this run's processes, and returns what became of each, in order. It may
end before the last of them where going on would be in vain."""


@dataclass(frozen=True)
class Campaign:
    """What a run is about: plain values, checked, that travel to any process.

    Attributes:
        tile, window: whose chips.
        algorithm: as the service spells it; never normalised, since users write 2017.08.18 and 2017.8.18.
        name: what people call the campaign.
        layout: where files go.
        flawed: what becomes of chips with failed pixels: `apart`, `with-rest` or `skip`.
        failed_pixels: whether a failed pixel's text is kept or written as `null`.
        recount: look at every chip again, whatever the ledger remembers.
        started: when the run began, our clock; what was seen after it is not looked at twice.
    """

    tile: Tile
    window: Window
    algorithm: str
    name: str
    layout: Layout
    flawed: Flawed = "apart"
    failed_pixels: FailedPixels = "keep"
    recount: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def chips(self) -> list[Chip]:
        """The window's chips, row by row."""
        return [chip for row in self.window.rows(self.tile) for chip in row]


def tile_campaign_of(
    tile: str,
    *,
    region: str = "conus",
    window: str = ":,:",
    algorithm: str | None = None,
    name: str | None = None,
    out: Path | None = None,
    template: str = DEFAULT_TEMPLATE,
    flawed: Flawed = "apart",
    failed_pixels: FailedPixels = "keep",
    recount: bool = False,
    settings: Settings | None = None,
) -> Campaign:
    """Return the campaign that a person means, checked as far as that goes without any service.

    Raises:
        BadInput: unknown region or tile, bad window or template, no algorithm.
    """
    settings = settings or load_settings()
    where = region_named(region)
    asked = tile_named(tile, where)
    named = algorithm or settings.algorithm
    if not named:
        raise BadInput(
            "No algorithm is set. Name it with --algorithm or OVERLANDER_ALGORITHM, as the service spells it, "
            "for example lcmap-pyccd:2017.08.18."
        )
    return Campaign(
        tile=asked,
        window=parse_window(window),
        algorithm=named,
        name=name or f"{asked.name} {named}",
        layout=checked_layout(out or settings.out, template, asked, named),
        flawed=flawed,
        failed_pixels=failed_pixels,
        recount=recount,
    )


def chips_of(campaign: Campaign, corners: Iterable[tuple[int, int]]) -> list[Chip]:
    """Return the chips with these upper left corners.

    Raises:
        BadInput: a corner is no chip's, or lies outside the campaign's window.
    """
    inside = set(campaign.chips)
    found = [chip_at(x, y, campaign.tile.region) for x, y in corners]
    for chip in found:
        if chip not in inside:
            raise BadInput(
                f"Chip {chip.x},{chip.y} is not in window {campaign.window} of tile {campaign.tile.name}. Name "
                "chips of this tile only, or another window."
            )
    return found


@dataclass
class Progress:
    """How far a run is: counts of chips, for whoever watches."""

    chips: int
    surveyed: int = 0
    exported: int = 0
    kept: int = 0
    to_export: int = 0
    requested: int = 0
    settled: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Add to some of the counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Site:
    """A campaign at work: the table it reads, its ledger and lease, its pacer and its exporting processes.

    With `save_together` set, that saves chips and not the processes, some chips in one of the pacer's slots.
    """

    def __init__(
        self, campaign: Campaign, settings: Settings, table: ResultsTable, ledger: Ledger, held: Lease
    ) -> None:
        self.campaign = campaign
        self.settings = settings
        self.table = table
        self.ledger = ledger
        self.lease = held
        self.ground = ground_of(campaign, table)
        self.stall_after = timedelta(seconds=settings.stall_after_s)
        self.pacer = Pacer(PacerRule(ceiling=settings.cassandra.queries_in_flight))
        self.exporters = ExportPool(settings.cassandra, settings.export_processes)
        self.save_together: SaveTogether | None = None
        self._requester: Requester | None = None
        self._connecting = threading.Lock()
        self.progress = Progress(len(campaign.chips))
        self.stopping = threading.Event()

    @property
    def requester(self) -> Requester:
        """The change-results service, connected to and checked when first asked for."""
        with self._connecting:
            if self._requester is None:
                self._requester = Requester(self.settings, self.campaign.algorithm)
            return self._requester

    def stop(self) -> None:
        """Begin nothing new and come to an end."""
        self.stopping.set()

    def kill(self) -> None:
        """End at once what does not end by itself."""
        self.exporters.kill()

    def close(self) -> None:
        """End the exporting processes and the connection to the service."""
        self.exporters.close()
        if self._requester is not None:
            self._requester.close()

    def each(
        self, work: Callable[[Item], Outcome], items: Iterable[Item], threads: int
    ) -> Iterator[tuple[Item, Outcome | Exception]]:
        """Do one thing for each item in a few threads, and give each outcome or what it raised, in order.

        A run that is being stopped begins no further items.
        """

        def attempt(item: Item) -> tuple[Item, Outcome | Exception] | None:
            if self.stopping.is_set():
                return None
            try:
                return item, work(item)
            except Exception as error:  # noqa: BLE001 - handed on with its item
                return item, error

        with ThreadPoolExecutor(threads) as pool:
            for done in pool.map(attempt, items):
                if done is not None:
                    yield done


_open: dict[Campaign, Site] = {}
_opening = threading.Lock()


@contextmanager
def site(campaign: Campaign, *, words: str) -> Iterator[Site]:
    """Open what a campaign works with, and hold its tile's lease meanwhile.

    Args:
        campaign: what the run is about.
        words: what the run does, for whoever finds the tile held: "overlander tile run".

    Raises:
        LeaseHeld: another run is at work on the tile.
        OverlanderError: the table or the ledger cannot be opened.
    """
    settings = load_settings()
    with ExitStack() as stack:
        table = stack.enter_context(ResultsTable.open(settings.cassandra))
        ledger = stack.enter_context(Ledger.open(settings.ledger_place))
        held = stack.enter_context(lease(ledger, lease_name(ground_of(campaign, table)), words))
        opened = Site(campaign, settings, table, ledger, held)
        stack.callback(opened.close)
        with _opening:
            _open[campaign] = opened
        try:
            yield opened
        finally:
            with _opening:
                del _open[campaign]


def site_of(campaign: Campaign) -> Site:
    """Return the open site of a campaign: how a mapped task, which is given plain values, finds its resources."""
    return _open[campaign]


def open_sites() -> list[Site]:
    """Return the sites that this process has open, for whoever watches or stops them."""
    with _opening:
        return list(_open.values())


def ground_of(campaign: Campaign, table: ResultsTable) -> Ground:
    """Return under which key the ledger keeps a campaign's chips."""
    return Ground(table.source, campaign.algorithm, campaign.tile.region.name, campaign.tile.name)


def lease_name(ground: Ground) -> str:
    """Return the name of the lease that keeps two runs from one tile."""
    return f"tile {ground.source} {ground.algorithm} {ground.region} {ground.tile}"
