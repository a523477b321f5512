"""Files of chips, from one run to the next: written once, kept while they are right, and where they belong."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cassandra.cluster import Session

from deployments.sandbox import seed
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM
from tasks.chips.campaign import Campaign, Site
from tasks.chips.chip_file import Exported, ExportOrder, export_chip
from tasks.chips.export import ExportTally, export
from tasks.chips.grid import REGIONS, Chip, parse_window, tile_named
from tasks.chips.layout import Layout
from tasks.chips.processes import ExportPool, _BareContext
from tasks.chips.results import FIRST_ROW_BYTES, ResultsTable
from tasks.chips.states import Record
from tasks.chips.survey import survey
from tasks.errors import LeaseHeld, OutputUnusable, OverlanderError, ServiceTimedOut, TransientError
from tasks.ledger.chips import Saved, recall, saved
from tasks.ledger.keys import Ground
from tasks.ledger.store import Ledger
from tasks.settings import CassandraSettings

Working = Callable[[Campaign], AbstractContextManager[Site]]

COMPLETE, FLAWED, NO_DATA = "0,0", "1,1", "1,3"  # windows on the seeded corner
REQUESTED = datetime(2026, 5, 1, 6, tzinfo=UTC)
PIXEL = "chip_x = %s AND chip_y = %s AND algorithm = %s AND x = %s AND y = %s"
LIMIT_S = 60


@dataclass
class Runs:
    """Runs of one campaign after the other, with the same ledger and output folder."""

    working: Working
    folder: Path
    window: str
    algorithm: str = ALGORITHM
    ground: Ground | None = None

    def campaign(self, **how: object) -> Campaign:
        tile = tile_named("H05V03", REGIONS["conus"])
        layout = Layout(self.folder / "out")
        return Campaign(tile, parse_window(self.window), self.algorithm, "a test", layout, **how)

    def run(self, between: Callable[[], None] = lambda: None, **how: object) -> ExportTally:
        """Survey and export; `between` happens after the one and before the other."""
        campaign = self.campaign(**how)
        with self.working(campaign) as place:
            self.ground = place.ground
            survey(place, campaign.chips)
            between()
            return export(place, campaign.chips)

    @property
    def chip(self) -> Chip:
        return self.campaign().chips[0]

    @property
    def files(self) -> list[Path]:
        """Every file below the output folder."""
        return [path for path in sorted((self.folder / "out").rglob("*")) if path.is_file()]

    def noted(self) -> Saved:
        """What the ledger keeps of the chip's file."""
        with Ledger.open(self.folder / "ledger.sqlite") as opened, opened.read() as ledger:
            return saved(ledger, self.ground, self.folder / "out")[self.chip]

    def known(self) -> dict[Chip, Record]:
        with Ledger.open(self.folder / "ledger.sqlite") as opened, opened.read() as ledger:
            return recall(ledger, self.ground)

    def renew(self, writing: Session, hours: int, results: list[str]) -> None:
        """The service is asked for the chip again, and the worker writes every row."""
        chip, when = self.chip, REQUESTED + timedelta(hours=hours)
        seed.request_again(writing, chip.x, chip.y, self.algorithm, when)
        rows = seed.rows_of(chip.x, chip.y, results=results, produced_from=when + timedelta(minutes=1))
        seed.write_rows(writing, chip.x, chip.y, self.algorithm, rows)


@pytest.fixture
def runs(working: Working, in_a_folder: Path, seeded_node: Node) -> Callable[..., Runs]:
    def on(window: str, algorithm: str = ALGORITHM) -> Runs:
        return Runs(working, in_a_folder, window, algorithm)

    return on


@pytest.fixture
def own(runs: Callable[..., Runs], writing: Session, request: pytest.FixtureRequest) -> Runs:
    """Runs on a complete chip that only this test sees."""
    found = runs("10,10", f"lcmap-pyccd:{request.node.name}")
    chip = found.chip
    seed.write_chip(writing, chip.x, chip.y, results=["[]"], algorithm=found.algorithm, update_requested=REQUESTED)
    return found


def spoil(writing: Session, runs: Runs, *positions: int) -> None:
    """Give pixels a md5 that is not their result's."""
    for position in positions:
        x, y = runs.chip.pixel_at(position)
        writing.execute(
            f"UPDATE results SET result_md5 = 'no' WHERE {PIXEL}", (runs.chip.x, runs.chip.y, runs.algorithm, x, y)
        )


