"""When to look at a job again, and when to stop waiting for it: pure functions of numbers."""

from collections import deque
from dataclasses import dataclass, field

from tasks.polygons.jobs import Remote
from tasks.polygons.rules import Rules

_SHARE_OF_AGE = 0.16  # half of it, the lateness to expect, is less than a tenth of the job's duration
_STEP = 1.5  # half of it is less than the first interval
_SPREAD = 0.2
_SAMPLE = 200


@dataclass
class Durations:
    """How long the jobs that ended lately took, as seen from here."""

    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLE))
    quick_s: float = 0.0
    """What nine of ten jobs took at least; 0 until ten have ended."""

    def note(self, seconds: float) -> None:
        """Take account of a job that ended."""
        self.recent_s.append(seconds)
        if len(self.recent_s) >= 10:
            self.quick_s = sorted(self.recent_s)[len(self.recent_s) // 10]


def wait_s(age_s: float, looks: int, quick_s: float, rules: Rules, chance: float) -> float:
    """Return how long to wait before the next look at a job.

    The end is then seen, in the median, within a first interval or a tenth of the job's duration, whichever is
    longer, and with fewer requests than looking at that first interval would take.

    Args:
        age_s: since the job was accepted.
        looks: how often it was looked at.
        quick_s: what nearly all jobs take at least; there is no point in looking sooner.
        rules: of the run.
        chance: from 0 to 1, drawn for each look: spreads the looks at jobs that began together.
    """
    step = rules.poll_s if looks == 0 else max(rules.poll_s * _STEP, age_s * _SHARE_OF_AGE)
    return min(max(step, 0.9 * quick_s - age_s) * (1 + _SPREAD * chance), rules.poll_longest_s)


@dataclass(frozen=True)
class Watch:
    """What is known of a job's time, in seconds.

    Attributes:
        age_s: since it was accepted.
        in_phase_s: since it was accepted, or since it was first seen running.
        quiet_s: since something new was said of it.
        others_ended_s: since another job of ours ended at the service, or since this one was accepted.
    """

    age_s: float
    in_phase_s: float
    quiet_s: float
    others_ended_s: float


def limit_reached(remote: Remote, watch: Watch, rules: Rules) -> tuple[str, str] | None:
    """Return which limit a job has reached, as an error class and a sentence; None when it has reached none."""
    if watch.age_s > rules.total_limit_s:
        return "TotalLimit", f"It has not ended {watch.age_s:,.0f} s after it was accepted."
    if remote == Remote.ACCEPTED and min(watch.in_phase_s, watch.others_ended_s) > rules.accepted_limit_s:
        others = f"no other job has ended for {watch.others_ended_s:,.0f} s"
        return "AcceptedLimit", f"It has not begun {watch.in_phase_s:,.0f} s after it was accepted, and {others}."
    if remote in (Remote.RUNNING, Remote.PAUSED) and watch.in_phase_s > rules.running_limit_s:
        return "RunningLimit", f"It is {remote.value} for {watch.in_phase_s:,.0f} s: its process may be dead."
    if rules.no_progress_s is not None and watch.quiet_s > rules.no_progress_s:
        return "NoProgress", f"Nothing new was said of it for {watch.quiet_s:,.0f} s."
    return None
