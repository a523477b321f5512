"""A picture of a tile: its chips as squares, coloured and hatched by state, with a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tasks.chips.grid import CHIP_M
from tasks.report.chips import ChipLine, count_states
from tasks.report.drawing import (
    FAINT,
    draw_legend,
    draw_squares,
    draw_title,
    legend_px,
    png_of,
    points,
    sheet,
    step_of,
    width_of,
    write,
)
from tasks.report.palette import STATE_LOOKS, ink_on

_LEFT_PX, _TOP_PX, _BOTTOM_PX = 46, 108, 14
_GRID_WIDTH_PX, _GRID_HEIGHT_PX = 450, 540
_LARGEST_CHIP_PX = 150
_WORDS_FROM_PX = 86
_METRES_PX = 66
_LETTERS_PX = 12.5


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
        return min(_LARGEST_CHIP_PX, _GRID_WIDTH_PX // self.columns, _GRID_HEIGHT_PX // self.rows)

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
    def legend_top(self) -> float:
        """Upper edge of the legend, below the metres and the note under them."""
        return self.bottom + _METRES_PX

    @property
    def height(self) -> int:
        """Height of the whole picture."""
        return int(self.legend_top + legend_px(len(STATE_LOOKS)) + _BOTTOM_PX)


def tile_map(lines: Sequence[ChipLine], title: str, tile_corner: tuple[int, int]) -> bytes:
    """Draw the chips of a tile, or of a window of it, and return the PNG file's bytes.

    The same input gives the same bytes: they hold no date and no program's version. The picture is 584 pixels
    wide and at most 930 high, twice as many in the file.

    Args:
        lines: at least one chip; the map reaches from their first row and column to their last.
        title: one line above the picture; a very long one is cut.
        tile_corner: x and y of the tile's upper left corner, metres.

    Raises:
        ValueError: there are no lines.
    """
    frame = frame_of(lines)
    axes = sheet(frame.height)
    home = sum(STATE_LOOKS[line.state].home for line in lines)
    chips = "chip" if len(lines) == 1 else "chips"
    draw_title(axes, title, f"{home:,} of {len(lines):,} {chips} home")
    _draw_chips(axes, lines, frame)
    _draw_rows_and_columns(axes, frame)
    _draw_metres(axes, frame, tile_corner)
    legend = [(_name(state), STATE_LOOKS[state], count) for state, count in count_states(lines).items()]
    draw_legend(axes, legend, frame.legend_top)
    return png_of(axes)


def frame_of(lines: Sequence[ChipLine]) -> Frame:
    """Return where these chips lie on their map.

    Raises:
        ValueError: there are no lines.
    """
    if not lines:
        raise ValueError("A map needs at least one chip.")
    rows, columns = {line.row for line in lines}, {line.column for line in lines}
    return Frame(min(rows), max(rows) - min(rows) + 1, min(columns), max(columns) - min(columns) + 1)


def _draw_chips(axes: Axes, lines: Sequence[ChipLine], frame: Frame) -> None:
    side = frame.chip_px - max(1, frame.chip_px // 45)
    places = [(frame.x_of(line.column), frame.y_of(line.row), line.state) for line in lines]
    draw_squares(axes, [(x, y, side, STATE_LOOKS[state]) for x, y, state in places])
    if side < _WORDS_FROM_PX:
        return
    for line in lines:
        colour = STATE_LOOKS[line.state].colour
        words = [_name(line.state)]
        words += [f"{line.pixels:,} pixels"] if line.pixels is not None else []
        words += [f"{line.failed:,} failed"] if line.failed else []
        words += [f"{line.missing:,} missing"] if line.missing else []
        write(
            axes,
            frame.x_of(line.column) + side / 2,
            frame.y_of(line.row) + side - 8,
            "\n".join(word for word in words if width_of(word, _LETTERS_PX) <= side - 6),
            _LETTERS_PX,
            ha="center",
            va="bottom",
            linespacing=1.25,
            color=ink_on(colour, 0.95),
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 2},
        )


def _draw_rows_and_columns(axes: Axes, frame: Frame) -> None:
    step = step_of(28, frame.chip_px)
    for column in range(frame.first_column, frame.first_column + frame.columns):
        if column % step == 0:
            write(axes, frame.x_of(column + 0.5), _TOP_PX - 6, str(column), 13, ha="center", va="bottom")
    for row in range(frame.first_row, frame.first_row + frame.rows):
        if row % step == 0:
            write(axes, _LEFT_PX - 8, frame.y_of(row + 0.5), str(row), 13, ha="right", va="center")
    write(axes, _LEFT_PX, _TOP_PX - 23, "column", _LETTERS_PX, va="bottom", color=FAINT)
    write(axes, _LEFT_PX - 8, _TOP_PX - 6, "row", _LETTERS_PX, ha="right", va="bottom", color=FAINT)


def _draw_metres(axes: Axes, frame: Frame, tile_corner: tuple[int, int]) -> None:
    ticks = []
    for column in range(0, frame.columns + 1, step_of(90, frame.chip_px)):
        x = frame.x_of(frame.first_column + column)
        metres = tile_corner[0] + (frame.first_column + column) * CHIP_M
        ticks.append([(x, frame.bottom + 2), (x, frame.bottom + 7)])
        write(axes, x, frame.bottom + 10, _metres(metres), _LETTERS_PX, ha="center", va="top", color=FAINT)
    for row in range(0, frame.rows + 1, step_of(60, frame.chip_px)):
        y = frame.y_of(frame.first_row + row)
        metres = tile_corner[1] - (frame.first_row + row) * CHIP_M
        ticks.append([(frame.right + 2, y), (frame.right + 7, y)])
        write(axes, frame.right + 10, y, _metres(metres), _LETTERS_PX, va="center", color=FAINT)
    axes.add_collection(LineCollection(ticks, colors=FAINT, linewidths=points(1)))
    note = "edges of chips in Albers metres, x below and y on the right"
    write(axes, _LEFT_PX, frame.bottom + 29, note, _LETTERS_PX, va="top", color=FAINT)


def _name(state: str) -> str:
    return state.replace("_", " ")


def _metres(value: int) -> str:
    return f"{value:,}".replace("-", "\N{MINUS SIGN}")