@pytest.fixture
def read(exporters: ExportPool, monkeypatch: pytest.MonkeyPatch) -> list[Chip]:
    """The chips whose rows were read so far."""
    chips: list[Chip] = []
    really = exporters.export

    def export_and_note(order: ExportOrder) -> Exported:
        chips.append(order.chip)
        return really(order)

    monkeypatch.setattr(exporters, "export", export_and_note)
    return chips


# What is written, and where


def test_chips_that_are_home_have_a_file_each_and_the_others_none(runs: Callable[..., Runs]) -> None:
    found = runs("2,1:3")  # complete, incomplete
    tally = found.run()
    folder = found.folder / "out" / ALGORITHM.replace(":", "_") / "H05V03"
    (file,) = found.files
    assert file == folder / f"H05V03_{found.chip.x}_{found.chip.y}.json"
    assert (tally.exported, tally.kept, tally.rows, tally.bytes) == (1, 0, 10_000, file.stat().st_size)
    assert len(json.loads(file.read_bytes())) == 10_000


def test_a_chip_without_a_good_pixel_has_no_file(runs: Callable[..., Runs]) -> None:
    found = runs(NO_DATA)
    assert found.run() == ExportTally()
    assert found.files == []


def test_the_ledger_tells_of_the_file_what_is_so(runs: Callable[..., Runs]) -> None:
    found = runs(FLAWED)
    found.run()
    (file,) = found.files
    noted = found.noted()
    assert noted.file == file
    assert (noted.bytes, noted.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert noted.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (noted.kind, noted.pixels, noted.failed, noted.problem) == ("flawed", 10_000, 37, "")
    look = found.known()[found.chip].look
    assert (noted.first_produced, noted.last_produced) == (look.first_produced, look.last_produced)
    assert noted.update_requested == look.update_requested is not None


def test_a_flawed_chips_file_moves_with_the_choice_and_leaves_none_behind(runs: Callable[..., Runs]) -> None:
    found = runs(FLAWED)
    assert found.run(flawed="skip") == ExportTally()
    assert found.files == []
    found.run(flawed="apart")
    assert [file.parent.name for file in found.files] == ["flawed"]
    found.run(flawed="with-rest")
    assert [file.parent.name for file in found.files] == ["H05V03"]
    found.run(flawed="apart")
    assert [file.parent.name for file in found.files] == ["flawed"]
    assert found.run(flawed="apart").kept == 1


def test_a_flawed_chip_is_written_again_when_its_failed_pixels_are_wanted_otherwise(
    runs: Callable[..., Runs],
) -> None:
    found = runs(FLAWED)
    found.run()
    assert found.run(failed_pixels="null").exported == 1
    records = json.loads(found.files[0].read_bytes())
    assert {record["result"] for record in records if not record["result_ok"]} == {"null"}
    assert found.run(failed_pixels="null").kept == 1


def test_a_complete_chip_is_kept_however_failed_pixels_are_wanted(runs: Callable[..., Runs]) -> None:
    found = runs(COMPLETE)
    found.run()
    assert found.run(failed_pixels="null", flawed="with-rest").kept == 1


# What is kept


def test_a_second_run_keeps_every_file_and_reads_no_row(runs: Callable[..., Runs], read: list[Chip]) -> None:
    found = runs(COMPLETE)
    found.run()
    before = {file: file.stat().st_mtime_ns for file in found.files}
    read.clear()
    assert found.run() == ExportTally(kept=1)
    assert {file: file.stat().st_mtime_ns for file in found.files} == before
    assert read == []


def test_a_file_that_was_touched_is_kept_by_its_hash_and_its_new_time_is_noted(
    runs: Callable[..., Runs],
) -> None:
    found = runs(COMPLETE)
    found.run()
    (file,) = found.files
    os.utime(file, ns=(0, 1_000_000_000))
    assert found.run() == ExportTally(kept=1)
    assert found.noted().mtime_ns == file.stat().st_mtime_ns == 1_000_000_000


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def change(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"change_models", b"change_nodels", 1))


@pytest.mark.parametrize("spoil_file", [truncate, change, Path.unlink], ids=["truncated", "changed", "deleted"])
def test_a_file_that_is_not_as_it_was_is_written_again(
    spoil_file: Callable[[Path], None], runs: Callable[..., Runs]
) -> None:
    found = runs(COMPLETE)
    found.run()
    (file,) = found.files
    before = file.read_bytes()
    spoil_file(file)
    assert not file.exists() or file.read_bytes() != before
    tally = found.run()
    assert (tally.exported, tally.kept) == (1, 0)
    assert file.read_bytes() == before


