"""Carry one unit through: send it, follow its job, write down what came of it.

Every verdict is in the ledger before anyone is told of it. What is no verdict (an answer that cannot be read, a
service away for a moment) is waited out, within the limits of `Rules`.
"""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
from sqlalchemy import Connection

from tasks.errors import (
    BadInput,
    JobsFail,
    LocationRefused,
    PermanentError,
    RefusedForNow,
    RequestRefused,
    ServiceAway,
    ServiceTimedOut,
    ThrottledError,
    TransientError,
    UncertainError,
    UnreadableStatus,
)
from tasks.ledger.claims import Claimed
from tasks.ledger.units import KeptOutput, Own, note, note_back, note_outputs
from tasks.polygons.jobs import ENDED, JobStatus, Output, Remote
from tasks.polygons.polling import Watch, limit_reached, wait_s
from tasks.polygons.run import Job, Run
from tasks.polygons.values import keep_outputs

_FEW_LOOKS = 3
"""Answers in a row that cannot be read: one is chance, three mean that limits may run out on them."""


async def send(run: Run, claimed: Claimed, ticket: int) -> Job | None:
    """Send a unit that is written down as `submitting`; return its job, if there is one.

    A job that has ended already needs no following: the answer was its result.
    """
    unit = claimed.unit
    try:
        order = run.order_of(claimed)
    except BadInput as error:
        await _settle(run, unit, Own.FAILED, judged=False, error_class="BadInput", error_text=str(error))
        return None
    began, began_at = time.monotonic(), _now()
    try:
        status = await run.service.submit(order)
    except (ServiceAway, ThrottledError) as error:
        await _send_back(run, unit)
        run.trouble(error, ticket)
    except RefusedForNow as error:
        run.trouble(error, ticket)
        if run.is_refused_alone(unit) or run.fault is error:
            await _failed(run, unit, claimed.attempts, type(error).__name__, str(error))
        else:
            await _send_back(run, unit)
    except (UncertainError, ServiceTimedOut) as error:
        await _unclear(run, claimed, error)
    except RequestRefused as error:
        why = {"error_class": error.code, "error_text": str(error), "ended_at": _now()}
        await _settle(run, unit, Own.FAILED, judged=not error.of_unit, **why)
        await run.refused(unit, error)
    except TransientError as error:
        await _failed(run, unit, claimed.attempts, type(error).__name__, str(error))
    except PermanentError as error:
        await _send_back(run, unit)
        run.stop(error)
    else:
        return await _taken(run, claimed, ticket, status, began, began_at)
    return None


async def follow(run: Run, job: Job) -> None:
    """Follow a job to its end, or to a limit."""
    retry_after_s = 0.0
    while True:
        await anyio.sleep(max(_pause_s(run, job), retry_after_s))
        retry_after_s = 0.0
        job.looks += 1
        run.progress.looks += 1
        try:
            async with run.looking:
                status = await run.service.status(job.status_location)
            given = await run.service.results(status) if status.remote == Remote.SUCCESSFUL else ()
        except LocationRefused as error:
            if not run.proven:
                run.stop(error)
                return
            await _give_up(run, job, "LocationRefused", str(error))
            return
        except PermanentError as error:
            run.stop(error)
            return
        except TransientError as error:
            job.unreadable += 1
            if isinstance(error, (ServiceAway, ThrottledError)):
                run.trouble(error, job.ticket)
            if isinstance(error, ThrottledError):
                retry_after_s = min(error.retry_after_s or 0.0, run.rules.busy_limit_s)
            if job.last_look and job.unreadable >= _FEW_LOOKS and not isinstance(error, UnreadableStatus):
                run.settle(
                    job.unit, Own.GIVEN_UP, judged=False
                )  # nothing was seen: the look is left to a later run
                return
            if await _waited_enough(run, job, f" Its status cannot be read: {error}"):
                return
            continue
        job.unreadable = 0
        run.heard()
        if status.remote in ENDED:
            await _ended(run, job, status, given)
            return
        await _note_news(run, job, status)
        if await _waited_enough(run, job, ""):
            return


def _pause_s(run: Run, job: Job) -> float:
    """Return how long to wait before the next look at a job."""
    if job.last_look and not job.unreadable:
        return 0.0
    age_s = time.monotonic() - job.accepted
    looks = 0 if 0 < job.unreadable < _FEW_LOOKS else job.looks
    quick_s = run.durations.quick_s if run.proven else 0.0
    return wait_s(age_s, looks, quick_s, run.rules, random.random())  # noqa: S311 - guards nothing


async def _taken(
    run: Run, claimed: Claimed, ticket: int, status: JobStatus, began: float, began_at: datetime
) -> Job | None:
    """Write down the answer to a request that was taken; when it is the result, the job began with the request."""
    unit, moment, now = claimed.unit, _now(), time.monotonic()
    run.took()
    job = Job(
        unit=unit,
        status_location=status.status_location or "",
        remote=status.remote,
        attempts=claimed.attempts,
        accepted=now,
        phase_began=now,
        news=now,
        ticket=ticket,
    )
    if status.remote in ENDED:
        given = await run.service.results(status) if status.remote == Remote.SUCCESSFUL else ()
        await run.journal.write(partial(note, unit=unit, columns={"accepted_at": began_at}))
        job.accepted = began
        await _ended(run, job, status, given)
        return job
    said: dict[str, Any] = {"remote": status.remote.value, "message": status.message, "accepted_at": moment}
    if status.remote == Remote.RUNNING:
        said["started_at"] = moment
    if not job.status_location:
        await run.journal.write(partial(note, unit=unit, columns=said))
        text = "The service took it and named no place to ask what becomes of it."
        await _give_up(run, job, "NoStatusLocation", text, looked_again=True)
        if not run.proven:
            run.stop(
                JobsFail(
                    f"The service at {run.service.url} took the first request and named no place to ask what "
                    "becomes of it, so nothing more is sent. If it keeps no status documents, run with --sync: "
                    "each request then waits for its result. What was sent is not sent again unasked."
                )
            )
        return None
    said |= {"own": Own.IN_FLIGHT.value, "status_location": job.status_location}
    await run.journal.write(partial(note, unit=unit, columns=said))
    return job


