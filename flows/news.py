"""What a campaign tells people who do not look: events, which automations turn into notifications."""

from datetime import UTC, datetime
from typing import Literal

from prefect.events import emit_event

from flows.artifacts import artifact_key
from tasks.chips.campaign import Site
from tasks.chips.report import Standing
from tasks.chips.upkeep import last_moved

News = Literal["needs-attention", "quarantined", "quiet"]
"""A person has to do something; some chips or units were given up on; nothing has moved for too long."""

EVENT_PREFIX = "overlander.campaign."


def tell(news: News, key: str, name: str, words: str) -> None:
    """Emit an event about a campaign; deployments/automations.py says whom it reaches.

    Args:
        news: what has happened.
        key: lower case, digits and dashes; a campaign that says the same again is told of once a day.
        name: the campaign's, for people.
        words: what has happened and what to do, a paragraph.
    """
    emit_event(
        event=f"{EVENT_PREFIX}{news}",
        resource={"prefect.resource.id": f"{EVENT_PREFIX}{key}", "prefect.resource.name": name}
        | {"overlander.news": news},
        payload={"words": words},
    )


def tell_of_tile(place: Site, before: Standing, found: Standing) -> None:
    """Tell what a person may want to know at the end of a tile's run.

    Args:
        place: the campaign at work.
        before, found: where its chips stood when the run began, and where they stand now.
    """
    name, key = place.campaign.name, artifact_key(place.campaign)
    advice = " ".join(found.next_steps)
    if (given_up := found.states["quarantined"] - before.states["quarantined"]) > 0:
        chips = "1 chip" if given_up == 1 else f"{given_up:,} chips"
        words = f"{name}: {chips} more will not be asked for again before `overlander tile release`."
        tell("quarantined", key, name, f"{words} {advice}")
    if found.needs_person and not found.waiting:
        tell("needs-attention", key, name, f"{name} needs a person: no run changes anything any more. {advice}")
    if found.waiting and (still_s := _still_for(place)) > place.settings.quiet_after_s:
        words = f"{name}: nothing has moved for {still_s / 3600:,.0f} hours. Is the service at work?"
        tell("quiet", key, name, f"{words} {advice}")


def _still_for(place: Site) -> float:
    """Return for how many seconds none of the tile's chips has moved."""
    with place.ledger.read() as ledger:
        moved_at = last_moved(ledger, place.ground)
    return 0.0 if moved_at is None else (datetime.now(UTC) - moved_at).total_seconds()
