"""Dispatch: send units to a process service and follow their jobs to the end, a bounded number at a time.

One `Dispatcher` is one run at one service: an event loop in a thread of its own, one client, one pacer. Any number
of threads hand it batches; what a batch leaves in flight when its time is over is followed on meanwhile.
"""

import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tasks.errors import OverlanderError
from tasks.ledger.claims import Claimed, InFlight, Terms, end_dead_runs, sort_out
from tasks.ledger.leases import Lease
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own, counts_of, note_back
from tasks.polygons.carry import follow, send
from tasks.polygons.feeding import Queue, feed
from tasks.polygons.jobs import ENDED, Order, ProcessService
from tasks.polygons.journal import Journal
from tasks.polygons.rules import Rules
from tasks.polygons.run import Job, Progress, Run

_LOT = 500
_CANCEL_S = 10.0


@dataclass
class _Batch:
    """Units that one caller waits for; those `elsewhere` are in the hands of another run."""

    open: set[int]
    elsewhere: set[int] = field(default_factory=set)
    done: anyio.Event = field(default_factory=anyio.Event)

    def settle(self, unit: int) -> None:
        self.open.discard(unit)
        self.elsewhere.discard(unit)
        if not self.open:
            self.done.set()


class Dispatcher:
    """One run at one service; use it in a `with` block, and from any threads within.

    Example:
        ```python
        with run_on(ledger, "wetlands", words) as lease:
            service = WpsService(url, WpsRules())
            with Dispatcher(ledger, lease, series, service, order_of, rules, out / "outputs") as dispatcher:
                dispatcher.check([order])
                left = dispatcher.dispatch(units, time_box_s=600)
        ```
    """

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        series_numbers: Iterable[int],
        service: AbstractAsyncContextManager[ProcessService],
        order_of: Callable[[Claimed], Order],
        rules: Rules,
        outputs_folder: Path,
        may_send: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            ledger: open longer than this.
            lease: of `run_on`.
            series_numbers: the series worked on, all at the service's URL.
            service: entered and left on the dispatcher's own loop.
            order_of: from a unit to the request for it; a BadInput from it fails that unit.
            rules: limits.
            outputs_folder: for values of outputs too long for the ledger.
            may_send: tells of a unit whether this run may send it; others it only follows.
        """
        self._ledger = ledger
        self._lease = lease
        self._series_numbers = list(series_numbers)
        self._service = service
        self._order_of = order_of
        self._rules = rules
        self._folder = outputs_folder
        self._may_send = may_send
        self._batches: list[_Batch] = []
        self._queue = Queue(self._is_wanted)
        self._dismiss = False
        self._exit = ExitStack()
        self._portal: BlockingPortal
        self._main: Future[None]
        self._run: Run
        self._senders: anyio.abc.TaskGroup
        self._followers: anyio.abc.TaskGroup

    def __enter__(self) -> Self:
        self._portal = self._exit.enter_context(start_blocking_portal())
        try:
            self._main, _ = self._portal.start_task(self._work)
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        with self._exit:
            self._main.result()

    def check(self, orders: Sequence[Order]) -> None:
        """Compare what would be sent with what the service describes; raises as `ProcessService.check`."""
        self._portal.call(self._run.service.check, orders)

    def dispatch(self, units: Sequence[int], time_box_s: float, linger_s: float = math.inf) -> dict[Own, int]:
        """See some units through, and return how many of them are in each own status then.

        Returns when all are settled, a time is over or the run is stopped. Jobs still in flight are followed
        on; another call with the same units waits for them again.

        Args:
            units: the ledger's keys, in the order they should go.
            time_box_s: how long to wait.
            linger_s: how long to wait once nothing of them is left to be sent.

        Raises:
            OverlanderError: the run ended before its time: every request is refused, say, or the service is away.
        """
        self._portal.call(self._see_through, list(units), time_box_s, linger_s)
        if self._run.fault is not None:
            raise self._run.fault
        if self._main.done():
            self._main.result()
        found = dict.fromkeys(Own, 0)
        with self._ledger.read() as connection:
            for start in range(0, len(units), _LOT):
                for own, number in counts_of(connection, units[start : start + _LOT]).items():
                    found[own] += number
        return found

    def stop(self, *, cancel_remote: bool = False) -> None:
        """Send nothing more, let what is on its way be answered, and return at once; calls to `dispatch` end.

        Args:
            cancel_remote: also ask the service to dismiss the jobs in flight; those that it dismisses are to be
                sent again by a later run.
        """
        self._dismiss = self._dismiss or cancel_remote
        if not self._main.done():
            self._portal.start_task_soon(self._stop)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent or followed: it was stopped, failed, or sent all that was agreed to."""
        run = self._run
        return run.stopping.is_set() or not (run.agreed or run.submitting or run.followed)

    @property
    def terms(self) -> Terms:
        """On which terms it takes units now."""
        return self._run.terms()

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return replace(self._run.progress, in_flight=self._run.pacer.outstanding, limit=self._run.pacer.limit)

    # On the loop

    async def _work(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        try:
            async with self._service as service, anyio.create_task_group() as own:
                journal = Journal(self._ledger, self._lease)
                self._run = Run(
                    self._lease.name,
                    service,
                    journal,
                    self._rules,
                    self._order_of,
                    self._folder,
                    settled=self._settle,
                    again=self._to_send,
                )
                own.start_soon(self._guarded, journal.keep())
                async with anyio.create_task_group() as self._senders:
                    async with anyio.create_task_group() as self._followers:
                        feeding = feed(self._run, self._queue, self._series_numbers, self._send, self._gone)
                        self._senders.start_soon(self._guarded, feeding)
                        task_status.started()
                        await self._run.stopping.wait()
                        self._release_batches()
                        self._followers.cancel_scope.cancel()
                    with anyio.move_on_after(self._rules.stop_s):
                        while self._run.submitting:
                            await self._run.change(self._rules.stop_s)
                    self._senders.cancel_scope.cancel()
                if self._dismiss and self._run.fault is None:
                    await self._dismiss_jobs()
                own.cancel_scope.cancel()
        finally:
            self._release_batches()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some of the run's work; a failure of ours ends the run, anything else is a bug and ends it too."""
        try:
            await work
        except OverlanderError as error:
            self._run.stop(error)
        except anyio.ClosedResourceError:
            self._run.stop()  # the journal is closed, and whoever kept it says why

    async def _stop(self) -> None:
        self._run.stop()

    async def _see_through(self, units: list[int], time_box_s: float, linger_s: float) -> None:
        if self._run.stopping.is_set():
            return
        batch = _Batch(set(units))
        self._batches.append(batch)
        try:
            with suppress(anyio.ClosedResourceError), anyio.move_on_after(time_box_s):
                await self._sort(units)
                sending_at = time.monotonic()
                while batch.open and not batch.done.is_set():
                    if batch.open - batch.elsewhere - self._run.followed.keys():
                        sending_at = time.monotonic()
                    elif time.monotonic() - sending_at > linger_s:
                        break
                    with anyio.move_on_after(self._rules.recheck_s):
                        await batch.done.wait()
                    if batch.elsewhere and not batch.done.is_set():
                        await self._run.journal.write(end_dead_runs)
                        await self._sort(list(batch.elsewhere))
        finally:
            self._batches.remove(batch)

    async def _sort(self, units: list[int]) -> None:
        """Bring units on their way: to the queue, or to be followed."""
        run = self._run
        for start in range(0, len(units), _LOT):
            lot = [unit for unit in units[start : start + _LOT] if not self._in_hand(unit)]
            with anyio.CancelScope(shield=True):  # what was taken over must be followed
                found = await run.journal.write(partial(sort_out, wanted=lot, terms=run.terms()))
            for job in found.to_follow:
                self._take_over(job)
            for unit in found.to_send:
                self._to_send(unit)
            for unit in found.settled:
                self._settle(unit)
            for batch in self._batches:
                batch.elsewhere = (batch.elsewhere - set(lot)) | (batch.open & set(found.elsewhere))
            run.wake()

    def _to_send(self, unit: int) -> None:
        if self._may_send(unit):
            self._queue.add(unit)
        else:
            self._settle(unit)

    def _in_hand(self, unit: int) -> bool:
        return unit in self._run.followed or unit in self._run.submitting or unit in self._queue

    def _take_over(self, found: InFlight) -> None:
        job = Job.taken_over(found)
        if not job.last_look:
            self._run.pacer.begun()
        self._follow(job)

    def _gone(self, units: tuple[int, ...]) -> None:
        for batch in self._batches:
            batch.elsewhere |= batch.open & set(units)

    def _send(self, claimed: Claimed, ticket: int) -> None:
        self._senders.start_soon(self._guarded, self._carry(claimed, ticket))

    async def _carry(self, claimed: Claimed, ticket: int) -> None:
        try:
            job = await send(self._run, claimed, ticket)
        finally:
            self._run.submitting.discard(claimed.unit)
            self._run.wake()
        if job is None:
            self._run.pacer.back()
        elif job.remote in ENDED:
            self._run.pacer.ended(job.took_s, job.ticket)
        else:
            self._follow(job)

    def _follow(self, job: Job) -> None:
        self._run.followed[job.unit] = job
        if not self._run.stopping.is_set():
            self._followers.start_soon(self._guarded, self._follow_on(job))

    async def _follow_on(self, job: Job) -> None:
        await follow(self._run, job)
        del self._run.followed[job.unit]
        if not job.last_look:
            self._run.pacer.ended(job.took_s, job.ticket)
        self._run.wake()

    async def _dismiss_jobs(self) -> None:
        """Ask the service to dismiss what is in flight, a few at a time."""
        bound = anyio.Semaphore(self._rules.submits_at_once)

        async def dismiss(job: Job) -> None:
            async with bound:
                if await self._run.service.cancel(job.status_location):
                    await self._run.journal.write(partial(note_back, unit=job.unit))

        with anyio.move_on_after(_CANCEL_S):
            async with anyio.create_task_group() as group:
                for job in self._run.followed.values():
                    group.start_soon(self._guarded, dismiss(job))

    def _is_wanted(self, unit: int) -> bool:
        return any(unit in batch.open for batch in self._batches)

    def _settle(self, unit: int) -> None:
        for batch in self._batches:
            batch.settle(unit)

    def _release_batches(self) -> None:
        for batch in self._batches:
            batch.done.set()
