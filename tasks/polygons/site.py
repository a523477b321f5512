"""A polygon campaign at work: its service, its ledger, and the dispatcher that all batches feed."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import orjson

from tasks.ledger.claims import Claimed, run_on
from tasks.ledger.leases import Lease
from tasks.ledger.polygons import Series, use_campaign, use_series
from tasks.ledger.store import Ledger
from tasks.polygons import exchange
from tasks.polygons.campaign import PolygonCampaign
from tasks.polygons.dispatch import Dispatcher
from tasks.polygons.identity import Identity, identify
from tasks.polygons.intervals import Interval
from tasks.polygons.jobs import Order
from tasks.polygons.process import Process
from tasks.polygons.service import WpsService
from tasks.settings import Settings, load_settings


def service_of(campaign: PolygonCampaign, settings: Settings) -> WpsService:
    """Return the campaign's service; nothing is sent yet."""
    rules = exchange.rules_of(
        settings,
        allowed_hosts=sorted(campaign.process.allowed_hosts),
        mode="sync" if campaign.sync else "async",
        max_connections=campaign.rules.connections,
    )
    return WpsService(campaign.url, rules)


class PolygonSite:
    """A polygon campaign at work: its ledger and lease, its series, and the dispatcher that all batches feed.

    Attributes:
        selected: the units of the polygons that the run means; others are followed and not sent.
        cancel_remote: whether `stop`, as at Ctrl-C in the command, asks the service to dismiss its jobs.
        units_at_start: how many the run found to be seen through, once it has looked.
    """

    def __init__(
        self,
        campaign: PolygonCampaign,
        ledger: Ledger,
        held: Lease,
        series: Sequence[Series],
        identity: Identity,
        dispatcher: Dispatcher,
        selected: set[int],
    ) -> None:
        self.campaign = campaign
        self.ledger = ledger
        self.lease = held
        self.series = tuple(series)
        self.identity = identity
        self.dispatcher = dispatcher
        self.selected = selected
        self.cancel_remote = False
        self.units_at_start = 0
        self.stopping = threading.Event()

    @property
    def series_numbers(self) -> list[int]:
        """The ledger's keys of what this run does with each polygon."""
        return [one.number for one in self.series]

    def stop(self) -> None:
        """Send nothing more and let what is on its way be answered; returns at once."""
        self.stopping.set()
        self.dispatcher.stop(cancel_remote=self.cancel_remote)

    def kill(self) -> None:
        """Nothing of it outlives the process."""


_open: list[PolygonSite] = []
_opening = threading.Lock()


@contextmanager
def polygon_site(campaign: PolygonCampaign, *, words: str) -> Iterator[PolygonSite]:
    """Open what a campaign works with; other runs may work on the same campaign meanwhile.

    The service is asked what it offers before anything else happens; nothing is sent to be executed.

    Args:
        campaign: what the run is about.
        words: what the run does, for whoever finds its units taken: "overlander polygons run wetlands.zip".

    Raises:
        BadInput: the source, the identity or the process is not as the campaign says.
        OverlanderError: the ledger or the service cannot be reached.
    """
    settings = load_settings()
    with ExitStack() as stack:
        identity = identify(campaign.source, campaign.selection, campaign.id_field)
        ledger = stack.enter_context(Ledger.open(settings.ledger_place))
        ledger.write(
            partial(
                use_campaign, name=campaign.name, source=str(campaign.source.path), identity=identity.field or ""
            )
        )
        series = ledger.write(
            partial(
                use_series,
                campaign=campaign.name,
                url=campaign.url,
                process=campaign.process.name,
                process_fingerprint=campaign.process.fingerprint,
                intervals=campaign.interval_texts,
            )
        )
        held = stack.enter_context(run_on(ledger, campaign.name, words))
        selected: set[int] = set()
        intervals = dict(zip(campaign.interval_texts, campaign.intervals, strict=False))
        dispatcher = stack.enter_context(
            Dispatcher(
                ledger,
                held,
                [one.number for one in series],
                service_of(campaign, settings),
                partial(order_of, campaign.process, intervals),
                campaign.rules,
                campaign.out / "outputs",
                may_send=selected.__contains__,
            )
        )
        dispatcher.check(campaign.orders())
        opened = PolygonSite(campaign, ledger, held, series, identity, dispatcher, selected)
        with _opening:
            _open.append(opened)
        try:
            yield opened
        finally:
            with _opening:
                _open.remove(opened)


def order_of(process: Process, intervals: dict[str, Interval], claimed: Claimed) -> Order:
    """Return the request for a unit."""
    properties = None if claimed.properties is None else orjson.loads(claimed.properties)
    return process.order(claimed.geometry, intervals.get(claimed.interval), properties)


def site_of(campaign: PolygonCampaign) -> PolygonSite:
    """Return the open site of a campaign: how a mapped task, which is given plain values, finds its resources."""
    with _opening:
        return next(site for site in _open if site.campaign == campaign)


def open_polygon_sites() -> list[PolygonSite]:
    """Return the sites that this process has open, for whoever watches or stops them."""
    with _opening:
        return list(_open)
