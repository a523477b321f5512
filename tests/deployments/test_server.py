"""One start of a real Prefect server: it is slow."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from deployments import server


@pytest.fixture(scope="module")
def started() -> Iterator[server.Server]:
    yield server.up(print)
    server.down()


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


def test_down_leaves_nothing_running(started: server.Server) -> None:
    family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]

    assert server.down() is True

    assert server.status() is None
    assert not any(process.is_running() for process in family)
    assert server.down() is False
