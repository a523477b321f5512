"""`overlander tile` where it asks the service: what each flag sends, counted there, and what it says."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from flows.cli.run import with_consent
from tasks.chips.campaign import site, tile_campaign_of
from tasks.chips.grid import Chip
from tasks.consent import ConsentMissing
from tasks.ledger.chips import set_guard
from tests.flows.desk import Desk, Ran
from tests.service_desk import QUICK, Service, begin_anew

TILE = "H05V03"


@pytest.fixture(scope="module")
def service(change_results: str, shared_desk: Desk, prefect_api: str) -> Iterator[Service]:
    """The session's service, with an algorithm that one chip of the desk's ledger has come home with."""
    begin_anew(change_results)
    found = Service(change_results, "test:commands")
    found.enable()
    given = {**QUICK, "SERVICE_URL": found.url, "ALGORITHM": found.algorithm}
    with shared_desk.at_work(**{f"OVERLANDER_{name}": value for name, value in given.items()}):
        first = shared_desk.run("tile", "run", TILE, "--window", "30:31,0:1", "--json", **_set(found))
        assert (first.status, json.loads(first.out)["requested"]) == (0, 1), first.err
        yield found
    found.forget()


@pytest.fixture(autouse=True)
def no_troubles(service: Service) -> None:
    begin_anew(service.url)


def _set(service: Service) -> dict[str, str | None]:
    given = {**QUICK, "SERVICE_URL": service.url, "ALGORITHM": service.algorithm}
    return {f"OVERLANDER_{name}": value for name, value in given.items()}


def tile(
    desk: Desk, service: Service, command: str, window: str, *more: str, name: str = TILE, **changes: str
) -> Ran:
    return desk.run("tile", command, name, "--window", window, *more, **_set(service) | changes)


def chips_in(window: str) -> list[Chip]:
    return tile_campaign_of(TILE, window=window, algorithm="any").chips


def test_request_asks_for_what_is_missing_once_and_saves_nothing(shared_desk: Desk, service: Service) -> None:
    before = len(service.received())

    asked = tile(shared_desk, service, "request", "31:32,0:2", "--json")
    service.plan(paused=True)
    again = tile(shared_desk, service, "request", "31:32,0:2", "--json")

    assert (asked.status, json.loads(asked.out)["requested"]) == (3, 2)
    assert json.loads(again.out)["requested"] == 0
    assert len(service.received()) == before + 2
    assert json.loads(asked.out)["files"] == {}


def test_a_run_that_does_not_wait_leaves_at_once_and_a_later_one_saves(
    shared_desk: Desk, service: Service
) -> None:
    service.plan(paused=True)
    left = tile(shared_desk, service, "run", "32:33,0:1", "--no-wait", "--json")
    service.plan(paused=False)
    came = tile(shared_desk, service, "run", "32:33,0:1", "--json")

    counts = [[json.loads(ran.out)[name] for name in ("requested", "exported")] for ran in (left, came)]
    assert counts == [[1, 0], [0, 1]]
    assert (left.status, came.status) == (3, 0)


def test_a_run_sends_no_more_than_max_requests(shared_desk: Desk, service: Service) -> None:
    before = len(service.received())

    ran = tile(shared_desk, service, "run", "33:34,0:3", "--max-requests", "2", "--json")

    assert (ran.status, json.loads(ran.out)["requested"], json.loads(ran.out)["exported"]) == (3, 2, 2)
    assert len(service.received()) == before + 2


def test_a_list_of_chips_is_all_that_is_asked_for(shared_desk: Desk, service: Service, tmp_path: Path) -> None:
    service.plan(paused=True)
    first, second = chips_in("34:35,0:2")
    listed = tmp_path / "chips.txt"
    listed.write_text(f"# the second\n{second.x} {second.y}\n")

    ran = tile(shared_desk, service, "request", "34:35,0:2", "--chips", str(listed), "--json")

    assert json.loads(ran.out)["requested"] == 1
    assert (len(service.received(first)), len(service.received(second))) == (0, 1)

    again = tile(shared_desk, service, "request", "34:35,0:2", "--chips", str(listed), "--again", "--json")

    assert json.loads(again.out)["requested"] == 1
    assert service.refreshes(second) == [False, True]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-1815584 2759805", "-1815584"),
        ("-1665585 2864805", "not in window"),
        ("no corner", "Line 1"),
        ("", "is empty"),
    ],
)
def test_a_list_that_names_no_chips_of_the_tile_is_refused_and_nothing_is_sent(
    line: str, words: str, shared_desk: Desk, service: Service, tmp_path: Path
) -> None:
    before = len(service.received())
    listed = tmp_path / "chips.txt"
    listed.write_text(line)

    ran = tile(shared_desk, service, "request", "35:36,0:50", "--chips", str(listed), "--json")

    assert (ran.status, ran.out, len(service.received())) == (2, "", before)
    assert words in " ".join(ran.err.split())


def test_more_than_a_hundred_requests_are_sent_to_nobody_who_has_not_agreed(
    shared_desk: Desk, service: Service
) -> None:
    service.plan(paused=True)
    before = len(service.received())

    refused = tile(shared_desk, service, "request", "36:39,0:34", "--json")

    assert (refused.status, refused.out, len(service.received())) == (2, "", before)
    words = " ".join(refused.err.split())
    assert "102 chips, 1,020,000 pixels" in words
    assert "--yes" in words

    # No consent is asked for what cannot be sent: another tile's chip takes the only place.
    assert tile(shared_desk, service, "request", "0:1,0:1", name="H05V04").status == 3
    held = tile(shared_desk, service, "run", "36:39,0:34", OVERLANDER_MAX_OUTSTANDING="1")

    assert (held.status, len(service.received())) == (3, before + 1)
    assert "102 chips to be requested must wait for room" in " ".join(held.err.split())


@pytest.mark.parametrize("agrees", [True, False])
def test_a_person_at_a_terminal_is_asked_and_nothing_is_sent_without_a_yes(
    agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[dict[str, Any]] = []

    def run(parameters: dict[str, Any]) -> dict[str, Any]:
        runs.append(parameters)
        if not parameters.get("yes"):
            raise ConsentMissing("This run would request 101 chips.")
        return {"requested": 101}

    terminal = mock.Mock(isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: agrees)
    if agrees:
        assert with_consent(run, {"tile": TILE}) == {"requested": 101}
        assert [given.get("yes", False) for given in runs] == [False, True]
    else:
        with pytest.raises(ConsentMissing):
            with_consent(run, {"tile": TILE})
        assert len(runs) == 1


def test_a_quarantined_chip_is_asked_for_again_after_its_release(shared_desk: Desk, service: Service) -> None:
    (chip,) = chips_in("40:41,0:1")
    service.plan({chip: [{"rows_lost": [17], "times": 2}]})
    stuck = tile(shared_desk, service, "run", "40:41,0:1", "--json")

    released = tile(shared_desk, service, "release", "40:41,0:1")
    again = tile(shared_desk, service, "release", "40:41,0:1")
    came = tile(shared_desk, service, "run", "40:41,0:1", "--json")

    assert (stuck.status, json.loads(stuck.out)["quarantined"]) == (4, 1)
    assert "1 quarantined chip released" in " ".join(released.err.split())
    assert "Nothing was quarantined" in " ".join(again.err.split())
    assert (came.status, json.loads(came.out)["exported"]) == (0, 1)
    assert service.refreshes(chip) == [False, True, True]


def test_asking_again_behind_a_guard_sends_nothing_says_so_and_needs_a_person(
    shared_desk: Desk, service: Service
) -> None:
    (chip,) = chips_in("41:42,0:1")
    tile(shared_desk, service, "run", "41:42,0:1")
    with shared_desk.at_work(**_set(service)), site(tile_campaign_of(TILE), words="a guard") as place:
        place.ledger.write(lambda ledger: set_guard(ledger, place.ground, "Stop: see the workers."), place.lease)

    again = ("--states", "complete", "--again", "--json")
    stopped = tile(shared_desk, service, "request", "41:42,0:1", *again)
    lifted = tile(shared_desk, service, "release", "41:42,0:1")
    sent = tile(shared_desk, service, "request", "41:42,0:1", *again)

    assert (stopped.status, json.loads(stopped.out)["requested"]) == (4, 0)
    assert json.loads(stopped.out)["next_steps"][0] == "Stop: see the workers."
    assert "The guard is lifted." in " ".join(lifted.err.split())
    assert json.loads(sent.out)["requested"] == 1
    assert service.refreshes(chip) == [False, True]
