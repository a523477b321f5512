"""A picture of a region: its tiles as squares, coloured by condition, each with a bar for what of it is home."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from tasks.report.drawing import (
    FAINT,
    LEGEND_LINE_PX,
    LEGEND_PX,
    draw_legend,
    draw_squares,
    draw_title,
    png_of,
    sheet,
    write,
)
from tasks.report.palette import ink_on
from tasks.report.tiles import TILE_LOOKS, TileLine, count_conditions

_LEFT_PX, _TOP_PX, _RIGHT_PX, _BOTTOM_PX = 66, 132, 40, 64
_GRID_WIDTH_PX, _GRID_HEIGHT_PX = 900, 700
_LARGEST_TILE_PX = 150
_WORDS_FROM_PX = 84
_NARROWEST_PX = 960
_HOME: Final = "#0f6650"
_UNDER_WAY: Final = "#0b3d78"


def region_map(lines: Sequence[TileLine], title: str) -> bytes:
    """Draw a region's tiles and return the PNG file's bytes; the same input gives the same bytes.

    The bar at the foot of an unfinished tile is as long as what of it is home; a frame marks a run under way.

    Args:
        lines: at least one tile; the map reaches from their first row and column to their last.
        title: one line above the picture; a very long one is cut.

    Raises:
        ValueError: there are no lines.
    """
    if not lines:
        raise ValueError("A map needs at least one tile.")
    first_h, first_v = min(line.h for line in lines), min(line.v for line in lines)
    columns, rows = max(line.h for line in lines) - first_h + 1, max(line.v for line in lines) - first_v + 1
    tile_px = min(_LARGEST_TILE_PX, _GRID_WIDTH_PX // columns, _GRID_HEIGHT_PX // rows)
    right = _LEFT_PX + columns * tile_px
    legend_x = max(right + 40, _LEFT_PX + 420)
    width = max(legend_x + LEGEND_PX + _RIGHT_PX, _NARROWEST_PX)
    legend_bottom = _TOP_PX + (len(TILE_LOOKS) + 1) * LEGEND_LINE_PX + 90
    bottom = _TOP_PX + rows * tile_px
    axes = sheet(int(width), int(max(bottom, legend_bottom) + _BOTTOM_PX))
    chips, home = sum(line.chips for line in lines), sum(line.home for line in lines)
    finished = sum(TILE_LOOKS[line.condition].home for line in lines)
    below = f"{finished:,} of {len(lines):,} tiles finished, {home:,} of {chips:,} chips home"
    draw_title(axes, title, below, int(width))
    corners = [
        (line, float(_LEFT_PX + (line.h - first_h) * tile_px), float(_TOP_PX + (line.v - first_v) * tile_px))
        for line in lines
    ]
    side = tile_px - max(1, tile_px // 28)
    draw_squares(axes, [(x, y, side, TILE_LOOKS[line.condition]) for line, x, y in corners])
    _draw_bars(axes, corners, side)
    if side >= _WORDS_FROM_PX:
        _draw_words(axes, corners, side)
    _draw_numbers(axes, first_h, columns, first_v, rows, tile_px)
    legend = [
        (condition.replace("_", " "), TILE_LOOKS[condition], count)
        for condition, count in count_conditions(lines).items()
    ]
    draw_legend(axes, legend, legend_x, _TOP_PX)
    _draw_key(axes, legend_x, _TOP_PX + (len(legend) + 1) * LEGEND_LINE_PX + 22, lines)
    return png_of(axes)


def _draw_bars(axes: Axes, corners: Sequence[tuple[TileLine, float, float]], side: float) -> None:
    """Draw what of each unfinished tile is home, and a frame round those that a run is at work on."""
    height = max(4.0, side / 5)
    full, done, frames = [], [], []
    for line, x, y in corners:
        if line.under_way:
            frames.append(_rectangle(x + 1.5, y + 1.5, side - 3, side - 3))
        if TILE_LOOKS[line.condition].home or not line.home:
            continue
        top = y + side - height
        full.append(_rectangle(x, top, side, height))
        done.append(_rectangle(x, top, side * min(1.0, line.home / line.chips), height))
    axes.add_collection(PolyCollection(full, facecolors="white", linewidths=0, antialiaseds=False))
    axes.add_collection(PolyCollection(done, facecolors=_HOME, linewidths=0, antialiaseds=False))
    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors=_UNDER_WAY, linewidths=2))


def _draw_words(axes: Axes, corners: Sequence[tuple[TileLine, float, float]], side: float) -> None:
    for line, x, y in corners:
        colour = TILE_LOOKS[line.condition].colour
        words = f"{line.name}\n{100 * line.home // max(1, line.chips)} % home"
        box = {"facecolor": colour, "edgecolor": "none", "pad": 3}
        write(
            axes,
            x + side / 2,
            y + side / 2,
            words,
            13.5,
            ha="center",
            va="center",
            color=ink_on(colour, 0.95),
            bbox=box,
        )


def _draw_numbers(axes: Axes, first_h: int, columns: int, first_v: int, rows: int, tile_px: int) -> None:
    for h in range(first_h, first_h + columns):
        x = _LEFT_PX + (h - first_h + 0.5) * tile_px
        write(axes, x, _TOP_PX - 7, f"{h:02}", 13, ha="center", va="bottom")
    for v in range(first_v, first_v + rows):
        y = _TOP_PX + (v - first_v + 0.5) * tile_px
        write(axes, _LEFT_PX - 8, y, f"{v:02}", 13, ha="right", va="center")
    write(axes, _LEFT_PX, _TOP_PX - 27, "H", 12.5, va="bottom", color=FAINT)
    write(axes, _LEFT_PX - 38, _TOP_PX, "V", 12.5, ha="right", va="top", color=FAINT)


def _draw_key(axes: Axes, x: float, top: float, lines: Sequence[TileLine]) -> None:
    """Explain bar and frame below the legend."""
    axes.add_collection(PolyCollection([_rectangle(x, top + 6, 12, 6)], facecolors=_HOME, linewidths=0))
    write(axes, x + 30, top + 9, "bar: what of it is home", 13, va="center")
    frame = PolyCollection(
        [_rectangle(x, top + 30, 18, 18)], facecolors="none", edgecolors=_UNDER_WAY, linewidths=2
    )
    axes.add_collection(frame)
    at_work = sum(bool(line.under_way) for line in lines)
    write(axes, x + 30, top + 39, "a run is under way", 13, va="center")
    write(axes, x + LEGEND_PX, top + 39, f"{at_work:,}", 13, ha="right", va="center", fontweight="bold")


def _rectangle(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
