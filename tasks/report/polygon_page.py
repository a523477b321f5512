"""A polygon campaign's report as one HTML page that needs no network: states, durations, reasons, the map.

It works from a file, in light and dark, without JavaScript. As the tile's page, it holds a policy that lets
nothing run or load but its own style and the map inside it.
"""

import base64
import heapq
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from tasks.report.durations import draw, histogram, summary
from tasks.report.polygon_palette import UNIT_LOOKS, every_state, urgency
from tasks.report.templates import template
from tasks.report.units import Reason, UnitLine

MOST_LINES = 500
MOST_REASONS = 50


def polygon_page(
    title: str,
    subtitle: str,
    own: Mapping[str, int],
    remote: Mapping[str, int],
    seconds_by_state: Mapping[str, Sequence[float]],
    reasons: Sequence[Reason],
    lines: Iterable[UnitLine],
    files: Mapping[str, str],
    map_png: bytes | None,
    next_steps: Sequence[str],
) -> bytes:
    """Return the page as UTF-8; the same input gives the same bytes.

    Args:
        title: the page's heading.
        subtitle: one line below it.
        own: units by own state, keys of `UNIT_LOOKS`.
        remote: units by what the service said last, in OGC words, in the order to list them; an empty word is
            for those of which it has said nothing.
        seconds_by_state: durations of jobs by own state.
        reasons: of `reasons_of`; the first 50 are listed.
        lines: the units, read once as a stream; those that are done are passed over, and of the others the 500
            most in need of a person are listed, in their order.
        files: paths relative to the page, by what they are.
        map_png: the picture, of `polygon_map`; None for none.
        next_steps: what a person can do now, a sentence each; `commands` between backticks are set as code.

    Raises:
        KeyError: a state is none of `UNIT_LOOKS`.
    """
    counts = every_state(own)
    away = sum(count for state, count in counts.items() if not UNIT_LOOKS[state].home)
    not_home = (line for line in lines if not UNIT_LOOKS[line.state].home)
    listed = heapq.nsmallest(MOST_LINES, not_home, key=lambda line: -urgency(line.state))
    durations = histogram(seconds_by_state)
    page = template(
        "polygon_page.html"
    ).render(
        title=title,
        subtitle=subtitle,
        totals={},
        next_steps=next_steps,
        counts=counts,
        total=sum(counts.values()),
        away=away,
        remote=remote,
        looks=UNIT_LOOKS,
        durations=Markup(draw(durations, "How long jobs took")),  # noqa: S704 - escaped by its template
        durations_summary=summary(durations),
        reasons=reasons[:MOST_REASONS],
        more_reasons=max(0, len(reasons) - MOST_REASONS),
        lines=listed,
        more_lines=max(0, away - len(listed)),
        files=files,
        map_base64=None if map_png is None else base64.b64encode(map_png).decode(),
    )
    return page.encode(errors="replace")
