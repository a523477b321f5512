"""The user's own service on this machine: a Prefect server that knows Overlander, and a worker beside it.

Importing this module does not import prefect.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from deployments import server, worker
from tasks.files import write_if_changed
from tasks.settings import state_folder

A_DEPLOYMENT = "tile-campaign/tile-campaign"
"""A server that does not know it is on another database than the one that was registered with."""

_REGISTERED_FROM = ("prefect.yaml", "automations.py", "blocks.py", "register.py")


@dataclass(frozen=True)
class Local:
    """The local server and its worker."""

    server: server.Server
    worker: worker.Worker


def up(settings: Mapping[str, str], runs: int, report: Callable[[str], None]) -> Local:
    """Start server and worker unless they run, and register what the server does not know yet.

    Sets PREFECT_API_URL and the clients' settings of this process.

    Args:
        settings: `OVERLANDER_*` variables for the worker's runs.
        runs: how many runs the worker takes at once.
        report: is told in a line what is being done.

    Raises:
        OverlanderError: one of them does not start.
    """
    found = server.up(report)
    os.environ.update(server.CLIENT_SETTINGS | {"PREFECT_API_URL": found.api_url})
    done = state_folder() / "server" / "registered"
    digest = _digest()
    registered = done.exists() and done.read_text() == digest and server.knows(found, A_DEPLOYMENT)
    if not registered:
        from deployments.register import register

        register(report)
        write_if_changed(done, digest.encode())
    return Local(found, worker.up(found.api_url, settings, runs, report))


def down() -> bool:
    """Stop worker and server; return whether any of them ran. What the server recorded stays."""
    stopped = worker.down()
    return server.down() or stopped


def _digest() -> str:
    """Return what tells whether the server knows this very version of Overlander's deployments."""
    folder = Path(__file__).parent
    parts = [(folder / name).read_bytes() for name in _REGISTERED_FROM]
    return hashlib.sha256(version("overlander").encode() + b"".join(parts)).hexdigest()
