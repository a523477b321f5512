"""What the pictures of reports share: a sheet that counts in pixels, its title, squares, legend and PNG file.

Drawn with matplotlib's objects rather than pyplot, whose global figure is not safe in threads. One set of
axes covers the picture and counts in pixels from the upper left, so that squares have sharp edges.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from tasks.report.palette import HATCHES, Look, hatch_repeats, ink_on

TEXT: Final = "#1d2329"
FAINT: Final = "#66717b"
FAINTER: Final = "#9aa4ad"

LEGEND_PX, LEGEND_LINE_PX = 220, 30
_DPI = 100
_TITLE_LETTER_PX = 14.5

Square = tuple[float, float, float, Look]
"""x and y of the upper left corner, side, look."""


def sheet(width: int, height: int) -> Axes:
    """Return an empty white picture of so many pixels."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def png_of(axes: Axes) -> bytes:
    """Return the picture as a PNG file that holds no date and no program's version."""
    file = io.BytesIO()
    canvas = FigureCanvasAgg(axes.get_figure(root=True))
    canvas.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()


def write(axes: Axes, x: float, y: float, words: str, size_px: float, **how: Any) -> None:
    """Write words as they are, without reading `$` as mathematics."""
    how = {"color": TEXT, **how}
    axes.text(x, y, words, fontsize=points(size_px), parse_math=False, **how)


def draw_title(axes: Axes, title: str, below: str, width: int) -> None:
    """Write the title, cut to the picture's width, and a line below it."""
    letters = int((width - 60) / _TITLE_LETTER_PX)
    short = title if len(title) <= letters else title[: letters - 1].rstrip() + "…"
    write(axes, 20, 44, short, 23, va="baseline", fontweight="bold")
    write(axes, 20, 72, below, 16, va="baseline", color=FAINT)


def draw_squares(axes: Axes, squares: Iterable[Square]) -> None:
    """Draw squares with the colour and hatch of their look."""
    corners, colours, strokes, inks, widths = [], [], [], [], []
    for x, y, side, look in squares:
        corners.append([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
        colours.append(look.colour)
        repeats = hatch_repeats(side)
        step = side / repeats
        offsets = [(x + east * step, y + south * step) for east in range(repeats) for south in range(repeats)]
        drawn = [
            [(left + x1 * step, top + y1 * step), (left + x2 * step, top + y2 * step)]
            for left, top in offsets
            for x1, y1, x2, y2 in HATCHES[look.hatch]
        ]
        strokes += drawn
        inks += [ink_on(look.colour)] * len(drawn)
        widths += [points(max(1, step / 16) * (2 if look.hatch == "." else 1))] * len(drawn)
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0, antialiaseds=False))
    axes.add_collection(LineCollection(strokes, colors=inks, linewidths=widths, capstyle="projecting"))
    # An edge, as the lightest looks are nearly as light as the paper.
    edge: dict[str, Any] = {"edgecolors": (0, 0, 0, 0.18), "linewidths": points(1)}
    axes.add_collection(PolyCollection(corners, facecolors="none", **edge))


def draw_legend(axes: Axes, rows: Sequence[tuple[str, Look, int]], x: float, top: float) -> None:
    """Draw a line for each look with its name and count, and their sum."""
    side, right = 18, x + LEGEND_PX
    lines = [(*row, top + index * LEGEND_LINE_PX) for index, row in enumerate(rows)]
    draw_squares(axes, [(x, y, side, look) for _, look, _, y in lines])
    for name, _, count, y in lines:
        colour, weight = (TEXT, "bold") if count else (FAINTER, "normal")
        middle = y + side / 2
        write(axes, x + 30, middle, name, 14.5, va="center", color=colour)
        number = f"{count:,}"
        write(axes, right, middle, number, 14.5, ha="right", va="center", color=colour, fontweight=weight)
    bottom = top + len(rows) * LEGEND_LINE_PX
    axes.add_collection(LineCollection([[(x, bottom), (right, bottom)]], colors=FAINTER, linewidths=points(1)))
    total = f"{sum(count for _, _, count in rows):,}"
    write(axes, x + 30, bottom + 18, "all", 14.5, va="center")
    write(axes, right, bottom + 18, total, 14.5, ha="right", va="center", fontweight="bold")


def points(pixels: float) -> float:
    """Return a length as matplotlib counts those of pens and letters."""
    return pixels * 72 / _DPI
