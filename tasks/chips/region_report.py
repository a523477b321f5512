"""A region's map and page as files, written only where they change."""

import re
from pathlib import Path

from tasks.chips.region import RegionCampaign, RegionStanding
from tasks.files import write_if_changed


def write_region_files(work: RegionCampaign, found: RegionStanding, source: str) -> dict[str, Path]:
    """Write a region's map and page below its campaign's output folder; return them by what they are.

    Raises:
        OutputUnusable: the folder cannot be written.
    """
    from tasks.report.region_maps import region_map
    from tasks.report.region_page import region_page

    stem = re.sub(r"[^\w.+-]", "_", work.name)  # two campaigns of a region have each their own
    paths = {"map": work.folder / f"{stem}_map.png", "page": work.folder / f"{stem}_report.html"}
    png = region_map(found.lines, work.title)
    write_if_changed(paths["map"], png)
    subtitle = f"{work.name}: {len(found.lines):,} tiles, chips of {source}"
    write_if_changed(paths["page"], region_page(found.lines, work.title, subtitle, png, found.next_steps))
    return paths
