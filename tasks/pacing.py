"""The pacer: how much work may be under way at one remote service at a time.

Neither Cassandra nor the services say "slow down" in time, so the pacer watches what it can see: it takes work
away when answers grow slow without more of them coming, and gives it back, one by one, while they stay quick.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class PacerRule:
    """When a pacer gives and takes.

    Attributes:
        ceiling: never more than so many at once.
        tolerance: answers that take so many times as long as the best seen mean trouble. Three, because a
            server with two cores answers four queries at half the speed of two, and that is no trouble yet.
        smoothing: weight of the newest duration in the mean; a tenth forgives a single pause of a collector.
        patience: answers between two changes, so that the effect of one is seen before the next.
    """

    ceiling: int
    tolerance: float = 3.0
    smoothing: float = 0.1
    patience: int = 20


@dataclass
class _Pace:
    """Durations of one kind of query: how many, their recent mean and the best mean seen, in seconds."""

    count: int = 0
    recent_s: float = 0.0
    best_s: float = 0.0


class Pacer:
    """Slots for work at one service; shared by threads.

    Example:
        ```python
        pacer = Pacer(PacerRule(ceiling=4))
        with pacer.slot():
            answer = ask()
        pacer.note("count", seconds=0.04)
        ```
    """

    def __init__(self, rule: PacerRule) -> None:
        self.rule = rule
        self.limit = rule.ceiling
        self._under_way = 0
        self._since_change = 0
        self._same_trouble = 0
        self._paces: dict[str, _Pace] = {}
        self._free = threading.Condition()

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it; what is done inside must have its own time limit."""
        with self._free:
            self._free.wait_for(lambda: self._under_way < self.limit)
            self._under_way += 1
        try:
            yield
        finally:
            with self._free:
                self._under_way -= 1
                self._free.notify_all()

    def note(self, kind: str, seconds: float) -> None:
        """Take account of how long one answer took; only like is compared with like, by `kind`."""
        with self._free:
            pace = self._paces.setdefault(kind, _Pace())
            pace.count += 1
            self._same_trouble = max(0, self._same_trouble - 1)
            weight = max(self.rule.smoothing, 1 / pace.count)
            pace.recent_s += (seconds - pace.recent_s) * weight
            if pace.count < self.rule.patience:
                return
            pace.best_s = min(pace.best_s or pace.recent_s, pace.recent_s)
            self._since_change += 1
            if self._since_change < self.rule.patience:
                return
            if pace.recent_s > self.rule.tolerance * pace.best_s:
                self._change(max(1, self.limit * 3 // 4))
            elif self.limit < self.rule.ceiling:
                self._change(self.limit + 1)

    def overloaded(self) -> None:
        """Halve the limit: the service said that it has too much to do, or did not answer in time.

        What was under way then and fails as well is the same trouble, and changes nothing more.
        """
        with self._free:
            if self._same_trouble > 0:
                self._same_trouble -= 1
                return
            self._same_trouble = self._under_way - 1
            self._change(max(1, self.limit // 2))

    def _change(self, limit: int) -> None:
        self.limit = limit
        self._since_change = 0
        self._free.notify_all()
