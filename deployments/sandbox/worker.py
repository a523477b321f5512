"""The worker behind the sandbox's change-results service: takes jobs and writes chips as the real one does.

x outer and ascending, y inner and downward, one row after the other; `result_produced` is this worker's local
time labelled UTC; a row that cannot be saved is discarded; the job is acknowledged after the last pixel.

Source: lcmap-pyccd-worker, pw/worker.py; lcmap-changes, server.clj `handle-delivery`.
"""

import hashlib
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import BatchStatement, BatchType

from deployments.sandbox.plan import Settings
from deployments.sandbox.records import Job, Records
from deployments.sandbox.seed import FAILED_RESULT, shipped_results
from tasks.chips.grid import PIXELS

WORKERS = 8
"""As many threads stand ready; the plan says how many of them take jobs."""

_SHORT_RESULTS = tuple(
    f'{{"algorithm": "lcmap-pyccd:2021.07.19", "processing_mask": [1, {number}], "change_models": []}}'
    for number in range(7)
)
_BATCH_BYTES = 40_000
_BATCH_ROWS = 200
_LONGEST_REST_S = 60.0
_LOOK_EVERY_S = 0.05  # a slow worker writes as many rows at a time as fall due in this
_INSERT = (
    "INSERT INTO results "
    "(chip_x, chip_y, algorithm, x, y, inputs_md5, result, result_md5, result_ok, result_produced) "
    "VALUES (?, ?, ?, ?, ?, 'not implemented', ?, ?, ?, ?)"
)


class Workers:
    """Threads that take jobs until they are stopped."""

    def __init__(self, records: Records, session: Session) -> None:
        self._records = records
        self._session = session
        self._insert = session.prepare(_INSERT)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
            for number in range(WORKERS)
        ]

    def start(self) -> None:
        """Start taking jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave jobs where they are, for the next start, and wait for the threads' end."""
        self._stopping.set()
        self._records.stop()
        for thread in self._threads:
            thread.join(timeout=5)

    def _work(self, number: int) -> None:
        while job := self._records.take(number):
            try:
                self._compute(job)
            except Exception:  # noqa: BLE001 - as the real worker: whatever it is, the chip starts over
                traceback.print_exc()
                self._rest(job)

    def _compute(self, job: Job) -> None:
        if job.trouble and job.trouble.never:
            self._records.finish(job)
            return
        trouble = job.trouble
        dies_at = trouble.crashes_before(job.crashes) if trouble else None
        lost = trouble.lost(job.chip, job.turn) if trouble else frozenset()
        failed = trouble.failed(job.chip) if trouble else frozenset()
        for start, stop in self._spans(dies_at if dies_at is not None else PIXELS):
            if not self._records.is_taken(job):
                return
            self._write(job, range(start, stop), lost, failed)
        if self._stopping.is_set():
            return
        if dies_at is None:
            self._records.finish(job)
        else:
            self._rest(job)

    def _rest(self, job: Job) -> None:
        """Put back a job of which its worker died: it rests twice as long each time, up to a minute."""
        first_s = self._records.plan.settings.crash_pause_s
        self._records.requeue(job, min(first_s * 2.0 ** min(job.crashes, 60), max(first_s, _LONGEST_REST_S)))

    def _spans(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield the positions to write next, from up to but without, when their time has come."""
        position, since = 0, time.monotonic()
        settings: Settings | None = None
        while position < end and not self._stopping.is_set():
            if settings is not self._records.plan.settings:  # a new speed counts from now on
                settings, begun, since = self._records.plan.settings, position, time.monotonic()
                most = min(_BATCH_ROWS, _BATCH_BYTES // (_mean_length(settings.short_results) + 100))
            rows = most
            if settings.pixels_per_s:
                rows = max(1, min(most, int(settings.pixels_per_s * _LOOK_EVERY_S)))
                due = since + (position - begun + rows) / settings.pixels_per_s
                if self._stopping.wait(min(_LOOK_EVERY_S, max(0.0, due - time.monotonic()))):
                    return
                if time.monotonic() < due:
                    continue
            yield position, min(end, position + rows)
            position += rows

    def _write(self, job: Job, positions: range, lost: Collection[int], failed: Collection[int]) -> None:
        settings = self._records.plan.settings
        texts = _texts(settings.short_results)
        other = job.trouble.other_version if job.trouble else None
        algorithm = other or settings.worker_algorithm or job.algorithm
        batch = BatchStatement(BatchType.UNLOGGED)
        for position in positions:
            if position not in lost:
                ok = position not in failed
                result, md5 = texts[position % len(texts)] if ok else _FAILED
                produced = datetime.now(UTC) + timedelta(hours=settings.worker_clock_offset_h)
                x, y = job.chip.pixel_at(position)
                row = (job.chip.x, job.chip.y, algorithm, x, y, result, md5, ok, produced)
                batch.add(self._insert, row)
        if len(batch):
            try:
                self._session.execute(batch)
            except (DriverException, NoHostAvailable) as error:
                pixels = f"{job.chip.x},{job.chip.y} from {positions[0]} to {positions[-1]}"
                print(f"can't save result to db: {error!r}; discarding result: {pixels}", file=sys.stderr)  # noqa: T201


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


_FAILED = (FAILED_RESULT, _md5(FAILED_RESULT))


@lru_cache(maxsize=2)
def _texts(short: bool) -> list[tuple[str, str]]:
    return [(text, _md5(text)) for text in (_SHORT_RESULTS if short else shipped_results())]


@lru_cache(maxsize=2)
def _mean_length(short: bool) -> int:
    texts = _texts(short)
    return sum(len(text) for text, _ in texts) // len(texts)
