"""Make a Prefect server know Overlander: its work pool, deployments, block types and automations.

Again and again with the same result; what an operator has switched on or off stays so.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from deployments.automations import automations, notification_block, register_automations
from deployments.blocks import BLOCK_TYPES
from deployments.worker import POOL
from tasks.errors import PartMissing, ServiceAway

PREFECT_YAML = Path(__file__).parent / "prefect.yaml"
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
            told = None if notify is None else notification_block(client, notify)
            _make_pool(client)
            for kind in BLOCK_TYPES:
                kind.register_type_and_schema()
            switched_on = _active_schedules(client)
            report("Registering deployments (some 10 s).")
            _deploy()
            _switch_on(client, switched_on)
            wanted = automations(told)
            register_automations(client, wanted)
            known = sorted(
                f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
                for deployment in client.read_deployments()
                if deployment.work_pool_name == POOL
            )
            return Registered(tuple(known), tuple(one.name for one in wanted))
    except httpx.HTTPError as error:
        raise ServiceAway(
            f"Prefect's API failed while Overlander was being registered ({type(error).__name__}: {error}). Look "
            "into the server's log, and run `overlander deploy` again: it goes on where it stopped."
        ) from error


def _make_pool(client: SyncPrefectClient) -> None:
    """Make the work pool, of processes, unless one of that name is there, of whatever type."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        about = "Runs of Overlander. Its workers have Overlander installed and reach the services."
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", description=about))


def _active_schedules(client: SyncPrefectClient) -> set[tuple[str, str | None]]:
    """Return which schedules somebody has switched on; registering a deployment again would switch them off."""
    return {
        (str(deployment.id), schedule.slug)
        for deployment in client.read_deployments()
        for schedule in deployment.schedules
        if deployment.work_pool_name == POOL and schedule.active
    }


def _switch_on(client: SyncPrefectClient, wanted: set[tuple[str, str | None]]) -> None:
    for deployment in client.read_deployments():
        for schedule in deployment.schedules:
            if (str(deployment.id), schedule.slug) in wanted and schedule.id is not None:
                client.update_deployment_schedule(deployment.id, schedule.id, active=True)


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
