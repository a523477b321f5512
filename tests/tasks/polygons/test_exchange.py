"""Where a WPS may send us, what goes there, and how much of an answer is taken.

Two scripted peers are two hosts: the service, and the one that its status documents lie on.
"""

import asyncio
import base64
import logging
from dataclasses import replace

import pytest
from pydantic import SecretStr

from tasks.errors import CredentialsRefused, LocationRefused
from tasks.polygons.exchange import rules_of
from tasks.polygons.service import WpsService
from tasks.settings import Settings
from tests.tasks.polygons.calls import ACCEPTED, HTML, PASSWORD, RULES, STARTED, polled, submitted
from tests.tasks.polygons.peer import Line, Peer


def test_a_status_location_on_another_host_is_refused_until_it_is_allowed(peer: Peer, elsewhere: Peer) -> None:
    location = f"{elsewhere.origin}/bucket/1.xml"
    with pytest.raises(LocationRefused, match=r"127\.0\.0\.2 to OVERLANDER_WPS_ALLOWED_HOSTS"):
        polled(peer, location=location)
    assert elsewhere.asked == []
    elsewhere.says(STARTED)
    assert polled(peer, location=location, rules=replace(RULES, allowed_hosts=("127.0.0.2",))).percent == 5


def test_redirects_are_followed_to_allowed_hosts_only(peer: Peer, elsewhere: Peer) -> None:
    hop = Line(302, headers={"Location": "/outputs/2.xml"})
    assert polled(peer, hop, STARTED).percent == 5
    assert peer.asked[1].path == "/outputs/2.xml"
    for refused in (f"{elsewhere.origin}/1.xml", "file:///etc/passwd", "http://169.254.169.254/latest"):
        with pytest.raises(LocationRefused):
            polled(peer, Line(307, headers={"Location": refused}))
    assert elsewhere.asked == []


def test_five_redirects_are_followed_and_six_are_not(peer: Peer) -> None:
    hop = Line(301, headers={"Location": "/again.xml"})
    assert polled(peer, *[hop] * 5, STARTED).percent == 5
    with pytest.raises(LocationRefused, match="more than 5"):
        polled(peer, *[hop] * 6)


def test_an_allowed_name_that_leads_to_a_network_the_service_is_not_on_is_not_connected_to(peer: Peer) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return {"inner.test": ["10.0.0.5"], "127.0.0.1": ["127.0.0.1"]}[host]

    async def poll() -> None:
        async with WpsService(peer.url, replace(RULES, allowed_hosts=("inner.test",)), resolve) as service:
            await service.status("http://inner.test/1.xml")

    with pytest.raises(LocationRefused, match=r"10\.0\.0\.5, a private address"):
        asyncio.run(poll())


def test_a_password_goes_to_the_service_and_to_no_other_host(
    peer: Peer, elsewhere: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rules = replace(RULES, username="operator", password=SecretStr(PASSWORD), allowed_hosts=("127.0.0.2",))
    peer.says(Line(200, ACCEPTED))
    submitted(peer, rules=rules)
    elsewhere.says(STARTED)
    polled(peer, Line(302, headers={"Location": f"{elsewhere.origin}/1.xml"}), rules=rules)
    sent = f"Basic {base64.b64encode(f'operator:{PASSWORD}'.encode()).decode()}"
    assert [asked.headers.get("authorization") for asked in peer.asked] == [sent, sent]
    assert "authorization" not in elsewhere.asked[0].headers
    with pytest.raises(CredentialsRefused, match="OVERLANDER_WPS_PASSWORD") as refused:
        submitted(peer, Line(401, HTML, "text/html"), rules=rules)
    for text in (str(refused.value), repr(rules), caplog.text):
        assert PASSWORD not in text
        assert sent not in text


def test_the_hosts_of_the_user_and_of_the_process_are_both_allowed() -> None:
    rules = rules_of(Settings(wps_allowed_hosts=["a.test"], wps_timeout_s=5), allowed_hosts=["b.test"])
    assert (rules.allowed_hosts, rules.timeout_s, rules.max_body_bytes) == (("a.test", "b.test"), 5, 64 * 2**20)
