"""What a tile's files and figures say, by the ledger alone."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.chips.campaign import Campaign
from tasks.chips.export import wanted_file
from tasks.chips.grid import PIXELS, REGIONS, Chip, parse_window, tile_named
from tasks.chips.heal import HELD, rules_of
from tasks.chips.layout import Layout
from tasks.chips.report import Standing, standing, write_files
from tasks.chips.states import HOME, Asked, Look, Record, State
from tasks.files import sha256_of
from tasks.ledger.chips import Saved, note_saved, remember, set_guard, use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.requests import note_request
from tasks.ledger.store import Ledger
from tasks.report import maps
from tasks.report.palette import STATE_LOOKS
from tasks.settings import load_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
REQUESTED = datetime(2026, 3, 1, 6)  # noqa: DTZ001 - the service's clock is naive
PRODUCED = REQUESTED + timedelta(minutes=1, microseconds=40_000)
ALGORITHM = "lcmap-pyccd:2017.08.18"
GROUND = Ground("LCMAP/changes.results", ALGORITHM, "conus", "H05V03")
DRAWN_MAP = maps.tile_map


@dataclass
class Desk:
    """A ledger, an output folder, and what is noted of chips in them."""

    ledger: Ledger
    out: Path
    ground: Ground

    def campaign(self, window: str = "0:2,0:2", **how: object) -> Campaign:
        tile = tile_named("H05V03", REGIONS["conus"])
        return Campaign(tile, parse_window(window), ALGORITHM, "a test", Layout(self.out), **how)

    def note(self, chip: Chip, state: State, failed: tuple[int, ...] = ()) -> None:
        """Note where a chip stands."""
        look = Look(NOW, True, PIXELS, True, bool(failed), PRODUCED, PRODUCED, REQUESTED)
        if state in (State.UNREQUESTED, State.QUEUED):
            look = Look(NOW, ticketed=state == State.QUEUED)
        record = Record(state, NOW, look, reason=f"It is {state}.", failed=failed)
        self.ledger.write(lambda ledger: remember(ledger, self.ground, {chip: record}))

    def save(self, chip: Chip, state: State = State.COMPLETE, failed: tuple[int, ...] = (), **how: str) -> Path:
        """Write a chip's file and note it as an export does."""
        self.note(chip, state, failed)
        file = wanted_file(self.campaign(**how), chip, state)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"rows of {chip}")
        saved = Saved(
            exported_at=NOW,
            options="",
            file=file,
            bytes=file.stat().st_size,
            mtime_ns=file.stat().st_mtime_ns,
            sha256=sha256_of(file),
            pixels=PIXELS,
            failed=len(failed),
            first_produced=PRODUCED,
            last_produced=PRODUCED + timedelta(hours=1),
            update_requested=REQUESTED,
        )
        self.ledger.write(lambda ledger: note_saved(ledger, self.ground, self.out, chip, saved))
        return file

    def ask(self, chip: Chip, ground: Ground) -> None:
        """Note a chip that was asked for and waits."""
        asked = Asked(1, 1, NOW, refresh=False, renew=False, update_before=None, answer="queued")
        record = Record(State.QUEUED, NOW, Look(NOW, ticketed=True), asked=asked)
        self.ledger.write(lambda ledger: note_request(ledger, ground, chip, asked, None))
        self.ledger.write(lambda ledger: remember(ledger, ground, {chip: record}))

    def refuse(self, chip: Chip, bad: tuple[int, ...]) -> None:
        """Note a chip whose results do not match their md5."""
        self.note(chip, State.COMPLETE)
        saved = Saved(NOW, "", update_requested=REQUESTED, problem="Results do not match.", bad=bad)
        self.ledger.write(lambda ledger: note_saved(ledger, self.ground, self.out, chip, saved))

    def standing(self, window: str = "0:2,0:2") -> Standing:
        campaign = self.campaign(window)
        with self.ledger.read() as ledger:
            return standing(
                ledger, self.ground, campaign.tile, campaign.chips, self.out, rules_of(load_settings())
            )

    def write(self, window: str = "0:2,0:2", **how: object) -> dict[str, Path]:
        campaign = self.campaign(window, **how)
        found = self.standing(window)
        return write_files(self.ground.source, campaign, found)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(maps, "tile_map", lambda *_: b"a map that takes no second to draw")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Desk(ledger, tmp_path / "out", GROUND)


@pytest.fixture
def chips(desk: Desk) -> list[Chip]:
    """The tile's four chips in the north-west, row by row."""
    return desk.campaign().chips


# The manifest


