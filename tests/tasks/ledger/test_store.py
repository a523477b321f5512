"""The ledger as a resource: what is committed stays, what fails fails alone, and what is unfit is refused."""

import contextlib
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Connection, event, func, inspect, select
from sqlalchemy.exc import IntegrityError, StatementError

from tasks.errors import LedgerUnusable, OutputUnusable, TransientError
from tasks.ledger import schema, sqlite_file
from tasks.ledger.database import database_clock, upsert
from tasks.ledger.schema import chips, rates, tiles
from tasks.ledger.sqlite_file import BUSY_TIMEOUT_S
from tasks.ledger.store import Ledger

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LIMIT_S = 120
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


def note(what: str, value: float = 1.0) -> Callable[[Connection], None]:
    """Return a change that inserts one row."""

    def change(connection: Connection) -> None:
        row = {"source": "here", "what": what, "value": value, "unit": "chips/s", "measured_at": NOW}
        connection.execute(rates.insert().values(row))

    return change


def noted(ledger: Ledger) -> set[str]:
    with ledger.read() as connection:
        return set(connection.scalars(select(rates.c.what)))


def together(ledger: Ledger, changes: list[Callable[[Connection], None]]) -> list[Future[None]]:
    """Have the changes asked for while the writer is at work on another, so that they make up one group."""
    blocked, release = threading.Event(), threading.Event()

    def block(_connection: Connection) -> None:
        blocked.set()
        assert release.wait(LIMIT_S)

    with ThreadPoolExecutor(len(changes) + 1) as threads:
        threads.submit(ledger.write, block)
        assert blocked.wait(LIMIT_S)
        asked = []
        for number, change in enumerate(changes, start=1):
            asked.append(threads.submit(ledger.write, change))
            with ledger._turn:  # in order, each accepted before the next is asked for
                assert ledger._turn.wait_for(lambda n=number: len(ledger._accepted) == n, LIMIT_S)
        release.set()
    return asked


def test_a_write_returns_what_its_change_returns_and_a_reader_sees_it(ledger: Ledger) -> None:
    ledger.write(note("survey"))

    assert ledger.write(lambda connection: connection.scalar(select(func.count()).select_from(rates))) == 1
    assert noted(ledger) == {"survey"}


def test_changes_asked_for_at_the_same_time_share_one_commit(ledger: Ledger) -> None:
    commits: list[Connection] = []
    event.listen(ledger._database.writes, "commit", commits.append)

    together(ledger, [note(f"rate {number}") for number in range(20)])

    assert len(commits) == 2  # the one that blocked, and all the others
    assert len(noted(ledger)) == 20


def test_a_change_that_fails_is_undone_alone(ledger: Ledger) -> None:
    def half(connection: Connection) -> None:
        note("half")(connection)
        raise ValueError("on purpose")

    before, failed, doubled, after = together(ledger, [note("before"), half, note("before"), note("after")])

    assert isinstance(failed.exception(), ValueError)
    assert isinstance(doubled.exception(), IntegrityError)
    assert before.exception() is None
    assert after.exception() is None
    assert noted(ledger) == {"before", "after"}


def test_a_full_disk_is_told_to_each_caller_whose_change_is_not_there(ledger: Ledger) -> None:
    ledger.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 60").close())

    asked = together(ledger, [note("before"), note("x" * 1_000_000), note("after")])

    assert isinstance(asked[1].exception(), OutputUnusable)
    assert ledger.name in str(asked[1].exception())
    told = {what for what, one in zip(["before", "x", "after"], asked, strict=True) if not one.exception()}
    assert noted(ledger) == told
    ledger.write(note("later"))
    assert "later" in noted(ledger)


