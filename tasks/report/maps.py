"""A picture of a tile: its chips as squares, coloured and hatched by state, with a legend.

Drawn with matplotlib's objects rather than pyplot, whose global figure is not safe in threads. One set of
axes covers the picture and counts in pixels from the upper left, so that squares have sharp edges.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from tasks.chips.grid import CHIP_M
from tasks.report.chips import ChipLine, count_states
from tasks.report.palette import HATCHES, STATE_LOOKS, hatch_repeats, ink_on

_DPI = 100
_LEFT_PX, _TOP_PX, _RIGHT_PX, _BOTTOM_PX = 66, 132, 50, 64
_GRID_PX = 750
_LARGEST_CHIP_PX = 180
_WORDS_FROM_PX = 100
_METRES_PX = 104
_LEGEND_PX, _LEGEND_LINE_PX = 220, 30
_NARROWEST_PX = 960
_TITLE_LETTER_PX = 14.5
_TEXT, _FAINT, _FAINTER = "#1d2329", "#66717b", "#9aa4ad"

_Square = tuple[float, float, float, str]
"""x and y of the upper left corner, side, state."""


@dataclass(frozen=True)
class Frame:
    """Where the chips of some rows and columns lie on their map, in pixels from its upper left."""

    first_row: int
    rows: int
    first_column: int
    columns: int

    @property
    def chip_px(self) -> int:
        """Side of a chip's square with the gap to the next."""
        return min(_LARGEST_CHIP_PX, _GRID_PX // max(self.rows, self.columns))

    def x_of(self, column: float) -> float:
        """Western edge of a column of chips; half a chip further with `column + 0.5`."""
        return _LEFT_PX + (column - self.first_column) * self.chip_px

    def y_of(self, row: float) -> float:
        """Northern edge of a row of chips."""
        return _TOP_PX + (row - self.first_row) * self.chip_px

    @property
    def right(self) -> float:
        """Eastern edge of the last column."""
        return self.x_of(self.first_column + self.columns)

    @property
    def bottom(self) -> float:
        """Southern edge of the last row."""
        return self.y_of(self.first_row + self.rows)

    @property
    def legend_x(self) -> float:
        """Western edge of the legend, beside the metres and the note under them."""
        return max(self.right + _METRES_PX, _LEFT_PX + 420)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole map."""
        width = max(self.legend_x + _LEGEND_PX + _RIGHT_PX, _NARROWEST_PX)
        legend_bottom = _TOP_PX + (len(STATE_LOOKS) + 1) * _LEGEND_LINE_PX
        return int(width), int(max(self.bottom, legend_bottom) + _BOTTOM_PX)


def tile_map(lines: Sequence[ChipLine], title: str, tile_corner: tuple[int, int]) -> bytes:
    """Draw the chips of a tile, or of a window of it, and return the PNG file's bytes.

    The same input gives the same bytes: they hold no date and no program's version. The picture is at most
    1200 x 1000 pixels.

    Args:
        lines: at least one chip; the map reaches from their first row and column to their last.
        title: one line above the picture; a very long one is cut.
        tile_corner: x and y of the tile's upper left corner, metres.

    Raises:
        ValueError: there are no lines.
    """
    frame = frame_of(lines)
    width, height = frame.size
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()

    _draw_title(axes, title, lines, width)
    _draw_chips(axes, lines, frame)
    _draw_rows_and_columns(axes, frame)
    _draw_metres(axes, frame, tile_corner)
    _draw_legend(axes, count_states(lines), frame.legend_x)

    file = io.BytesIO()
    canvas.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()


def frame_of(lines: Sequence[ChipLine]) -> Frame:
    """Return where these chips lie on their map.

    Raises:
        ValueError: there are no lines.
    """
    if not lines:
        raise ValueError("A map needs at least one chip.")
    rows, columns = {line.row for line in lines}, {line.column for line in lines}
    return Frame(min(rows), max(rows) - min(rows) + 1, min(columns), max(columns) - min(columns) + 1)


def _draw_title(axes: Axes, title: str, lines: Sequence[ChipLine], width: int) -> None:
    letters = int((width - 60) / _TITLE_LETTER_PX)
    short = title if len(title) <= letters else title[: letters - 1].rstrip() + "…"
    home = sum(STATE_LOOKS[line.state].home for line in lines)
    chips = "chip" if len(lines) == 1 else "chips"
    _write(axes, 20, 44, short, 23, va="baseline", fontweight="bold")
    _write(axes, 20, 72, f"{home:,} of {len(lines):,} {chips} home", 16, va="baseline", color=_FAINT)


def _draw_chips(axes: Axes, lines: Sequence[ChipLine], frame: Frame) -> None:
    side = frame.chip_px - max(1, frame.chip_px // 45)
    _draw_squares(axes, [(frame.x_of(line.column), frame.y_of(line.row), side, line.state) for line in lines])
    if side < _WORDS_FROM_PX:
        return
    for line in lines:
        colour = STATE_LOOKS[line.state].colour
        words = [_name(line.state)]
        words += [f"{line.pixels:,} pixels"] if line.pixels is not None else []
        words += [f"{line.failed:,} failed"] if line.failed else []
        words += [f"{line.missing:,} missing"] if line.missing else []
        _write(
            axes,
            frame.x_of(line.column) + side / 2,
            frame.y_of(line.row) + side - 12,
            "\n".join(words),
            12.5,
            ha="center",
            va="bottom",
            linespacing=1.25,
            color=ink_on(colour, 0.95),
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 3},
        )


def _draw_squares(axes: Axes, squares: Iterable[_Square]) -> None:
    corners, colours, strokes, inks, widths = [], [], [], [], []
    for x, y, side, state in squares:
        look = STATE_LOOKS[state]
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
        widths += [_points(max(1, step / 16) * (2 if look.hatch == "." else 1))] * len(drawn)
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0, antialiaseds=False))
    axes.add_collection(LineCollection(strokes, colors=inks, linewidths=widths, capstyle="projecting"))
    # An edge, as unrequested chips are nearly as light as the paper.
    edge: dict[str, Any] = {"edgecolors": (0, 0, 0, 0.18), "linewidths": _points(1)}
    axes.add_collection(PolyCollection(corners, facecolors="none", **edge))


def _draw_rows_and_columns(axes: Axes, frame: Frame) -> None:
    step = _step(28, frame.chip_px)
    for column in range(frame.first_column, frame.first_column + frame.columns):
        if column % step == 0:
            _write(axes, frame.x_of(column + 0.5), _TOP_PX - 7, str(column), 13, ha="center", va="bottom")
    for row in range(frame.first_row, frame.first_row + frame.rows):
        if row % step == 0:
            _write(axes, _LEFT_PX - 8, frame.y_of(row + 0.5), str(row), 13, ha="right", va="center")
    _write(axes, _LEFT_PX, _TOP_PX - 27, "column", 12.5, va="bottom", color=_FAINT)
    _write(axes, _LEFT_PX - 38, _TOP_PX, "row", 12.5, ha="right", va="top", color=_FAINT, rotation=90)


def _draw_metres(axes: Axes, frame: Frame, tile_corner: tuple[int, int]) -> None:
    ticks = []
    for column in range(0, frame.columns + 1, _step(110, frame.chip_px)):
        x = frame.x_of(frame.first_column + column)
        metres = tile_corner[0] + (frame.first_column + column) * CHIP_M
        ticks.append([(x, frame.bottom + 2), (x, frame.bottom + 8)])
        _write(axes, x, frame.bottom + 11, _metres(metres), 12.5, ha="center", va="top", color=_FAINT)
    for row in range(0, frame.rows + 1, _step(60, frame.chip_px)):
        y = frame.y_of(frame.first_row + row)
        metres = tile_corner[1] - (frame.first_row + row) * CHIP_M
        ticks.append([(frame.right + 2, y), (frame.right + 8, y)])
        _write(axes, frame.right + 12, y, _metres(metres), 12.5, va="center", color=_FAINT)
    axes.add_collection(LineCollection(ticks, colors=_FAINT, linewidths=_points(1)))
    note = "edges of chips in Albers metres, x below and y on the right"
    _write(axes, _LEFT_PX, frame.bottom + 32, note, 12.5, va="top", color=_FAINT)


def _draw_legend(axes: Axes, counts: dict[str, int], x: float) -> None:
    side, right = 18, x + _LEGEND_PX
    lines = [
        (state, count, _TOP_PX + index * _LEGEND_LINE_PX) for index, (state, count) in enumerate(counts.items())
    ]
    _draw_squares(axes, [(x, y, side, state) for state, _, y in lines])
    for state, count, y in lines:
        colour, weight = (_TEXT, "bold") if count else (_FAINTER, "normal")
        _write(axes, x + 30, y + side / 2, _name(state), 14.5, va="center", color=colour)
        _write(
            axes,
            right,
            y + side / 2,
            f"{count:,}",
            14.5,
            ha="right",
            va="center",
            color=colour,
            fontweight=weight,
        )
    bottom = _TOP_PX + len(counts) * _LEGEND_LINE_PX
    axes.add_collection(LineCollection([[(x, bottom), (right, bottom)]], colors=_FAINTER, linewidths=_points(1)))
    _write(axes, x + 30, bottom + 18, "all", 14.5, va="center")
    _write(
        axes,
        right,
        bottom + 18,
        f"{sum(counts.values()):,}",
        14.5,
        ha="right",
        va="center",
        fontweight="bold",
    )


def _write(axes: Axes, x: float, y: float, words: str, size_px: float, **how: Any) -> None:
    how = {"color": _TEXT, **how}
    axes.text(x, y, words, fontsize=_points(size_px), parse_math=False, **how)


def _step(distance_px: float, chip_px: int) -> int:
    return next(step for step in (1, 2, 5, 10) if step * chip_px >= distance_px or step == 10)


def _name(state: str) -> str:
    return state.replace("_", " ")


def _metres(value: int) -> str:
    return f"{value:,}".replace("-", "\N{MINUS SIGN}")


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI
