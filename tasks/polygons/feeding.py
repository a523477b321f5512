"""What is sent next: units wait in a queue until the pacer, the first answer and the other runs let them go."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from tasks.ledger.claims import Claimed, claim
from tasks.ledger.units import anything_read, note_back
from tasks.polygons.run import Run

_LONGEST_WAIT_S = 30.0
_GATHER_S = 0.1


class Queue:
    """Units to be sent, each once, in order; those that nobody waits for any more are passed over."""

    def __init__(self, wanted: Callable[[int], bool]) -> None:
        """Start empty; `wanted` tells whether anybody waits for a unit."""
        self._wanted = wanted
        self._units: deque[int] = deque()
        self._in: set[int] = set()

    def add(self, unit: int) -> None:
        """Put a unit at the end, unless it is in."""
        if unit not in self._in:
            self._in.add(unit)
            self._units.append(unit)

    def put_back(self, units: tuple[int, ...]) -> None:
        """Put units that were taken back to the front."""
        self._in.update(units)
        self._units.extendleft(reversed(units))

    def take(self, most: int) -> list[int]:
        """Take units from the front."""
        taken: list[int] = []
        while self._units and len(taken) < most:
            unit = self._units.popleft()
            self._in.discard(unit)
            if self._wanted(unit):
                taken.append(unit)
        return taken

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, unit: int) -> bool:
        return unit in self._in


async def feed(
    run: Run,
    queue: Queue,
    series_numbers: list[int],
    begin: Callable[[Claimed, int], None],
    gone: Callable[[tuple[int, ...]], None],
) -> None:
    """Claim units and have them sent, a few at a time, until the run stops.

    Args:
        run: at work.
        queue: of its units.
        series_numbers: of its campaign at this service: they tell whether any job was ever seen.
        begin: sends a claimed unit, without waiting for it.
        gone: told of units that turned out to be somebody else's, or settled.
    """
    while not run.stopping.is_set():
        await _gather(run)
        run.progress.limit = run.pacer.limit
        wait_s = run.pacer.resume_at - time.monotonic()
        if not run.agreed:
            for left in queue.take(len(queue)):
                run.pass_over(left)
        room = min(_room(run), run.agreed)
        wanted = queue.take(room) if wait_s <= 0 and room else []
        if not wanted:
            await run.change(min(max(wait_s, 0.0), _LONGEST_WAIT_S) or run.rules.recheck_s)
            continue
        if not run.proven:
            run.proven = await run.journal.write(partial(anything_read, series_numbers=series_numbers))
        run.submitting.update(wanted)
        claimed = await run.journal.write(
            partial(
                claim,
                wanted=wanted,
                terms=run.terms(),
                url=run.service.url,
                limit=run.pacer.limit if run.proven else 1,
            )
        )
        taken = [unit.unit for unit in claimed.taken]
        run.submitting.difference_update(set(wanted) - set(taken))
        queue.put_back(claimed.full)
        run.pacer.shared_full = run.proven and bool(claimed.full)
        gone(claimed.gone)
        if run.stopping.is_set():
            await run.journal.write(partial(_all_back, taken=taken))
            run.submitting.difference_update(taken)
            return
        run.requests += len(taken)
        for unit in claimed.taken:
            begin(unit, run.pacer.begun())
        if claimed.full:
            await run.change(run.rules.recheck_s)


def _all_back(ledger: Connection, taken: list[int]) -> None:
    for unit in taken:
        note_back(ledger, unit)


async def _gather(run: Run) -> None:
    """Where requests on their way are the bound, wait a moment for several to be answered: a claim is a commit."""
    many, deadline = run.rules.submits_at_once // 2, time.monotonic() + _GATHER_S
    while 0 < _room(run) < min(many, run.pacer.room) and (left_s := deadline - time.monotonic()) > 0:
        await run.change(left_s)


def _room(run: Run) -> int:
    """Return how many units may be sent now; the first of a campaign goes alone until its job is seen."""
    if not run.proven:
        return 0 if run.pacer.outstanding else 1
    return min(run.pacer.room, run.rules.submits_at_once - len(run.submitting))
