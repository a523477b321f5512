"""Where a request may go: the address a user sets, and the addresses that a service then names.

A service that names an address makes us connect to it, from inside our network. So an address that it names
must be on its own host or on one that a person allowed, and must not lead to a machine, a network or a cloud's
metadata that the service itself has no part in. What is checked is what is connected to: names are resolved here.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import anyio
import httpcore
import httpx

from tasks.errors import BadInput, LocationRefused

MOST_REDIRECTS = 5
Place = Literal["public", "private", "loopback", "link-local"]
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From a host and a port to IP addresses, best first; raises OSError."""


def checked(url: str, setting: str) -> str:
    """Return the base URL of a service as the user wrote it.

    Args:
        url: with its path prefix, if the service has one.
        setting: what the user set it by, for the error.

    Raises:
        BadInput: it is no URL, or holds a password or a query, which errors and the ledger would show.
    """
    how = f"Write {setting} as http://host/prefix."
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"The service's URL is no URL: {error}. {how}") from None
    if parsed.userinfo or parsed.query:
        raise BadInput(f"The service's URL holds a password or a query, which would be shown with errors. {how}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadInput(f"{url!r} is no URL of a service. {how}")
    return url


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, best first."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def place(address: str) -> Place:
    """Return what kind of network an IP address is on; an IPv4 address inside an IPv6 one counts as itself."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    if parsed.is_loopback or parsed.is_unspecified:
        return "loopback"
    if parsed.is_link_local:
        return "link-local"
    return "public" if parsed.is_global and not parsed.is_multicast else "private"


@dataclass(frozen=True)
class Policy:
    """Where one service may send us.

    Attributes:
        service_url: its own host is always allowed, on any port: output folders often have a port of their own.
        allowed: more hosts, as `host` or `host:port`.
        setting: what would allow another host, for the error.
        resolve: from a name to addresses.
    """

    service_url: str
    allowed: tuple[str, ...] = ()
    setting: str = "OVERLANDER_WPS_ALLOWED_HOSTS"
    resolve: Resolve = resolve

    def check(self, location: str, base: httpx.URL | None = None) -> httpx.URL:
        """Return an address that the service named, if its host is allowed; nothing is sent or resolved.

        Args:
            location: the address.
            base: what it is relative to, if it may be relative.

        Raises:
            LocationRefused: it is not.
        """
        try:
            url = base.join(location) if base else httpx.URL(location)
        except httpx.InvalidURL as error:
            raise LocationRefused(
                f"The service at {self.service_url} names an address that is no URL ({error}): it is not asked. "
                "Tell the service's operators."
            ) from None
        host = _host(url)
        if url.scheme not in ("http", "https") or not host or url.userinfo:
            raise LocationRefused(
                f"The service at {self.service_url} names an address on {host or 'no host'} that is not plain "
                "http or https, or holds a password: it is not asked. Tell the service's operators."
            )
        if not self._named(host, _port(url)):
            raise LocationRefused(
                f"The service at {self.service_url} names an address on {host}, which is not its own host: it is "
                f"not asked. If that is right, add {host} to {self.setting} and run again."
            )
        return url

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the IP addresses that may be connected to for a host.

        The service's own are not judged. Another's must be public, or on the kind of network the service is on.

        Raises:
            LocationRefused: one of them leads where the service has no part.
            OSError: the name cannot be resolved.
        """
        found = await self.resolve(host, port)
        own = httpx.URL(self.service_url)
        if _plain(host) == _host(own):
            return found
        places: set[Place] = {"public"}
        places.update(place(address) for address in await self.resolve(_host(own), _port(own)))
        for address in found:
            if place(address) not in places:
                raise LocationRefused(
                    f"The service at {self.service_url} names an address on {host}, which leads to {address}, a "
                    f"{place(address)} address, where the service itself is not: it is not asked, and "
                    f"{self.setting} does not change that. Tell the service's operators."
                )
        return found

    def is_own_origin(self, url: httpx.URL) -> bool:
        """Tell whether an address has the service's scheme, host and port, so that a password may be sent."""
        own = httpx.URL(self.service_url)
        return (url.scheme, _host(url), _port(url)) == (own.scheme, _host(own), _port(own))

    def _named(self, host: str, port: int) -> bool:
        allowed = {_host(httpx.URL(self.service_url)), *(_plain(one) for one in self.allowed)}
        shown = f"[{host}]" if ":" in host else host
        return bool(allowed & {host, shown, f"{shown}:{port}"})


class PolicedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to the addresses that a policy gives for a host, and to no others.

    It sits below the connection pool, so a name that resolves otherwise a moment later changes nothing, and
    TLS still asks for a certificate of the name.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers."""
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        try:
            with anyio.fail_after(timeout):
                addresses = await self._policy.addresses(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} could not be resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} could not be resolved: {error}") from error
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def sleep(self, seconds: float) -> None:
        """Wait, as the pool's own retries would; none are used."""
        await anyio.sleep(seconds)


def _host(url: httpx.URL) -> str:
    return _plain(url.host)


def _plain(host: str) -> str:
    return host.strip().rstrip(".").lower()


def _port(url: httpx.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
