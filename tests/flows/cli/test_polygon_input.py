"""`overlander polygons run` on input that makes no sense: one paragraph, the right exit status, nothing sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import supervise
from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk, Ran
from tests.flows.polygons_at_desk import paragraph, run, sent, wetlands
from tests.tasks.polygons.peer import Line, Peer, a_peer
from tests.tasks.polygons.wetlands import square, squares, write

WRONG, FAILED = 2, 1
SECRET = "open-sesame-77"
NONSENSE = [
    (["--layer", "lakes"], ["has no layer lakes", "wetlands"]),
    (["--where", "DEPTH > 3"], ["DEPTH", "OBJECTID"]),
    (["--where", "Shape_Leng <<"], ["--where", "Shape_Leng <<"]),
    (["--id-field", "UID"], ["no field UID", "OBJECTID, Shape_Leng, NAME"]),
    (["--id-field", "NAME"], ["NAME cannot name the records", "swamp 1 (records"]),
    (["--properties", "NAME,OWNER"], ["no field OWNER"]),
    (["--interval", "2011-01-01/2010-01-01"], ["2011-01-01/2010-01-01"]),
    (["--interval", "last year"], ["is no interval"]),
    (["--split", "fortnightly"], ["fortnightly"]),
    (["--bbox", "149,-35,148,-34"], ["149,-35,148,-34"]),
    (["--crs", "EPSG:99999999"], ["EPSG:99999999"]),
    (["--crs", "EPSG:28356"], ["EPSG:28356", "EPSG:3577"]),
    (["--ids", "nobody.txt"], ["nobody.txt"]),
    (["--process", "witt"], ["witt", "wofs-drill"]),
    (["--process", "mangrove-cover-drill"], ["Mangrove Cover Drill", "It has: WIT"]),
    (["--concurrency", "many"], ["--concurrency 'many'"]),
    (["--poll", "soon"], ["--poll 'soon'"]),
    (["--retry", "done"], ["--retry knows no done"]),
    (["--campaign", "../other"], ["--campaign"]),
]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with a_peer() as scripted:
        yield scripted


def refused(ran: Ran, status: int, *words: str) -> None:
    """Check that a person was told so in one paragraph, and a program nothing but the exit status."""
    told = paragraph(ran)
    assert (ran.status, ran.out) == (status, ""), told
    assert all(word in told for word in words), told
    assert "Traceback" not in ran.err
    assert "Prefect" not in told


@pytest.mark.parametrize(("arguments", "words"), NONSENSE, ids=[" ".join(one[0]) for one in NONSENSE])
def test_what_makes_no_sense_is_refused(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str, arguments: list[str], words: list[str]
) -> None:
    same_name = [(geometry, fields | {"NAME": "swamp 1"}) for geometry, fields in squares(3)]

    ran = run(wps_desk, wetlands(wps_desk, records=same_name), *arguments)

    refused(ran, WRONG, *words)
    assert sent(scripted_wps) == 0


@pytest.mark.parametrize("arguments", [("--where", "DEPTH > 3"), ("--id-field", "UID"), ("--properties", "OWNER")])
def test_a_field_that_is_not_there_is_told_before_prefect_is_asked_for_or_started(
    wps_desk: Desk, scripted_wps: ScriptedWps, arguments: tuple[str, str]
) -> None:
    ran = run(
        wps_desk, wetlands(wps_desk, records=squares(3)), *arguments, PREFECT_API_URL="http://127.0.0.1:9/api"
    )

    refused(ran, WRONG, arguments[1].split()[0], "OBJECTID")


def test_a_missing_file_is_named(wps_desk: Desk, scripted_wps: ScriptedWps) -> None:
    refused(run(wps_desk, wps_desk.folder / "lakes.zip"), WRONG, "There is no file", "lakes.zip")


def test_a_file_without_a_crs_needs_one(wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str) -> None:
    source = write(wps_desk.folder / "plain.shp", squares(2), crs=None)

    refused(run(wps_desk, source), WRONG, "--crs")
    assert sent(scripted_wps) == 0
    assert run(wps_desk, source, "--crs", "EPSG:3577").status == 0


def test_two_equal_ids_are_refused_under_the_name_of_the_field(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    twice = [(square(1_400_000.0 + 1000 * n), {"OBJECTID": 7}) for n in range(2)]

    ran = run(wps_desk, wetlands(wps_desk, records=twice), "--id-field", "OBJECTID")

    refused(ran, WRONG, "7 (records")
    assert sent(scripted_wps) == 0


def test_a_process_of_ones_own_that_lacks_an_input_is_refused(wps_desk: Desk, scripted_wps: ScriptedWps) -> None:
    profile = wps_desk.folder / "wit.toml"
    profile.write_text('identifier = "WIT"\n[geometry]\nidentifier = "geometry"\n')
    source = str(wetlands(wps_desk))

    ran = wps_desk.run("polygons", "run", source, "--process", str(profile), "--json")

    refused(ran, WRONG, "the input start is missing", "the input end is missing")
    assert sent(scripted_wps) == 0


def test_a_run_without_an_interval_says_which_to_give(wps_desk: Desk, scripted_wps: ScriptedWps) -> None:
    ran = wps_desk.run("polygons", "run", str(wetlands(wps_desk)), "--json")

    refused(ran, WRONG, "--interval")


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        (Line(200, b"<html><body>Welcome</body></html>", "text/html"), WRONG, ["is no WPS 1.0.0"]),
        (Line(502, b"<html><body>Bad gateway</body></html>", "text/html"), FAILED, ["502"]),
        (Line(401, b"who?", "text/plain"), FAILED, ["OVERLANDER_WPS_PASSWORD"]),
        ("reset", FAILED, ["does not answer"]),
    ],
    ids=["HTML", "a proxy's error", "credentials refused", "nothing"],
)
def test_a_service_that_is_no_wps_or_not_well_is_named(
    wps_desk: Desk, peer: Peer, line: Line | str, status: int, words: list[str]
) -> None:
    peer.says(*[line] * 3)
    user = {"OVERLANDER_WPS_USERNAME": "anna", "OVERLANDER_WPS_PASSWORD": SECRET}

    ran = run(wps_desk, wetlands(wps_desk), OVERLANDER_WPS_URL=peer.url, **user)

    refused(ran, status, peer.url, *words)
    assert SECRET not in ran.err
    assert {asked.method for asked in peer.asked} == {"GET"}


def test_a_service_that_is_away_is_named(wps_desk: Desk) -> None:
    url = f"http://127.0.0.1:{supervise.free_port()}/wps"

    ran = run(wps_desk, wetlands(wps_desk), OVERLANDER_WPS_URL=url)

    refused(ran, FAILED, url)


def test_a_url_with_a_secret_is_refused_and_not_repeated(wps_desk: Desk) -> None:
    source = wetlands(wps_desk)

    for url in (f"https://anna:{SECRET}@wps.example.org/wps", f"https://wps.example.org/wps?token={SECRET}"):
        ran = run(wps_desk, source, "--url", url)

        refused(ran, WRONG, "OVERLANDER_WPS")
        assert SECRET not in ran.err
    assert not Path(wps_desk.variables["OVERLANDER_LEDGER"]).exists()


def test_without_a_wps_a_person_is_told_how_to_name_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"OVERLANDER_STATE_FOLDER": str(tmp_path / "state")})  # in which no sandbox runs

    refused(run(desk, wetlands(desk)), WRONG, "--url or OVERLANDER_WPS_URL")