def test_a_rolled_back_group_is_told_to_all_its_callers(ledger: Ledger) -> None:
    def rolled_back_by_sqlite(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT OR ROLLBACK INTO rates SELECT * FROM rates")

    before, failed, after = together(ledger, [note("before"), rolled_back_by_sqlite, note("after")])

    assert isinstance(before.exception(), IntegrityError)
    assert isinstance(failed.exception(), IntegrityError)
    assert isinstance(after.exception(), IntegrityError)
    assert noted(ledger) == set()


def test_what_was_accepted_is_committed_after_close(path: Path) -> None:
    ledger = Ledger.open(path)
    closing = threading.Thread(target=ledger.close)

    def close_meanwhile(_connection: Connection) -> None:
        closing.start()
        with ledger._turn:
            assert ledger._turn.wait_for(lambda: ledger._closed, LIMIT_S)

    together(ledger, [note("accepted"), close_meanwhile])
    closing.join(LIMIT_S)

    with Ledger.open(path) as again:
        assert noted(again) == {"accepted"}
    with pytest.raises(RuntimeError, match="closed"):
        ledger.write(note("late"))


def test_a_change_cannot_ask_for_another(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError, match="both in one"):
        ledger.write(lambda _connection: ledger.write(note("inner")))


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnusable), ledger.read() as connection:
        note("stray")(connection)


def write_and_wait_for_the_end(path: Path, pipe: Pipe) -> None:
    Ledger.open(path).write(note("written"))
    pipe.send("written")
    threading.Event().wait()


def test_a_row_is_there_after_its_writer_was_killed(path: Path) -> None:
    here, there = spawn.Pipe()
    writer = spawn.Process(target=write_and_wait_for_the_end, args=(path, there), daemon=True)
    writer.start()
    try:
        assert here.poll(LIMIT_S)
    finally:
        writer.kill()
        writer.join(LIMIT_S)

    with Ledger.open(path, create=False) as ledger:
        assert noted(ledger) == {"written"}


def open_at_once(path: Path, start: Barrier, number: int) -> None:
    start.wait(LIMIT_S)
    with Ledger.open(path) as ledger:
        ledger.write(note(f"process {number}"))


def test_four_processes_open_a_new_ledger_at_once(path: Path) -> None:
    start = spawn.Barrier(4)
    processes = [
        spawn.Process(target=open_at_once, args=(path, start, number), daemon=True) for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT_S)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    with Ledger.open(path) as ledger:
        assert noted(ledger) == {f"process {number}" for number in range(4)}
        with ledger.read() as connection:
            assert connection.scalars(select(schema.ledger_version.c.version)).all() == [schema.VERSION]


def test_sqlite_is_set_to_lose_nothing(ledger: Ledger) -> None:
    def pragma(name: str) -> object:
        return ledger.write(lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar())

    full = 2
    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == full
    assert pragma("busy_timeout") == BUSY_TIMEOUT_S * 1000
    assert pragma("foreign_keys") == 1


def test_a_newer_ledger_is_refused(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.write(lambda connection: connection.execute(schema.ledger_version.update().values(version=77)))

    with pytest.raises(LedgerUnusable, match=f"has version 77, and this Overlander knows {schema.VERSION}"):
        Ledger.open(path)


@pytest.mark.parametrize("create", [True, False])
def test_an_older_ledger_gets_what_it_lacks_and_keeps_what_it_has(path: Path, create: bool) -> None:
    with Ledger.open(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as older:
        older.execute("DROP TABLE requests")
        older.execute("DROP INDEX exports_saved")
        older.execute("ALTER TABLE tiles DROP COLUMN guard")
        older.execute("UPDATE ledger_version SET version = 1")
        older.execute(
            "INSERT INTO tiles (source, algorithm, region, tile, campaign, closed_reason, last_used_at) "
            "VALUES ('a', 'b', 'conus', 'H05V03', 'kept', '', '2026-11-23 12:00:00.000000')"
        )
        older.commit()

    with Ledger.open(path, create=create) as ledger, ledger.read() as connection:
        (tile,) = connection.execute(select(schema.tiles))
        assert (tile.campaign, tile.guard) == ("kept", "")
        assert connection.execute(select(schema.requests)).all() == []
        assert {index["name"] for index in inspect(connection).get_indexes("exports")} == {
            index.name for index in schema.exports.indexes
        }
        assert connection.scalars(select(schema.ledger_version.c.version)).all() == [schema.VERSION]


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, whatever its name\n" * 100)

    with pytest.raises(LedgerUnusable, match="no SQLite database"):
        Ledger.open(path)

    assert path.read_text().startswith("not a database")


def test_someone_elses_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "polygons.gpkg"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE gpkg_contents (table_name TEXT)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(LedgerUnusable, match="no ledger of Overlander's"):
        Ledger.open(path)

    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LedgerUnusable, match=r"cannot be made: File exists\. Make .*/file a folder"):
        Ledger.open(tmp_path / "file" / "ledger.sqlite")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smbfs", "lustre", "fuse.sshfs", "fuse.glusterfs", "ceph"])
def test_a_network_file_system_is_refused(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(monkeypatch, {"/": "ext4", str(path.parent.parent): kind})

    with pytest.raises(LedgerUnusable, match=f"{kind} at .*local disk"):
        Ledger.open(path)

    assert not path.parent.exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "9p", "overlay", "tmpfs"])
