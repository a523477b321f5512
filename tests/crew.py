"""A Prefect server of a test's own, with Overlander's deployments, and process workers that can be killed.

As on several machines: every command and every worker is a process of its own with a folder of its own.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import server
from deployments.automations import automations, register_automations
from deployments.worker import POOL, WORKER_SETTINGS, command_of
from tests.flows.desk import Desk, Ran

PATIENCE_S = 600.0
SILENT_FOR = timedelta(seconds=75)
"""Of a dead run, until it is marked: a run gives a sign of life every 30 s, the least that Prefect takes."""


@dataclass
class Worker:
    """A process worker that takes runs from the pool."""

    name: str
    process: psutil.Popen
    log: Path

    def runs(self) -> dict[str, psutil.Process]:
        """Return the processes of the flow runs that it has under way, by the run's id."""
        found: dict[str, psutil.Process] = {}
        for child in self.process.children():
            try:
                if run := child.environ().get("PREFECT__FLOW_RUN_ID"):
                    found[run] = child
            except psutil.Error:
                continue  # it has just ended
        return found

    def family(self) -> list[psutil.Process]:
        """Return its own process, and all that it has started."""
        return [self.process, *self.process.children(recursive=True)]

    def kill(self) -> None:
        """End it and all that it has started at once, as when its machine goes."""
        family = self.family()
        for process in family:  # the worker first: it has no time to say what became of its runs
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(30)
        assert psutil.wait_procs(family[1:], timeout=30)[1] == []

    def stop(self) -> None:
        """End it as an operator does; its runs have half a minute to end."""
        family = self.family()
        self.process.terminate()
        _, left = psutil.wait_procs(family, timeout=40)
        for process in left:
            process.kill()
        self.process.wait(30)


@dataclass(frozen=True)
class Crew:
    """A desk whose commands and workers have a Prefect server of their own."""

    desk: Desk
    server: server.Server
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, within_s: float = PATIENCE_S) -> Ran:
        """Run the command in a process of its own."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=within_s)
        finally:
            process.kill()
        return Ran(process.returncode, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command in a process of its own."""
        return self.desk.start(*arguments, **self._variables("command"))

    @contextmanager
    def worker(self, name: str, runs: int = 1) -> Iterator[Worker]:
        """Start a worker that takes so many runs at once, in an empty folder; it is gone after the block."""
        folder = self.desk.folder / name
        folder.mkdir()
        variables = {
            **os.environ,
            **WORKER_SETTINGS,
            **self.desk.variables,
            **self._variables(name),
            **self.settings,
        }
        with (folder / "log").open("wb") as log:
            process = psutil.Popen(
                command_of(name, runs),
                cwd=folder,
                env=variables | self.settings,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        found = Worker(name, process, folder / "log")
        try:
            await_that(lambda: self._hears_of(found), f"worker {name}: see {found.log}")
            yield found
        finally:
            if process.is_running():
                found.stop()

    @contextmanager
    def api(self) -> Iterator[SyncPrefectClient]:
        """Give a client of the server, which Prefect's own functions use, too, until the block ends."""
        with temporary_settings({PREFECT_API_URL: self.server.api_url}), get_client(sync_client=True) as client:
            yield client

    def start_run(self, deployment: str, **parameters: Any) -> UUID:
        """Ask for a run of a deployment, and return its id."""
        with self.api() as api:
            found = api.read_deployment_by_name(deployment)
            return api.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def flow_run(self, run: UUID | str) -> FlowRun:
        """Return a run as the server knows it."""
        with self.api() as api:
            return api.read_flow_run(UUID(str(run)))

    def await_end(self, run: UUID | str) -> FlowRun:
        """Wait until a run has ended."""

        def ended() -> FlowRun | None:
            found = self.flow_run(run)
            return found if found.state is not None and found.state.is_final() else None

        return await_that(ended, f"the end of run {run}")

    def _hears_of(self, worker: Worker) -> bool:
        assert worker.process.is_running(), worker.log.read_text()
        with self.api() as api:
            known = api.read_workers_for_work_pool(POOL)
        return any(one.name == worker.name and one.status == WorkerStatus.ONLINE for one in known)

    def _variables(self, name: str) -> dict[str, str]:
        home = self.desk.folder / f"{name}-prefect"
        return {"PREFECT_API_URL": self.server.api_url, "PREFECT_HOME": str(home)}


@contextmanager
def crew(desk: Desk, database: str | None = None, **settings: str) -> Iterator[Crew]:
    """Start a server for a desk, and register everything; a run that died is marked after `SILENT_FOR`.

    Args:
        desk: whose commands and workers it is for.
        database: URL of the server's database; without it, a SQLite file.
        settings: variables for the workers, beside the desk's.
    """
    state = {"OVERLANDER_STATE_FOLDER": str(desk.folder / "state"), server.DATABASE_URL: database or ""}
    with mock.patch.dict(os.environ, state):
        found = server.up(print)
    try:
        one = Crew(desk, found, {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **settings})
        deployed = one.run("deploy")
        assert deployed.status == 0, deployed.err
        with one.api() as api:
            register_automations(api, automations(silent_for=SILENT_FOR))
        yield one
    finally:
        with mock.patch.dict(os.environ, state):
            server.down()


def await_that(holds: Callable[[], Any], what: str, within_s: float = PATIENCE_S, every_s: float = 0.5) -> Any:
    """Wait until something holds, looking again and again, and return what it is."""
    until = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < until, f"not within {within_s:.0f} s: {what}"
        time.sleep(every_s)
    return found
