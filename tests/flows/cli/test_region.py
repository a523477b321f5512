"""`overlander region`: what it says of a region by the ledger alone, and how it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.chips.states import State
from tasks.ledger.regions import choose_tiles
from tasks.ledger.store import Ledger
from tests.flows.desk import Desk
from tests.tasks.region_desk import ALGORITHM, CORNER, SOURCE, RegionDesk


@pytest.fixture
def person(tmp_path: Path) -> Desk:
    return Desk(tmp_path, {"OVERLANDER_ALGORITHM": ALGORITHM})


@pytest.fixture
def region(person: Desk) -> Iterator[RegionDesk]:
    with Ledger.open(person.folder / "ledger.sqlite") as ledger:
        yield RegionDesk(ledger, person.out)


def test_the_status_of_named_tiles_is_told_to_people_and_to_programs(person: Desk, region: RegionDesk) -> None:
    region.finish("H05V03")
    region.note("H05V04", [State.QUEUED] * 4)
    asked = ("region", "status", "conus", "--tiles", "H05V03,H05V04,H05V05", "--window", CORNER)

    told, given = person.run(*asked), person.run(*asked, "--json")

    assert (told.status, told.out, given.status) == (3, "", 3)
    assert "H05V04" in told.err
    assert "0 of 4" in told.err
    summary = json.loads(given.out)
    assert summary["conditions"]["finished"] == summary["conditions"]["open"] == 1
    assert summary["conditions"]["unknown"] == 1
    assert (summary["chips"], summary["home"]) == (12, 4)


def test_without_tiles_the_status_is_of_those_that_the_campaign_was_run_with(
    person: Desk, region: RegionDesk
) -> None:
    region.finish("H05V03")
    assert json.loads(person.run("region", "status", "conus", "--window", CORNER, "--json").out)["tiles"] == 1

    ground = region.campaign("H05V03").ground(SOURCE)
    region.ledger.write(lambda ledger: choose_tiles(ledger, ground, ["H05V03", "H06V03"]))

    ran = person.run("region", "status", "conus", "--window", CORNER, "--json")
    assert (ran.status, json.loads(ran.out)["conditions"]["unknown"]) == (3, 1)


@pytest.mark.parametrize(("state", "status"), [(State.COMPLETE, 0), (State.QUEUED, 3), (State.QUARANTINED, 4)])
def test_the_exit_status_says_whether_running_again_helps(
    person: Desk, region: RegionDesk, state: State, status: int
) -> None:
    chips = region.note("H05V03", [state] * 4)
    if state == State.COMPLETE:
        region.save("H05V03", chips)

    assert person.run("region", "status", "conus", "--window", CORNER, "--json").status == status


def test_map_and_page_are_written_when_they_are_asked_for(person: Desk, region: RegionDesk) -> None:
    region.finish("H05V03")

    ran = person.run("region", "status", "conus", "--window", CORNER, "--report", "--json")

    files = json.loads(ran.out)["files"]
    assert Path(files["map"]).read_bytes().startswith(b"\x89PNG")
    assert b"H05V03" in Path(files["page"]).read_bytes()


def test_a_region_of_which_the_ledger_knows_nothing_says_how_to_begin(person: Desk, region: RegionDesk) -> None:
    ran = person.run("region", "status", "conus")

    assert (ran.status, ran.out) == (2, "")
    assert "overlander region run conus --tiles" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "conus"], "some 420 of them hold land"),
        (["run", "hawaii", "--tiles", "H05V03"], "outside hawaii"),
        (["run", "conus", "--touching", "nothing.gpkg"], "There is no file"),
        (["status", "conus", "--tiles", "H05V03,H40V03"], "H40V03"),
    ],
)
def test_what_cannot_be_meant_is_one_paragraph_and_starts_nothing(
    person: Desk, arguments: list[str], words: str
) -> None:
    ran = person.run("region", *arguments)

    assert (ran.status, ran.out) == (2, "")
    assert words in " ".join(ran.err.split())
    assert "Traceback" not in ran.err
