"""What the Prefect server does by itself: marks runs that died, says what a late run waits for, notifies people.

Automations live in the server's own services (events and triggers, on by default) and are found by their name.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, ResourceSpecification
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, Posture

from tasks.errors import BadInput

FLOWS = ("tile-campaign", "tiles-export", "polygon-campaign", "region-campaign", "converge", "verify")
"""Only runs of these are touched: other people's flows may share the server."""

EVENTS = "overlander.campaign.*"
"""What campaigns tell (flows/news.py)."""

SILENT_FOR = timedelta(seconds=540)
"""Three times Prefect's interval between two heartbeats of a run: one or two may be lost or late."""

ALIVE = {
    "prefect.flow-run.heartbeat",
    # A worker took it, or it began, and its process died before the first heartbeat.
    *(f"prefect.flow-run.{name}" for name in ("Pending", "Submitting", "InfrastructurePending", "Running")),
}
"""Signs of life of a run that has not ended: after each, another event is expected."""

NOTIFIES = "Overlander: notify a person"

TOLD_AGAIN_AFTER = timedelta(days=1)
"""An hourly schedule would tell the same every hour."""

_OURS = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)})
_ANY_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})


def automations(notify: UUID | None = None, silent_for: timedelta = SILENT_FOR) -> list[AutomationCore]:
    """Return the automations that Overlander wants.

    Args:
        notify: the notification block's document; without it nobody is notified, and nothing else changes.
        silent_for: how long a run may be without a heartbeat before it counts as dead.
    """
    wanted = [
        _when_nothing_follows(
            "Overlander: mark runs that died",
            "A run killed without a word would stay as it is for ever; the hourly schedule goes on.",
            after=ALIVE,
            expect={"prefect.flow-run.*"},  # any will do: a run's last state may have a name of ours, as Waiting
            within=silent_for,
            state=StateType.CRASHED,
            words=f"No sign of life for {silent_for.total_seconds():.0f} s",
        ),
        _when_nothing_follows(
            "Overlander: end runs whose cancelling nobody carries out",
            "A worker stops what is cancelled; where its machine is gone, nobody does.",
            after={"prefect.flow-run.Cancelling"},
            expect={"prefect.flow-run.Cancelled"},  # Prefect lets nothing else follow
            within=silent_for,
            state=StateType.CANCELLED,
            words=f"No worker stopped it in {silent_for.total_seconds():.0f} s",
        ),
        AutomationCore(
            name="Overlander: say what a late run waits for",
            description="A run that no worker takes says so in its state.",
            trigger=EventTrigger(
                posture=Posture.Reactive,
                expect={"prefect.flow-run.Late"},
                match=_ANY_RUN,
                match_related=_OURS,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name="AwaitingWorker",  # the server refuses to mark a late run Late again
                    message=(
                        "Waits for a worker: none of its work pool's has taken it. Either all are busy or none is "
                        "up: see `overlander server status`. Start one with `overlander server up`, or with "
                        "`prefect worker start --pool overlander` where its runs belong."
                    ),
                )
            ],
        ),
    ]
    if notify is not None:
        wanted.append(
            AutomationCore(
                name=NOTIFIES,
                description="A campaign needs a person, has given something up, or has not moved for long.",
                trigger=EventTrigger(
                    posture=Posture.Reactive,
                    expect={EVENTS},
                    # Each kind of news apart, for each campaign apart.
                    for_each={"prefect.resource.id", "overlander.news"},
                    within=TOLD_AGAIN_AFTER,
                ),
                actions=[
                    SendNotification(
                        block_document_id=notify,
                        subject="Overlander: {{ event.resource.name }}",
                        body="{{ event.payload.words }}\n{% if flow_run %}{{ flow_run|ui_url }}{% endif %}",
                    )
                ],
            )
        )
    return wanted


def _when_nothing_follows(
    name: str,
    description: str,
    *,
    after: set[str],
    expect: set[str],
    within: timedelta,
    state: StateType,
    words: str,
) -> AutomationCore:
    """Return the automation that ends a run of ours when no event that is expected follows another in time."""
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after=after,
            expect=expect,
            match=_ANY_RUN,
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=state,
                message=f"{words}: its process or machine is gone. What it did is kept; run it again to go on.",
            )
        ],
    )


def register_automations(client: SyncPrefectClient, wanted: Sequence[AutomationCore]) -> None:
    """Make the automations, or bring those of the same name up to date; one that is switched off stays off."""
    for one in wanted:
        there = client.read_automations_by_name(one.name)
        if not there:
            Automation(**one.model_dump()).create()
            continue
        enabled = there[0].enabled
        client.update_automation(there[0].id, one.model_copy(update={"enabled": enabled}))
        for extra in there[1:]:
            client.delete_automation(extra.id)


def notified_block(client: SyncPrefectClient) -> UUID | None:
    """Return the document of the block that is notified as the server is now; None when none is."""
    actions = [action for one in client.read_automations_by_name(NOTIFIES) for action in one.actions]
    return next((action.block_document_id for action in actions if isinstance(action, SendNotification)), None)


def notification_block(client: SyncPrefectClient, named: str) -> UUID:
    """Return the document of a notification block that a person names as `type-slug/name`.

    Raises:
        BadInput: there is none, or it cannot notify.
    """
    slug, _, name = named.partition("/")
    documents = client.read_block_documents_by_type(slug) if name else []
    found = next((document for document in documents if document.name == name), None)
    if found is None or found.block_schema is None or "notify" not in found.block_schema.capabilities:
        raise BadInput(
            f"The Prefect server has no notification block {named!r}. Make one in the Prefect UI, under Blocks "
            "(Slack, e-mail, a webhook of your own), and name it by type and name, as slack-webhook/operators."
        )
    return found.id
