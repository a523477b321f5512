"""What the pictures of reports share: a sheet that counts in pixels, its title, squares, legend and PNG file.

A pixel here is one of a page: the Prefect UI shows a picture 584 of them wide in a window of 1,280, and words
are to be at least 12 high there. The file holds two by two for each, for sharper screens and wider windows.

Drawn with matplotlib's objects rather than pyplot, whose global figure is not safe in threads. One set of
axes covers the picture and counts in pixels from the upper left, so that squares have sharp edges.
"""

import io
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from tasks.report.palette import HATCHES, Look, hatch_repeats, ink_on

WIDTH_PX: Final = 584
DENSITY: Final = 2
"""Pixels of the file along a pixel of the page."""

TEXT: Final = "#1d2329"
FAINT: Final = "#66717b"
FAINTER: Final = "#9aa4ad"

MARGIN_PX: Final = 20
LEGEND_PX, LEGEND_LINE_PX = 252, 28
LEGEND_COLUMNS: Final = (MARGIN_PX, WIDTH_PX - MARGIN_PX - LEGEND_PX)
_DPI = 100
_TITLE_PX = 18

Square = tuple[float, float, float, Look]
"""x and y of the upper left corner, side, look."""


def sheet(height: int) -> Axes:
    """Return an empty white picture, 584 pixels wide and so many high."""
    size = (WIDTH_PX / _DPI, height / _DPI)
    figure = Figure(figsize=size, dpi=_DPI * DENSITY, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH_PX), ylim=(height, 0))
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


def width_of(words: str, size_px: float, weight: str = "normal") -> float:
    """Return how many pixels wide a line of words is."""
    font = FontProperties(size=points(size_px), weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, ismath=False)
    return float(width / points(1))


def draw_title(axes: Axes, title: str, below: str) -> None:
    """Write the title on one line, cut to the picture's width, and a line below it."""
    write(axes, MARGIN_PX, 36, _cut(" ".join(title.split())), _TITLE_PX, va="baseline", fontweight="bold")
    write(axes, MARGIN_PX, 60, below, 14, va="baseline", color=FAINT)


def _cut(title: str) -> str:
    room = float(WIDTH_PX - 2 * MARGIN_PX)
    if width_of(title, _TITLE_PX, "bold") <= room:
        return title

    def width(letters: int) -> float:
        return width_of(title[:letters] + "…", _TITLE_PX, "bold")

    return title[: bisect_right(range(len(title)), room, key=width) - 1].rstrip() + "…"


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


def legend_px(looks: int) -> int:
    """Return how high the legend of so many looks is."""
    return (looks // 2 + 1) * LEGEND_LINE_PX


def draw_legend(axes: Axes, rows: Sequence[tuple[str, Look, int]], top: float) -> None:
    """Draw a line for each look with its name and count, and one for their sum, in two columns."""
    side, down = 18, len(rows) // 2 + 1
    places = [
        (float(LEGEND_COLUMNS[index // down]), top + index % down * LEGEND_LINE_PX)
        for index in range(len(rows) + 1)
    ]
    draw_squares(axes, [(x, y, side, look) for (x, y), (_, look, _) in zip(places, rows, strict=False)])
    for (x, y), (name, _, count) in zip(places, rows, strict=False):
        draw_count(axes, x, y + side / 2, name, count)
    x, y = places[-1]
    rule = [[(x, y - 5), (x + LEGEND_PX, y - 5)]]
    axes.add_collection(LineCollection(rule, colors=FAINTER, linewidths=points(1)))
    draw_count(axes, x, y + side / 2, "all", sum(count for _, _, count in rows))


def draw_count(axes: Axes, x: float, middle: float, name: str, count: int) -> None:
    """Write a line of the legend: a name, and how many there are of it, fainter when there are none."""
    colour, weight = (TEXT, "bold") if count else (FAINTER, "normal")
    write(axes, x + 28, middle, name, 14, va="center", color=colour)
    number = f"{count:,}"
    write(axes, x + LEGEND_PX, middle, number, 14, ha="right", va="center", color=colour, fontweight=weight)


def step_of(distance_px: float, square_px: float) -> int:
    """Return every how many squares a label stands: 1, 2, 5 or 10, so that labels are so far apart if possible."""
    return next(step for step in (1, 2, 5, 10) if step * square_px >= distance_px or step == 10)


def points(pixels: float) -> float:
    """Return a length as matplotlib counts those of pens and letters."""
    return pixels * 72 / _DPI