def test_a_change_that_hides_behind_size_and_time_is_found_by_a_recount(runs: Callable[..., Runs]) -> None:
    found = runs(COMPLETE)
    found.run()
    (file,) = found.files
    written = file.stat().st_mtime_ns
    change(file)
    os.utime(file, ns=(written, written))
    assert found.run().kept == 1
    assert found.run(recount=True).exported == 1
    assert found.noted().sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_rows_rewritten_without_a_new_request_are_found_by_a_recount(own: Runs, writing: Session) -> None:
    own.run()
    chip = own.chip
    rows = seed.rows_of(chip.x, chip.y, results=["[2]"], produced_from=REQUESTED + timedelta(hours=9))
    seed.write_rows(writing, chip.x, chip.y, own.algorithm, rows)
    assert own.run().kept == 1
    assert own.run(recount=True).exported == 1
    assert {record["result"] for record in json.loads(own.files[0].read_bytes())} == {"[2]"}


# Chips requested again


def test_a_chip_requested_again_keeps_its_file_until_the_new_rows_are_all_there(
    own: Runs, writing: Session
) -> None:
    own.run()
    (file,) = own.files
    before = file.read_bytes()
    seed.request_again(writing, own.chip.x, own.chip.y, own.algorithm, REQUESTED + timedelta(hours=1))
    assert own.run() == ExportTally()
    assert file.read_bytes() == before
    own.renew(writing, 2, ["[1]"])
    assert own.run().exported == 1
    assert {record["result"] for record in json.loads(file.read_bytes())} == {"[1]"}
    assert own.run().kept == 1


def test_a_chip_requested_again_between_count_and_read_is_not_saved_but_waits_for_its_new_rows(
    own: Runs, writing: Session
) -> None:
    def request_again() -> None:
        seed.request_again(writing, own.chip.x, own.chip.y, own.algorithm, REQUESTED + timedelta(hours=1))

    assert own.run(between=request_again) == ExportTally(changed=1)
    assert own.files == []
    assert own.run() == ExportTally()
    assert own.known()[own.chip].state == "stale"  # its rows are all of the pass before
    own.renew(writing, 2, ["[1]"])
    assert own.run().exported == 1


def test_results_that_do_not_match_in_a_chip_requested_again_meanwhile_are_judged_when_its_new_rows_are_there(
    own: Runs, writing: Session
) -> None:
    def request_again() -> None:
        seed.request_again(writing, own.chip.x, own.chip.y, own.algorithm, REQUESTED + timedelta(hours=1))

    spoil(writing, own, 5)
    assert own.run(between=request_again) == ExportTally(changed=1)
    assert own.run() == ExportTally()
    assert own.known()[own.chip].state == "stale"


def test_a_chip_that_lost_rows_between_count_and_read_is_counted_anew(own: Runs, writing: Session) -> None:
    x, y = own.chip.pixel_at(77)

    def lose_a_row() -> None:
        writing.execute(f"DELETE FROM results WHERE {PIXEL}", (own.chip.x, own.chip.y, own.algorithm, x, y))

    assert own.run(between=lose_a_row) == ExportTally(changed=1)
    assert own.known() == {}
    assert own.run() == ExportTally()
    assert own.known()[own.chip].missing == (77,)


# Results that do not match their md5


def test_a_chip_whose_results_do_not_match_is_told_with_its_pixels_and_not_read_again(
    own: Runs, writing: Session, read: list[Chip]
) -> None:
    spoil(writing, own, 5, 9_000)
    assert own.run() == ExportTally(problems=1)
    assert own.files == []
    noted = own.noted()
    assert (noted.file, noted.bad) == (None, (5, 9_000))
    assert noted.problem == "The results of 2 pixels do not match their md5."
    read.clear()
    assert own.run() == ExportTally(problems=1)
    assert read == []


def test_a_chip_whose_results_did_not_match_is_read_again_by_a_recount_or_after_a_new_request(
    own: Runs, writing: Session, read: list[Chip]
) -> None:
    spoil(writing, own, 5)
    own.run()
    read.clear()
    assert own.run(recount=True) == ExportTally(problems=1)
    assert read == [own.chip]
    own.renew(writing, 1, ["[1]"])
    assert own.run().exported == 1
    assert own.noted().bad == ()


