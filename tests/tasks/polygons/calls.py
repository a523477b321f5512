"""Calls at the scripted peer, one client each, and the answers that several tests script."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tasks.polygons.exchange import WpsRules
from tasks.polygons.jobs import InputValue, JobStatus, Order
from tasks.polygons.service import WpsService
from tests.tasks.polygons.peer import Line, Peer
from tests.tasks.polygons.test_wps import report, response

T = TypeVar("T")
Call = Callable[[WpsService], Coroutine[Any, Any, T]]
RULES = WpsRules(timeout_s=0.3, connect_timeout_s=2)
ORDER = Order("WIT", (InputValue("geometry", '{"type": "FeatureCollection"}'),))
ACCEPTED = response("<wps:ProcessAccepted>taken</wps:ProcessAccepted>", location="/outputs/1.xml")
STARTED = Line(200, response('<wps:ProcessStarted percentCompleted="5"/>', location=None))
HTML = b"<html><body>Oh no<br></body></html>"
BUSY = report('<ows:Exception exceptionCode="ServerBusy">Please try later.</ows:Exception>')
LOST = report('<ows:Exception exceptionCode="NoApplicableCode">database is locked</ows:Exception>')
PASSWORD = "hunter2-and-more"


def calling(peer: Peer, call: Call[T], rules: WpsRules = RULES, url: str | None = None) -> T:
    """Make one call at a new client."""

    async def made() -> T:
        async with WpsService(url or peer.url, rules) as service:
            return await call(service)

    return asyncio.run(made())


def submitted(peer: Peer, *lines: Line | str, rules: WpsRules = RULES) -> JobStatus:
    peer.says(*lines)
    return calling(peer, lambda service: service.submit(ORDER), rules)


def polled(peer: Peer, *lines: Line | str, location: str = "", rules: WpsRules = RULES) -> JobStatus:
    peer.says(*lines)
    return calling(peer, lambda service: service.status(location or f"{peer.origin}/outputs/1.xml"), rules)


def checked(peer: Peer, *lines: Line | str, order: Order = ORDER, rules: WpsRules = RULES) -> None:
    peer.says(*lines)
    calling(peer, lambda service: service.check([order, order]), rules)
