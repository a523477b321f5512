"""A region's report as one HTML page that needs no network: its tiles, their conditions, the map inside.

It works from a file, in light and dark, without JavaScript. As the tile's page, it holds a policy that lets
nothing run or load but its own style and the map inside it.
"""

import base64
from collections.abc import Sequence

from tasks.report.templates import template
from tasks.report.tiles import TILE_LOOKS, TileLine, count_conditions

_RANK = {condition: rank for rank, condition in enumerate(reversed(TILE_LOOKS))}


def region_page(
    lines: Sequence[TileLine], title: str, subtitle: str, map_png: bytes, next_steps: Sequence[str]
) -> bytes:
    """Return the page as UTF-8; the same input gives the same bytes.

    Args:
        lines: the tiles; those most in need of a person are listed first.
        title: the page's heading.
        subtitle: one line below it.
        map_png: the picture, of `region_map`.
        next_steps: what a person can do now, a sentence each; `commands` between backticks are set as code.
    """
    counts = count_conditions(lines)
    page = template("region_page.html").render(
        title=title,
        subtitle=subtitle,
        totals={},
        next_steps=next_steps,
        counts=counts,
        looks=TILE_LOOKS,
        lines=sorted(lines, key=lambda line: (_RANK[line.condition], not line.under_way)),
        finished=sum(count for condition, count in counts.items() if TILE_LOOKS[condition].home),
        chips=sum(line.chips for line in lines),
        home=sum(line.home for line in lines),
        saved=sum(line.saved for line in lines),
        under_way=sum(bool(line.under_way) for line in lines),
        map_base64=base64.b64encode(map_png).decode(),
    )
    return page.encode(errors="replace")
