"""`overlander doctor` on the WPS: what it offers, and what to do about one that is not as it should be."""

import json
from collections.abc import Iterator

import pytest

from deployments import supervise
from deployments.sandbox import pywps
from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk
from tests.tasks.polygons.peer import Line, Peer, a_peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    with a_peer() as scripted:
        yield scripted


def found(desk: Desk, **variables: str | None) -> tuple[bool, str]:
    """Return whether the WPS is well, and what is said of it."""
    ran = desk.run("doctor", "--json", OVERLANDER_CASSANDRA_HOSTS="127.0.0.1", **variables)
    said = json.loads(ran.out)["wps"]
    assert ran.status == 0
    return said["ok"], said["says"]


def test_it_says_what_the_wps_offers_and_which_processes_can_be_sent(
    wps_desk: Desk, scripted_wps: ScriptedWps
) -> None:
    ok, says = found(wps_desk)

    assert ok
    assert f"{scripted_wps.url} answers as a WPS 1.0.0. It has WIT, " in says
    assert "wit, wofs-drill, fractional-cover-drill can be sent as they are" in says
    assert scripted_wps.received() == []


def test_a_running_sandboxs_wps_is_used_when_none_is_set(
    tmp_path_factory: pytest.TempPathFactory, wps_sandbox: pywps.Wps
) -> None:
    ok, says = found(Desk(tmp_path_factory.mktemp("desk")))

    assert (ok, wps_sandbox.url in says) == (True, True)


def test_one_that_is_away_or_no_wps_is_named_with_what_to_do(wps_desk: Desk, peer: Peer) -> None:
    peer.says(Line(200, b"<html><body>Welcome</body></html>", "text/html"))
    away = f"http://127.0.0.1:{supervise.free_port()}/wps"

    for url in (peer.url, away):
        ok, says = found(wps_desk, OVERLANDER_WPS_URL=url)

        assert not ok
        assert url in says
        assert "OVERLANDER_WPS_URL" in says


def test_one_whose_process_takes_other_inputs_is_not_well(wps_desk: Desk, peer: Peer) -> None:
    operations = "<Capabilities version='1.0.0'><ProcessOfferings><Process><Identifier>WIT</Identifier></Process>"
    described = "<ProcessDescription><Identifier>WIT</Identifier><DataInputs><Input minOccurs='1'><Identifier>area"
    peer.says(
        Line(200, f"{operations}</ProcessOfferings></Capabilities>".encode()),
        Line(
            200,
            f"<ProcessDescriptions>{described}</Identifier><ComplexData/></Input></DataInputs>"
            "</ProcessDescription></ProcessDescriptions>".encode(),
        ),
    )

    ok, says = found(wps_desk, OVERLANDER_WPS_URL=peer.url)

    assert not ok
    assert "the input area is missing" in says
