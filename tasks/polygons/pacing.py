"""How many jobs may be outstanding at a service that seldom says "slow down".

The pacer tries a few more jobs, and looks whether more of them end: by Little's law the jobs that end in a second
are the jobs outstanding over the time that each takes. Where that grows, the limit stays and the next step is
tried; where jobs only take longer, the step is taken back for a while. It is fed numbers and keeps no time itself.
"""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class PaceRule:
    """When the pacer gives and takes.

    Attributes:
        ceiling: never more jobs than so many.
        start: jobs to begin with. Two, as a person would.
        adaptive: whether to seek the best number; else it is `ceiling` from the start.
        worth: share of the hoped-for gain that a step has to bring. A quarter: durations of polygons vary, and a
            server that gives that much is not at its end.
        hold: windows to leave a limit alone after a step that brought nothing.
        slower: jobs that take so many times as long as the best seen at a limit mean that the server has other
            work: the limit shrinks.
        least: jobs in a window, at least.
        pause_first_s, pause_longest_s: after a refusal that names no time; doubled with each that follows.
    """

    ceiling: int
    start: int = 2
    adaptive: bool = True
    worth: float = 0.25
    hold: int = 8
    slower: float = 2.0
    least: int = 4
    pause_first_s: float = 1.0
    pause_longest_s: float = 60.0


class JobPacer:
    """Bounds the jobs outstanding at one service; used from one thread.

    Attributes:
        limit: jobs that may be outstanding now.
        outstanding: jobs that are.
        shared_full: whether other runs have the rest of what the service takes, as whoever feeds it saw last.
        resume_at: nothing is sent before, on the clock of whoever feeds it.
    """

    def __init__(self, rule: PaceRule) -> None:
        self.rule = rule
        self.limit = min(rule.start, rule.ceiling) if rule.adaptive else rule.ceiling
        self.outstanding = 0
        self.shared_full = False
        self.resume_at = 0.0
        self._window: list[float] = []
        self._before: tuple[int, float] | None = None  # the limit before the last step, and jobs ended a second
        self._best_s: dict[int, float] = {}
        self._held = 0
        self._pause_s = 0.0
        self._steps = 0
        self._refused_at = 0

    @property
    def room(self) -> int:
        """Jobs that may be begun now."""
        return max(0, self.limit - self.outstanding)

    def begun(self, jobs: int = 1) -> int:
        """Count jobs that are about to be sent; the ticket returned tells under which limit they were begun."""
        self.outstanding += jobs
        return self._steps

    def back(self) -> None:
        """Count a job that never came to the service."""
        self.outstanding -= 1

    def accepted(self) -> None:
        """Take account of a request that was taken."""
        self._pause_s = 0.0
        if not self.rule.adaptive:
            self.limit = min(self.rule.ceiling, self.limit + 1)

    def ended(self, duration_s: float | None, ticket: int | None = None) -> None:
        """Take account of a job that is no more outstanding.

        Args:
            duration_s: how long it took; None when that means nothing.
            ticket: of `begun`; what began under another limit says nothing of the present one.
        """
        full = self.shared_full or self.outstanding >= self.limit * 3 / 4
        self.outstanding -= 1
        if duration_s is None or ticket != self._steps or not self.rule.adaptive or not full:
            return
        self._window.append(duration_s)
        if len(self._window) >= max(self.rule.least, self.limit):
            self._judge(statistics.median(self._window))

    def refused(self, ticket: int | None, now: float, retry_after_s: float | None) -> None:
        """Take account of a service that says it has too much to do, or does not answer.

        Requests that were on their way already when the first was refused are the same trouble.

        Args:
            ticket: of `begun`; None: begun before all others, by an earlier run.
            now: on the caller's clock.
            retry_after_s: as the service says; None when it says nothing.
        """
        if (ticket or 0) >= self._refused_at:
            self._pause_s = min(2 * self._pause_s or self.rule.pause_first_s, self.rule.pause_longest_s)
            self._step(max(1, self.limit // 2), before=None)
            self._refused_at = self._steps
        pause_s = max(self._pause_s, retry_after_s or 0.0) or self.rule.pause_first_s
        self.resume_at = max(self.resume_at, now + pause_s)

    def _judge(self, typical_s: float) -> None:
        """Decide, at the end of a window, whether to step up, back or not at all."""
        typical_s = max(typical_s, 1e-6)
        ends_a_second = self.limit / typical_s
        self._window.clear()
        best_s = self._best_s[self.limit] = min(self._best_s.get(self.limit, typical_s), typical_s)
        if self._before is not None:
            former, former_ends = self._before
            hoped = 1 + self.rule.worth * (self.limit / former - 1)
            self._before = None
            if ends_a_second < former_ends * hoped:
                self._held = self.rule.hold
                self._step(former, before=None)
                return
        elif typical_s > self.rule.slower * best_s:
            self._held = self.rule.hold
            self._best_s.clear()
            self._step(max(1, self.limit * 3 // 4), before=None)
            return
        if self._held:
            self._held -= 1
        elif self.limit < self.rule.ceiling:
            more = min(self.rule.ceiling, math.ceil(self.limit * 1.5))
            self._step(more, before=(self.limit, ends_a_second))

    def _step(self, limit: int, before: tuple[int, float] | None) -> None:
        self.limit = limit
        self._steps += 1
        self._before = before
        self._window.clear()
