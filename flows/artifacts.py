"""What a tile's run shows in the Prefect UI: a table of states, the map, what to do next, how far it is."""

import base64
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.futures import PrefectFuture, as_completed

from tasks.chips.campaign import Campaign
from tasks.chips.report import Standing
from tasks.report.palette import STATE_LOOKS

_SECONDS_BETWEEN_UPDATES = 2.0


class ProgressArtifact:
    """A progress bar in the UI, updated by whole percents and not more often than every two seconds."""

    def __init__(self, key: str, description: str) -> None:
        self._shown = self._done = self._of = 0
        self._updated = time.monotonic()
        created = create_progress_artifact(progress=0, key=f"{key}-progress", description=description)
        self._id = UUID(str(created))

    def follow(self, stages: Sequence[PrefectFuture[Any]], to_come: int) -> None:
        """Wait for some stages, showing how many are done; `to_come` others are known to follow."""
        self._of = max(self._of, self._done + len(stages) + to_come)
        for future in as_completed(list(stages)):
            future.wait()  # as_completed alone leaves `future.state` as it was
            self._done += 1
            self.show(self._done, self._of)

    def show(self, done: int, of: int) -> None:
        """Show how much is done; the end is always shown."""
        percent = 100 * done // max(of, 1)
        due = time.monotonic() - self._updated >= _SECONDS_BETWEEN_UPDATES or percent >= 100
        if percent > self._shown and due:
            update_progress_artifact(self._id, progress=float(percent))
            self._shown, self._updated = percent, time.monotonic()


def artifact_key(campaign: Campaign) -> str:
    """Return the key under which the UI keeps a campaign's history: lower case, digits and dashes."""
    return key_of(f"tile {campaign.tile.region.short} {campaign.tile.name} {campaign.algorithm}")


def key_of(words: str) -> str:
    """Return words as an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def show_standing(campaign: Campaign, found: Standing, summary: str, files: dict[str, Path]) -> None:
    """Put a tile's table of states, its map and what to do next into the UI."""
    key = artifact_key(campaign)
    create_table_artifact(
        [
            {"state": state, "chips": count, "meaning": STATE_LOOKS[state].words}
            for state, count in found.states.items()
            if count
        ],
        key=f"{key}-states",
        description=f"{campaign.name}: {len(found.lines):,} chips by state",
    )
    steps = "\n".join(f"* {step}" for step in found.next_steps) or "* Nothing: every chip is home."
    text = f"# {campaign.name}\n\n{summary}\n\n## What to do next\n\n{steps}\n"
    if "map" in files:
        picture = base64.b64encode(files["map"].read_bytes()).decode()
        text += f"\n![Map of {campaign.tile.name}](data:image/png;base64,{picture})\n"
    if files:
        text += "\n## Files\n\n" + "\n".join(f"* `{path}`" for path in files.values()) + "\n"
    create_markdown_artifact(text, key=key, description=f"{campaign.name}: where it stands")
