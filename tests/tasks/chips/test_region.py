"""Where a region's tiles stand by the ledger alone, and which of them are started next."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tasks.chips.grid import tile_named
from tasks.chips.region import region_summary, to_start
from tasks.chips.report import standing
from tasks.chips.states import State
from tasks.errors import BadInput
from tasks.ledger.chips import close_tile, set_guard
from tasks.ledger.regions import note_ended, note_pass
from tasks.ledger.store import Ledger
from tasks.report.tiles import TILE_LOOKS, TileLine
from tests.tasks.region_desk import CONUS, NOW, REQUESTED, RULES, SOURCE, RegionDesk

COMPLETE, QUEUED, QUARANTINED = State.COMPLETE, State.QUEUED, State.QUARANTINED
LONG_AGO = NOW - timedelta(days=15)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RegionDesk]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield RegionDesk(ledger, tmp_path / "out")


def test_a_tile_is_finished_when_its_chips_are_home_and_saved(desk: RegionDesk) -> None:
    desk.finish("H05V03")

    found = desk.standing("H05V03")

    assert (found.lines[0].condition, found.lines[0].home, found.lines[0].saved) == ("finished", 4, 4)
    assert found.exit_status == 0
    assert found.next_steps == ()


def test_a_tile_whose_chips_are_home_and_not_all_saved_is_open(desk: RegionDesk) -> None:
    desk.save("H05V03", desk.note("H05V03", [COMPLETE] * 4)[:3])

    found = desk.standing("H05V03")

    assert (found.lines[0].condition, found.lines[0].unsaved) == ("open", 1)
    assert found.exit_status == 3


def test_chips_without_data_have_nothing_to_save(desk: RegionDesk) -> None:
    desk.save("H05V03", desk.note("H05V03", [COMPLETE, COMPLETE, State.NO_DATA, State.NO_DATA])[:2])

    assert desk.condition("H05V03") == "finished"


@pytest.mark.parametrize(("flawed", "condition"), [("apart", "open"), ("skip", "finished")])
def test_flawed_chips_need_a_file_unless_they_are_skipped(desk: RegionDesk, flawed: str, condition: str) -> None:
    desk.save("H05V03", desk.note("H05V03", [COMPLETE, COMPLETE, COMPLETE, State.FLAWED])[:3])

    assert desk.condition("H05V03", flawed=flawed) == condition


def test_a_chip_renewed_since_its_file_was_written_has_to_be_saved_again(desk: RegionDesk) -> None:
    desk.finish("H05V03")
    desk.note("H05V03", [COMPLETE], requested=REQUESTED + timedelta(days=1))

    assert desk.condition("H05V03") == "open"


def test_files_in_another_folder_are_not_this_campaigns(desk: RegionDesk, tmp_path: Path) -> None:
    desk.finish("H05V03")

    assert desk.condition("H05V03", out=tmp_path / "elsewhere") == "open"


def test_a_tile_of_which_nothing_is_known_was_never_looked_at_and_a_run_helps(desk: RegionDesk) -> None:
    found = desk.standing("H05V03")

    assert (found.lines[0].condition, found.lines[0].waiting) == ("unknown", 4)
    assert found.exit_status == 3


def test_a_tile_with_some_chips_never_looked_at_is_open(desk: RegionDesk) -> None:
    desk.save("H05V03", desk.note("H05V03", [COMPLETE] * 3))

    assert desk.condition("H05V03") == "open"


def test_chips_beyond_the_window_do_not_count(desk: RegionDesk) -> None:
    desk.finish("H05V03")

    assert desk.condition("H05V03") == "finished"
    assert desk.condition("H05V03", window="0:1,0:2") == "finished"
    assert desk.standing("H05V03", window="0:1,0:2").lines[0].home == 2
    assert desk.standing("H05V03", window="1:3,1:3").lines[0].waiting == 3
    assert desk.standing("H05V03", window="0:50,0:50").lines[0].waiting == 2496


@pytest.mark.parametrize(
    ("states", "since"),
    [([COMPLETE, COMPLETE, COMPLETE, QUARANTINED], NOW), ([COMPLETE, COMPLETE, QUEUED, QUEUED], LONG_AGO)],
)
def test_a_tile_that_no_run_changes_any_more_needs_a_person(
    desk: RegionDesk, states: list[State], since: datetime
) -> None:
    chips = desk.note("H05V03", states, since)
    desk.save("H05V03", [chip for chip, state in zip(chips, states, strict=True) if state == COMPLETE])

    found = desk.standing("H05V03")

    assert found.lines[0].condition == "needs_person"
    assert found.exit_status == 4
    assert "H05V03" in found.next_steps[-1]


def test_a_chip_whose_file_cannot_be_written_as_it_is_needs_a_person(desk: RegionDesk) -> None:
    chips = desk.note("H05V03", [COMPLETE] * 4)
    desk.save("H05V03", chips[:3])
    desk.save("H05V03", chips[3:], problem="The results of 2 pixels do not match their md5.")

    assert desk.condition("H05V03") == "needs_person"


def test_running_again_beats_a_person_in_one_tile_and_among_tiles(desk: RegionDesk) -> None:
    desk.note("H05V03", [COMPLETE, COMPLETE, QUEUED, QUARANTINED])
    desk.note("H05V04", [QUARANTINED] * 4)

    assert desk.condition("H05V03") == "open"
    assert desk.standing("H05V04").exit_status == 4
    assert desk.standing("H05V03", "H05V04").exit_status == 3


def test_a_closed_tile_is_as_home_as_it_will_be(desk: RegionDesk) -> None:
    desk.note("H05V03", [QUEUED] * 4)
    desk.ledger.write(lambda ledger: close_tile(ledger, desk.ground("H05V03"), NOW, "delivered by post"))

    found = desk.standing("H05V03")

    assert (found.lines[0].condition, found.exit_status) == ("closed", 0)
    assert "delivered by post" in found.lines[0].note


def test_a_guarded_tile_says_why(desk: RegionDesk) -> None:
    desk.note("H05V03", [State.UNREQUESTED] * 4)
    desk.ledger.write(lambda ledger: set_guard(ledger, desk.ground("H05V03"), "14 of the last 20 are flawed."))

    found = desk.standing("H05V03")

    assert (found.lines[0].condition, found.lines[0].note) == ("guarded", "14 of the last 20 are flawed.")
    assert found.exit_status == 4


@pytest.mark.parametrize("guard", ["", "Something is wrong."])
@pytest.mark.parametrize("since", [NOW, LONG_AGO])
@pytest.mark.parametrize("state", [state for state in State if state != State.UNKNOWN])
def test_a_region_says_of_a_tile_what_the_tile_says_of_itself(
    desk: RegionDesk, state: State, since: datetime, guard: str
) -> None:
    chips = desk.note("H05V03", [state, COMPLETE], since)
    desk.save("H05V03", chips[1:])
    desk.ledger.write(lambda ledger: set_guard(ledger, desk.ground("H05V03"), guard))
    work = desk.campaign("H05V03").pattern
    with desk.ledger.read() as reading:
        alone = standing(reading, desk.ground("H05V03"), work.tile, work.chips, work.layout.root, RULES)

    line = desk.standing("H05V03").lines[0]

    assert (line.waiting, line.needs_person) == (alone.waiting, alone.needs_person)


def test_a_tile_whose_run_ended_badly_is_run_again_though_all_seems_saved(desk: RegionDesk) -> None:
    desk.finish("H05V03")
    assert desk.condition("H05V03") == "finished"
    ground = desk.campaign("H05V03").ground(SOURCE)
    for outcome, condition in [("Crashed", "open"), ("Completed", "finished")]:
        begun = desk.ledger.write(lambda ledger: note_pass(ledger, ground, "H05V03"))
        desk.ledger.write(lambda ledger: note_ended(ledger, ground, begun, outcome, ""))  # noqa: B023

        assert desk.condition("H05V03") == condition


def test_the_summary_counts_every_tile_and_chip_once(desk: RegionDesk) -> None:
    desk.finish("H05V03")
    desk.note("H05V04", [QUEUED] * 2)
    names = ("H05V03", "H05V04", "H05V05")

    summary = region_summary(desk.campaign(*names), desk.standing(*names), 0.0)

    assert summary["tiles"] == sum(summary["conditions"].values()) == 3
    assert (summary["chips"], summary["home"], summary["saved"], summary["waiting"]) == (12, 4, 4, 8)


def test_a_last_run_that_failed_is_told_with_what_it_said(desk: RegionDesk) -> None:
    ground = desk.campaign("H05V03").ground(SOURCE)
    begun = desk.ledger.write(lambda ledger: note_pass(ledger, ground, "H05V03"))
    desk.ledger.write(lambda ledger: note_ended(ledger, ground, begun, "Failed", "Cassandra is away."))

    found = desk.standing("H05V03")

    assert (found.lines[0].last_run, found.lines[0].note) == ("Failed", "Cassandra is away.")
    assert "did not end well (H05V03)" in found.next_steps[1]


def test_a_tile_is_named_once_however_often_it_is_named(desk: RegionDesk) -> None:
    assert [tile.name for tile in desk.campaign("H05V03", "H05V04", "H05V03").tiles] == ["H05V03", "H05V04"]


def test_a_campaign_without_tiles_is_refused(desk: RegionDesk) -> None:
    with pytest.raises(BadInput, match="No tile of conus is named"):
        desk.campaign()


# Which tiles are started


def line(name: str, condition: str = "open", **how: object) -> TileLine:
    tile = tile_named(name, CONUS)
    home = TILE_LOOKS[condition].home or condition == "needs_person"
    return TileLine(name, tile.h, tile.v, condition, chips=4, waiting=0 if home else 4, **how)  # type: ignore[arg-type]


def names(found: list[TileLine]) -> list[str]:
    return [one.name for one in found]


def test_so_many_tiles_are_started_that_the_number_is_under_way() -> None:
    lines = [line("H01V01", under_way="a run"), line("H01V02"), line("H01V03"), line("H01V04")]

    assert names(to_start(lines, 3)) == ["H01V02", "H01V03"]
    assert to_start(lines, 1) == []


def test_finished_and_closed_tiles_are_never_started() -> None:
    lines = [line("H01V01", "finished"), line("H01V02", "closed"), line("H01V03")]

    assert names(to_start(lines, 4, again=True)) == ["H01V03"]


def test_a_tile_that_needs_a_person_is_started_only_when_a_person_says_so() -> None:
    lines = [line("H01V01", "needs_person"), line("H01V02", "unknown")]

    assert names(to_start(lines, 4)) == ["H01V02"]
    assert names(to_start(lines, 4, again=True)) == ["H01V01", "H01V02"]


def test_tiles_never_begun_come_first_and_then_those_begun_longest_ago() -> None:
    lines = [
        line("H01V01", asked_at=NOW),
        line("H01V02", asked_at=NOW - timedelta(hours=1)),
        line("H01V03"),
    ]

    assert names(to_start(lines, 4)) == ["H01V03", "H01V02", "H01V01"]
