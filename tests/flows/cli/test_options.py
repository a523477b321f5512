"""What is used of the sandbox when it runs and no Cassandra is set."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.sandbox import world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.pywps import Wps
from flows.cli import options
from tasks.settings import load_settings
from tests.flows.desk import Desk

SERVICE = "http://127.0.0.1:1/here"


@pytest.fixture(autouse=True)
def beside_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A person in a folder of their own, with a sandbox that runs and nothing set."""
    monkeypatch.setattr(world, "node", lambda: Node(("127.0.0.1",), 1))
    monkeypatch.setattr(world, "service_url", lambda: SERVICE)
    monkeypatch.chdir(tmp_path)
    with Desk(tmp_path).at_work(OVERLANDER_OUT=None, OVERLANDER_LEDGER=None):
        yield


def test_with_nothing_set_the_sandboxs_service_is_used_and_named_and_runs_hurry() -> None:
    named = options.settle()

    settings = load_settings()
    assert named == f"No Cassandra is set: using the sandbox at 127.0.0.1 port 1 and its service at {SERVICE}."
    assert (settings.service_url, settings.algorithm) == (SERVICE, world.ALGORITHM)
    assert settings.ledger == str(world.ledger_file())
    assert {name: getattr(settings, name) for name in options.SANDBOX_PACE} == options.SANDBOX_PACE


def test_with_a_service_that_is_down_the_sandboxs_table_alone_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "service_url", lambda: None)

    assert options.settle() == "No Cassandra is set: using the sandbox at 127.0.0.1 port 1."
    assert load_settings().service_url is None


def test_what_a_person_set_is_kept_wherever_it_was_set(tmp_path: Path) -> None:
    os.environ["OVERLANDER_STALL_AFTER_S"] = "77"
    (tmp_path / "overlander.toml").write_text(
        'algorithm = "pyccd:mine"\nledger = "mine.sqlite"\npoll_first_s = 3\n'
    )

    options.settle()

    settings = load_settings()
    assert (settings.stall_after_s, settings.poll_first_s) == (77, 3)
    assert settings.poll_longest_s == options.SANDBOX_PACE["poll_longest_s"]
    assert (settings.algorithm, settings.ledger) == ("pyccd:mine", "mine.sqlite")


def test_a_real_service_is_never_asked_for_what_the_sandboxs_table_lacks() -> None:
    os.environ["OVERLANDER_SERVICE_URL"] = "http://real.example/v1/changes"

    assert options.settle() is None
    assert load_settings().cassandra.hosts == []


def test_a_real_cassandra_gets_nothing_of_the_sandbox() -> None:
    os.environ["OVERLANDER_CASSANDRA_HOSTS"] = "db1.example"

    assert options.settle() is None
    assert load_settings().service_url is None
    assert load_settings().model_fields_set == {"cassandra"}


def test_a_block_that_stands_for_the_wps_leaves_the_sandbox_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://real.example/wps"
    monkeypatch.setattr(world, "wps", lambda: Wps(f"{SERVICE}/wps", SERVICE, tmp_path))
    monkeypatch.setattr(options, "_load_blocks", lambda: os.environ.update(OVERLANDER_WPS_URL=url))
    os.environ["OVERLANDER_PROCESS_BLOCK"] = "ours"

    assert options.settle_wps() is None
    assert (load_settings().wps_url, load_settings().ledger) == (url, None)
