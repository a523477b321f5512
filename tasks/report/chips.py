"""What a report says of one chip, and how many chips are in each state."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tasks.report.palette import STATE_LOOKS


@dataclass(frozen=True)
class ChipLine:
    """What a report says of one chip.

    Attributes:
        chip_x, chip_y: upper left corner, metres.
        row, column: its place in the tile, 0 to 49 from the north-west.
        state: a key of `STATE_LOOKS`.
        pixels: how many have a result, good or failed; None when not counted.
        failed, missing: how many have a failed result, or none; None when not counted.
        update_requested: `chip_update_requested`, the service's clock.
        file: where its results were saved, as a report should show it.
        reason: why it is in its state, in a sentence; may be empty.
        since: when we first saw it in its state, our clock; files leave it out, so that they stay as they are.
        attempts: how often it was requested since a person last released it.
        next_step: what the next run will do about it, in words; empty when nothing.
    """

    chip_x: int
    chip_y: int
    row: int
    column: int
    state: str
    pixels: int | None = None
    failed: int | None = None
    missing: int | None = None
    update_requested: datetime | None = None
    file: str | None = None
    reason: str = ""
    since: datetime | None = None
    attempts: int = 0
    next_step: str = ""


def count_states(lines: Iterable[ChipLine]) -> dict[str, int]:
    """Return how many chips are in each state: every state, in the order of `STATE_LOOKS`, also at 0.

    Raises:
        KeyError: a line has a state that is none of them.
    """
    counts = dict.fromkeys(STATE_LOOKS, 0)
    for line in lines:
        counts[line.state] += 1
    return counts
