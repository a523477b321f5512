"""What the flow's and the command's tests share: a Prefect API, a person who may only read, and their desk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import server, worker
from deployments.sandbox import cassandra, seed
from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk, variables_of
from tests.flows.polygons_at_desk import desk_at

PASSWORD = "open-sesame-77"
"""Of a user who may read the results and do nothing else; like no other word of a run."""


@pytest.fixture(scope="session")
def services(seeded_node: cassandra.Node) -> dict[str, str]:
    """Return the variables that name the session's Cassandra, for a user who may only read."""
    with cassandra.session(seeded_node) as connected:
        connected.execute(f"CREATE ROLE IF NOT EXISTS reader WITH PASSWORD = '{PASSWORD}' AND LOGIN = true")
        connected.execute(f"GRANT SELECT ON KEYSPACE {seeded_node.keyspace} TO reader")
    return {
        **variables_of(seeded_node),
        "OVERLANDER_CASSANDRA_USERNAME": "reader",
        "OVERLANDER_CASSANDRA_PASSWORD": PASSWORD,
        "OVERLANDER_ALGORITHM": seed.ALGORITHM,
        "OVERLANDER_EXPORT_PROCESSES": "1",  # each costs a second to start
    }


@pytest.fixture(scope="session")
def prefect_api(prefect_server: server.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Point this process and its children at the session's Prefect server, and return its address."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.CLIENT_SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect-client")))
        patch.setenv("PREFECT_API_URL", prefect_server.api_url)
        with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
            yield prefect_server.api_url
            # What is still to be sent when the server is gone would hold the process for minutes.
            EventsWorker.drain_all(timeout=30)
            APILogWorker.drain_all(timeout=30)


@pytest.fixture(scope="session")
def results_block(services: dict[str, str], prefect_api: str) -> str:
    """Return the name of a block that holds the session's Cassandra, for a user who may only read."""
    from pydantic import SecretStr

    from deployments.blocks import ResultsCassandra

    ResultsCassandra(
        hosts=services["OVERLANDER_CASSANDRA_HOSTS"].split(","),
        port=int(services["OVERLANDER_CASSANDRA_PORT"]),
        username=services["OVERLANDER_CASSANDRA_USERNAME"],
        password=SecretStr(PASSWORD),
        keyspace=services["OVERLANDER_CASSANDRA_KEYSPACE"],
    ).save("cluster", overwrite=True)
    return "cluster"


@pytest.fixture(scope="session")
def deployed(
    prefect_api: str, services: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """Return the desk of a worker whose server knows Overlander's deployments: its ledger and its files."""
    from deployments.register import register

    desk = Desk(tmp_path_factory.mktemp("worker"), services)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERLANDER_STATE_FOLDER", str(desk.folder))
        register(print)
        try:
            worker.up(prefect_api, desk.variables, 2, print)
            yield desk
        finally:
            worker.down()


@pytest.fixture
def desk(tmp_path: Path, services: dict[str, str]) -> Desk:
    """Return a person's desk with an empty output folder and a new ledger."""
    return Desk(tmp_path, services)


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory, services: dict[str, str]) -> Desk:
    """Return a desk that the tests of a module share."""
    return Desk(tmp_path_factory.mktemp("desk"), services)


@pytest.fixture
def wps_desk(tmp_path: Path, scripted_wps: ScriptedWps) -> Desk:
    """Return a desk of the test's own, whose WPS is the scripted one."""
    return desk_at(tmp_path, scripted_wps.url)
