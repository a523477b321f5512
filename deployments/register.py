"""Make a Prefect server know Overlander: its work pool, deployments, block types and automations.

Again and again with the same result; what an operator has set of a deployment stays: its parameters, its
schedules, and whether they are on.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deployments.automations import automations, notification_block, notified_block, register_automations
from deployments.blocks import BLOCK_TYPES
from deployments.worker import POOL
from tasks.errors import PartMissing, ServiceAway

PREFECT_YAML = Path(__file__).parent / "prefect.yaml"
STARTING_QUEUES = ("upkeep", "regions")
"""Of what starts runs: a worker with room takes from these before it takes from the queue of campaigns."""

_REGISTERED_WITHIN_S = 300.0


@dataclass(frozen=True)
class Registered:
    """What the server knows now: deployments as `flow/name`, and automations by name."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def register(report: Callable[[str], None], notify: str | None = None) -> Registered:
    """Register everything with the Prefect API that this process is set to.

    Args:
        report: is told in a line what is being done.
        notify: a notification block, `type-slug/name`, that is told when a campaign needs a person.

    Network: the Prefect API.

    Raises:
        BadInput: there is no such notification block.
        ServiceAway: the API does not answer, or refuses.
        PartMissing: a deployment cannot be registered.
    """
    try:
        with get_client(sync_client=True) as client:
            told = notified_block(client) if notify is None else notification_block(client, notify)
            _make_pool(client)
            for kind in BLOCK_TYPES:
                kind.register_type_and_schema()
            report("Registering deployments (some 10 s).")
            with _what_operators_set_kept(client):
                _deploy()
            wanted = automations(told)
            register_automations(client, wanted)
            known = sorted(
                f"{client.read_flow(deployment.flow_id).name}/{deployment.name}" for deployment in _ours(client)
            )
            return Registered(tuple(known), tuple(one.name for one in wanted))
    except httpx.HTTPError as error:
        raise ServiceAway(
            f"Prefect's API failed while Overlander was being registered ({type(error).__name__}: {error}). Look "
            "into the server's log, and run `overlander deploy` again: it goes on where it stopped."
        ) from error


def _make_pool(client: SyncPrefectClient) -> None:
    """Make the work pool, of processes, unless one of that name is there, of whatever type; and its queues."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        about = "Runs of Overlander. Its workers have Overlander installed and reach the services."
        with contextlib.suppress(ObjectAlreadyExists):  # a worker that started just now makes it, too
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", description=about))
    there = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for name in STARTING_QUEUES:
        if name not in there:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_work_queue(name=name, work_pool_name=POOL, priority=1)


def _ours(client: SyncPrefectClient) -> list[DeploymentResponse]:
    return client.read_deployments(work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])))


@contextlib.contextmanager
def _what_operators_set_kept(client: SyncPrefectClient) -> Iterator[None]:
    """Put back what registering a deployment again takes from it, also where it fails in the middle."""
    before = {deployment.id: deployment for deployment in _ours(client)}
    try:
        yield
    finally:
        for now in _ours(client):
            if now.id in before:
                _put_back(client, before[now.id], now)


def _put_back(client: SyncPrefectClient, before: DeploymentResponse, now: DeploymentResponse) -> None:
    known = (now.parameter_openapi_schema or {}).get("properties", {})
    kept = {name: value for name, value in before.parameters.items() if name in known}
    if now.parameters != (parameters := now.parameters | kept):
        client.update_deployment(now.id, DeploymentUpdate(parameters=parameters))
    wanted = [_as_given(schedule) for schedule in before.schedules]
    if [_as_given(schedule) for schedule in now.schedules] != wanted:
        for schedule in now.schedules:
            if schedule.id is not None:
                client.delete_deployment_schedule(now.id, schedule.id)
        if wanted:
            client.create_deployment_schedules(now.id, wanted)


def _as_given(schedule: DeploymentSchedule) -> DeploymentScheduleCreate:
    given = schedule.model_dump(include=set(DeploymentScheduleCreate.model_fields))
    return DeploymentScheduleCreate(**given | {"schedule": schedule.schedule})


def _deploy() -> None:
    """Run `prefect deploy`, in an empty folder: it would import whatever lies in its working directory."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    with tempfile.TemporaryDirectory(prefix="overlander-deploy-") as empty:
        try:
            done = subprocess.run(
                [*command, "--prefect-file", str(PREFECT_YAML)],
                cwd=empty,
                capture_output=True,
                text=True,
                timeout=_REGISTERED_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ServiceAway(
                f"`prefect deploy` was not done within {_REGISTERED_WITHIN_S:.0f} s. Run `overlander deploy` "
                "again when the machine or the server is less busy."
            ) from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-600:]
        raise PartMissing(
            f"A deployment could not be registered: ...{words} To see all of it, run `prefect deploy --all "
            f"--prefect-file {PREFECT_YAML}`."
        )
