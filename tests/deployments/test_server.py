"""One start of a real Prefect server with its worker: it is slow."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments import local, server, supervise, worker

SETTINGS = {"OVERLANDER_OUT": "/data"}
UP = f"from deployments import local; local.up({SETTINGS}, 3, print)"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Local]:
    with pytest.MonkeyPatch.context() as patch:
        # Set by `local.up` for this process; noted here so that it is undone.
        for name in (*server.CLIENT_SETTINGS, "PREFECT_API_URL"):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect-home")))
        subprocess.run([sys.executable, "-c", UP], check=True, timeout=280)  # as the command does
        found, takes = server.status(), worker.status()
        assert found is not None
        assert takes is not None
        yield local.Local(found, takes)
        local.down()


@pytest.fixture
def started(up: local.Local) -> server.Server:
    return up.server


def test_importing_it_does_not_import_prefect() -> None:
    script = "import deployments.server, sys; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_prefect_knows_every_setting_and_takes_its_value() -> None:
    script = """
import json, os
from prefect.settings import get_current_settings
print(json.dumps(sorted(get_current_settings().to_environment_variables(exclude_unset=True))))
"""
    wanted = {**server.SERVER_SETTINGS, **server.CLIENT_SETTINGS}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**kept, **wanted}, capture_output=True, text=True, check=True
    )
    assert {name for name in wanted if name.startswith("PREFECT_")} <= set(json.loads(done.stdout))


def test_it_answers_and_is_found_again(started: server.Server) -> None:
    with urllib.request.urlopen(f"{started.api_url}/health") as answer:  # noqa: S310 - its own address
        assert answer.status == 200
    assert server.status() == started


def test_up_again_returns_the_same_server(started: server.Server) -> None:
    said: list[str] = []

    assert server.up(said.append) == started
    assert said == []


def test_up_again_finds_server_and_worker_and_registers_nothing_again(up: local.Local) -> None:
    said: list[str] = []

    assert local.up(SETTINGS, 3, said.append) == up
    assert said == []


def test_more_runs_at_once_than_sqlite_bears_are_warned_of(up: local.Local) -> None:
    command = [sys.executable, "-c", "from flows.cli.main import main; main()", "server", "up", "--runs", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    told = " ".join(done.stderr.split())
    assert "with more than 2 runs at once" in told
    assert server.DATABASE_URL in told


def test_the_worker_reports_to_the_pool_that_the_deployments_name(up: local.Local) -> None:
    request = urllib.request.Request(  # noqa: S310 - its own address
        f"{up.server.api_url}/work_pools/overlander/workers/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - its own address
        assert [found["status"] for found in json.loads(answer.read())] == ["ONLINE"]
    with urllib.request.urlopen(f"{up.server.api_url}/deployments/name/tile-campaign/tile-campaign") as answer:  # noqa: S310 - its own address
        assert json.loads(answer.read())["work_queue_name"] == "default"


def test_up_again_registers_with_a_server_that_knows_nothing_of_it(up: local.Local) -> None:
    where = f"{up.server.api_url}/deployments"
    with urllib.request.urlopen(f"{where}/name/{local.A_DEPLOYMENT}") as answer:  # noqa: S310 - its own address
        known = json.loads(answer.read())["id"]
    forget = urllib.request.Request(f"{where}/{known}", method="DELETE")  # noqa: S310 - its own address
    urllib.request.urlopen(forget).close()  # noqa: S310 - its own address

    done = subprocess.run([sys.executable, "-c", UP], capture_output=True, text=True, check=True, timeout=280)

    assert "Registering deployments" in done.stdout
    assert server.knows(up.server, local.A_DEPLOYMENT)


def test_runs_give_way_to_the_server_on_a_busy_machine(up: local.Local) -> None:
    assert psutil.Process(up.worker.pid).nice() > psutil.Process(up.server.pid).nice()


def test_the_workers_folder_holds_nothing_that_shadows_our_packages(up: local.Local) -> None:
    assert worker.foreign_files(worker.own_folder()) == []


@pytest.mark.campaign
def test_a_server_is_on_the_database_that_its_user_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_STATE_FOLDER", str(tmp_path))
    monkeypatch.setenv(server.DATABASE_URL, f"sqlite+aiosqlite:///{tmp_path / 'ours.db'}")
    try:
        server.up(print)
        assert (tmp_path / "ours.db").exists()
        assert not list(tmp_path.rglob("prefect.db"))
    finally:
        server.down()


@pytest.mark.campaign
@pytest.mark.timeout(400)  # it waits for two servers
def test_a_server_whose_port_was_taken_while_it_started_takes_another(
    prefect_server: server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, taken = supervise.free_port, iter([int(prefect_server.ui_url.rpartition(":")[2])])
    monkeypatch.setattr(supervise, "free_port", lambda preferred: next(taken, None) or free(preferred))
    monkeypatch.setenv("OVERLANDER_STATE_FOLDER", str(tmp_path))
    try:
        found = server.up(print)
        with urllib.request.urlopen(f"{found.api_url}/health") as answer:  # noqa: S310 - its own address
            assert answer.status == 200
        assert found.ui_url != prefect_server.ui_url
    finally:
        server.down()


def test_down_leaves_nothing_running(up: local.Local) -> None:
    leaders = [psutil.Process(pid) for pid in (up.server.pid, up.worker.pid)]
    family = [process for leader in leaders for process in (leader, *leader.children(recursive=True))]

    assert local.down() is True

    assert server.status() is None
    assert worker.status() is None
    assert not any(lives(process) for process in family)
    assert local.down() is False


def lives(process: psutil.Process) -> bool:
    """A process that nobody has asked for its end yet is a zombie: it holds a number and nothing else."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
