"""A picture of polygons on a map by state: themselves while they are few, squares of many when they are not."""

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from tasks.report.drawing import (
    FAINT,
    FAINTER,
    MARGIN_PX,
    WIDTH_PX,
    draw_legend,
    draw_title,
    legend_px,
    png_of,
    points,
    sheet,
    write,
)
from tasks.report.palette import ink_on
from tasks.report.polygon_palette import UNIT_LOOKS
from tasks.report.polygon_places import Extent, Places, Shape, gather

_LEFT_PX, _TOP_PX, _RIGHT_PX, _BOTTOM_PX = 84, 80, 40, 14
_MAP_PX = WIDTH_PX - _LEFT_PX - _RIGHT_PX
_LOWEST_PX, _HIGHEST_PX = 260, 480
_INSET_PX = 16
_SMALLEST_DEGREES = 0.002
_DOT_PX = 6
_CELL_PX, _SQUARE_PX = 10, 9
_LETTERS_PX, _LINE_LETTERS = 12.5, 80
_NOTE_PX = 62
_KM_A_DEGREE = 111.32


@dataclass(frozen=True)
class View:
    """How lon and lat become pixels: a degree of longitude is shorter than one of latitude by cos(middle).

    Attributes:
        middle_lon, middle_lat: in the middle of the map, degrees.
        degree_px: a degree of latitude.
        height_px: of the map; its width is always the same.
    """

    middle_lon: float
    middle_lat: float
    degree_px: float
    height_px: int

    @property
    def degree_lon_px(self) -> float:
        """A degree of longitude."""
        return self.degree_px * _shortening(self.middle_lat)

    def x_of(self, lon: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels from the picture's left edge."""
        return _LEFT_PX + _MAP_PX / 2 + (lon - self.middle_lon) * self.degree_lon_px

    def y_of(self, lat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels from the picture's upper edge."""
        return _TOP_PX + self.height_px / 2 - (lat - self.middle_lat) * self.degree_px


def polygon_map(shapes: Iterable[Shape], title: str) -> bytes:
    """Draw polygons by state, and return the PNG file's bytes.

    The same input gives the same bytes: they hold no date and no program's version. The picture is 584 pixels
    wide and at most 780 high, twice as many in the file. Up to 2,000 polygons are drawn each, as dots where they
    are too small to see; more are put together in squares, which are divided in proportion to the states of the
    polygons in them.

    Args:
        shapes: each one's state, a key of `UNIT_LOOKS`, and its GeoJSON geometry in lon, lat, or None; read
            once, as a stream.
        title: one line above the picture; a very long one is cut.

    Raises:
        KeyError: a state is none of `UNIT_LOOKS`.
    """
    places = gather(shapes)
    view = None if places.extent is None else view_of(places.extent)
    height = _LOWEST_PX if view is None else view.height_px
    note_top = _TOP_PX + height + 30
    legend_top = note_top + _NOTE_PX
    axes = sheet(legend_top + legend_px(len(UNIT_LOOKS)) + _BOTTOM_PX)
    total = sum(places.counts.values())
    draw_title(axes, title, f"{places.counts['done']:,} of {total:,} done")
    if view is None:
        write(axes, _LEFT_PX + _MAP_PX / 2, _TOP_PX + height / 2, "nothing to draw", 14, ha="center", color=FAINT)
        note = ""
    else:
        _draw_graticule(axes, view)
        note = _draw_each(axes, places, view) if places.outlines is not None else _draw_cells(axes, places, view)
    frame = Rectangle((_LEFT_PX, _TOP_PX), _MAP_PX, height, fill=False, edgecolor=FAINTER, linewidth=points(1))
    axes.add_patch(frame)
    nowhere = f"{places.nowhere:,} without a shape that can be drawn." if places.nowhere else ""
    words = "\n".join(textwrap.wrap(f"{note} {nowhere}", _LINE_LETTERS))
    write(axes, MARGIN_PX, note_top, words, _LETTERS_PX, va="top", color=FAINT)
    legend = [(state.replace("_", " "), UNIT_LOOKS[state], count) for state, count in places.counts.items()]
    draw_legend(axes, legend, legend_top)
    return png_of(axes)


def view_of(extent: Extent) -> View:
    """Return the view in which an extent fills the map in one direction at least."""
    lat = (extent.south + extent.north) / 2
    across = max(extent.east - extent.west, _SMALLEST_DEGREES) * _shortening(lat)
    down = max(extent.north - extent.south, _SMALLEST_DEGREES)
    width = _MAP_PX - 2 * _INSET_PX
    height = min(max(math.ceil(width / across * down) + 2 * _INSET_PX, _LOWEST_PX), _HIGHEST_PX)
    degree_px = min(width / across, (height - 2 * _INSET_PX) / down)
    return View((extent.west + extent.east) / 2, lat, degree_px, height)


def _shortening(lat: float) -> float:
    return max(math.cos(math.radians(lat)), 0.1)


def _draw_each(axes: Axes, places: Places, view: View) -> str:
    """Draw each polygon, those of the most urgent state last, and return a note for below the map."""
    across = places.extent is not None and places.extent.east > 180

    def in_pixels(lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon = lon_lat[:, 0] % 360 if across else lon_lat[:, 0]
        return np.column_stack([view.x_of(lon), view.y_of(lon_lat[:, 1])])

    shapes = shapely.transform(shapely.force_2d(places.outlines), in_pixels)
    parts, owners = shapely.get_parts(shapes, return_index=True)
    west, north, east, south = shapely.bounds(parts).T
    large = np.zeros(len(shapes), bool)
    np.logical_or.at(large, owners, np.maximum(east - west, south - north) >= _DOT_PX)
    small, broken = ~large[owners], np.isin(np.arange(len(shapes)), owners, invert=True)
    dots = np.concatenate([owners[small], np.flatnonzero(broken)])
    x = np.concatenate([(west + east)[small] / 2, view.x_of(places.lon)[broken]])
    y = np.concatenate([(north + south)[small] / 2, view.y_of(places.lat)[broken]])
    for rank, look in enumerate(UNIT_LOOKS.values()):
        ours = places.urgency == rank
        how: dict[str, Any] = {"facecolors": look.colour, "edgecolors": ink_on(look.colour), "zorder": 2 + rank}
        if paths := [_path(shape) for shape in shapely.simplify(shapes[ours & large], 0.25)]:
            axes.add_collection(PathCollection(paths, linewidths=points(1), **how))
        if (ours_small := ours[dots]).any():
            axes.scatter(x[ours_small], y[ours_small], s=points(_DOT_PX) ** 2, linewidths=points(0.8), **how)
    return "Too small to see is drawn as a dot; where polygons overlap, the most in need of a person is on top."


def _path(shape: shapely.Geometry) -> Path:
    # Holes run the other way round than what they are in, or they would be filled.
    parts = shapely.get_parts(shapely.orient_polygons(shape))
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    return Path.make_compound_path(*[Path(shapely.get_coordinates(ring), closed=True) for ring in rings])


def _draw_cells(axes: Axes, places: Places, view: View) -> str:
    """Draw squares of many polygons, and return a note for below the map."""
    columns, rows = _MAP_PX // _CELL_PX, view.height_px // _CELL_PX
    column = np.clip((view.x_of(places.lon) - _LEFT_PX) // _CELL_PX, 0, columns - 1).astype(int)
    row = np.clip((view.y_of(places.lat) - _TOP_PX) // _CELL_PX, 0, rows - 1).astype(int)
    states = len(UNIT_LOOKS)
    counts = np.bincount((row * columns + column) * states + places.urgency, minlength=rows * columns * states)
    cells = counts.reshape(rows * columns, states)
    colours = [look.colour for look in UNIT_LOOKS.values()]
    corners, faces = [], []
    for index in np.flatnonzero(cells.sum(axis=1)):
        left = _LEFT_PX + (index % columns) * _CELL_PX
        top = _TOP_PX + (index // columns) * _CELL_PX
        for rank, start, end in strips(cells[index].tolist(), _SQUARE_PX):
            west, east, bottom = left + start, left + end, top + _SQUARE_PX
            corners.append([(west, top), (east, top), (east, bottom), (west, bottom)])
            faces.append(colours[rank])
    axes.add_collection(PolyCollection(corners, facecolors=faces, linewidths=0, antialiaseds=False, zorder=2))
    km = _CELL_PX / view.degree_px * _KM_A_DEGREE
    scale = f"the polygons of {km:,.{0 if km >= 10 else 2}f} km by as much"
    most = cells.sum(axis=1).max()
    return f"A square stands for {scale}, at most {most:,}, and is divided in proportion to their states."


def strips(counts: list[int], side: int) -> Iterator[tuple[int, int, int]]:
    """Divide a square into upright strips of whole pixels in proportion to counts, none that counts left out.

    Args:
        counts: by state.
        side: of the square, pixels; at least as many as counts above 0.

    Yields:
        Which count, and where its strip begins and ends.
    """
    total = sum(counts)
    present = [index for index, count in enumerate(counts) if count]
    widths = {index: max(1, counts[index] * side // total) for index in present}
    while (spare := side - sum(widths.values())) != 0:
        lacks = {index: counts[index] * side / total - widths[index] for index in present}
        index = max(lacks, key=lacks.__getitem__) if spare > 0 else min(lacks, key=lacks.__getitem__)
        widths[index] += 1 if spare > 0 else -1
    start = 0
    for index, width in widths.items():
        yield index, start, start + width
        start += width


def _draw_graticule(axes: Axes, view: View) -> None:
    lines: list[list[tuple[float, float]]] = []
    right, bottom = _LEFT_PX + _MAP_PX, _TOP_PX + view.height_px
    for lon, words in _marks(view.middle_lon, _MAP_PX / 2 / view.degree_lon_px, 100 / view.degree_lon_px):
        x = float(view.x_of(np.array(lon)))
        lines.append([(x, _TOP_PX), (x, bottom)])
        east = (lon + 180) % 360 - 180
        words = words.format(abs(east), _side(east, "WE"))
        write(axes, x, bottom + 7, words, _LETTERS_PX, ha="center", va="top", color=FAINT)
    for lat, words in _marks(view.middle_lat, view.height_px / 2 / view.degree_px, 60 / view.degree_px):
        if abs(lat) > 90:
            continue
        y = float(view.y_of(np.array(lat)))
        lines.append([(_LEFT_PX, y), (right, y)])
        words = words.format(abs(lat), _side(lat, "SN"))
        write(axes, _LEFT_PX - 8, y, words, _LETTERS_PX, ha="right", va="center", color=FAINT)
    axes.add_collection(LineCollection(lines, colors="#e4e8eb", linewidths=points(1), zorder=1))


def _marks(middle: float, reach: float, distance: float) -> list[tuple[float, str]]:
    """Return round degrees on both sides of a middle, at least so far from each other, and how to write them."""
    power = 10.0 ** math.floor(math.log10(distance))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= distance)
    words = f"{{:.{max(0, -math.floor(math.log10(step)))}f}}°{{}}"
    first, last = math.ceil((middle - reach) / step), math.floor((middle + reach) / step)
    return [(index * step, words) for index in range(first, last + 1)]


def _side(degrees: float, names: str) -> str:
    return "" if round(abs(degrees), 9) in (0, 180) else names[degrees > 0]
