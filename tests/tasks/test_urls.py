"""Where a service may send us: its own host, hosts a person allowed, and no network it has no part in."""

import asyncio
from collections.abc import Awaitable, Callable

import httpcore
import httpx
import pytest

from tasks.errors import BadInput, LocationRefused
from tasks.urls import Place, PolicedNetwork, Policy, checked, place, resolve

SERVICE = "https://wps.example.org/wps"
PUBLIC = "93.184.215.14"


def names(**known: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that knows these hosts; dots are written as underscores."""

    async def look_up(host: str, port: int) -> list[str]:
        return known[host.replace(".", "_")]

    return look_up


def addresses(policy: Policy, host: str) -> list[str]:
    return asyncio.run(policy.addresses(host, 443))


@pytest.mark.parametrize("location", [SERVICE, "http://WPS.example.org.:8080/outputs/a.xml?x=1"])
def test_the_services_own_host_is_allowed_on_any_port(location: str) -> None:
    assert Policy(SERVICE).check(location) == httpx.URL(location)


@pytest.mark.parametrize(
    ("allowed", "location"),
    [
        ("s3.example.org", "https://s3.example.org/bucket/a.xml"),
        (" S3.example.org ", "http://s3.example.org:9000/a.xml"),
        ("s3.example.org:9000", "http://s3.example.org:9000/a.xml"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/a.xml"),
        ("2001:db8::1", "http://[2001:db8::1]/a.xml"),
    ],
)
def test_a_host_that_a_person_allowed_is_allowed(allowed: str, location: str) -> None:
    assert Policy(SERVICE, (allowed,)).check(location) == httpx.URL(location)


@pytest.mark.parametrize(
    "location",
    [
        "https://example.org/a.xml",
        "https://wps.example.org.evil.test/a.xml",
        "https://evil.test/wps.example.org",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/a.xml",
        "http://s3.example.org:22/a.xml",
    ],
)
def test_any_other_host_is_refused_with_the_setting_that_would_allow_it(location: str) -> None:
    with pytest.raises(LocationRefused, match="OVERLANDER_WPS_ALLOWED_HOSTS") as refused:
        Policy(SERVICE, ("s3.example.org:9000",)).check(location)
    assert str(httpx.URL(location).host) in str(refused.value)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://wps.example.org/a.xml",
        "/outputs/a.xml",
        "",
        "http://",
        "http://wps.example.org:port/",
        "https://operator:hunter2@wps.example.org/a.xml",
    ],
)
def test_what_is_no_plain_http_address_is_refused_and_a_password_in_it_not_repeated(location: str) -> None:
    with pytest.raises(LocationRefused) as refused:
        Policy(SERVICE).check(location)
    assert "hunter2" not in str(refused.value)


def test_a_relative_address_leads_to_where_it_was_named() -> None:
    policy = Policy(SERVICE)
    assert policy.check("b.xml", httpx.URL("https://wps.example.org/out/a.xml")).path == "/out/b.xml"
    with pytest.raises(LocationRefused):
        policy.check("//evil.test/b.xml", httpx.URL("https://wps.example.org/out/a.xml"))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (PUBLIC, "public"),
        ("2606:2800:220:1::1", "public"),
        ("127.0.0.2", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),  # noqa: S104 - nothing listens
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("2002:0a00:0001::1", "private"),
        ("224.0.0.1", "private"),
        ("255.255.255.255", "private"),
    ],
)
def test_addresses_are_told_apart_by_the_network_they_are_on(address: str, kind: Place) -> None:
    assert place(address) == kind


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "::ffff:10.0.0.5"])
def test_an_allowed_host_that_leads_inside_is_refused_when_the_service_is_outside(inner: str) -> None:
    policy = Policy(SERVICE, ("s3.test",), resolve=names(s3_test=[PUBLIC, inner], wps_example_org=[PUBLIC]))
    with pytest.raises(LocationRefused, match="where the service itself is not") as refused:
        addresses(policy, "s3.test")
    assert inner in str(refused.value)


def test_an_allowed_host_on_the_services_own_kind_of_network_is_connected_to() -> None:
    inside = names(s3_test=["10.0.0.5", PUBLIC], wps_example_org=["10.0.0.4"])
    assert addresses(Policy(SERVICE, ("s3.test",), resolve=inside), "s3.test") == ["10.0.0.5", PUBLIC]


def test_a_service_inside_does_not_open_the_way_to_a_clouds_metadata() -> None:
    inside = names(s3_test=["169.254.169.254"], wps_example_org=["10.0.0.4", "127.0.0.1"])
    with pytest.raises(LocationRefused, match="link-local"):
        addresses(Policy(SERVICE, ("s3.test",), resolve=inside), "s3.test")


def test_the_service_is_where_the_user_says_it_is() -> None:
    policy = Policy(SERVICE, resolve=names(wps_example_org=["169.254.1.1"]))
    assert addresses(policy, "wps.example.org") == ["169.254.1.1"]


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://wps.example.org/outputs/a.xml", True),
        ("https://wps.example.org:443/a.xml", True),
        ("http://wps.example.org/a.xml", False),
        ("https://wps.example.org:8443/a.xml", False),
        ("https://s3.example.org/a.xml", False),
    ],
)
def test_a_password_goes_to_the_services_scheme_host_and_port_alone(url: str, own: bool) -> None:
    assert Policy(SERVICE).is_own_origin(httpx.URL(url)) is own


def test_connections_go_to_the_address_that_was_checked_and_the_next_when_it_is_silent() -> None:
    async def connect() -> tuple[str, int]:
        async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            policy = Policy("http://wps.test", resolve=names(wps_test=["127.0.0.1", "127.0.0.2"]))
            stream = await PolicedNetwork(policy).connect_tcp("wps.test", port, timeout=5)
            found: tuple[str, int] = stream.get_extra_info("server_addr")
            await stream.aclose()
            return (found[0], found[1] - port)

    assert asyncio.run(connect()) == ("127.0.0.2", 0)


def test_a_name_that_nobody_knows_is_no_connection() -> None:
    async def nobody(host: str, port: int) -> list[str]:
        message = "Name or service not known"
        raise OSError(message)

    with pytest.raises(httpcore.ConnectError, match=r"wps\.test could not be resolved"):
        asyncio.run(
            PolicedNetwork(Policy("http://wps.test", resolve=nobody)).connect_tcp("wps.test", 80, timeout=5)
        )


def test_a_name_server_that_is_silent_is_not_waited_for_longer_than_the_limit() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    network = PolicedNetwork(Policy("http://wps.test", resolve=silent))
    with pytest.raises(httpcore.ConnectTimeout):
        asyncio.run(network.connect_tcp("wps.test", 80, timeout=0.05))


def test_this_machines_own_name_is_resolved() -> None:
    assert {place(address) for address in asyncio.run(resolve("localhost", 80))} == {"loopback"}


@pytest.mark.parametrize("url", ["http://user:secret@localhost/x", "http://localhost/x?key=secret"])
def test_a_services_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match="password or a query") as refused:
        checked(url, "OVERLANDER_WPS_URL")
    assert "secret" not in str(refused.value)
    assert "OVERLANDER_WPS_URL" in str(refused.value)
