"""The local worker: takes runs of Overlander's work pool, beside the local Prefect server.

It has a working directory of its own, empty but for its log: a file `tasks.py` there would stand in the place of
the package `tasks`. Importing this module does not import prefect.
"""

import contextlib
import hashlib
import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deployments import supervise
from deployments.server import CLIENT_SETTINGS
from tasks.errors import PartMissing
from tasks.settings import state_folder

POOL = "overlander"
"""Name of the work pool, as deployments/prefect.yaml has it."""

OUR_NAMES = ("tasks", "flows", "deployments")
"""Packages that a file in a working directory would shadow."""

WORKER_SETTINGS = {
    **CLIENT_SETTINGS,
    # A run that is started in the UI is taken within so many seconds, 10 by default.
    "PREFECT_WORKER_QUERY_SECONDS": "5",
    # What is registered is the installed version: a run never installs anything.
    "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
}
"""Environment of the worker and, through it, of its runs; names as of Prefect 3.8.8."""

_READY_WITHIN_S = 120.0
_STOPPED_WITHIN_S = 40.0  # its runs get half a minute to end


@dataclass(frozen=True)
class Worker:
    """A worker that runs: process id, log, how many runs it takes at once, and a digest of its settings."""

    pid: int
    log: Path
    runs: int
    digest: str


def up(api_url: str, settings: Mapping[str, str], runs: int, report: Callable[[str], None]) -> Worker:
    """Start the user's local worker unless it runs.

    Args:
        api_url: of the Prefect server.
        settings: `OVERLANDER_*` variables for its runs, all that they need: they start in folders of their own.
        runs: how many runs it takes at once.
        report: is told in a line that it is being started, before it is.

    Raises:
        PartMissing: a foreign file would shadow a package of ours, or it ended by itself.
        ServiceAway: it did not report to the server in time.
    """
    folder = own_folder()
    with supervise.locked(folder):
        if (found := supervise.running(folder)) is None:
            if foreign := foreign_files(folder):
                raise PartMissing(
                    f"The worker's folder holds {', '.join(foreign)}, which would take the place of a package of "
                    f"Overlander's. Move it away from {folder} and start the worker again."
                )
            report(f"Starting a worker for the pool {POOL!r}.")
            found = supervise.up(_program(folder, api_url, settings, runs))
        return _worker(found)


def down() -> bool:
    """Stop the local worker and its runs; return whether it ran. Runs that were cut short are run again later."""
    return supervise.down(own_folder(), _STOPPED_WITHIN_S)


def status() -> Worker | None:
    """Return the local worker that runs, or None. Asks the process table only."""
    found = supervise.running(own_folder())
    return _worker(found) if found else None


def own_folder() -> Path:
    """Return the local worker's working directory."""
    return state_folder() / "worker"


def foreign_files(folder: Path) -> list[str]:
    """Return what in a working directory would stand in the place of our packages."""
    return [name for package in OUR_NAMES for name in (f"{package}.py", package) if (folder / name).exists()]


def digest_of(settings: Mapping[str, str]) -> str:
    """Return what tells two sets of settings apart; secrets are left out, since the digest is kept in a file."""
    told = {
        name: re.sub(r"(://[^/@:]*):[^/@]*@", r"\1@", value)  # a ledger's address may hold one
        for name, value in settings.items()
        if "PASSWORD" not in name
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def command_of(name: str, runs: int) -> list[str]:
    """Return the command of a process worker; its runs give way to a server beside them, which few cores need."""
    return [
        *("nice", "-n", "10", sys.executable, "-m", "prefect", "worker", "start"),
        *("--pool", POOL, "--type", "process", "--name", name, "--limit", str(runs)),
    ]


def _program(folder: Path, api_url: str, settings: Mapping[str, str], runs: int) -> supervise.Program:
    name = f"overlander on {socket.gethostname()}"
    started = datetime.now(UTC)
    return supervise.Program(
        name="Prefect worker",
        folder=folder,
        command=command_of(name, runs),
        environment={
            **WORKER_SETTINGS,
            **settings,
            "PYTHONUNBUFFERED": "1",
            "PREFECT_HOME": str(folder.resolve() / "prefect"),
            "PREFECT_API_URL": api_url,
        },
        ready=lambda: _reports(api_url, name, started),
        ready_within_s=_READY_WITHIN_S,
        facts={"runs": runs, "settings": digest_of(settings)},
    )


def _reports(api_url: str, name: str, since: datetime) -> bool:
    """Return whether the server has heard of the worker since then."""
    request = urllib.request.Request(  # noqa: S310 - the local server's own address
        f"{api_url}/work_pools/{POOL}/workers/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(urllib.error.URLError, OSError, ValueError, KeyError):
        with opener.open(request, timeout=5) as answer:
            workers = json.loads(answer.read())
        return any(
            worker["name"] == name and datetime.fromisoformat(worker["last_heartbeat_time"]) >= since
            for worker in workers
        )
    return False


def _worker(found: supervise.Running) -> Worker:
    return Worker(found.pid, found.log, int(found.facts["runs"]), str(found.facts["settings"]))