async def _note_news(run: Run, job: Job, status: JobStatus) -> None:
    """Write down what is new; the status location stays the first one, since later documents may lack it."""
    now = time.monotonic()
    first = not run.proven
    if (status.remote, status.percent) != (job.remote, job.percent):
        job.news = now
    job.percent = status.percent
    began = status.remote != job.remote
    if began or first:
        said: dict[str, Any] = {"remote": status.remote.value, "message": status.message, "looked_at": _now()}
        if status.remote == Remote.RUNNING and job.remote == Remote.ACCEPTED:
            said["started_at"] = _now()
        await run.journal.write(partial(note, unit=job.unit, columns=said))
    if began:
        job.remote, job.phase_began = status.remote, now
    _prove(run)


async def _ended(run: Run, job: Job, status: JobStatus, given: tuple[Output, ...]) -> None:
    """Write down how a job ended."""
    now, moment = time.monotonic(), _now()
    said: dict[str, Any] = {
        "remote": status.remote.value,
        "message": status.message,
        "looked_at": moment,
        "ended_at": moment,
    }
    if status.remote == Remote.SUCCESSFUL:
        kept = await keep_outputs(given, job.unit, run.folder, run.rules.longest_value)
        await run.journal.write(partial(_note_done, unit=job.unit, kept=kept, said=said))
        job.took_s = now - job.accepted
        run.durations.note(job.took_s)
        run.settle(job.unit, Own.DONE)
    elif status.remote == Remote.FAILED:
        await _failed(run, job.unit, job.attempts, status.error_code or "ProcessFailed", status.message, **said)
    else:
        text = status.message or "The job was dismissed at the service."
        await _settle(run, job.unit, Own.FAILED, error_class="Dismissed", error_text=text, **said)
    run.last_end = now
    _prove(run)


def _note_done(ledger: Connection, unit: int, kept: Sequence[KeptOutput], said: dict[str, Any]) -> None:
    note(ledger, unit, said | {"own": Own.DONE.value, "error_class": "", "error_text": ""})
    note_outputs(ledger, unit, kept)


async def _failed(run: Run, unit: int, attempts: int, error_class: str, text: str, **said: Any) -> None:
    """Write down that a job failed, or was turned away, and have it sent again while it has attempts left."""
    why: dict[str, Any] = {"error_class": error_class, "error_text": text or "The service gave no reason."}
    if attempts == 1:
        run.came_out(good=False)
    if attempts >= run.rules.attempts:
        await _settle(run, unit, Own.FAILED, **why, **said)
        return
    columns = said | why | {"own": Own.PENDING.value, "run": None}
    await run.journal.write(partial(note, unit=unit, columns=columns))
    run.progress.again += 1
    run.again(unit)


async def _unclear(run: Run, claimed: Claimed, error: UncertainError | ServiceTimedOut) -> None:
    """Write down that nobody knows whether a request arrived, and do as the rules say."""
    unit, text = claimed.unit, str(error)
    columns = {"own": Own.UNCERTAIN.value, "error_class": "Uncertain", "error_text": text}
    await run.journal.write(partial(note, unit=unit, columns=columns))
    if run.rules.on_uncertain == "resend" and claimed.attempts < run.rules.attempts:
        run.progress.again += 1
        run.again(unit)
    else:
        run.settle(unit, Own.UNCERTAIN)
    run.unclear(error)


async def _send_back(run: Run, unit: int) -> None:
    """Write down that a request was certainly not taken, and have it sent when the service takes requests."""
    await run.journal.write(partial(note_back, unit=unit))
    run.requests -= 1
    run.again(unit)


async def _waited_enough(run: Run, job: Job, also: str) -> bool:
    """Give a job up when a limit has run out; tell whether it has."""
    if 0 < job.unreadable < _FEW_LOOKS:
        return False
    if job.last_look:
        await _settle(run, job.unit, Own.GIVEN_UP, judged=False, looked_again=True)
        return True
    now = time.monotonic()
    watch = Watch(
        age_s=now - job.accepted,
        in_phase_s=now - job.phase_began,
        quiet_s=now - job.news,
        others_ended_s=now - max(run.last_end, job.accepted),
    )
    reached = limit_reached(job.remote, watch, run.rules)
    if reached is None:
        return False
    error_class, text = reached
    await _give_up(run, job, error_class, text + also)
    return True


async def _give_up(run: Run, job: Job, error_class: str, text: str, *, looked_again: bool = False) -> None:
    """Stop waiting for a job that may still end; a later run looks once more where there is a place to ask."""
    why: dict[str, Any] = {"error_class": error_class, "error_text": text, "looked_again": looked_again}
    await _settle(run, job.unit, Own.GIVEN_UP, **why)


async def _settle(run: Run, unit: int, own: Own, *, judged: bool = True, **columns: Any) -> None:
    await run.journal.write(partial(note, unit=unit, columns=columns | {"own": own.value}))
    run.settle(unit, own, judged=judged)


def _prove(run: Run) -> None:
    if not run.proven:
        run.proven = True
        run.wake()


def _now() -> datetime:
    return datetime.now(UTC)
