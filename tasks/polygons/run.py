"""What the parts of a dispatch share: one run at one service, on one event loop."""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio

from tasks.errors import JobsFail, OverlanderError, RequestRefused, ThrottledError, TransientError, UncertainError
from tasks.ledger.claims import Claimed, InFlight, Terms
from tasks.ledger.units import Own, note_back
from tasks.polygons.jobs import Order, ProcessService, Remote
from tasks.polygons.journal import Journal
from tasks.polygons.pacing import JobPacer, PaceRule
from tasks.polygons.polling import Durations
from tasks.polygons.rules import Rules, sendable_before


@dataclass
class Progress:
    """How far a run is, for whoever watches: what it did itself.

    Attributes:
        sent: requests that were taken, repeated ones too.
        in_flight: jobs outstanding now.
        done, failed, uncertain, given_up: units that came to this.
        again: jobs that failed and are sent once more.
        looks: status requests.
        limit: jobs that the pacer allows now.
    """

    sent: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    uncertain: int = 0
    given_up: int = 0
    again: int = 0
    looks: int = 0
    limit: int = 0


@dataclass
class Job:
    """A job at the service that this run follows; seconds on the loop's monotonic clock.

    Attributes:
        ticket: of the pacer; None for a job taken over from another run.
        last_look: whether one readable status is all it gets.
        unreadable: answers in a row that could not be read.
        took_s: from acceptance to the end, once it has succeeded.
    """

    unit: int
    status_location: str
    remote: Remote
    attempts: int
    accepted: float
    phase_began: float
    news: float
    ticket: int | None = None
    last_look: bool = False
    percent: int | None = None
    looks: int = 0
    unreadable: int = 0
    took_s: float | None = None

    @classmethod
    def taken_over(cls, found: InFlight) -> "Job":
        """Return the job that an earlier run had; its age counts from its acceptance."""
        now, moment = time.monotonic(), datetime.now(UTC)
        accepted = now - max(0.0, (moment - found.accepted_at).total_seconds())
        begun = accepted if found.started_at is None else now - (moment - found.started_at).total_seconds()
        return cls(
            unit=found.unit,
            status_location=found.status_location,
            remote=found.remote,
            attempts=found.attempts,
            accepted=accepted,
            phase_began=min(begun, now),
            news=now,
            last_look=found.given_up,
        )