def test_a_local_disk_below_a_network_file_system_is_taken(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts(monkeypatch, {str(path.parent.parent): kind, "/": "nfs", f"{path.parent.parent}-else": "nfs"})

    Ledger.open(path).close()


def mounts(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]) -> None:
    found = [SimpleNamespace(mountpoint=str(Path(at).resolve()), fstype=kind) for at, kind in kinds.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_arguments: found)


def test_a_missing_ledger_is_not_made_for_who_only_reads(path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="There is no ledger at"):
        Ledger.open(path, create=False)

    assert not path.parent.exists()


def test_a_ledger_locked_for_too_long_is_a_transient_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0)
    with Ledger.open(path) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="locked"):
            ledger.write(note("kept waiting"))
        other.close()

        ledger.write(note("kept waiting"))


def test_an_upsert_changes_only_the_columns_it_names(ledger: Ledger) -> None:
    key = {"source": "here", "algorithm": "pyccd", "region": "CU", "tile": "H05V03"}
    first = key | {"campaign": "first", "last_used_at": NOW, "closed_at": NOW}
    again = key | {"campaign": "second", "last_used_at": NOW + timedelta(hours=1)}

    ledger.write(lambda connection: upsert(connection, tiles, [first]))
    ledger.write(lambda connection: upsert(connection, tiles, [again]))
    ledger.write(lambda connection: upsert(connection, tiles, []))

    with ledger.read() as connection:
        row = connection.execute(select(tiles)).one()
    assert (row.campaign, row.last_used_at, row.closed_at) == ("second", again["last_used_at"], NOW)


def test_our_clock_comes_back_aware_and_the_others_naive(ledger: Ledger) -> None:
    labelled = datetime(2017, 8, 18, 5, 0, 0, 123999)  # noqa: DTZ001 - another clock's
    alaska = timezone(timedelta(hours=-9))
    ledger.write(lambda connection: upsert(connection, chips, [chip(NOW.astimezone(alaska), labelled)]))

    with ledger.read() as connection:
        row = connection.execute(select(chips)).one()

    assert row.since == NOW
    assert row.since.tzinfo is UTC
    assert row.last_produced == labelled.replace(microsecond=123000)
    with pytest.raises(TypeError):
        assert row.last_produced < row.since


def test_the_two_clocks_cannot_be_mixed(ledger: Ledger) -> None:
    naive = NOW.replace(tzinfo=None)

    with pytest.raises(StatementError, match="has no time zone"):
        ledger.write(lambda connection: upsert(connection, chips, [chip(naive, naive)]))
    with pytest.raises(StatementError, match="has a time zone"):
        ledger.write(lambda connection: upsert(connection, chips, [chip(NOW, NOW)]))


def chip(since: datetime, last_produced: datetime) -> dict[str, object]:
    return {
        "source": "here",
        "algorithm": "pyccd",
        "chip_x": -1815585,
        "chip_y": 1064805,
        "region": "CU",
        "tile": "H05V03",
        "state": "running",
        "since": since,
        "looked_at": NOW,
        "pixels": 17,
        "last_produced": last_produced,
    }


def test_the_databases_clock_is_in_seconds_since_1970(ledger: Ledger) -> None:
    before = datetime.now(UTC).timestamp()
    with ledger.read() as connection:
        told = database_clock(connection)
    after = datetime.now(UTC).timestamp()

    millisecond = 0.001
    assert before - millisecond <= told <= after + millisecond
