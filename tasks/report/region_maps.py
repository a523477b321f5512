"""A picture of a region: its tiles as squares, coloured by condition, each with a bar for what of it is home."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from tasks.report.drawing import (
    FAINT,
    LEGEND_COLUMNS,
    LEGEND_LINE_PX,
    WIDTH_PX,
    draw_count,
    draw_legend,
    draw_squares,
    draw_title,
    legend_px,
    png_of,
    points,
    sheet,
    step_of,
    write,
)
from tasks.report.palette import ink_on
from tasks.report.tiles import TILE_LOOKS, TileLine, count_conditions

_LEFT_PX, _TOP_PX, _RIGHT_PX, _BOTTOM_PX = 46, 108, 20, 14
_GRID_WIDTH_PX, _GRID_HEIGHT_PX = WIDTH_PX - _LEFT_PX - _RIGHT_PX, 540
_LARGEST_TILE_PX = 150
_WORDS_FROM_PX = 90
_HOME: Final = "#0f6650"
_UNDER_WAY: Final = "#0b3d78"


def region_map(lines: Sequence[TileLine], title: str) -> bytes:
    """Draw a region's tiles and return the PNG file's bytes; the same input gives the same bytes.

    The bar at the foot of an unfinished tile is as long as what of it is home; a frame marks a run under way.
    The picture is 584 pixels wide and at most 840 high, twice as many in the file.

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
    legend_top = _TOP_PX + rows * tile_px + 24
    key_top = legend_top + legend_px(len(TILE_LOOKS)) + 8
    axes = sheet(key_top + LEGEND_LINE_PX + _BOTTOM_PX)
    chips, home = sum(line.chips for line in lines), sum(line.home for line in lines)
    finished = sum(TILE_LOOKS[line.condition].home for line in lines)
    below = f"{finished:,} of {len(lines):,} tiles finished, {home:,} of {chips:,} chips home"
    draw_title(axes, title, below)
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
    draw_legend(axes, legend, legend_top)
    _draw_key(axes, key_top, lines)
    return png_of(axes)


def _draw_bars(axes: Axes, corners: Sequence[tuple[TileLine, float, float]], side: float) -> None:
    """Draw what of each unfinished tile is home, and a frame round those that a run is at work on."""
    height = max(4.0, side // 5)
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
    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors=_UNDER_WAY, linewidths=points(2)))


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
            12.5,
            ha="center",
            va="center",
            color=ink_on(colour, 0.95),
            bbox=box,
        )


def _draw_numbers(axes: Axes, first_h: int, columns: int, first_v: int, rows: int, tile_px: int) -> None:
    step = step_of(24, tile_px)
    for h in range(first_h, first_h + columns):
        if h % step == 0:
            x = _LEFT_PX + (h - first_h + 0.5) * tile_px
            write(axes, x, _TOP_PX - 6, f"{h:02}", 13, ha="center", va="bottom")
    for v in range(first_v, first_v + rows):
        if v % step == 0:
            y = _TOP_PX + (v - first_v + 0.5) * tile_px
            write(axes, _LEFT_PX - 8, y, f"{v:02}", 13, ha="right", va="center")
    write(axes, _LEFT_PX, _TOP_PX - 23, "H", 12.5, va="bottom", color=FAINT)
    write(axes, _LEFT_PX - 8, _TOP_PX - 6, "V", 12.5, ha="right", va="bottom", color=FAINT)


def _draw_key(axes: Axes, top: float, lines: Sequence[TileLine]) -> None:
    """Explain bar and frame below the legend."""
    (left, right), middle = LEGEND_COLUMNS, top + 9
    bar, frame = _rectangle(left, top + 6, 12, 6), _rectangle(right + 1, top + 1, 16, 16)
    axes.add_collection(PolyCollection([bar], facecolors=_HOME, linewidths=0))
    axes.add_collection(PolyCollection([frame], facecolors="none", edgecolors=_UNDER_WAY, linewidths=points(2)))
    write(axes, left + 28, middle, "bar: what of it is home", 14, va="center")
    draw_count(axes, right, middle, "a run is under way", sum(bool(line.under_way) for line in lines))


def _rectangle(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
