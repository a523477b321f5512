"""Runs that one flow starts for others to do: who is under way, how each ended, whether anybody takes them.

What Prefect's client raises becomes ours in this module.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_CLIENT_RETRY_EXTRA_CODES, temporary_settings
from pydantic import Field

from tasks.errors import BadInput, CredentialsRefused, ServiceAway

TO_COME = [StateType.SCHEDULED, StateType.PENDING]
UNDER_WAY = [*TO_COME, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
TAKEN_WITHIN = timedelta(days=1)
"""A run that no worker has taken for so long is not waited for any more."""

DeploymentName = Annotated[str, Field(pattern="^[^/]+/[^/]+$")]
"""As flow/deployment."""

GONE = "Gone"
"""Outcome of a run that the server no longer knows."""

_PAGE = 200  # what the API gives at most
_TRIES_AGAIN = 6  # the pauses between them double, to two minutes in all


@dataclass(frozen=True)
class Child:
    """A run as Prefect knows it.

    Attributes:
        id, name, tags: Prefect's.
        outcome: name of its last state when it has ended; empty while it has not.
        message: what that state says.
    """

    id: str
    name: str
    tags: frozenset[str]
    outcome: str
    message: str


def under_way(deployment: str, tags: Collection[str]) -> list[Child]:
    """Return the runs of a deployment's flow that are at work or wait to be, whoever started them.

    Args:
        deployment: as flow/deployment.
        tags: that each of them has.
    """
    return _runs(deployment, tags, UNDER_WAY)


def to_come(deployment: str, tags: Collection[str]) -> list[Child]:
    """Return the runs of a deployment's flow that some worker is to take, whoever started them; as `under_way`."""
    since = FlowRunFilterExpectedStartTime(after_=datetime.now(UTC) - TAKEN_WITHIN)
    return _runs(deployment, tags, TO_COME, expected_start_time=since)


def _runs(deployment: str, tags: Collection[str], states: list[StateType], **when: Any) -> list[Child]:
    asked = FlowRunFilter(
        tags=FlowRunFilterTags(all_=list(tags)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        **when,
    )
    named = FlowFilter(name=FlowFilterName(any_=[deployment.partition("/")[0]]))
    found: list[FlowRun] = []
    with _api() as client:
        while page := client.read_flow_runs(
            flow_filter=named, flow_run_filter=asked, limit=_PAGE, offset=len(found)
        ):
            found += page
    return [_child(run) for run in found]


def ended(ids: Iterable[str]) -> dict[str, Child]:
    """Return which of some runs have ended, and how, by their ids; those that the server has forgotten, too."""
    asked = list(ids)
    found: list[Child] = []
    with _api() as client:
        for start in range(0, len(asked), _PAGE):
            part = FlowRunFilterId(any_=[UUID(one) for one in asked[start : start + _PAGE]])
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=part), limit=_PAGE)
            found += [_child(run) for run in runs]
    known = {child.id: child for child in found}
    forgotten = Child("", "", frozenset(), GONE, "Prefect's server knows nothing of this run any more.")
    return {one: child for one in asked if (child := known.get(one, forgotten)).outcome}


def start(deployment: str, parameters: Mapping[str, Any], tags: Collection[str], key: str | None = None) -> Child:
    """Start a run of a deployment, or return the one that was started under this key.

    Raises:
        BadInput: there is no such deployment, or it does not take the parameters.
    """
    with _mapped():
        try:
            run = run_deployment(
                deployment,
                parameters=dict(parameters),
                tags=list(tags),
                timeout=0,
                as_subflow=False,
                idempotency_key=key,
            )
        except ObjectNotFound:
            raise BadInput(
                f"The Prefect server knows no deployment {deployment}. `overlander deploy` registers it, and so "
                "does `overlander server up`. Nothing was started."
            ) from None
    assert isinstance(run, FlowRun)  # noqa: S101 - `run_deployment` is sync or async by its caller; here it is sync
    return _child(run)


def nobody_takes(deployment: str) -> str:
    """Return what its runs wait for, when no worker is there for a deployment's pool; else an empty text."""
    with _api() as client:
        try:
            pool = client.read_deployment_by_name(deployment).work_pool_name
            if pool is None:
                return ""  # served without a pool
            kind = client.read_work_pool(pool)
            if kind.is_push_pool or kind.is_managed_pool:
                return ""
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            return ""
    if kind.is_paused:
        return f"The work pool {pool!r} is paused: its runs wait until somebody resumes it in the Prefect UI."
    if any(worker.status == WorkerStatus.ONLINE for worker in workers):
        return ""
    return (
        f"No worker is on the work pool {pool!r}: its runs wait for one. `overlander server up` starts one "
        f"here, `prefect worker start --pool {pool}` elsewhere."
    )


def _child(run: FlowRun) -> Child:
    state = run.state
    final = state is not None and state.is_final()
    return Child(
        id=str(run.id),
        name=run.name,
        tags=frozenset(run.tags),
        outcome=(state.name or state.type.value.title()) if state is not None and final else "",
        message=(state.message or "") if state is not None and final else "",
    )


@contextlib.contextmanager
def _api() -> Iterator[SyncPrefectClient]:
    with _mapped(), get_client(sync_client=True) as client:
        yield client


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Ask again where the API answers 500, and turn into ours what it does not get over.

    With more to do than SQLite takes, it answers so for a moment (Prefect 3.8.8: no connection left in its pool).
    """
    patient = {PREFECT_CLIENT_RETRY_EXTRA_CODES: {500}, PREFECT_CLIENT_MAX_RETRIES: _TRIES_AGAIN}
    try:
        with temporary_settings(patient):
            yield
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise CredentialsRefused(
                f"Prefect's API refuses (HTTP {status}). Set PREFECT_API_AUTH_STRING as the server has it."
            ) from None
        if status in (409, 422):
            raise BadInput(f"Prefect's API does not take what a run was to be started with: {error}.") from None
        raise ServiceAway(f"Prefect's API answers HTTP {status}. Look into its log, and run this again.") from None
    except httpx.HTTPError as error:
        raise ServiceAway(
            f"Prefect's API does not answer ({type(error).__name__}). Start the server "
            "(`overlander server up`) or correct PREFECT_API_URL, and run this again: nothing is started twice."
        ) from None