# When something fails


def test_two_runs_of_one_tile_exclude_each_other_and_the_second_is_told_who(
    runs: Callable[..., Runs],
) -> None:
    found = runs(COMPLETE)
    with (
        found.working(found.campaign()),
        pytest.raises(LeaseHeld, match=rf"'a test' \(process {os.getpid()} on .*H05V03"),
        found.working(found.campaign()),
    ):
        pass
    with found.working(found.campaign()):
        pass


def test_an_output_folder_that_cannot_be_is_one_paragraph_and_leaves_no_parts(
    runs: Callable[..., Runs],
) -> None:
    found = runs("0,0:2")
    (found.folder / "out").write_text("a file where a folder should be")
    with pytest.raises(OutputUnusable, match="Something else stands at that place") as refused:
        found.run()
    assert "\n" not in str(refused.value)
    assert not list(found.folder.rglob("*.part"))


def test_the_parts_of_a_dead_writer_are_swept_and_those_of_a_living_one_stay(runs: Callable[..., Runs]) -> None:
    found = runs(COMPLETE)
    campaign = found.campaign()
    file = campaign.layout.file(campaign.tile, campaign.algorithm, found.chip)
    die = f"import os, pathlib, tasks.files as f\nwith f.part_file(pathlib.Path({str(file)!r})): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", die], timeout=LIMIT_S, check=False).returncode == 9
    (dead,) = file.parent.iterdir()
    living = dead.with_name(dead.name.replace(dead.name.split(".")[-4], str(os.getpid())))
    living.write_bytes(b"half")
    found.run()
    assert sorted(file.parent.iterdir()) == sorted([living, file])


