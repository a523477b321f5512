"""What a polygon campaign's run shows in the Prefect UI: states, failures by reason, the map, what to do next."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.artifacts import key_of
from tasks.polygons.campaign import PolygonCampaign
from tasks.polygons.report import Standing
from tasks.report.units import Reason

_MOST_REASONS = 50


def artifact_key(campaign: str) -> str:
    """Return the key under which the UI keeps a campaign's history."""
    return key_of(f"polygons {campaign}")


def show_polygons(
    campaign: PolygonCampaign, found: Standing, reasons: Sequence[Reason], files: Mapping[str, str]
) -> None:
    """Put a campaign's states, its failures by reason, its map and what to do next into the UI."""
    key = artifact_key(campaign.name)
    create_table_artifact(
        [{"state": own.value, "units": number} for own, number in found.counts.own.items() if number],
        key=f"{key}-states",
        description=f"{campaign.name}: {found.counts.units:,} units by state",
    )
    if reasons:
        create_table_artifact(
            [
                {
                    "units": why.count,
                    "class": why.error_class,
                    "text": why.error,
                    "example": why.example,
                    "what to do": why.advice,
                }
                for why in reasons[:_MOST_REASONS]
            ],
            key=f"{key}-reasons",
            description=f"{campaign.name}: what went wrong",
        )
    steps = "\n".join(f"* {step}" for step in found.next_steps) or "* Nothing: every polygon is done."
    text = f"# {campaign.name}\n\n{found.words}\n\n## What to do next\n\n{steps}\n"
    if "map" in files:
        picture = base64.b64encode(Path(files["map"]).read_bytes()).decode()
        text += f"\n![Map of {campaign.name}](data:image/png;base64,{picture})\n"
    text += "\n## Files\n\n" + "\n".join(f"* `{path}`" for path in files.values()) + "\n"
    create_markdown_artifact(text, key=key, description=f"{campaign.name}: where it stands")
