"""What can be told of the worker without starting one; tests/flows/test_deployed.py has a real one."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments import worker
from tasks.errors import PartMissing


@pytest.mark.parametrize("name", ["tasks.py", "flows.py", "deployments"])
def test_a_worker_is_not_started_beside_what_would_shadow_our_packages(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERLANDER_STATE_FOLDER", str(tmp_path))
    worker.own_folder().mkdir()
    (worker.own_folder() / name).mkdir() if "." not in name else (worker.own_folder() / name).touch()

    with pytest.raises(PartMissing, match=name):
        worker.up("http://127.0.0.1:9/api", {}, 1, print)

    assert worker.status() is None


def test_a_folder_with_other_files_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "Prefect-worker.log").touch()

    assert worker.foreign_files(tmp_path) == []


def test_the_digest_tells_settings_apart_and_depends_on_no_secret() -> None:
    settings = {"OVERLANDER_OUT": "/data", "OVERLANDER_CASSANDRA_PASSWORD": "open-sesame"}

    assert worker.digest_of(settings) != worker.digest_of(settings | {"OVERLANDER_OUT": "/other"})
    assert worker.digest_of(settings) == worker.digest_of(settings | {"OVERLANDER_CASSANDRA_PASSWORD": "x"})


def test_the_digest_depends_on_no_password_in_the_ledgers_address_and_on_the_rest_of_it() -> None:
    digests = [
        worker.digest_of({"OVERLANDER_LEDGER": f"postgresql://someone:{password}@{host}/overlander"})
        for password, host in (("open-sesame", "db"), ("x", "db"), ("x", "other"))
    ]

    assert digests[0] == digests[1] != digests[2]


def test_importing_it_and_what_starts_it_does_not_import_prefect() -> None:
    script = "import deployments.local, deployments.worker, sys; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
