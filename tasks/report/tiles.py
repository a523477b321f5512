"""What a report says of one tile of a region, and how each condition of a tile looks."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasks.report.palette import Look

TILE_LOOKS: Final[dict[str, Look]] = {
    "finished": Look("#0f6650", "", "Every chip is home and what can be saved is saved.", home=True),
    "closed": Look("#c3ddd0", ".", "A person closed it: it was delivered elsewhere.", home=True),
    "open": Look("#94c8f0", "", "Some chips are not home, or not saved, and a run helps."),
    "unknown": Look("#f1eee7", "", "Nobody has looked at any of its chips yet."),
    "guarded": Look("#d4610a", "\\", "Most of what came back was bad: nothing more is requested until released."),
    "needs_person": Look("#6b0f3a", "x", "No run changes anything any more: some chips need a person."),
}
"""Every condition in the order in which reports list them."""


@dataclass(frozen=True)
class TileLine:
    """What a report says of one tile.

    Attributes:
        name: as `H05V03`.
        h, v: its place in the region's grid.
        condition: a key of `TILE_LOOKS`.
        chips: how many are meant.
        home: how many of them are home.
        saved: how many have a file.
        waiting: how many are not home and a run helps; those never looked at count.
        unsaved: how many are home and a run would save them.
        needs_person: how many no further run changes.
        under_way: name of the run that is at work on it, or that waits for a worker; empty for none.
        passes: how many runs the region's campaign has asked for.
        asked_at: when it asked for the last of them, our clock.
        last_run: how the last of them ended, in a word; empty while none has.
        note: why it is in its condition, or what its last run said, in a sentence; may be empty.
    """

    name: str
    h: int
    v: int
    condition: str
    chips: int
    home: int = 0
    saved: int = 0
    waiting: int = 0
    unsaved: int = 0
    needs_person: int = 0
    under_way: str = ""
    passes: int = 0
    asked_at: datetime | None = None
    last_run: str = ""
    note: str = ""

    @property
    def a_run_helps(self) -> bool:
        """Whether another run would find something to do."""
        return not TILE_LOOKS[self.condition].home and (self.waiting > 0 or self.unsaved > 0)


def count_conditions(lines: Iterable[TileLine]) -> dict[str, int]:
    """Return how many tiles are in each condition: every condition, in the order of `TILE_LOOKS`, also at 0.

    Raises:
        KeyError: a line has a condition that is none of them.
    """
    counts = dict.fromkeys(TILE_LOOKS, 0)
    for line in lines:
        counts[line.condition] += 1
    return counts
