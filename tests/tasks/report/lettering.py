"""The words on a picture, where the Prefect UI shows it: 584 pixels wide in a window of 1,280."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

SHOWN_PX = 584


@dataclass(frozen=True)
class Lettering:
    """Words, how large their letters are, and where they stand: pixels from the left and lower edge."""

    words: str
    size: float
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Lettering") -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)


def lettering_of(draw: Callable[[], bytes]) -> tuple[list[Lettering], float]:
    """Return the words on the picture that `draw` draws, and the picture's height."""
    canvases: list[Any] = []
    with mock.patch.object(FigureCanvasAgg, "print_png", lambda canvas, *_, **__: canvases.append(canvas)):
        draw()
    (canvas,) = canvases
    figure, renderer = canvas.figure, canvas.get_renderer()
    scale = SHOWN_PX / figure.bbox.width
    found = []
    for text in figure.findobj(Text):
        if text.get_text():
            place = text.get_window_extent(renderer)
            sides = [side * scale for side in place.extents]
            found.append(Lettering(text.get_text(), text.get_fontsize() * figure.dpi / 72 * scale, *sides))
    return found, figure.bbox.height * scale


def check_lettering(draw: Callable[[], bytes]) -> list[str]:
    """Check that words are large enough, on the picture and not on each other; return them."""
    found, height = lettering_of(draw)
    assert found
    assert not [one for one in found if one.size < 12]
    assert not [one for one in found if min(one.left, one.bottom) < 0 or one.right > SHOWN_PX or one.top > height]
    assert not [(one, other) for one, other in combinations(found, 2) if one.meets(other)]
    return [one.words for one in found]
