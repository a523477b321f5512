"""The command as a whole: what it imports, what it gives to programs, and how it refuses."""

import json
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import supervise
from deployments.sandbox import cassandra
from tasks.ledger.store import Ledger
from tests.flows.desk import Desk, Ran, contents

NOWHERE = "http://127.0.0.1:9/api"
"""No Prefect answers here: a command that asks for one fails and says so."""

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("prefect", "pandas"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""


# Without Prefect and pandas


def test_help_and_grid_start_without_prefect_and_pandas(desk: Desk) -> None:
    for arguments in (["--help"], ["grid", "find", "-1815585", "2864805"], ["tile", "run", "--help"]):
        started = desk.start(*arguments, script=BLOCKED)
        out, err = started.communicate(timeout=60)
        assert (started.returncode, err) == (0, "")
        assert out


def test_plan_and_status_work_without_prefect_and_pandas(desk: Desk) -> None:
    answers = []
    for what in ("plan", "status"):
        started = desk.start("tile", what, "H05V03", "--window", "0:1,0:2", "--json", script=BLOCKED)
        out, err = started.communicate(timeout=60)
        assert err == ""
        answers.append((started.returncode, json.loads(out)["states"]["complete"]))
    assert answers == [(0, 2), (0, 2)]


def test_help_and_grid_import_nothing_that_is_slow(desk: Desk) -> None:
    slow = {
        "prefect",
        "pandas",
        "sqlalchemy",
        "psutil",
        "orjson",
        "cassandra",
        "matplotlib",
        "pydantic_settings",
        "rich.console",
    }
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    for arguments in (["--help"], ["grid", "points", "H05V03", "--json"]):
        started = desk.start(*arguments, script=told)
        _, err = started.communicate(timeout=60)
        assert started.returncode == 0
        assert slow & set(err.split()) == set()


@pytest.mark.parametrize("group", [[], ["server"], ["sandbox"], ["grid"], ["tile"], ["polygons"], ["region"]])
def test_the_help_says_what_each_command_does_in_a_whole_sentence(tmp_path: Path, group: list[str]) -> None:
    told = Desk(tmp_path).run(*group, "--help").out

    assert "Commands:" in told
    assert "..." not in told.replace("[ARGS]...", "")


# Grid


def test_points_of_a_tile_are_those_of_the_notebook() -> None:
    """As its `make_points` gives them: rows of x from the upper left corner, south to north never."""
    done = in_a_shell("grid", "points", "H05V03", "--json")

    x, y = -1815585, 2864805
    assert json.loads(done.stdout) == [
        [x + 3000 * column, y - 3000 * row] for row in range(50) for column in range(50)
    ]
    assert done.stderr == ""


def test_a_tile_may_be_named_by_its_corner_though_that_begins_with_a_minus() -> None:
    by_corner = in_a_shell("grid", "points", "-1815585,2864805", "--json")

    assert by_corner.stdout == in_a_shell("grid", "points", "005003", "--json").stdout
    assert len(json.loads(by_corner.stdout)) == 2500


def in_a_shell(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "overlander"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


# Bad input


def assert_refused(ran: Ran, status: int, *words: str) -> None:
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.strip(), "nothing is said"
    assert "\n\n" not in ran.err.strip(), "more than one paragraph"
    assert "Traceback" not in ran.err
    assert len(ran.err) < 1200
    folded = " ".join(ran.err.split())
    for word in words:
        assert word in folded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["H05"], "H05"),
        (["H99V99"], "H99V99"),
        (["H30V20", "--region", "hawaii"], "hawaii"),
        (["-1815585,2864800"], "H05V03, whose corner is -1815585,2864805"),
        (["H05V03", "--window", "4:0,0:4"], "4:0"),
        (["H05V03", "--window", "0:51,0:50"], "0:51"),
        (["H05V03", "--template", "{tile}/chip.json"], "{x}"),
        (["H05V03", "--template", "../{x}_{y}.json"], "leads out"),
        (["H05V03", "--template", "{x}_{y}_{when}.json"], "when"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_service_is_asked(
    desk: Desk, arguments: list[str], words: str
) -> None:
    ran = desk.run("tile", "run", *arguments, "--json", OVERLANDER_CASSANDRA_PORT="9", PREFECT_API_URL=NOWHERE)

    assert_refused(ran, 2, words)
    assert not desk.out.exists()
    assert not (desk.folder / "ledger.sqlite").exists()


def test_a_region_there_is_none_of_is_refused(desk: Desk) -> None:
    ran = desk.run("tile", "run", "H05V03", "--region", "mars", PREFECT_API_URL=NOWHERE)

    assert (ran.status, ran.out) == (2, "")
    assert "mars" in ran.err


@pytest.mark.parametrize("what", ["run", "count", "export", "plan"])
def test_a_wrong_password_is_refused_without_being_shown(desk: Desk, what: str) -> None:
    ran = run_without_prefect(desk, what, OVERLANDER_CASSANDRA_PASSWORD="guessed-at-random")

    assert_refused(ran, 1, "refuses this user", "OVERLANDER_CASSANDRA_PASSWORD")
    assert "guessed-at-random" not in ran.err
    assert not desk.out.exists()


def test_a_user_name_without_a_password_is_refused(desk: Desk) -> None:
    ran = run_without_prefect(desk, OVERLANDER_CASSANDRA_PASSWORD=None)

    assert_refused(ran, 2, "OVERLANDER_CASSANDRA_PASSWORD")


def test_a_keyspace_there_is_none_of_is_named(desk: Desk) -> None:
    ran = run_without_prefect(desk, OVERLANDER_CASSANDRA_KEYSPACE="lcmap_elsewhere")

    assert_refused(ran, 1, "lcmap_elsewhere", "OVERLANDER_CASSANDRA_KEYSPACE")
    assert not desk.out.exists()


def test_a_table_there_is_none_of_is_named(desk: Desk) -> None:
    ran = run_without_prefect(desk, OVERLANDER_CASSANDRA_TABLE="outcomes")

    assert_refused(ran, 1, "'outcomes'", "OVERLANDER_CASSANDRA_TABLE")
    assert not desk.out.exists()


def test_a_table_without_one_of_the_columns_is_refused_by_that_column(
    desk: Desk, seeded_node: cassandra.Node
) -> None:
    with cassandra.session(seeded_node) as connected:
        connected.execute(
            "CREATE TABLE IF NOT EXISTS results_of_old (chip_x int, chip_y int, algorithm text, x int, y int, "
            "result text, chip_update_requested timestamp STATIC, inputs_url text STATIC, inputs_md5 text STATIC, "
            "PRIMARY KEY ((chip_x, chip_y, algorithm), x, y))"
        )
    ran = run_without_prefect(desk, OVERLANDER_CASSANDRA_TABLE="results_of_old")

    assert_refused(ran, 1, "Column result_md5", "missing")
    assert not desk.out.exists()


def test_a_cassandra_that_is_away_is_named_with_its_port(desk: Desk) -> None:
    port = str(supervise.free_port())

    ran = run_without_prefect(desk, OVERLANDER_CASSANDRA_PORT=port)

    assert_refused(ran, 1, f"port {port}", "does not answer", "OVERLANDER_CASSANDRA_HOSTS")
    assert not desk.out.exists()


def test_a_ledger_of_a_newer_version_is_left_as_it_is(desk: Desk) -> None:
    ledger = desk.folder / "ledger.sqlite"
    Ledger.open(ledger).close()
    with sqlite3.connect(ledger) as connected:
        connected.execute("UPDATE ledger_version SET version = 99")
    before = ledger.read_bytes()

    for what in ("run", "status", "plan"):
        assert_refused(run_without_prefect(desk, what), 1, "version 99", "Update Overlander")
    assert ledger.read_bytes() == before
    assert not desk.out.exists()


def test_a_prefect_that_is_set_and_away_is_named(desk: Desk) -> None:
    ran = desk.run("tile", "run", "H05V03", "--window", "0:1,0:1", PREFECT_API_URL=NOWHERE)

    assert_refused(ran, 1, NOWHERE, "PREFECT_API_URL")


def test_an_output_folder_below_a_file_is_refused(desk: Desk, prefect_api: str) -> None:
    file = desk.folder / "notes.txt"
    file.write_text("mine")

    ran = desk.run("tile", "run", "H05V03", "--window", "0:1,0:1", "--json", "--out", str(file / "out"))

    assert_refused_at_last(ran, 1, str(file), "--out")
    assert file.read_text() == "mine"


def test_a_folder_that_fills_up_leaves_nothing_half_written(desk: Desk, prefect_api: str) -> None:
    """A limit on the size of files stands for the disk: both refuse a write in the middle of a chip."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, {resource.RLIM_INFINITY}))"
    started = desk.start("tile", "run", "H05V03", "--window", "0:1,0:1", "--json", script=limited)
    out, err = started.communicate(timeout=60)

    assert_refused_at_last(Ran(started.returncode, out, err), 1, "Cannot write", "--out")
    assert [name for name in contents(desk.out) if name.endswith((".part", "864805.json"))] == []


def assert_refused_at_last(ran: Ran, status: int, *words: str) -> None:
    """The run had begun: its progress comes before the paragraph."""
    said = [line for line in ran.err.splitlines() if " chips looked at" not in line]
    assert_refused(Ran(ran.status, ran.out, "\n".join(said)), status, *words)


def run_without_prefect(desk: Desk, what: str = "run", **changes: str | None) -> Ran:
    """Run a command whose failure must be found before a Prefect server is asked for, or even started."""
    return desk.run("tile", what, "H05V03", "--window", "0:1,0:1", "--json", PREFECT_API_URL=NOWHERE, **changes)
