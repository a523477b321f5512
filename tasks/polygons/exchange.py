"""One HTTP exchange with a service and the hosts that it names: capped, limited in time, sent once.

The password goes to the service's own address alone, no redirect is followed, and connections are opened only to
what the policy of `tasks/urls.py` lets through.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio
import httpx
from pydantic import SecretStr

from tasks.errors import UnreadableStatus
from tasks.polygons import wps
from tasks.polygons.streams import QuickNetwork
from tasks.settings import Settings
from tasks.urls import PolicedNetwork, Policy

_ENVOY_SENT_IT_ON = b"reset before headers"
"""Envoy's 503 when the service broke off after it had the request: the one 503 that is no refusal."""


@dataclass(frozen=True)
class WpsRules:
    """How one WPS is spoken with.

    Attributes:
        mode: `async` follows a job by its status document; `sync` gets the result as the answer to the request.
        timeout_s: limit of an answer to begin, and of the rest of it to come; also of waiting for a connection.
        connect_timeout_s: limit of connecting.
        sync_timeout_s: takes the place of `timeout_s` for the answer to a synchronous request.
        max_connections: at once, all calls together.
        max_body_bytes: a larger answer is not read; 64 MiB, since status documents may hold results.
        allowed_hosts: may be named for status documents, beside the service's own; `host` or `host:port`.
        username, password: sent to the service itself and to no other host.
    """

    mode: wps.Mode = "async"
    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    sync_timeout_s: float = 3600.0
    max_connections: int = 16
    max_body_bytes: int = 64 * 2**20
    allowed_hosts: tuple[str, ...] = ()
    username: str | None = None
    password: SecretStr | None = None


def rules_of(
    settings: Settings, *, allowed_hosts: Sequence[str] = (), mode: wps.Mode = "async", max_connections: int = 16
) -> WpsRules:
    """Return the rules that a user's settings make.

    Args:
        settings: with the limits, the user and the hosts that the user allows.
        allowed_hosts: those that the profile of the process allows.
        mode: asynchronous or not.
        max_connections: at once.
    """
    return WpsRules(
        mode=mode,
        timeout_s=settings.wps_timeout_s,
        connect_timeout_s=settings.wps_connect_timeout_s,
        max_connections=max_connections,
        max_body_bytes=settings.wps_max_body_bytes,
        allowed_hosts=(*settings.wps_allowed_hosts, *allowed_hosts),
        username=settings.wps_username,
        password=settings.wps_password,
    )


@dataclass(frozen=True)
class Answer:
    """A whole answer; `described` is its status, where it leads and its content type, for people."""

    http_status: int
    headers: httpx.Headers
    body: bytes
    described: str

    @property
    def is_redirect(self) -> bool:
        """Tell whether it only names another address."""
        return self.http_status in (301, 302, 303, 307, 308) and "location" in self.headers

    @property
    def asks_for_less(self) -> bool:
        """Tell whether the service, or a proxy before it, had too much to do to take the request."""
        return self.http_status in wps.THROTTLING and _ENVOY_SENT_IT_ON not in self.body[:1000]

    @property
    def retry_after_s(self) -> float | None:
        """How long the service asks to wait: it says seconds, or a date by its own clock."""
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d{1,9}", text):
            return float(text)
        until, now = _moment(text), _moment(self.headers.get("date", "")) or datetime.now(UTC)
        return max(0.0, (until - now).total_seconds()) if until else None


class Exchange:
    """One pooled HTTP client for one service."""

    def __init__(self, rules: WpsRules, policy: Policy) -> None:
        self._rules = rules
        self._policy = policy
        self._auth = (
            httpx.BasicAuth(rules.username, rules.password.get_secret_value())
            if rules.username and rules.password
            else None
        )
        self._client = _client(rules, policy)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(
        self, method: str, url: httpx.URL | str, content: bytes | None = None, answer_limit_s: float | None = None
    ) -> Answer:
        """Send one request to an address that the policy has let through, and return the whole answer.

        Args:
            method: GET or POST.
            url: where to.
            content: an XML document.
            answer_limit_s: takes the place of the rules' `timeout_s` for the answer to begin.

        Raises:
            httpx.HTTPError: no answer began.
            TimeoutError: it did not end in time.
            UnreadableStatus: it is cut short or too large.
            LocationRefused: the address leads where it must not.
        """
        request = self._client.build_request(
            method,
            url,
            content=content,
            headers={"Content-Type": "text/xml; charset=UTF-8"} if content is not None else None,
            timeout=_limits(self._rules, answer_limit_s or self._rules.timeout_s),
        )
        auth = self._auth if self._policy.is_own_origin(request.url) else None
        response = await self._client.send(request, auth=auth, stream=True)
        try:
            body = await self._body(response)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, body, _described(response))

    async def _body(self, response: httpx.Response) -> bytes:
        limit = self._rules.max_body_bytes
        body = bytearray()
        try:
            with anyio.fail_after(self._rules.timeout_s):
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > limit:
                        raise UnreadableStatus(
                            f"the answer is larger than {limit} bytes and is not read; "
                            "OVERLANDER_WPS_MAX_BODY_BYTES is the limit"
                        )
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as error:
            raise UnreadableStatus(f"the answer is cut short ({words(error)})") from error
        return bytes(body)


def shown(url: httpx.URL) -> str:
    """Return an address without its query, which may hold a signature."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def words(error: BaseException) -> str:
    """Return what an error says, for people."""
    if isinstance(error, UnreadableStatus):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": .")


def _client(rules: WpsRules, policy: Policy) -> httpx.AsyncClient:
    client = httpx.AsyncClient(
        timeout=_limits(rules, rules.timeout_s),
        limits=httpx.Limits(
            max_connections=rules.max_connections,
            max_keepalive_connections=rules.max_connections,
            # Servers close idle connections after 2 s (gunicorn) or more. A request that meets such a close would
            # be uncertain, so none is sent on a connection that has been idle for that long.
            keepalive_expiry=1.0,
        ),
        headers={"Accept": "text/xml, application/xml", "Accept-Encoding": "gzip"},
        follow_redirects=False,
    )
    # httpx has no parameter for it. Behind a proxy of the environment it is the proxy that connects, and decides.
    client._transport._pool._network_backend = QuickNetwork(PolicedNetwork(policy))  # type: ignore[attr-defined]
    return client


def _limits(rules: WpsRules, timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(
        connect=rules.connect_timeout_s, read=timeout_s, write=rules.timeout_s, pool=rules.timeout_s
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _described(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    to = ""
    if response.is_redirect and "location" in response.headers:
        to = f" to {response.headers['location'].partition('?')[0]}"
    return f"{response.status_code} {response.reason_phrase}{to} ({kind})"
