"""The rules of a dispatch: how much at once, how often to look, how long to wait, how often to try."""

import resource
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from tasks.settings import Settings

OnUncertain = Literal["leave", "wait", "resend"]
"""What becomes of a unit whose request may have arrived: a person decides, it is sent again after the total limit,
or at once."""

Concurrency = int | Literal["flood"] | None
"""Jobs at a time: a fixed number, all that the system's open files allow, or None: as many as do good."""

_FILES_OF_OURS = 64  # ledger, libraries, logs, a Prefect client's sockets


@dataclass(frozen=True)
class Rules:
    """Limits of one run, each with the reason for its default.

    Attributes:
        concurrency: jobs outstanding. By default the pacer decides: the Wetlands Insight Tool's service takes
            whatever it is sent and never says that it is busy.
        ceiling: the pacer's upper bound. Eight, since each job of that service is a process with four workers.
        submits_at_once: requests on their way. What is on its way when a run is killed is uncertain: so, few.
            A synchronous job is its request, so with those it is all of them.
        looks_at_once: status requests on their way. A pool of many connections costs more than it brings.
        most_requests: what a person has agreed to; then nothing more is sent. None is no bound.
        attempts: requests for one unit. Two: a failure's text seldom tells a bad polygon from a bad moment.
        on_uncertain: what becomes of a unit whose request may have arrived.
        poll_s: the first look at a job, and the measure of those after it.
        poll_longest_s: between two looks; then the end of the longest job is seen within a minute.
        accepted_limit_s: a job that stays accepted while no other job of the service ends. An hour: a job before
            it in the queue may take as long.
        running_limit_s: a job that stays running. Two hours, for jobs of minutes to an hour.
        total_limit_s: from acceptance to the end, whatever happens meanwhile.
        no_progress_s: a job of which nothing new is said; None is no limit, as the percentage need not move.
        failures_in_vain: so many polygons that fail, or are given up, before one succeeds end the run. Twenty, as
            for chips.
        outcomes_judged, share_of_bad: when of so many last outcomes this share is bad, the run ends. Nearly all of
            many, since polygons without data lie together, and what was sent in vain can be sent again.
        same_refusals: so many first answers that are the same refusal end the run: the request is wrong.
        away_limit_s: the service does not answer at all; then the run ends, and can be run again.
        busy_limit_s: the service takes nothing because it is busy, and has nothing of ours.
        longest_value: characters of an output's value that the ledger keeps; a longer one goes to a file.
        recheck_s: between two looks at what other runs have in hand.
        stop_s: what is on its way when a run is stopped has so long to be answered.
    """

    concurrency: Concurrency = None
    ceiling: int = 8
    submits_at_once: int = 16
    looks_at_once: int = 16
    most_requests: int | None = None
    attempts: int = 2
    on_uncertain: OnUncertain = "leave"
    poll_s: float = 2.0
    poll_longest_s: float = 60.0
    accepted_limit_s: float = 3600.0
    running_limit_s: float = 7200.0
    total_limit_s: float = 14400.0
    no_progress_s: float | None = None
    failures_in_vain: int = 20
    outcomes_judged: int = 200
    share_of_bad: float = 0.95
    same_refusals: int = 5
    away_limit_s: float = 300.0
    busy_limit_s: float = 3600.0
    longest_value: int = 16384
    recheck_s: float = 2.0
    stop_s: float = 5.0

    @property
    def most_at_once(self) -> int:
        """Jobs outstanding, at most."""
        if self.concurrency is None:
            return self.ceiling
        return flood_bound() if self.concurrency == "flood" else self.concurrency

    @property
    def connections(self) -> int:
        """Connections that the service's client should be able to open: requests on their way, and looks."""
        return min(self.most_at_once, self.submits_at_once) + min(self.most_at_once, self.looks_at_once)


def rules_of(
    settings: Settings,
    concurrency: Concurrency = None,
    *,
    sync: bool = False,
    no_progress_s: float | None = None,
    most_requests: int | None = None,
) -> Rules:
    """Return the rules that a user's settings and flags make."""
    rules = Rules(
        concurrency=concurrency,
        ceiling=settings.wps_ceiling,
        attempts=settings.wps_attempts,
        on_uncertain=settings.wps_on_uncertain,
        poll_s=settings.wps_poll_s,
        accepted_limit_s=settings.wps_accepted_limit_s,
        running_limit_s=settings.wps_running_limit_s,
        total_limit_s=settings.wps_total_limit_s,
        no_progress_s=no_progress_s,
        most_requests=most_requests,
    )
    return replace(rules, submits_at_once=rules.most_at_once) if sync else rules


def sendable_before(rules: Rules) -> datetime | None:
    """Return before when an uncertain unit must have been sent to be sent again now; None: none is."""
    now = datetime.now(UTC)
    by_policy = {"leave": None, "wait": now - timedelta(seconds=rules.total_limit_s), "resend": now}
    return by_policy[rules.on_uncertain]


def flood_bound() -> int:
    """Return how many jobs "everything at once" is on this system: each may need an open file."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 65536
    return max(1, soft - _FILES_OF_OURS)
