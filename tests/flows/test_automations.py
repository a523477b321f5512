"""What the server does by itself, on a real one: a run killed without a word, a run nobody takes, a notice."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Cancelling, Pending, Running, Scheduled, Submitting

from deployments.automations import (
    EVENTS,
    FLOWS,
    SILENT_FOR,
    automations,
    notification_block,
    notified_block,
    register_automations,
)
from deployments.register import PREFECT_YAML
from flows.news import EVENT_PREFIX, tell
from flows.upkeep import verify
from tasks.errors import BadInput
from tests.flows.desk import Desk
from tests.webhook import webhook

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]  # the first waits for Cassandra, server and worker

PATIENCE_S = 150.0

DIES_WITHOUT_A_WORD = """
import time
from prefect import flow, runtime

@flow(name="verify")
def silent() -> None:
    print(runtime.flow_run.id, flush=True)
    time.sleep(600)

silent()
"""


@pytest.fixture(scope="module")
def api(deployed: Desk) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def await_that(holds: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < until, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.5)
    return found


@contextmanager
def registered(api: SyncPrefectClient, silent_for: timedelta = SILENT_FOR) -> Iterator[list[dict[str, str]]]:
    """Register the automations with a webhook to notify; yield what it gets from then on.

    The server answers before its triggers know what it was given; none of them sees an event that comes between.
    They learn of automations one by one, of the notification last: once it is heard of, all are known.
    """
    with webhook() as (url, got):
        CustomWebhookNotificationBlock(
            name="operators", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
        ).save("operators", overwrite=True)
        register_automations(api, automations(notification_block(api, "custom-webhook/operators"), silent_for))
        try:
            key = f"test-{uuid4()}"

            def heard() -> bool:
                tell("quiet", key, "A test", "Is anybody there?")
                return bool(got)

            await_that(heard, "an automation to be known to the server")
            got.clear()
            yield got
        finally:
            register_automations(api, automations())
            for one in api.read_automations_by_name("Overlander: notify a person"):
                api.delete_automation(one.id)


@pytest.fixture
def impatient(api: SyncPrefectClient) -> Iterator[None]:
    """Let the server wait ten seconds for a sign of life, the least that it takes."""
    with registered(api, silent_for=timedelta(seconds=10)):
        yield


def test_they_know_the_names_that_flows_and_events_have() -> None:
    entrypoints = {one["entrypoint"] for one in yaml.safe_load(PREFECT_YAML.read_text())["deployments"]}
    flows = {getattr(import_module(module), name).name for module, _, name in map(_parted, entrypoints)}

    assert flows == set(FLOWS)
    assert f"{EVENT_PREFIX}*" == EVENTS


def _parted(entrypoint: str) -> tuple[str, str, str]:
    return entrypoint.rpartition(".")


def test_a_run_killed_without_a_word_is_marked_crashed(api: SyncPrefectClient, impatient: None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DIES_WITHOUT_A_WORD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            run_id = UUID(process.stdout.readline().strip())

            def has_shown_life() -> bool:
                wanted = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}, "limit": 50}
                found = api.request("POST", "/events/filter", json=wanted).json()["events"]
                return any(event["resource"]["prefect.resource.id"].endswith(str(run_id)) for event in found)

            await_that(has_shown_life, "a heartbeat")
        finally:
            process.kill()

    def crashed() -> str | None:
        state = api.read_flow_run(run_id).state
        return state.message if state is not None and state.is_crashed() else None

    assert "No sign of life for 10 s" in await_that(crashed, "the mark")


@pytest.mark.parametrize("last_seen", [Pending(), Submitting(), Running()], ids=lambda state: state.name)
def test_a_run_killed_before_its_first_sign_of_life_is_marked_crashed(
    last_seen: State[Any], api: SyncPrefectClient, impatient: None
) -> None:
    run = api.create_flow_run(verify, state=Scheduled())
    api.set_flow_run_state(run.id, last_seen, force=True)

    def crashed() -> str | None:
        state = api.read_flow_run(run.id).state
        return state.message if state is not None and state.is_crashed() else None

    assert "No sign of life for 10 s" in await_that(crashed, "the mark")


def test_a_run_whose_cancelling_nobody_carries_out_ends_cancelled(api: SyncPrefectClient, impatient: None) -> None:
    run = api.create_flow_run(verify, state=Scheduled())
    for reached in (Running(), Cancelling()):
        api.set_flow_run_state(run.id, reached, force=True)

    def cancelled() -> str | None:
        state = api.read_flow_run(run.id).state
        return state.message if state is not None and state.is_cancelled() else None

    assert "No worker stopped it in 10 s" in await_that(cancelled, "its end")


def test_a_run_that_no_worker_takes_says_what_it_waits_for_and_runs_when_one_comes(
    api: SyncPrefectClient,
) -> None:
    register_automations(api, automations())
    queue = api.read_work_queue_by_name("upkeep", work_pool_name="overlander")
    api.update_work_queue(queue.id, is_paused=True)
    try:
        run = run_deployment("verify/weekly-verify", timeout=0, as_subflow=False)

        def told() -> str | None:
            state = api.read_flow_run(run.id).state
            return state.message if state is not None and state.name == "AwaitingWorker" else None

        message = await_that(told, "the message of a late run")
        assert "Waits for a worker" in message
        assert "overlander server up" in message
    finally:
        api.update_work_queue(queue.id, is_paused=False)
    await_that(lambda: (state := api.read_flow_run(run.id).state) and state.is_final(), "its end")


def test_a_person_is_notified_of_each_kind_of_news_once(api: SyncPrefectClient) -> None:
    # Unique to this run of the tests, since a campaign that says the same again is told of once a day.
    key = f"tile-h05v03-{uuid4()}"
    with registered(api) as got:

        def told_of(news: str) -> list[dict[str, str]]:
            return [notice for notice in got if news in notice["body"]]

        tell("needs-attention", key, "H05V03", "Two chips need a person.")
        await_that(lambda: told_of("Two chips need a person."), "the first notice")
        tell("needs-attention", key, "H05V03", "Two chips still need a person.")
        tell("quarantined", key, "H05V03", "One chip was given up.")
        await_that(lambda: told_of("One chip was given up."), "the second notice")

        assert not told_of("still need")
        assert told_of("Two chips")[0]["subject"] == "Overlander: H05V03"


def test_registering_again_without_a_block_keeps_the_one_that_was_named(api: SyncPrefectClient) -> None:
    assert notified_block(api) is None
    with registered(api):
        assert notified_block(api) == notification_block(api, "custom-webhook/operators")


@pytest.mark.parametrize("named", ["custom-webhook/none-such", "operators", "results-cassandra/cluster"])
def test_what_is_no_notification_block_is_refused_with_what_to_do(api: SyncPrefectClient, named: str) -> None:
    with pytest.raises(BadInput, match="has no notification block"):
        notification_block(api, named)
