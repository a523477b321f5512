"""A WPS 1.0.0 at its border: one attempt a call, and what each answer or silence means.

An Execute request queues minutes of a cluster and cannot be called back. So after a timeout, a reset or a proxy's
error page nobody knows whether a job is at work: that is an UncertainError, never a retry.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

import anyio.to_thread
import httpx

from tasks.errors import (
    BadInput,
    CredentialsRefused,
    LocationRefused,
    OverlanderError,
    RefusedForNow,
    RequestRefused,
    ServiceAway,
    ServiceTimedOut,
    ThrottledError,
    TransientError,
    UncertainError,
    UnreadableStatus,
)
from tasks.polygons import wps
from tasks.polygons.exchange import Answer, Exchange, WpsRules, shown, words
from tasks.polygons.jobs import JobStatus, Order, Output
from tasks.polygons.offer import (
    Capabilities,
    Description,
    compare,
    compare_processes,
    read_capabilities,
    read_description,
)
from tasks.urls import MOST_REDIRECTS, Policy, Resolve, checked, resolve

_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NOT_ALLOWED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_PARSED_ASIDE_BYTES = 2**18
"""Larger answers are parsed in a thread, so that the others' answers need not wait."""


class WpsService:
    """One WPS over one pooled HTTP client; implements `ProcessService`. Use it as an async context manager.

    Example:
        ```python
        async with WpsService("https://wps.example.org/wps", WpsRules()) as service:
            await service.check([order])
            status = await service.submit(order)
        ```
    """

    def __init__(self, url: str, rules: WpsRules, resolve: Resolve = resolve) -> None:
        """Prepare a client; nothing is sent.

        Args:
            url: of the WPS; `service`, `request` and `version` after a question mark are dropped.
            rules: how it is spoken with.
            resolve: from names to addresses.

        Raises:
            BadInput: the URL is none, or holds a password or a query.
        """
        self.url = wps_address(url)
        self._rules = rules
        self._policy = Policy(self.url, rules.allowed_hosts, resolve=resolve)
        self._exchange = Exchange(rules, self._policy)
        self._capabilities: Capabilities | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def check(self, orders: Sequence[Order]) -> None:
        """Compare what would be sent with what the service describes; nothing is executed.

        Raises:
            BadInput: the process is unknown, an input is missing or not taken, it cannot be followed, or the URL
                is no WPS 1.0.0.
            CredentialsRefused: the service wants another user or password.
            ServiceAway, ServiceTimedOut: it does not answer.
        """
        offered = await self._offered()
        described: dict[str, Description] = {}
        for order in orders:
            compare_processes(order, offered, self.url)
            if order.process not in described:
                described[order.process] = await self._described(order.process)
            compare(order, described[order.process], self.url, stored=self._rules.mode == "async")

    async def processes(self) -> tuple[str, ...]:
        """Return the identifiers of the processes that it offers; raises as `check`."""
        return (await self._offered()).processes

    async def submit(self, order: Order) -> JobStatus:
        """Send one Execute request, once.

        Raises:
            UncertainError: it was sent and no readable answer came: the job may be at work.
            ServiceAway: no connection was made, so nothing was sent.
            ThrottledError, RefusedForNow: refused before acceptance, for now.
            RequestRefused, CredentialsRefused: refused for good before acceptance.
        """
        document = wps.execute_document(order, self._rules.mode)
        limit_s = self._rules.sync_timeout_s if self._rules.mode == "sync" else None
        try:
            answer = await self._exchange.send("POST", self.url, document, limit_s)
        except _NOTHING_SENT as error:
            raise ServiceAway(
                f"The WPS at {self.url} cannot be connected to: {words(error)}. Nothing was sent. Check that "
                "it is up, and OVERLANDER_WPS_URL."
            ) from error
        except (httpx.HTTPError, TimeoutError, UnreadableStatus) as error:
            raise self._uncertain(words(error)) from error
        try:
            said = await _read(answer.body)
        except UnreadableStatus as error:
            raise self._unanswered(answer, str(error)) from error
        if isinstance(said, JobStatus):
            return replace(said, status_location=self._absolute(said.status_location))
        if answer.http_status in _NOT_ALLOWED:
            raise self._forbidden(answer)
        raise wps.refusal(said, answer.http_status, self.url, answer.retry_after_s)

    async def status(self, status_location: str) -> JobStatus:
        """Read a status document once; the location it was asked by is kept, whatever it names.

        Raises:
            UnreadableStatus: an answer that is no verdict: empty, cut short, too large, not found, no XML.
            ServiceAway, ServiceTimedOut, ThrottledError: as ever.
            CredentialsRefused: the service itself wants another user or password.
            LocationRefused: the policy forbids the location, or where it leads on to.
        """
        url = self._policy.check(status_location)
        answer = await self._get(url)
        for _ in range(MOST_REDIRECTS):
            if not answer.is_redirect:
                break
            url = self._policy.check(answer.headers["location"], url)
            answer = await self._get(url)
        if answer.is_redirect:
            raise LocationRefused(
                f"A status document of the service at {self.url} leads on through more than {MOST_REDIRECTS} "
                "redirects: it is not followed. Tell the service's operators."
            )
        try:
            said = await _read(answer.body)
        except UnreadableStatus as error:
            raise self._no_verdict(url, answer, str(error)) from error
        if isinstance(said, JobStatus):
            return replace(said, status_location=status_location)
        meant = wps.refusal(said, answer.http_status, self.url, answer.retry_after_s)
        raise meant if isinstance(meant, ThrottledError) else self._no_verdict(url, answer, said.message)

    async def results(self, status: JobStatus) -> tuple[Output, ...]:
        """Return the outputs of a job that succeeded: they came with the status."""
        return status.outputs

    async def cancel(self, status_location: str) -> bool:
        """Ask the service to dismiss a job; false where it offers no way to, as WPS 1.0.0 does not.

        GeoServer adds a Dismiss to WPS 1.0.0, and names jobs by `executionId` in their status location.

        Raises:
            ServiceAway, ServiceTimedOut: it does not answer.
        """
        names = {key.lower(): value for key, value in parse_qsl(status_location.partition("?")[2])}
        execution = names.get("executionid")
        if execution is None or "Dismiss" not in (await self._offered()).operations:
            return False
        answer = await self._look_up({"request": "Dismiss", "version": "1.0.0", "executionId": execution})
        return answer.http_status == httpx.codes.OK and b"ExceptionReport" not in answer.body

    async def _offered(self) -> Capabilities:
        if self._capabilities is None:
            answer = await self._look_up({"request": "GetCapabilities", "acceptVersions": "1.0.0"})
            try:
                found = read_capabilities(answer.body)
            except UnreadableStatus as error:
                raise self._no_wps(answer, f"asked for its capabilities ({error})") from error
            if not found.version.startswith("1."):
                raise BadInput(
                    f"The service at {self.url} speaks WPS {found.version or 'of no version'} and not 1.0.0. "
                    "Check OVERLANDER_WPS_URL."
                )
            self._capabilities = found
        return self._capabilities

    async def _described(self, process: str) -> Description:
        answer = await self._look_up({"request": "DescribeProcess", "version": "1.0.0", "identifier": process})
        try:
            return read_description(answer.body, process)
        except UnreadableStatus as error:
            raise self._no_wps(answer, f"asked to describe {process} ({error})") from error

    async def _look_up(self, operation: dict[str, str]) -> Answer:
        url = httpx.URL(self.url, params={"service": "WPS", **operation})
        try:
            answer = await self._get(url)
        except UnreadableStatus as error:
            raise ServiceAway(str(error)) from error
        if answer.is_redirect:
            raise BadInput(
                f"The WPS at {self.url} answered {answer.described}. Set OVERLANDER_WPS_URL to where it leads, if "
                "that is the service."
            )
        if answer.http_status in wps.THROTTLING or answer.http_status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ServiceAway(
                f"The WPS at {self.url} is in trouble: it answered {answer.described}. Run again when it is well."
            )
        return answer

    async def _get(self, url: httpx.URL) -> Answer:
        """Send one GET request to an address that the policy allows; the password goes to the service alone."""
        try:
            answer = await self._exchange.send("GET", url)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise ServiceTimedOut(
                f"The service at {self.url} did not answer in time about {shown(url)}: {words(error)}. Check "
                "that it is up; OVERLANDER_WPS_TIMEOUT_S is the limit."
            ) from error
        except httpx.HTTPError as error:
            raise ServiceAway(
                f"{shown(url)} does not answer: {words(error)}. Check that it is up, and OVERLANDER_WPS_URL."
            ) from error
        except UnreadableStatus as error:
            raise UnreadableStatus(f"{shown(url)} gave no verdict: {error}.") from error
        if answer.http_status in _NOT_ALLOWED and self._policy.is_own_origin(url):
            raise self._forbidden(answer)
        return answer

    def _absolute(self, location: str | None) -> str | None:
        try:
            return location and str(httpx.URL(self.url).join(location))
        except httpx.InvalidURL:
            return location

    def _unanswered(self, answer: Answer, why: str) -> OverlanderError:
        """Return what an answer to Execute that is no WPS answer means: the HTTP status is all there is."""
        told = f"The WPS at {self.url} answered a request with {answer.described}"
        if answer.asks_for_less:
            return ThrottledError(f"{told}: it is busy. It is sent again later.", answer.retry_after_s)
        match answer.http_status:
            case 401 | 403:
                return self._forbidden(answer)
            case 404:
                return RefusedForNow(f"{told}: it is not there just now. Check OVERLANDER_WPS_URL.")
            case 413:
                return RequestRefused(
                    f"{told}: it is too large. Round its coordinates, simplify or split the polygon.",
                    "HTTP 413",
                    of_unit=True,
                )
            case 303 | 408:
                return self._uncertain(f"{answer.described}: {why}")
            case code if 300 <= code < 500:
                return RequestRefused(f"{told}: it is refused. Check OVERLANDER_WPS_URL.", f"HTTP {code}")
        return self._uncertain(f"{answer.described}: {why}")

    def _no_verdict(self, url: httpx.URL, answer: Answer, why: str) -> TransientError:
        if answer.asks_for_less:
            return ThrottledError(f"{shown(url)} answered {answer.described}.", answer.retry_after_s)
        return UnreadableStatus(f"{shown(url)} gave no verdict but {answer.described}: {why}.")

    def _no_wps(self, answer: Answer, asked: str) -> BadInput:
        return BadInput(
            f"{self.url} is no WPS 1.0.0, or not well: {asked}, it answered {answer.described}. Check "
            "OVERLANDER_WPS_URL."
        )

    def _forbidden(self, answer: Answer) -> CredentialsRefused:
        return CredentialsRefused(
            f"The WPS at {self.url} refuses {self._rules.username or 'a request without a user'}: it answered "
            f"{answer.described}. Check OVERLANDER_WPS_USERNAME and OVERLANDER_WPS_PASSWORD."
        )

    def _uncertain(self, why: str) -> UncertainError:
        return UncertainError(
            f"A request was sent to the WPS at {self.url} and no answer came that can be read ({why}): the job "
            "may be at work or not. It is not sent again until that is decided; see --on-uncertain."
        )


async def _read(body: bytes) -> JobStatus | wps.ExceptionReport:
    if len(body) > _PARSED_ASIDE_BYTES:
        return await anyio.to_thread.run_sync(wps.read_answer, body)
    return wps.read_answer(body)


def wps_address(url: str) -> str:
    """Return a WPS's address as its own URL: without an operation after a question mark.

    Raises:
        BadInput: the URL is none, or holds a password or a query.
    """
    return checked(_without_operation(url), "OVERLANDER_WPS_URL")


def _without_operation(url: str) -> str:
    """Return a URL without a query that only names an operation of a WPS, as people copy it."""
    base, _, query = url.partition("?")
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    return base if names <= {"service", "request", "version"} else url
