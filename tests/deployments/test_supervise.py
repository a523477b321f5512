"""Real child processes, small ones of Python."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deployments import supervise
from deployments.supervise import Program, down, free_port, running, up
from tasks.errors import PartMissing, ServiceAway

ROOT = Path(__file__).parents[2]

SLEEPER = """
import pathlib, time
with open("starts", "a") as starts: starts.write("started\\n")
pathlib.Path("ready").touch()
time.sleep(600)
"""
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("grandchild").write_text(str(grandchild.pid))
pathlib.Path("ready").touch()
time.sleep(600)
"""
ORPHANING = STUBBORN.replace("time.sleep(600)\n", "sys.exit()\n")
FAILING = """
print("INFO starting")
print("ERROR Address already in use: port 9042")
print("INFO bye")
raise SystemExit(1)
"""
FROM_ELSEWHERE = """
import sys
from pathlib import Path
from tests.deployments.test_supervise import SLEEPER, program
from deployments.supervise import up
print(up(program(Path(sys.argv[1]), SLEEPER)).pid)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "program"
    yield place
    down(place, grace_s=0)


def program(folder: Path, script: str, ready: Callable[[], bool] | None = None, within_s: float = 30) -> Program:
    return Program(
        name="the sleeper",
        folder=folder,
        command=[sys.executable, "-c", script],
        environment={"PYTHONUNBUFFERED": "1"},
        ready=ready or (folder / "ready").exists,
        ready_within_s=within_s,
        facts={"port": 1234},
    )


def eventually(condition: Callable[[], bool], within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def elsewhere(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FROM_ELSEWHERE, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_program_that_is_up_is_found_again_with_its_facts(folder: Path) -> None:
    started = up(program(folder, SLEEPER))

    assert running(folder) == started
    assert started.facts == {"port": 1234}
    assert lives(started.pid)


def test_up_again_returns_the_one_that_runs(folder: Path) -> None:
    first = up(program(folder, SLEEPER))

    assert up(program(folder, SLEEPER)) == first
    assert (folder / "starts").read_text() == "started\n"


def test_two_commands_that_start_it_at_once_start_one(folder: Path) -> None:
    commands = [elsewhere(folder), elsewhere(folder)]

    pids = {command.communicate(timeout=60)[0] for command in commands}

    assert len(pids) == 1
    assert (folder / "starts").read_text() == "started\n"


def test_it_outlives_its_starter_out_of_reach_of_the_terminal(folder: Path) -> None:
    pid = int(elsewhere(folder).communicate(timeout=60)[0])

    assert lives(pid)
    assert os.getsid(pid) == pid
    assert running(folder) is not None


def test_it_does_not_hold_its_starters_lock(folder: Path) -> None:
    started = up(program(folder, SLEEPER))

    held = {Path(file.path).name for file in psutil.Process(started.pid).open_files()}
    assert "lock" not in held


def test_a_record_whose_process_id_was_given_to_another_process_counts_for_nothing(folder: Path) -> None:
    folder.mkdir()
    stranger = psutil.Process()
    record = {"pid": stranger.pid, "created": stranger.create_time() - 1000, "facts": {}, "log": "x.log"}
    (folder / "running.json").write_text(json.dumps(record))

    assert running(folder) is None
    assert down(folder) is False
    assert up(program(folder, SLEEPER)).pid != stranger.pid


def test_a_program_that_ends_before_it_is_ready_says_what_its_log_says(folder: Path) -> None:
    with pytest.raises(PartMissing) as caught:
        up(program(folder, FAILING))

    assert "The sleeper ended by itself" in str(caught.value)
    assert "Address already in use: port 9042" in str(caught.value)
    assert str(folder / "the-sleeper.log") in str(caught.value)
    assert running(folder) is None


def test_a_program_that_is_not_ready_in_time_is_stopped(folder: Path) -> None:
    with pytest.raises(ServiceAway, match=r"not ready within 1 s.*try again"):
        up(program(folder, STUBBORN.replace("SIG_IGN", "SIG_DFL"), ready=lambda: False, within_s=1))

    assert running(folder) is None
    assert not lives(int((folder / "grandchild").read_text()))


def test_ctrl_c_while_waiting_stops_what_was_started(folder: Path) -> None:
    def interrupted() -> bool:
        if (folder / "ready").exists():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        up(program(folder, STUBBORN.replace("SIG_IGN", "SIG_DFL"), ready=interrupted))

    assert running(folder) is None
    assert not lives(int((folder / "grandchild").read_text()))


def test_down_kills_what_does_not_heed_sigterm_and_what_that_started(folder: Path) -> None:
    started = up(program(folder, STUBBORN))
    grandchild = int((folder / "grandchild").read_text())

    assert down(folder, grace_s=0.2) is True

    assert not lives(started.pid)
    assert not lives(grandchild)
    assert running(folder) is None
    assert down(folder) is False


def test_down_stops_what_a_dead_program_left_behind(folder: Path) -> None:
    started = up(program(folder, ORPHANING))
    grandchild = int((folder / "grandchild").read_text())
    eventually(lambda: running(folder) is None)
    assert lives(grandchild)

    assert down(folder, grace_s=0.2) is True

    assert not lives(grandchild)
    assert not lives(started.pid)


def test_the_log_of_the_time_before_is_kept_beside_the_new_one(folder: Path) -> None:
    with pytest.raises(PartMissing):
        up(program(folder, FAILING))
    started = up(program(folder, SLEEPER))

    assert started.log.read_text() == ""
    assert "Address already in use" in started.log.with_suffix(".log.1").read_text()


def test_the_lock_can_be_taken_again_by_its_holder(folder: Path) -> None:
    with supervise.locked(folder):
        assert up(program(folder, SLEEPER)) == running(folder)


def test_the_preferred_port_is_taken_when_free_and_another_when_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
