"""The jobs of the scripted WPS: what was received, when each job begins and ends, and which troubles strike.

Nothing runs: where a job stands is worked out from the clock whenever somebody asks. All moments are seconds since
1970, of a clock that is never set.
"""

import heapq
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from deployments.sandbox.wps_orders import Asked
from deployments.sandbox.wps_plan import Moment, Plan, Trouble, drawn

_EPOCH = time.time() - time.monotonic()
_TRAITS = frozenset(Trouble.model_fields) - {"when", "jobs", "geometry", "every", "offset", "share", "times"}


def now() -> float:
    """Return the present moment."""
    return _EPOCH + time.monotonic()


@dataclass
class Job:
    """One job; `traits` hold what its troubles say, by the names that the plan has for it.

    Attributes:
        index: of its unit (process, geometry and interval) in order of first arrival, from 0.
        starts_at, ends_at: infinite when it never does.
        end_seen_at: when a readable answer first said how it ended; None as long as none did.
    """

    identifier: str
    index: int
    asked: Asked
    geometry: str
    received_at: float
    starts_at: float
    ends_at: float
    traits: dict[str, Any]
    polls: int = 0
    end_seen_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON values; a moment that never comes is null."""
        failed = self.traits.get("fails") is not None
        return {
            "job": self.identifier,
            "index": self.index,
            "process": self.asked.process,
            "geometry": self.geometry,
            "start": self.asked.start,
            "end": self.asked.end,
            "received_at": self.received_at,
            "starts_at": _finite(self.starts_at),
            "ends_at": _finite(self.ends_at),
            "ends": "failed" if failed else "succeeded",
            "end_seen_at": self.end_seen_at,
            "polls": self.polls,
        }


@dataclass
class _Received:
    when: float
    asked: Asked
    geometry: str
    outcome: str
    job: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "when": self.when,
            "process": self.asked.process,
            "geometry": self.geometry,
            "start": self.asked.start,
            "end": self.asked.end,
            "outcome": self.outcome,
            "job": self.job,
        }


@dataclass
class _Counts:
    """How often each trouble has struck: by its number, and by unit or job."""

    struck: Counter[tuple[int, str]] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)


class Jobs:
    """What the service knows; may be asked from any thread."""

    def __init__(self, plan: Plan) -> None:
        self._lock = threading.Lock()
        self._forget(plan)

    def _forget(self, plan: Plan) -> None:
        self._plan = plan
        self._counts = _Counts()
        self._units: dict[str, int] = {}
        self._received: list[_Received] = []
        self._jobs: dict[str, Job] = {}
        self._ends: list[float] = []
        self._slots: list[float] = []
        self._most_outstanding = 0
        self._astray = 0

    @property
    def plan(self) -> Plan:
        """The plan; setting it counts its troubles anew, and leaves jobs as they are."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        with self._lock:
            self._plan = plan
            self._counts = _Counts()

    def forget(self) -> None:
        """Forget jobs, requests and counts; the plan stays."""
        with self._lock:
            self._forget(self._plan)

    def arrival(self, asked: Asked) -> tuple[int, Trouble | None]:
        """Return the unit's index and the trouble, if any, that strikes the answer to this request."""
        with self._lock:
            key = _unit(asked)
            index = self._units.setdefault(key, len(self._units))
            return index, self._trouble("execute", index, asked.geometry, key)

    def is_full(self) -> bool:
        """Tell whether the plan lets no more jobs wait or run."""
        with self._lock:
            beyond = self._plan.busy_beyond
            return beyond is not None and self._outstanding(now()) >= beyond

    def note(self, asked: Asked, outcome: str, job: Job | None = None) -> None:
        """Write down one request to execute, and what became of it."""
        with self._lock:
            identifier = job.identifier if job else None
            self._received.append(_Received(now(), asked, asked.geometry, outcome, identifier))

    def begin(self, asked: Asked, index: int) -> Job:
        """Take a job on; when it begins and ends is decided here."""
        with self._lock:
            moment, plan, key = now(), self._plan, _unit(asked)
            traits = self._traits(index, asked.geometry, key)
            identifier = str(uuid.uuid1())
            seed = f"{key} {self._counts.struck[-1, key]}"
            self._counts.struck[-1, key] += 1
            at_once = bool(traits.get("at_once"))
            queue_s = drawn(traits.get("queue_s", plan.queue_s), f"queue {seed}")
            duration_s = drawn(traits.get("duration_s", plan.duration_s), seed)
            starts_at = moment if at_once else moment + queue_s
            if plan.parallel is not None and len(self._slots) >= plan.parallel:
                starts_at = max(starts_at, heapq.heappop(self._slots))
            starts_at = math.inf if traits.get("stays") == "accepted" else starts_at
            ends_at = math.inf if traits.get("stays") else starts_at + (0 if at_once else duration_s)
            if plan.parallel is not None:
                heapq.heappush(self._slots, ends_at)
            heapq.heappush(self._ends, ends_at)
            self._most_outstanding = max(self._most_outstanding, self._outstanding(moment))
            job = Job(identifier, index, asked, asked.geometry, moment, starts_at, ends_at, traits)
            self._jobs[identifier] = job
            return job

    def poll(self, identifier: str) -> tuple[Job | None, Trouble | None]:
        """Count a question about a job, and return the job with the trouble that strikes the answer."""
        with self._lock:
            job = self._jobs.get(identifier)
            if job is None:
                self._astray += 1
                return None, None
            job.polls += 1
            return job, self._trouble("poll", job.index, job.geometry, identifier)

    def received(self) -> list[dict[str, Any]]:
        """Return every request to execute in order of arrival, refused ones too."""
        with self._lock:
            return [one.as_json() for one in self._received]

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job in order of arrival."""
        with self._lock:
            return [job.as_json() for job in self._jobs.values()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many requests and jobs there were of each geometry."""
        with self._lock:
            asked = Counter(one.geometry for one in self._received)
            taken_on = Counter(job.geometry for job in self._jobs.values())
        return {geometry: {"received": asked[geometry], "jobs": taken_on[geometry]} for geometry in asked}

    def summary(self) -> dict[str, Any]:
        """Return counts: requests by outcome, jobs, questions about them, and how many are outstanding."""
        with self._lock:
            return {
                "executes": dict(Counter(one.outcome for one in self._received)),
                "units": len(self._units),
                "jobs": len(self._jobs),
                "polls": sum(job.polls for job in self._jobs.values()),
                "polls_astray": self._astray,
                "ends_seen": sum(job.end_seen_at is not None for job in self._jobs.values()),
                "outstanding": self._outstanding(now()),
                "most_outstanding": self._most_outstanding,
            }

    def _outstanding(self, moment: float) -> int:
        while self._ends and self._ends[0] <= moment:
            heapq.heappop(self._ends)
        return len(self._ends)

    def _trouble(self, when: Moment, index: int, geometry: str, whom: str) -> Trouble | None:
        for number, trouble in self._concerning(when, index, geometry):
            if trouble.every_answer is not None:
                self._counts.answers[number] += 1
                if self._counts.answers[number] % trouble.every_answer:
                    continue
            if self._strikes_again(number, trouble, whom):
                return trouble
        return None

    def _traits(self, index: int, geometry: str, whom: str) -> dict[str, Any]:
        traits: dict[str, Any] = {}
        for number, trouble in self._concerning("job", index, geometry):
            if self._strikes_again(number, trouble, whom):
                given = {name: getattr(trouble, name) for name in trouble.model_fields_set & _TRAITS}
                traits = {**given, **traits}
        return traits

    def _strikes_again(self, number: int, trouble: Trouble, whom: str) -> bool:
        if trouble.times is not None and self._counts.struck[number, whom] >= trouble.times:
            return False
        self._counts.struck[number, whom] += 1
        return True

    def _concerning(self, when: Moment, index: int, geometry: str) -> Iterable[tuple[int, Trouble]]:
        return (
            (number, trouble)
            for number, trouble in enumerate(self._plan.troubles)
            if trouble.when == when and trouble.strikes(index, geometry)
        )


def _unit(asked: Asked) -> str:
    return f"{asked.process} {asked.geometry} {asked.start} {asked.end}"


def _finite(moment: float) -> float | None:
    return moment if math.isfinite(moment) else None