def test_the_manifest_lists_each_file_as_it_is(desk: Desk, chips: list[Chip]) -> None:
    files = [desk.save(chips[0]), desk.save(chips[3], State.FLAWED, failed=(0, 9_999))]
    desk.note(chips[1], State.NO_DATA)
    paths = desk.write()
    manifest = pd.read_csv(paths["manifest"])
    folder = paths["manifest"].parent
    assert [(folder / file).resolve() for file in manifest["file"]] == files
    assert manifest["file"].tolist() == [files[0].name, f"flawed/{files[1].name}"]
    assert manifest["sha256"].tolist() == [sha256_of(file) for file in files]
    assert manifest["bytes"].tolist() == [file.stat().st_size for file in files]
    assert manifest["state"].tolist() == ["complete", "flawed"]
    assert manifest["failed_pixels"].tolist() == [0, 2]
    assert list(zip(manifest["chip_x"], manifest["chip_y"], strict=True)) == [
        (chips[0].x, chips[0].y),
        (chips[3].x, chips[3].y),
    ]
    assert set(manifest["algorithm"]) == {ALGORITHM}


def test_both_manifests_hold_the_same_with_the_right_types(desk: Desk, chips: list[Chip]) -> None:
    for chip in chips[:2]:
        desk.save(chip)
    paths = desk.write()
    columns = pd.read_parquet(paths["parquet"])
    moments = ["first_produced", "last_produced", "update_requested"]
    table = pd.read_csv(paths["manifest"], parse_dates=moments)
    pd.testing.assert_frame_equal(table, columns, check_dtype=False)
    for frame in (table, columns):
        assert frame["first_produced"].tolist() == [PRODUCED, PRODUCED]
        for name in moments:
            assert pd.api.types.is_datetime64_dtype(frame[name])
        for name in ("chip_x", "chip_y", "bytes", "pixels", "failed_pixels"):
            assert frame[name].dtype == np.int64


def test_the_manifest_of_a_tile_without_files_has_its_columns_and_types_all_the_same(desk: Desk) -> None:
    paths = desk.write()
    columns = pd.read_parquet(paths["parquet"])
    assert columns.empty
    assert columns["chip_x"].dtype == np.int64
    assert list(pd.read_csv(paths["manifest"])) == list(columns)


def test_a_run_on_another_window_adds_to_the_manifest(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[0])
    desk.write("0,0")
    desk.save(chips[3])
    manifest = pd.read_csv(desk.write("1,1")["manifest"])
    assert manifest["chip_x"].tolist() == [chips[0].x, chips[3].x]


def test_the_manifest_goes_from_north_to_south_and_west_to_east(desk: Desk, chips: list[Chip]) -> None:
    for chip in reversed(chips):
        desk.save(chip)
    manifest = pd.read_csv(desk.write()["manifest"])
    assert list(zip(manifest["chip_x"], manifest["chip_y"], strict=True)) == [(c.x, c.y) for c in chips]


def test_a_file_that_is_gone_is_not_in_the_manifest(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[0])
    desk.save(chips[1]).unlink()
    assert pd.read_csv(desk.write()["manifest"])["chip_x"].tolist() == [chips[0].x]


# Pixels that are bad


def bad_pixels(paths: dict[str, Path]) -> list[tuple[object, ...]]:
    return list(pd.read_csv(io.BytesIO(paths["bad_pixels"].read_bytes())).itertuples(index=False, name=None))


def test_pixels_that_failed_or_do_not_match_are_listed_by_their_corner(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[1], State.FLAWED, failed=(1, 100))
    desk.refuse(chips[2], bad=(9_999,))
    paths = desk.write()
    assert paths["bad_pixels"].parent.name == "flawed"
    assert bad_pixels(paths) == [
        (chips[1].x, chips[1].y, chips[1].x, chips[1].y - 30, "failed"),
        (chips[1].x, chips[1].y, chips[1].x + 30, chips[1].y, "failed"),
        (chips[2].x, chips[2].y, chips[2].x + 2970, chips[2].y - 2970, "md5"),
    ]


def test_without_bad_pixels_there_is_no_list_of_them(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[0])
    assert "bad_pixels" not in desk.write()
    assert not list(desk.out.rglob("bad-pixels.csv"))


def test_the_pixels_that_a_quarantined_chip_lacks_are_listed(desk: Desk, chips: list[Chip]) -> None:
    look = Look(NOW, True, PIXELS - 2, True, False, PRODUCED, PRODUCED, REQUESTED)
    stuck = Record(State.QUARANTINED, NOW, look, missing=(0, 101))
    short = replace(stuck, state=State.INCOMPLETE)
    desk.ledger.write(lambda ledger: remember(ledger, GROUND, {chips[0]: stuck, chips[1]: short}))
    listed = pd.read_csv(desk.write()["bad_pixels"])
    assert listed.to_dict("list") == {
        "chip_x": [chips[0].x] * 2,
        "chip_y": [chips[0].y] * 2,
        "x": [chips[0].x, chips[0].x + 30],
        "y": [chips[0].y, chips[0].y - 30],
        "problem": ["missing"] * 2,
    }


