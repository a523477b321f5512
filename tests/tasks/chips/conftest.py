"""A real table, a way to write chips into it, and campaigns at work in a folder of the test."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from cassandra.cluster import Session
from pydantic import SecretStr

from deployments.sandbox import cassandra
from deployments.sandbox.cassandra import Node
from tasks.chips.campaign import Campaign, Site, site
from tasks.chips.processes import ExportPool
from tasks.chips.results import ResultsTable
from tasks.settings import CassandraSettings
from tests.service_desk import QUICK, Service

Working = Callable[[Campaign], AbstractContextManager[Site]]


@pytest.fixture(scope="session")
def cassandra_settings(cassandra_node: Node) -> CassandraSettings:
    """How to reach the session's Cassandra."""
    return CassandraSettings(
        hosts=list(cassandra_node.hosts),
        port=cassandra_node.port,
        username=cassandra_node.username,
        password=SecretStr(cassandra_node.password),
        keyspace=cassandra_node.keyspace,
    )


@pytest.fixture(scope="session")
def writing(cassandra_node: Node) -> Iterator[Session]:
    """A session of the driver, to write what the service and its workers write."""
    with cassandra.session(cassandra_node, timeout_s=120) as connected:
        yield connected


@pytest.fixture(scope="session")
def table(cassandra_settings: CassandraSettings) -> Iterator[ResultsTable]:
    """The table, to be read."""
    with ResultsTable.open(cassandra_settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def exporters(cassandra_settings: CassandraSettings) -> Iterator[ExportPool]:
    """One real process that saves chips, shared by tests: each of its own would take a second to start."""
    pool = ExportPool(cassandra_settings, processes=1)
    yield pool
    pool.close()


@pytest.fixture
def in_a_folder(tmp_path: Path, cassandra_node: Node, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a user whose ledger and output lie in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "CASSANDRA_HOSTS": ",".join(cassandra_node.hosts),
        "CASSANDRA_PORT": str(cassandra_node.port),
        "CASSANDRA_USERNAME": cassandra_node.username,
        "CASSANDRA_PASSWORD": cassandra_node.password,
        "CASSANDRA_KEYSPACE": cassandra_node.keyspace,
        "LEDGER": str(tmp_path / "ledger.sqlite"),
        "OUT": str(tmp_path / "out"),
        "EXPORT_PROCESSES": "2",
    }.items():
        monkeypatch.setenv(f"OVERLANDER_{name}", value)
    return tmp_path


@pytest.fixture
def working(
    in_a_folder: Path, table: ResultsTable, exporters: ExportPool, monkeypatch: pytest.MonkeyPatch
) -> Working:
    """Opens a campaign's site as a run does, with the shared session and the shared process to save chips."""
    monkeypatch.setattr(ResultsTable, "open", lambda _settings: nullcontext(table))

    @contextmanager
    def open_site(campaign: Campaign) -> Iterator[Site]:
        with site(campaign, words="a test") as place:
            own, place.exporters = place.exporters, exporters
            try:
                yield place
            finally:
                place.exporters = own  # the site closes its own only

    return open_site


@pytest.fixture
def service(
    change_results_anew: str, in_a_folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Service:
    """The real service without troubles, with an algorithm of the test's own, set for a person in a hurry."""
    number = zlib.crc32(request.node.nodeid.encode())
    found = Service(change_results_anew, f"test:{number}")
    found.enable()
    for name, value in {**QUICK, "SERVICE_URL": found.url}.items():
        monkeypatch.setenv(f"OVERLANDER_{name}", value)
    return found
