"""How each state of a chip looks on maps and pages, the same on both, and what it means in words.

Colours follow the meaning: greens are home, oranges have to be asked for again, blues only wait. Any two
states differ in their hatch, or in their colour even to people who do not see red, green or blue (a test
holds every pair to that, with the simulation of Machado, Oliveira and Fernandes, 2009).
"""

from dataclasses import dataclass
from typing import Final

Stroke = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """How a state is drawn and explained.

    Attributes:
        colour: of its squares, `#rrggbb`.
        hatch: a key of `HATCHES`, drawn over the colour in `ink_on(colour)`.
        words: what the state means, one sentence for people.
        home: whether a chip, or a unit of work, is as home as it will be.
    """

    colour: str
    hatch: str
    words: str
    home: bool = False


STATE_LOOKS: Final[dict[str, Look]] = {
    "complete": Look("#0f6650", "", "All 10,000 pixels have a good result.", home=True),
    "flawed": Look(
        "#6fc49a",
        "/",
        "All 10,000 pixels have a result, but the algorithm failed on some of them.",
        home=True,
    ),
    "no_data": Look(
        "#c3ddd0", ".", "The algorithm failed on all 10,000 pixels: it had no data to work on.", home=True
    ),
    "incomplete": Look("#f0b429", "", "The last pixel is written but others are missing; a run asks again."),
    "stalled": Look("#d4610a", "\\", "Some pixels are written, but no new ones for long; a run asks again."),
    "running": Look("#3b8ee0", "", "Pixels are being written."),
    "queued": Look("#94c8f0", "", "Requested, and nothing of it is written yet."),
    "stale": Look("#c9d6ea", "|", "All pixels are written, but before the latest request, which is queued."),
    "uncertain": Look("#c58cc9", "x", "A request was sent, and it is not known whether it arrived."),
    "unrequested": Look("#f1eee7", "", "Nobody has requested it."),
    "quarantined": Look("#6b0f3a", "x", "Requested again and again in vain; it is left alone until released."),
    "unknown": Look("#9a9a9a", "-", "Nobody has looked at it yet."),
}
"""Every state in the order in which reports list them."""

HATCHES: Final[dict[str, tuple[Stroke, ...]]] = {
    "": (),
    "/": ((0, 0.5, 0.5, 0), (0.5, 1, 1, 0.5)),
    "\\": ((0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1)),
    "x": ((0, 0.5, 0.5, 0), (0.5, 1, 1, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1)),
    ".": ((0.2, 0.25, 0.3, 0.25), (0.7, 0.25, 0.8, 0.25), (0.2, 0.75, 0.3, 0.75), (0.7, 0.75, 0.8, 0.75)),
    "-": ((0, 0.25, 1, 0.25), (0, 0.75, 1, 0.75)),
    "|": ((0.25, 0, 0.25, 1), (0.75, 0, 0.75, 1)),
}
"""Lines (x, y, x, y) in a unit square, y downward, that join with those of the next square.

The middle of the square stays free.
"""


def ink_on(colour: str, strength: float = 0.5) -> str:
    """Return a colour for lines on `colour`: towards black on a light one, towards white on a dark one.

    Args:
        colour: `#rrggbb`.
        strength: 0 gives `colour` itself, 1 black or white.
    """
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    goal = 0 if 299 * red + 587 * green + 114 * blue > 110_000 else 255
    return "#" + "".join(f"{round(part + (goal - part) * strength):02x}" for part in (red, green, blue))


def hatch_repeats(square_px: float) -> int:
    """Return how often a hatch repeats along a square's side: an odd number, to leave its middle free."""
    return 2 * int(square_px / 44) + 1
