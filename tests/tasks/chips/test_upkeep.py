"""Which tiles a further run helps, and whether delivered files are still as they were."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.chips.campaign import Campaign, tile_campaign_of
from tasks.chips.grid import Chip
from tasks.chips.states import Look, Record, State
from tasks.chips.upkeep import Verified, asked_of, last_moved, open_tiles, verify
from tasks.files import sha256_of
from tasks.ledger.chips import Saved, close_tile, note_saved, remember, use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.store import Ledger
from tasks.ledger.upkeep import deliveries, last_runs, note_last_run
from tasks.settings import Settings, load_settings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALGORITHM = "lcmap-pyccd:2017.08.18"
SOURCE = "LCMAP/changes.results"
GROUND = Ground(SOURCE, ALGORITHM, "conus", "H05V03")


@dataclass
class Desk:
    """A ledger and an output folder."""

    ledger: Ledger
    out: Path
    settings: Settings

    def campaign(self, tile: str = "H05V03", window: str = "0:1,0:2") -> Campaign:
        return tile_campaign_of(tile, window=window, algorithm=ALGORITHM, out=self.out, settings=self.settings)

    def run(self, campaign: Campaign, *states: State) -> None:
        """Note what a run notes: that it was made, and where its chips stood at its end."""
        ground = Ground(SOURCE, ALGORITHM, "conus", campaign.tile.name)
        self.ledger.write(lambda ledger: use_tile(ledger, ground, campaign.name))
        self.ledger.write(lambda ledger: note_last_run(ledger, ground, asked_of(campaign)))
        for chip, state in zip(campaign.chips, states, strict=False):
            self.note(ground, chip, state)

    def note(
        self, ground: Ground, chip: Chip, state: State, since: datetime = NOW, renewed: datetime | None = None
    ) -> None:
        look = Look(since, ticketed=state != State.UNREQUESTED, update_requested=renewed)
        record = Record(state, since, look)
        self.ledger.write(lambda ledger: remember(ledger, ground, {chip: record}))

    def open(self, source: str = SOURCE) -> list[str]:
        with self.ledger.read() as ledger:
            found = open_tiles(ledger, source, self.settings)
        return [f"{one.tile}: {one.waiting} waiting, {one.unsaved} to save" for one in found]

    def save(self, name: str, text: str, number: int = 0) -> Path:
        """Write a file and note it as an export does."""
        file = self.out / "H05V03" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        saved = Saved(NOW, "", file=file, sha256=sha256_of(file))
        chip = self.campaign().chips[number]
        self.ledger.write(lambda ledger: note_saved(ledger, GROUND, self.out, chip, saved))
        return file

    def list_in_manifest(self, *files: Path) -> None:
        lines = [f"{file.name},{sha256_of(file)}" for file in files]
        (self.out / "H05V03" / "manifest.csv").write_text("\n".join(["file,sha256", *lines]) + "\n")

    def verify(self) -> Verified:
        return verify(self.settings, GROUND, self.out)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERLANDER_LEDGER", str(tmp_path / "ledger.sqlite"))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Desk(ledger, tmp_path / "out", load_settings())


# What is open


def test_a_tile_is_open_while_a_run_helps_it(desk: Desk) -> None:
    desk.run(desk.campaign(), State.NO_DATA, State.QUEUED)

    assert desk.open() == ["H05V03: 1 waiting, 0 to save"]


@pytest.mark.parametrize("state", [State.COMPLETE, State.FLAWED])
def test_a_tile_is_open_while_a_chip_that_is_home_has_no_file_or_an_older_one(desk: Desk, state: State) -> None:
    desk.run(desk.campaign(), state, State.NO_DATA)

    assert desk.open() == ["H05V03: 0 waiting, 1 to save"]
    desk.save("a.json", "one")
    assert desk.open() == []
    desk.note(GROUND, desk.campaign().chips[0], state, renewed=NOW.replace(tzinfo=None))
    assert desk.open() == ["H05V03: 0 waiting, 1 to save"]


def test_flawed_chips_are_not_waited_for_where_they_are_skipped(desk: Desk) -> None:
    desk.run(replace(desk.campaign(), flawed="skip"), State.FLAWED, State.NO_DATA)

    assert desk.open() == []


@pytest.mark.parametrize("state", [State.NO_DATA, State.QUARANTINED])
def test_a_tile_that_no_run_helps_is_not_open(desk: Desk, state: State) -> None:
    desk.run(desk.campaign(), State.COMPLETE, state)
    desk.save("a.json", "one")

    assert desk.open() == []


def test_a_chip_that_nobody_has_looked_at_keeps_its_tile_open(desk: Desk) -> None:
    desk.run(desk.campaign(), State.NO_DATA)

    assert desk.open() == ["H05V03: 1 waiting, 0 to save"]


def test_a_closed_tile_is_not_open(desk: Desk) -> None:
    desk.run(desk.campaign(), State.QUEUED)
    desk.ledger.write(lambda ledger: close_tile(ledger, GROUND, NOW, "delivered"))

    assert desk.open() == []


def test_a_tile_that_was_only_looked_at_is_nobodys_to_run(desk: Desk) -> None:
    desk.ledger.write(lambda ledger: use_tile(ledger, GROUND, "a look"))
    desk.note(GROUND, desk.campaign().chips[0], State.UNREQUESTED)

    assert desk.open() == []


def test_tiles_of_another_table_are_another_workers(desk: Desk) -> None:
    desk.run(desk.campaign(), State.QUEUED)

    assert desk.open("OTHER/changes.results") == []


def test_the_next_run_is_asked_for_what_the_last_one_was(desk: Desk) -> None:
    desk.run(desk.campaign(window="0:2,0:3"), State.QUEUED)
    desk.run(desk.campaign(window="3:4,0:2"), State.QUEUED)

    with desk.ledger.read() as ledger:
        asked = open_tiles(ledger, SOURCE, desk.settings)[0].asked
        assert [run.asked for run in last_runs(ledger, SOURCE)] == [asked]

    assert asked["window"] == "3:4,0:2"
    assert asked["out"] == str(desk.out)
    assert asked["algorithm"] == ALGORITHM


def test_a_tile_last_moved_when_a_chip_last_changed_its_state(desk: Desk) -> None:
    first, second = desk.campaign().chips
    desk.note(GROUND, first, State.QUEUED, NOW - timedelta(days=2))
    desk.note(GROUND, second, State.QUEUED, NOW - timedelta(hours=5))

    with desk.ledger.read() as ledger:
        assert last_moved(ledger, GROUND) == NOW - timedelta(hours=5)


# What is delivered


def test_files_that_are_as_their_manifest_says_are_right(desk: Desk) -> None:
    desk.list_in_manifest(desk.save("a.json", "one"), desk.save("b.json", "two", 1))

    found = desk.verify()

    assert (found.files, found.wrong, found.problems) == (2, 0, ())


def test_a_changed_file_is_told_by_its_hash_and_a_missing_one_by_its_absence(desk: Desk) -> None:
    changed, missing = desk.save("a.json", "one"), desk.save("b.json", "two", 1)
    desk.list_in_manifest(changed, missing)
    changed.write_text("own")
    missing.unlink()

    found = dict(desk.verify().problems)

    assert found[str(changed)] == "is not what was written: its SHA-256 differs"
    assert found[str(missing)] == "is missing"


def test_a_file_that_only_the_manifest_lists_counts(desk: Desk) -> None:
    kept = desk.save("a.json", "one")
    moved_here = desk.out / "H05V03" / "old.json"
    moved_here.write_text("as delivered")
    desk.list_in_manifest(kept, moved_here)
    moved_here.write_text("as it is now")

    assert [file for file, _ in desk.verify().problems] == [str(moved_here)]


def test_a_file_that_a_run_renewed_is_right_before_its_manifest_is_written_again(desk: Desk) -> None:
    desk.list_in_manifest(desk.save("a.json", "one"))
    desk.save("a.json", "one, renewed")

    assert desk.verify().wrong == 0


@pytest.mark.parametrize("text", ["file;sha256\na.json;1\n", "file\na.json,b\n"])
def test_a_manifest_that_is_none_any_more_is_told_and_the_files_are_looked_at(desk: Desk, text: str) -> None:
    desk.save("a.json", "one").write_text("another")
    (desk.out / "H05V03" / "manifest.csv").write_text(text)

    found = desk.verify()

    assert found.wrong == len(found.problems) == 2
    assert "is no manifest any more" in found.problems[0][1]
    assert "SHA-256 differs" in found.problems[1][1]


def test_files_without_a_manifest_are_told(desk: Desk) -> None:
    desk.save("a.json", "one")

    assert desk.verify().problems == ((str(desk.out), "holds no manifest of H05V03"),)


def test_each_tile_and_folder_that_something_was_saved_to_is_a_delivery(desk: Desk) -> None:
    desk.save("a.json", "one")

    with desk.ledger.read() as ledger:
        assert deliveries(ledger) == deliveries(ledger, "conus", "H05V03") == [(GROUND, desk.out)]
        assert deliveries(ledger, "conus", "H05V04") == []
