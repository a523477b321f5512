"""A polygon campaign for tests: made-up features, orders as the real process takes them, a fake service."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
from sqlalchemy import Row, select

from tasks.ledger.claims import Claimed, run_on
from tasks.ledger.polygons import Loader, Series, use_campaign, use_series
from tasks.ledger.schema import features, outputs, units
from tasks.ledger.store import Ledger
from tasks.polygons.dispatch import Dispatcher
from tasks.polygons.jobs import InputValue, JobStatus, Order, Output, Remote
from tasks.polygons.rules import Rules
from tests.wps_desk import inputs, square

CAMPAIGN = "wetlands"
YEAR = "2010-01-01/2011-01-01"
URL = "http://wps.example.org/wps"
QUICK = Rules(poll_s=0.02, poll_longest_s=0.1, recheck_s=0.05, stop_s=2)
LIMIT_S = 60.0


@dataclass(frozen=True)
class Feature:
    """A feature as the reader of a source gives it."""

    number: int
    id: str
    fingerprint: str
    geometry: str | None
    problem: str = ""
    note: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


def feature(number: int, shape: int | None = None, **columns: Any) -> Feature:
    """Return a square, by default another for each number."""
    text = json.dumps(square(number if shape is None else shape))
    print_of = hashlib.sha256(text.encode()).hexdigest()
    return Feature(**{"number": number, "id": f"p{number}", "fingerprint": print_of, "geometry": text} | columns)


def load(
    ledger: Ledger,
    found: Sequence[Feature],
    *,
    url: str = URL,
    intervals: Sequence[str] = (YEAR,),
    identity: str = "OBJECTID",
    accept_changes: bool = False,
) -> tuple[list[Series], list[int]]:
    """Load features into the campaign; return its series and units."""
    ledger.write(lambda connection: use_campaign(connection, CAMPAIGN, "wetlands.zip", identity))
    of_series = ledger.write(lambda connection: use_series(connection, CAMPAIGN, url, "wit", "v1", intervals))
    loader = Loader(ledger, CAMPAIGN, identity, of_series, accept_changes=accept_changes)
    return of_series, [unit for lot in loader.load(found) for unit in lot.units]


def order_of(claimed: Claimed) -> Order:
    """Return the request for a unit."""
    start, end = claimed.interval.split("/")
    given = inputs(json.loads(claimed.geometry), (start, end))
    return Order("WIT", tuple(InputValue(name, text) for name, text in given.items()))


@contextmanager
def dispatching(
    ledger: Ledger,
    of_series: Sequence[Series],
    service: Any,
    folder: Path,
    rules: Rules = QUICK,
    order: Callable[[Claimed], Order] = order_of,
) -> Iterator[Dispatcher]:
    """Be a run on the campaign."""
    numbers = [one.number for one in of_series]
    with (
        run_on(ledger, CAMPAIGN, "a test") as lease,
        Dispatcher(ledger, lease, numbers, service, order, rules, folder / "outputs") as dispatcher,
    ):
        yield dispatcher


Step = JobStatus | Exception


@dataclass
class FakeService:
    """A service in memory: what it says of each polygon is scripted, and what it received is kept.

    `script[id]` is what the requests for a polygon are answered, in turn, and `says[location]` what looks at a
    job are; the last one holds. By default a job is accepted and has ended at the first look. Requests for
    polygons that are `silent` are never answered, and the others' after `takes_s`.
    """

    url: str = URL
    script: dict[str, list[Step]] = field(default_factory=dict)
    says: dict[str, list[Step]] = field(default_factory=dict)
    always: Step | None = None
    silent: set[str] = field(default_factory=set)
    takes_s: float = 0.0
    received: list[str] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cancelled: list[str] = field(default_factory=list)
    outstanding: set[str] = field(default_factory=set)
    most_outstanding: int = 0
    on_their_way: int = 0
    most_on_their_way: int = 0

    async def check(self, orders: Sequence[Order]) -> None:
        """Find nothing wrong."""

    async def submit(self, order: Order) -> JobStatus:
        """Answer as scripted; `order.process` names the polygon, see `by_id`."""
        self.received.append(order.process)
        if order.process in self.silent:
            await anyio.sleep_forever()
        self.on_their_way += 1
        self.most_on_their_way = max(self.most_on_their_way, self.on_their_way)
        await anyio.sleep(self.takes_s)
        self.on_their_way -= 1
        number = self.received.count(order.process)
        location = f"{self.url}/{order.process}/{number}"
        answer = _next(self.script.get(order.process), self.always or accepted(location))
        if isinstance(answer, Exception):
            raise answer
        self.outstanding.add(location)
        self.most_outstanding = max(self.most_outstanding, len(self.outstanding))
        return answer

    async def status(self, status_location: str) -> JobStatus:
        """Say of a job what is scripted."""
        self.looks[status_location] += 1
        answer = _next(self.says.get(status_location), succeeded(status_location))
        if isinstance(answer, Exception):
            raise answer
        self.outstanding.discard(status_location)
        return answer

    async def results(self, status: JobStatus) -> tuple[Output, ...]:
        """Return what came with the status."""
        return status.outputs

    async def cancel(self, status_location: str) -> bool:
        """Dismiss a job."""
        self.cancelled.append(status_location)
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Have nothing to close."""


def by_id(claimed: Claimed) -> Order:
    """Return an order whose process is the polygon's id, for `FakeService`."""
    return Order(claimed.id, ())


def accepted(location: str | None) -> JobStatus:
    return JobStatus(Remote.ACCEPTED, location, message="Accepted.")


def running(percent: int | None = None) -> JobStatus:
    return JobStatus(Remote.RUNNING, percent=percent)


def succeeded(name: str = "x") -> JobStatus:
    output = Output("url", "literal", f"s3://bucket/{name.rpartition('/wps/')[2]}.parquet")
    return JobStatus(Remote.SUCCESSFUL, outputs=(output,))


def failed(text: str = "Process failed.") -> JobStatus:
    return JobStatus(Remote.FAILED, message=text, error_code="NoApplicableCode")


def rows(ledger: Ledger) -> dict[str, Row[Any]]:
    """Return the campaign's units as the ledger has them, by their feature's id."""
    query = select(units, features.c.id).join(features, features.c.feature == units.c.feature)
    with ledger.read() as connection:
        return {row.id: row for row in connection.execute(query.where(features.c.current))}


def outputs_of(ledger: Ledger, unit: int) -> list[Row[Any]]:
    """Return a unit's outputs."""
    with ledger.read() as connection:
        query = select(outputs).where(outputs.c.unit == unit).order_by(outputs.c.number)
        return list(connection.execute(query))


def _next(script: list[Step] | None, otherwise: Step) -> Step:
    if not script:
        return otherwise
    return script.pop(0) if len(script) > 1 else script[0]
