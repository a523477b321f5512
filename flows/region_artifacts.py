"""What a region's run shows in the Prefect UI: a table of its tiles, the map, what to do next."""

import base64
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.artifacts import key_of
from tasks.chips.region import RegionCampaign, RegionStanding
from tasks.report.tiles import TileLine


def show_region(work: RegionCampaign, found: RegionStanding, summary: str, files: dict[str, Path]) -> None:
    """Put a region's table of tiles, its map and what to do next into the UI."""
    key = key_of(f"region {work.name}")
    create_table_artifact(
        [_row(line) for line in found.lines],
        key=f"{key}-tiles",
        description=f"{work.name}: {len(found.lines):,} tiles",
    )
    steps = "\n".join(f"* {step}" for step in found.next_steps) or "* Nothing: every tile is finished."
    picture = base64.b64encode(files["map"].read_bytes()).decode()
    text = (
        f"# {work.name}\n\n{summary}\n\n## What to do next\n\n{steps}\n"
        f"\n![Map of {work.region.name}](data:image/png;base64,{picture})\n"
        "\n## Files\n\n" + "\n".join(f"* `{path}`" for path in files.values()) + "\n"
    )
    create_markdown_artifact(text, key=key, description=f"{work.name}: where it stands")


def _row(line: TileLine) -> dict[str, object]:
    return {
        "tile": line.name,
        "condition": line.condition.replace("_", " "),
        "home": line.home,
        "of": line.chips,
        "saved": line.saved,
        "need a person": line.needs_person,
        "under way": line.under_way,
        "runs": line.passes,
        "last run": line.last_run,
        "note": line.note,
    }