def test_what_a_guard_keeps_from_being_requested_needs_a_person(desk: Desk, chips: list[Chip]) -> None:
    for chip, state in zip(chips, (State.COMPLETE, State.UNREQUESTED, State.UNREQUESTED), strict=False):
        desk.note(chip, state)
    for chip in chips[3:]:
        desk.note(chip, State.COMPLETE)
    assert desk.standing().exit_status == 3
    desk.ledger.write(lambda ledger: (use_tile(ledger, GROUND, "a test"), set_guard(ledger, GROUND, "Stop.")))
    found = desk.standing()
    assert (found.exit_status, found.needs_person, found.next_steps[0]) == (4, 2, "Stop.")
    desk.note(chips[1], State.QUEUED)
    assert desk.standing().exit_status == 3


def test_a_guard_on_another_clusters_tile_of_the_same_name_stops_nothing_here(
    desk: Desk, chips: list[Chip]
) -> None:
    desk.note(chips[0], State.UNREQUESTED)
    other = replace(GROUND, source="OTHER/changes.results")
    desk.ledger.write(lambda ledger: (use_tile(ledger, other, "a test"), set_guard(ledger, other, "Stop.")))
    assert (desk.standing("0,0").guard, desk.standing("0,0").exit_status) == ("", 3)


@pytest.mark.parametrize("held_by", ["", "guard", "pilot", "limit"])
def test_what_will_happen_next_is_what_a_run_would_do(
    held_by: str, desk: Desk, chips: list[Chip], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.note(chips[0], State.NO_DATA)
    desk.note(chips[1], State.UNREQUESTED)
    if held_by == "guard":
        desk.ledger.write(lambda ledger: (use_tile(ledger, GROUND, "a test"), set_guard(ledger, GROUND, "Stop.")))
    if held_by == "limit":
        monkeypatch.setenv("OVERLANDER_MAX_OUTSTANDING", "1")
        desk.ask(chips[2], replace(GROUND, tile="H01V01"))
    if held_by == "pilot":
        desk.note(chips[0], State.UNREQUESTED)
        desk.ask(chips[0], GROUND)
    found = desk.standing("0,0:2")
    words = {"": "will be requested (attempt 1 of 3)", **HELD}[held_by]
    # A run that waits for the pilot's rows goes on to ask for the others.
    assert (found.lines[1].next_step, found.to_request) == (words, int(held_by in ("", "pilot")))
    assert any("must wait" in step for step in found.next_steps) == (held_by in ("pilot", "limit"))
    assert any("tile run` asks" in step for step in found.next_steps) == (held_by != "guard")


def test_the_list_of_bad_pixels_goes_when_they_are_good(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[0], State.FLAWED, failed=(1,))
    desk.write()
    desk.save(chips[0])
    assert "bad_pixels" not in desk.write()
    assert not list(desk.out.rglob("bad-pixels.csv"))


def test_there_is_one_list_of_bad_pixels_beside_the_flawed_chips_wherever_those_go(
    desk: Desk, chips: list[Chip]
) -> None:
    desk.save(chips[0], State.FLAWED, failed=(1,))
    desk.write()
    desk.save(chips[0], State.FLAWED, failed=(1,), flawed="with-rest")
    paths = desk.write(flawed="with-rest")
    assert list(desk.out.rglob("bad-pixels.csv")) == [paths["bad_pixels"]]
    assert paths["bad_pixels"].parent == paths["manifest"].parent


# All files


def test_a_second_run_changes_no_file(desk: Desk, chips: list[Chip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "tile_map", DRAWN_MAP)
    desk.save(chips[0])
    desk.save(chips[1], State.FLAWED, failed=(1,))

    def files() -> dict[Path, tuple[bytes, int]]:
        found = [path for path in desk.out.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    paths = desk.write()
    before = files()
    assert set(paths.values()) < set(before)
    assert {path.name for path in paths.values()} == {
        *("manifest.csv", "manifest.parquet", "bad-pixels.csv", "map.png", "report.html"),
    }
    assert desk.write() == paths
    assert files() == before


def test_a_map_is_drawn_again_when_a_chip_has_moved_or_the_map_is_gone(
    desk: Desk, chips: list[Chip], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = iter([b"the first map", b"the second map", b"the third map"])
    monkeypatch.setattr(maps, "tile_map", lambda *_: next(drawings))
    drawn = desk.write()["map"]
    desk.write()
    assert drawn.read_bytes() == b"the first map"
    desk.note(chips[1], State.QUEUED)
    desk.write()
    assert drawn.read_bytes() == b"the second map"
    drawn.unlink()
    desk.write()
    assert drawn.read_bytes() == b"the third map"


# Where a tile stands


def test_states_list_every_state_and_sum_to_the_chips(desk: Desk, chips: list[Chip]) -> None:
    desk.note(chips[0], State.COMPLETE)
    desk.note(chips[1], State.QUEUED)
    found = desk.standing()
    assert list(found.states) == [state.value for state in State]
    assert sum(found.states.values()) == len(found.lines) == 4
    assert (found.states["complete"], found.states["queued"], found.states["unknown"]) == (1, 1, 2)


def test_the_states_of_a_run_are_those_of_its_window(desk: Desk, chips: list[Chip]) -> None:
    for chip in chips:
        desk.note(chip, State.COMPLETE)
    assert desk.standing("0,0").states["complete"] == 1


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ((State.COMPLETE, State.COMPLETE), 0),
        ((State.FLAWED, State.NO_DATA), 0),
        ((State.COMPLETE, State.QUEUED), 3),
        ((State.COMPLETE, State.UNREQUESTED), 3),
        ((State.COMPLETE, State.QUARANTINED), 4),
        ((State.QUARANTINED, State.RUNNING), 3),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_exit_status_says_what_is_left(
    states: tuple[State, ...], status: int, desk: Desk, chips: list[Chip]
) -> None:
    for chip, state in zip(chips, states, strict=False):
        desk.note(chip, state, failed=(1,) if state == State.FLAWED else ())
    assert desk.standing("0,0:2").exit_status == status


def test_a_tile_never_looked_at_will_be_helped_by_a_run(desk: Desk) -> None:
    found = desk.standing()
    assert (found.exit_status, found.waiting, found.states["unknown"]) == (3, 4, 4)
    assert any("overlander tile count" in step for step in found.next_steps)


def test_a_chip_that_cannot_be_saved_as_it_is_needs_a_person(desk: Desk, chips: list[Chip]) -> None:
    desk.save(chips[0])
    desk.refuse(chips[1], bad=(7,))
    found = desk.standing("0,0:2")
    assert (found.exit_status, found.needs_person) == (4, 1)
    assert found.lines[1].reason == "Results do not match."
    assert "1 chip in need of a person: see the reasons." in found.next_steps


def test_a_chip_requested_again_since_it_could_not_be_saved_needs_nobody(desk: Desk, chips: list[Chip]) -> None:
    desk.refuse(chips[0], bad=(7,))
    later = REQUESTED + timedelta(days=1)
    look = Look(NOW, True, PIXELS, True, False, PRODUCED, PRODUCED, later)
    renewed = Record(State.COMPLETE, NOW, look)
    desk.ledger.write(lambda ledger: remember(ledger, desk.ground, {chips[0]: renewed}))
    assert desk.standing("0,0").exit_status == 0


def test_a_line_names_the_file_below_the_output_folder_while_it_is_the_current_one(
    desk: Desk, chips: list[Chip]
) -> None:
    file = desk.save(chips[0])
    assert desk.standing("0,0").lines[0].file == file.relative_to(desk.out).as_posix()
    look = Look(NOW, True, PIXELS, True, False, PRODUCED, PRODUCED, REQUESTED + timedelta(days=1))
    stale = Record(State.STALE, NOW, look)
    desk.ledger.write(lambda ledger: remember(ledger, desk.ground, {chips[0]: stale}))
    assert desk.standing("0,0").lines[0].file is None


def test_a_line_counts_failed_pixels(desk: Desk, chips: list[Chip]) -> None:
    desk.note(chips[0], State.FLAWED, failed=(1, 2, 3))
    desk.note(chips[1], State.NO_DATA)
    assert [line.failed for line in desk.standing("0,0:2").lines] == [3, PIXELS]


# The words of reports are those of the states


def test_reports_know_each_state_in_the_order_of_the_states() -> None:
    assert [*State] == list(STATE_LOOKS)


def test_reports_and_runs_agree_on_what_is_home() -> None:
    assert {state for state, look in STATE_LOOKS.items() if look.home} == HOME


def test_a_standing_prefers_running_again_to_a_person() -> None:
    nothing = Standing((), {}, waiting=0, needs_person=0, next_steps=())
    assert nothing.exit_status == 0
    assert replace(nothing, needs_person=1).exit_status == 4
    assert replace(nothing, waiting=1, needs_person=1).exit_status == 3
