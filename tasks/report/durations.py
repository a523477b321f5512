"""How long jobs took, as a histogram: an SVG drawing that a page holds inline or that stands by itself."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.report.polygon_palette import UNIT_LOOKS, every_state
from tasks.report.templates import template

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 560, 260, 56, 12, 16, 50
_LETTER = 7.6
_MOST_BINS = 24
_BINS_A_DECADE = 8
_LOG_FROM_RATIO = 20
_SHORTEST_S = 0.1
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_STEPS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(1 * _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(1 * _HOUR, 2 * _HOUR, 4 * _HOUR, 6 * _HOUR, 12 * _HOUR, 1 * _DAY, 2 * _DAY, 5 * _DAY, 10 * _DAY),
)
_MARKS_S: Final = (0.1, 1, 10, _MINUTE, 10 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 10 * _DAY, 100 * _DAY)


@dataclass(frozen=True)
class Histogram:
    """Durations counted in bins.

    Attributes:
        edges_s: one more than bins, rising, seconds.
        counts: by state, in the order of `UNIT_LOOKS`, how many in each bin; states without any are left out.
        log: whether the bins are equally wide on a logarithmic scale.
        middle_s, most_s: half and nine of ten took no longer; 0 when there are none.
    """

    edges_s: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    log: bool
    middle_s: float
    most_s: float

    @property
    def total(self) -> int:
        """How many durations there are."""
        return sum(map(sum, self.counts.values()))


def histogram(seconds_by_state: Mapping[str, Sequence[float]]) -> Histogram:
    """Count durations in bins of round seconds, or on a logarithmic scale where they span a factor of 20.

    On the logarithmic scale what is below 0.1 s counts as that. What is no number is left out, and a negative
    duration, from a clock that was set back, counts as 0.

    Raises:
        KeyError: a state is none of `UNIT_LOOKS`.
    """
    arrays = {}
    for state in every_state(dict.fromkeys(seconds_by_state, 0)):
        seconds = np.asarray(seconds_by_state.get(state, ()), float)
        if len(seconds := np.maximum(seconds[np.isfinite(seconds)], 0)):
            arrays[state] = seconds
    if not arrays:
        return Histogram((0.0, 1.0), {}, log=False, middle_s=0, most_s=0)
    everything = np.concatenate(list(arrays.values()))
    low, high = float(everything.min()), float(everything.max())
    log = high > _LOG_FROM_RATIO * max(low, _SHORTEST_S)
    if log:
        low = max(low, _SHORTEST_S)
        first, last = (math.floor(math.log10(seconds) * _BINS_A_DECADE) for seconds in (low, high))
        edges = [10 ** (step / _BINS_A_DECADE) for step in range(first, last + 2)]
    else:
        step = _step(high - low, _MOST_BINS) if high > low else _step(high or 1, 4)
        first, last = math.floor(low / step), math.floor(high / step)
        edges = [round(index * step, 6) for index in range(first, last + 2)]
    counts = {
        state: tuple(np.histogram(np.clip(seconds, edges[0], edges[-1]), edges)[0].tolist())
        for state, seconds in arrays.items()
    }
    middle_s, most_s = np.percentile(everything, [50, 90])
    return Histogram(tuple(edges), counts, log, float(middle_s), float(most_s))


def draw(found: Histogram, title: str) -> str:
    """Return the SVG element of a histogram: how long jobs took, stacked by state.

    Its words take the colour of the text around it, so that it goes with light and dark pages; it has neither
    style nor script. The same input gives the same text.

    Args:
        found: of `histogram`.
        title: what it shows, for those who do not see it.
    """
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    heights = [sum(column) for column in zip(*found.counts.values(), strict=True)]
    count_step = _count_step(max(heights, default=1))
    top_count = count_step * math.ceil(max(heights, default=1) / count_step)

    def x_of(seconds: float) -> float:
        ends = (found.edges_s[0], found.edges_s[-1], seconds)
        start, end, here = (math.log10(one) for one in ends) if found.log else ends
        return round(_LEFT + (here - start) / (end - start) * width, 2)

    def y_of(count: int) -> float:
        return round(_TOP + height * (1 - count / top_count), 2)

    bars = []
    for index, (start, end) in enumerate(zip(found.edges_s, found.edges_s[1:], strict=False)):
        below = 0
        for state, counts in found.counts.items():
            if count := counts[index]:
                words = f"{_words(start)} to {_words(end)}: {count:,} {state.replace('_', ' ')}"
                place = (x_of(start), y_of(below + count), x_of(end), y_of(below))
                bars.append((place, UNIT_LOOKS[state].colour, words))
                below += count
    return template("durations.svg").render(
        title=title,
        summary=summary(found),
        size=(_WIDTH, _HEIGHT),
        frame=(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM),
        bars=bars,
        marks=[(x_of(seconds), _words(seconds)) for seconds in _marks(found)],
        counts=[(y_of(count), f"{count:,}") for count in range(0, top_count + 1, count_step)],
        legend=list(_legend(found)),
        scale="logarithmic scale" if found.log else "",
    )


def summary(found: Histogram) -> str:
    """Return the histogram in a sentence."""
    if not found.total:
        return "No job has ended yet."
    if found.total == 1:
        return f"One job took {_words(found.middle_s)}."
    return (
        f"Half of {found.total:,} jobs took {_words(found.middle_s)} or less, "
        f"nine of ten {_words(found.most_s)} or less."
    )


def _legend(found: Histogram) -> Iterator[tuple[float, str, str]]:
    x = float(_LEFT)
    for state in found.counts:
        words = state.replace("_", " ")
        yield x, UNIT_LOOKS[state].colour, words
        x += 40 + _LETTER * len(words)


def _marks(found: Histogram) -> list[float]:
    if not found.total:
        return []
    low, high = found.edges_s[0], found.edges_s[-1]
    if found.log:
        return [seconds for seconds in _MARKS_S if low <= seconds <= high]
    every = max(1, math.ceil((len(found.edges_s) - 1) / 5))
    return list(found.edges_s[::every])


def _step(span_s: float, most: int) -> float:
    return next((step for step in _STEPS_S if span_s <= step * most), span_s / most)


def _count_step(most: int) -> int:
    power = int(10 ** max(0, len(str(most)) - 2))
    return next(factor * power for factor in (1, 2, 5, 10, 20, 50) if factor * power * 5 >= most)


def _words(seconds: float) -> str:
    """Return a duration as people say it, to two units."""
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for name, unit, below_name, below in (
        ("d", _DAY, "h", _HOUR),
        ("h", _HOUR, "min", _MINUTE),
        ("min", _MINUTE, "s", 1),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit:,} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"
