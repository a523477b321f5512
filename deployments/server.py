"""A local Prefect server with settings for runs of thousands of units, kept under the user's state folder.

Importing this module does not import prefect: the command asks it whether a server runs.
"""

import contextlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments import supervise
from tasks.errors import PartMissing
from tasks.files import write_if_changed
from tasks.settings import state_folder

SERVER_SETTINGS = {
    # One row a transaction by default: a few thousand task runs answer 503 for minutes.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    # At most this many seconds until a task run is seen; whole seconds, 0.5 would become 0.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # Three events a task run, in few transactions.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    # The record of what happened is the ledger; events are for looking at what runs.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "2d",
    # Concurrency limits held by a run outlive a restart of the server.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Nothing about a campaign leaves the machine.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # No advertisements in the UI.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Environment of the server; names as of Prefect 3.8.8."""

CLIENT_SETTINGS = {
    # One request less at the start of every process; the versions are pinned together.
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    # Nothing about a campaign leaves the machine.
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    # With the server gone, events are dropped with a warning instead of holding the process for hours.
    "PREFECT_EVENTS_WORKER_MAX_QUEUE_SIZE": "5000",
    # A batch looks for itself at what is done: a cached answer of an earlier look would be wrong.
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    # Unbounded by default: .map over 2,500 units would start 2,500 threads.
    "PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS": "16",
    # A server that restarts is waited for.
    "PREFECT_CLIENT_MAX_RETRIES": "10",
    "PREFECT_API_REQUEST_TIMEOUT": "120",
}
"""Environment of the runs, beside PREFECT_API_URL; names as of Prefect 3.8.8."""

DATABASE_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Where this is set, as postgresql+asyncpg://..., the server is on that database instead of SQLite."""

RUNS_ON_SQLITE = 2
"""With four at once its writers waited for each other by the minute (docs/deployment.md)."""

_PREFERRED_PORT = 4200
_READY_WITHIN_S = 120.0  # 7 to 14 s on a fresh database
_STOPPED_WITHIN_S = 15.0


@dataclass(frozen=True)
class Server:
    """A Prefect server that runs: its API, its UI, its process id and log, and whether it is on SQLite."""

    api_url: str
    ui_url: str
    pid: int
    log: Path
    sqlite: bool


def up(report: Callable[[str], None]) -> Server:
    """Start the user's local server unless it runs, and return where it is.

    Network: loopback only.

    Args:
        report: is told in a line that the server is being started, before it is.

    Raises:
        PartMissing: it ended by itself; the paragraph holds what its log says.
        ServiceAway: it did not answer in time.
    """
    folder = _folder()
    with supervise.locked(folder):
        if (found := supervise.running(folder)) is not None:
            return _server(supervise.up(_program(folder, int(found.facts["port"]))))
        report("Starting a local Prefect server (some 15 s the first time).")
        while True:
            port = _port(folder)
            try:
                return _server(supervise.up(_program(folder, port)))
            except PartMissing:
                if supervise.free_port(port) == port:  # else another program took it before ours did
                    raise


def down() -> bool:
    """Stop the local server; return whether it ran. What it recorded stays."""
    return supervise.down(_folder(), _STOPPED_WITHIN_S)


def knows(server: Server, deployment: str) -> bool:
    """Return whether a server answers and knows a deployment, as flow/name."""
    with contextlib.suppress(urllib.error.URLError, OSError, ValueError):
        _get(f"{server.api_url}/deployments/name/{deployment}")
        return True
    return False


def status() -> Server | None:
    """Return the local server that runs, or None. Asks the process table only."""
    found = supervise.running(_folder())
    return _server(found) if found else None


def _program(folder: Path, port: int) -> supervise.Program:
    api_url = f"http://127.0.0.1:{port}/api"
    home = folder.resolve()
    database = os.environ.get(DATABASE_URL) or f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    return supervise.Program(
        name="Prefect server",
        folder=folder,
        command=[
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        environment={
            **SERVER_SETTINGS,
            "PYTHONUNBUFFERED": "1",  # its last words are in the log even when it is killed
            "PREFECT_HOME": str(home),
            DATABASE_URL: database,
            "PREFECT_API_URL": api_url,
            "PREFECT_SERVER_UI_API_URL": api_url,
        },
        ready=lambda: supervise.listens(folder, port) and _answers_as_prefect(api_url),
        ready_within_s=_READY_WITHIN_S,
        facts={"port": port, "sqlite": database.startswith("sqlite")},
    )


def _answers_as_prefect(api_url: str) -> bool:
    """Return whether the database is ready and the one who answers knows Prefect's version of the API."""
    with contextlib.suppress(urllib.error.URLError, OSError, ValueError):
        if _get(f"{api_url}/ready") == {"message": "OK"}:
            return isinstance(_get(f"{api_url}/admin/version"), str)
    return False


def _get(url: str) -> object:
    # No proxy: the address is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return json.loads(answer.read())


def _server(found: supervise.Running) -> Server:
    root = f"http://127.0.0.1:{found.facts['port']}"
    return Server(f"{root}/api", root, found.pid, found.log, sqlite=bool(found.facts.get("sqlite", True)))


def _port(folder: Path) -> int:
    """Return the folder's port if it is free, so that addresses people noted stay true; else another."""
    kept = folder / "port"
    known = _PREFERRED_PORT
    with contextlib.suppress(OSError, ValueError):
        known = int(kept.read_text())
    port = supervise.free_port(known)
    write_if_changed(kept, f"{port}\n".encode())
    return port


def _folder() -> Path:
    return state_folder() / "server"
