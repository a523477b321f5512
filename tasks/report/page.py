"""A tile's report as one HTML page that needs no network: its chips, their states, and what is not home.

The page works from a file, without JavaScript too (then only without filter and details), by keyboard and
with a screen reader. Its Content-Security-Policy allows the page's own style and script by their hashes and
nothing else, so no text from a service or a ledger can run or load anything.
"""

from collections.abc import Mapping, Sequence

from tasks.report.chips import ChipLine, count_states
from tasks.report.palette import HATCHES, STATE_LOOKS, hatch_repeats
from tasks.report.templates import template

_GRID_UNITS = 600
_LARGEST_CHIP_UNITS = 120


def tile_page(
    lines: Sequence[ChipLine],
    title: str,
    subtitle: str,
    totals: Mapping[str, int],
    map_file: str | None,
    next_steps: Sequence[str],
) -> bytes:
    """Return the page as UTF-8; the same input gives the same bytes.

    Args:
        lines: the chips, in the order in which the arrow keys and the table go through them.
        title: the page's heading.
        subtitle: one line below it.
        totals: numbers for the top of the page, by what they count: `{"exported": 2310}`.
        map_file: path of the PNG, relative to the page, to link to; None for no link.
        next_steps: what a person can do now, a sentence each; `commands` between backticks are set as code.
    """
    columns = [line.column for line in lines] or [0]
    rows = [line.row for line in lines] or [0]
    across, down = max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
    unit = min(_LARGEST_CHIP_UNITS, _GRID_UNITS // max(across, down))
    counts = count_states(lines)
    page = template("page.html").render(
        lines=lines,
        title=title,
        subtitle=subtitle,
        totals=totals,
        map_file=map_file,
        next_steps=next_steps,
        counts=counts,
        home=sum(count for state, count in counts.items() if STATE_LOOKS[state].home),
        looks=STATE_LOOKS,
        hatches=HATCHES,
        unit=unit,
        side=unit - max(1, unit // 40),
        hatch_step=round(unit / hatch_repeats(unit), 3),
        first_row=min(rows),
        first_column=min(columns),
        across=across,
        down=down,
        label_step=next(step for step in (1, 2, 5, 10) if step * unit >= 24 or step == 10),
    )
    return page.encode(errors="replace")
