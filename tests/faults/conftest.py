"""What the tests of faults share: a troubled service, and desks of people who work with it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.sandbox import cassandra
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.desk import Desk, variables_of
from tests.service_desk import QUICK, Service

AtDesk = Callable[[Service, str], Desk]


@pytest.fixture
def service_named(change_results: str) -> Iterator[Callable[[str], Service]]:
    """Return the session's service, fast and without troubles, by the algorithm it is asked about."""

    def named(algorithm: str) -> Service:
        found = Service(change_results, algorithm)
        found.forget()
        found.enable()
        return found

    yield named
    Service(change_results, "").forget()


@pytest.fixture
def at_desk(desk_for: AtDesk, prefect_api: str) -> AtDesk:  # noqa: F811
    """Return a desk of a person in a hurry, whose runs use the session's Prefect server."""
    return desk_for


@pytest.fixture
def desk_for(tmp_path: Path, cassandra_node: cassandra.Node) -> AtDesk:
    """Return a desk with an empty folder, by the service and the folder's name; its person is in a hurry."""

    def desk(service: Service, name: str) -> Desk:
        (tmp_path / name).mkdir()
        variables = {
            "ALGORITHM": service.algorithm,
            "SERVICE_URL": service.url,
            "EXPORT_PROCESSES": "1",
            **QUICK,
            "STALL_AFTER_S": "5",
        }
        given = {f"OVERLANDER_{name}": value for name, value in variables.items()}
        return Desk(tmp_path / name, variables_of(cassandra_node) | given)

    return desk