def test_a_chip_that_cannot_be_read_does_not_keep_the_others_from_being_saved(
    runs: Callable[..., Runs], exporters: ExportPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runs("0,0:2")
    really = exporters.export

    def first_times_out(order: ExportOrder) -> Exported:
        if order.chip == found.chip:
            raise ServiceTimedOut("Cassandra did not answer in time.")
        return really(order)

    monkeypatch.setattr(exporters, "export", first_times_out)
    with pytest.raises(ServiceTimedOut):
        found.run()
    assert len(found.files) == 1
    monkeypatch.undo()


def test_a_run_that_is_being_stopped_begins_no_further_chip(runs: Callable[..., Runs]) -> None:
    found = runs(COMPLETE)
    with found.working(campaign := found.campaign()) as place:
        survey(place, campaign.chips)
        place.stopping.set()
        assert export(place, campaign.chips) == ExportTally()
    assert found.files == []


# Saved by other means


def test_chips_saved_by_other_means_are_noted_as_their_own_and_one_that_fails_keeps_none_back(
    runs: Callable[..., Runs], table: ResultsTable
) -> None:
    found = runs("0,0:3")
    campaign = found.campaign()

    def save(orders: Sequence[ExportOrder]) -> list[Exported | OverlanderError]:
        _, *others = orders
        return [ServiceTimedOut("No answer in time."), *(export_chip(table, order) for order in others)]

    with found.working(campaign) as place:
        survey(place, campaign.chips)
        place.save_together = save
        limit = place.pacer.limit
        with pytest.raises(ServiceTimedOut):
            export(place, campaign.chips)

        assert place.pacer.limit < limit, "the next ones are read with more care"
        assert len(found.files) == 2
        assert export(place, campaign.chips[1:]) == ExportTally(kept=2)


def test_what_a_full_disk_kept_from_being_tried_is_left_for_the_next_run(
    runs: Callable[..., Runs], table: ResultsTable
) -> None:
    found = runs("0,0:3")
    campaign = found.campaign()

    with found.working(campaign) as place:
        survey(place, campaign.chips)
        place.save_together = lambda orders: [export_chip(table, orders[0]), OutputUnusable("The disk is full.")]
        with pytest.raises(OutputUnusable):
            export(place, campaign.chips)
        place.save_together = lambda orders: [export_chip(table, order) for order in orders]
        tally = export(place, campaign.chips)

    assert (tally.kept, tally.exported) == (1, 2)


def test_a_run_that_is_being_stopped_asks_no_other_means_either(runs: Callable[..., Runs]) -> None:
    found = runs(COMPLETE)
    asked: list[Sequence[ExportOrder]] = []
    with found.working(campaign := found.campaign()) as place:
        survey(place, campaign.chips)
        place.save_together = lambda orders: asked.append(orders) or []
        place.stopping.set()
        assert export(place, campaign.chips) == ExportTally()
    assert asked == []


# The processes


def an_order(folder: Path) -> ExportOrder:
    chip = next(chip for chip in seed.SEEDED if chip.kind == "queued")
    return ExportOrder(
        chip=Chip(chip.chip_x, chip.chip_y),
        algorithm=ALGORITHM,
        file=folder / "chip.json",
        flawed_file=None,
        failed_pixels="keep",
        update_requested=chip.requested.replace(tzinfo=None),
        row_bytes=FIRST_ROW_BYTES,
    )


def test_a_process_that_is_killed_is_told_and_replaced(
    cassandra_settings: CassandraSettings, seeded_node: Node, tmp_path: Path
) -> None:
    pool = ExportPool(cassandra_settings, processes=1)
    try:
        assert pool.export(an_order(tmp_path)).problem
        (child,) = psutil.Process().children()[-1:]
        pool.kill()
        child.wait(LIMIT_S)
        with pytest.raises(TransientError, match="OVERLANDER_EXPORT_PROCESSES"):
            pool.export(an_order(tmp_path))
        assert pool.export(an_order(tmp_path)).problem
    finally:
        pool.close()


PARENT = """
import os, pathlib, sys, threading
import only_the_parents
from tasks.chips.processes import ExportPool, _BareContext
from tasks.settings import load_settings
from test_export import an_order

if __name__ == "__main__":
    pool = ExportPool(load_settings().cassandra, processes=1)
    pool.export(an_order(pathlib.Path(sys.argv[1])))
    print(pool._pool.submit(os.getpid).result())
    print(*pool._pool.submit(eval, "sorted(__import__('sys').modules)").result(), flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def parent(in_a_folder: Path, seeded_node: Node) -> Iterator["subprocess.Popen[str]"]:
    """A program of its own whose process has saved a chip; it prints of that process."""
    program = in_a_folder / "parent.py"
    (in_a_folder / "only_the_parents.py").write_text("# in the place of prefect, which takes seconds to import")
    program.write_text(PARENT)
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parents[3]), str(here.parent)])
    started = subprocess.Popen(
        [sys.executable, str(program), str(in_a_folder)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=LIMIT_S)


def test_a_process_that_saves_chips_imports_no_prefect_and_ends_when_its_parent_is_killed(
    parent: "subprocess.Popen[str]",
) -> None:
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    modules = parent.stdout.readline().split()
    assert "tasks.chips.processes" in modules
    assert "only_the_parents" not in modules
    assert not [name for name in modules if name.partition(".")[0] in ("prefect", "pandas", "matplotlib")]
    parent.send_signal(signal.SIGKILL)
    gone, left = psutil.wait_procs([child], timeout=LIMIT_S)
    assert gone == [child]
    assert left == []


def test_a_process_that_saves_chips_is_deaf_to_ctrl_c_from_its_first_moment() -> None:
    process = _BareContext().Process(target=time.sleep, args=(0,))
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(LIMIT_S)
    assert process.exitcode == 0


@pytest.mark.benchmark
def test_a_chip_of_126_mb_is_saved_within_250_mb_of_memory(
    cassandra_settings: CassandraSettings, writing: Session, tmp_path: Path
) -> None:
    chip, algorithm = Chip(-1785585, 2834805), "lcmap-pyccd:test-large"
    seed.write_chip(
        writing,
        *(chip.x, chip.y),
        results=[json.dumps("x" * 12_000)],
        algorithm=algorithm,
        update_requested=REQUESTED,
    )
    order = replace(
        an_order(tmp_path), chip=chip, algorithm=algorithm, update_requested=REQUESTED.replace(tzinfo=None)
    )
    pool = ExportPool(cassandra_settings, processes=1)
    try:
        outcome = pool.export(order)
        assert pool._pool is not None
        # Not ru_maxrss: a process inherits that of the one that started it.
        status = pool._pool.submit(Path.read_text, Path("/proc/self/status")).result()
        most_kb = int(status.partition("VmHWM:")[2].split()[0])
    finally:
        pool.close()
    assert outcome.bytes > 126_000_000
    assert most_kb < 250_000, most_kb
    print(f"{most_kb / 1000:.0f} MB")  # noqa: T201