class Run:
    """One run at one service.

    Attributes:
        requests: claims made for sending, without those that came back unsent.
        proven: whether a status of any job of the campaign was ever read; until then one unit goes alone.
        fault: why the run ends before its time; None while it goes well.
    """

    def __init__(
        self,
        name: str,
        service: ProcessService,
        journal: Journal,
        rules: Rules,
        order_of: Callable[[Claimed], Order],
        folder: Path,
        settled: Callable[[int], None],
        again: Callable[[int], None],
    ) -> None:
        """Take what the run works with.

        Args:
            name: of its lease.
            service: open.
            journal: kept elsewhere.
            rules: limits.
            order_of: from a unit to the request for it.
            folder: for values of outputs too long for the ledger.
            settled: told of each unit on which this run does no more.
            again: told of each unit that is to be sent once more.
        """
        self.name = name
        self.service = service
        self.journal = journal
        self.rules = rules
        self.order_of = order_of
        self.folder = folder
        self.pacer = JobPacer(PaceRule(ceiling=rules.most_at_once, adaptive=rules.concurrency is None))
        self.looking = anyio.Semaphore(rules.looks_at_once)
        self.durations = Durations()
        self.proven = False
        self.requests = 0
        self.submitting: set[int] = set()
        self.followed: dict[int, Job] = {}
        self.last_end = time.monotonic()
        self.progress = Progress()
        self.fault: OverlanderError | None = None
        self.stopping = anyio.Event()
        self._settled = settled
        self._again = again
        self._changed = anyio.Event()
        self._trouble_since: float | None = None
        self._in_vain = 0
        self._bad: deque[bool] = deque(maxlen=rules.outcomes_judged)
        self._refusals: list[RequestRefused] = []
        self._refused_units: list[int] = []
        self._turned_away: dict[int, int] = {}
        self._accepted = False
        self._uncertain_in_a_row = 0

    def terms(self) -> Terms:
        """Return on which terms the run takes units now."""
        return Terms(self.name, self.rules.attempts, sendable_before(self.rules))

    def settle(self, unit: int, own: Own, *, judged: bool = True) -> None:
        """Count a unit on which this run does no more, now that the ledger says so.

        Args:
            unit: the ledger's key.
            own: what became of it.
            judged: whether that tells how well the service works.
        """
        if own in (Own.DONE, Own.FAILED, Own.UNCERTAIN, Own.GIVEN_UP):
            setattr(self.progress, own.value, getattr(self.progress, own.value) + 1)
        if judged and own in (Own.FAILED, Own.GIVEN_UP):
            self._in_vain += 1
            if not self.progress.done and self._in_vain >= self.rules.failures_in_vain:
                self._stop_for(
                    f"The first {self._in_vain} polygons all failed or were given up at {self.service.url}"
                )
        if own == Own.DONE or (judged and own == Own.GIVEN_UP):
            self.came_out(good=own == Own.DONE)
        self._settled(unit)
        self.wake()

    def came_out(self, *, good: bool) -> None:
        """Take account of how a polygon's first job came out; when nearly all of the last are bad, the run ends.

        Second jobs that fail say little: they come together, when all others have been sent.
        """
        self._bad.append(not good)
        judged, bad = len(self._bad), sum(self._bad)
        if judged == self.rules.outcomes_judged and bad >= self.rules.share_of_bad * judged:
            self._stop_for(f"Of the last {judged} polygons at {self.service.url}, {bad} failed or were given up")

    def _stop_for(self, found: str) -> None:
        self.stop(
            JobsFail(
                f"{found}, so nothing more is sent. See why with `overlander polygons results SOURCE --where "
                "\"own in ('failed', 'given_up')\"`. When the service was the cause and is well, run again with "
                "--retry failed; when these polygons were, run again as before: it goes on with the next."
            )
        )

    @property
    def agreed(self) -> int:
        """Requests that may still be sent."""
        most = self.rules.most_requests
        return sys.maxsize if most is None else max(0, most - self.requests)

    def pass_over(self, unit: int) -> None:
        """Leave a unit as it is, to a later run."""
        self._settled(unit)

    def again(self, unit: int) -> None:
        """Have a unit sent again, now that the ledger says so."""
        self._again(unit)
        self.wake()

    def wake(self) -> None:
        """Tell whoever waits for a change that there is one."""
        self._changed.set()

    async def change(self, limit_s: float) -> None:
        """Wait for a change, not longer than some seconds."""
        with anyio.move_on_after(limit_s):
            await self._changed.wait()
        self._changed = anyio.Event()

    def stop(self, fault: OverlanderError | None = None) -> None:
        """Send nothing more and come to an end; the first fault is the one told."""
        self.fault = self.fault or fault
        self.stopping.set()
        self.wake()

    def heard(self) -> None:
        """Take account of an answer that makes sense."""
        self._trouble_since = None

    def took(self) -> None:
        """Take account of a request that was accepted."""
        self.heard()
        self._accepted = True
        self._uncertain_in_a_row = 0
        self.pacer.accepted()
        self.progress.sent += 1

    def trouble(self, error: TransientError, ticket: int | None) -> None:
        """Take account of a service that takes nothing now; after too long of that the run ends."""
        now = time.monotonic()
        throttled = isinstance(error, ThrottledError)
        longest_s = self.rules.busy_limit_s if throttled else self.rules.away_limit_s
        pause_s = min(error.retry_after_s or 0.0, longest_s) if isinstance(error, ThrottledError) else None
        self.pacer.refused(ticket, now, pause_s)
        if self._trouble_since is None or (throttled and self.followed):
            self._trouble_since = now
        if now - self._trouble_since > longest_s:
            self.stop(error)

    def is_refused_alone(self, unit: int) -> bool:
        """Count a refusal for now; tell whether others were taken since the unit's first: then it is at fault."""
        return self.progress.sent > self._turned_away.setdefault(unit, self.progress.sent)

    async def refused(self, unit: int, error: RequestRefused) -> None:
        """Take account of a refusal for good; when the first are all the same, the request is wrong.

        Those that were on their way when that was seen are no other case.
        """
        self.heard()
        if error.of_unit:
            return
        self.came_out(good=False)
        if self._accepted:
            return
        self._refusals.append(error)
        self._refused_units.append(unit)
        if len(self._refusals) < self.rules.same_refusals or len({one.code for one in self._refusals}) > 1:
            return
        back, self._refused_units = self._refused_units, []
        for refused in back:
            await self.journal.write(partial(note_back, unit=refused))
        self.progress.failed -= len(back)
        self.stop(
            RequestRefused(
                f"The first {len(self._refusals)} requests were all refused for the same reason: {error} So the "
                "request is wrong, not the polygons: nothing more was sent, and they count as not sent.",
                error.code,
            )
        )

    def unclear(self, error: OverlanderError) -> None:
        """Take account of a request without an answer; after too many in a row the run ends."""
        self._uncertain_in_a_row += 1
        if self._uncertain_in_a_row >= max(self.rules.same_refusals, self.pacer.limit):
            self.stop(
                UncertainError(
                    f"{self._uncertain_in_a_row} requests in a row got no answer, so nothing more is sent. "
                    f"The last one: {error}"
                )
            )
