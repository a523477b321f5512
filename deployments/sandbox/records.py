"""What the sandbox's change-results service remembers: its queue, its plan and all requests, in one SQLite file.

It stands in for RabbitMQ's durable queue: what was published outlives a `kill -9`, and a job under way at the
kill is taken again from its first pixel.
"""

import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.sandbox.plan import Moment, Plan, Trouble
from tasks.chips.grid import Chip

_SCHEMA = """
CREATE TABLE IF NOT EXISTS plan (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS used (
    chip_x INTEGER, chip_y INTEGER, key TEXT, number INTEGER, times INTEGER NOT NULL,
    PRIMARY KEY (chip_x, chip_y, key, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, algorithm TEXT NOT NULL, chip_x INTEGER NOT NULL,
    chip_y INTEGER NOT NULL, published REAL NOT NULL, not_before REAL NOT NULL DEFAULT 0,
    state TEXT NOT NULL, crashes INTEGER NOT NULL DEFAULT 0, turn INTEGER, trouble TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, id);
CREATE INDEX IF NOT EXISTS jobs_by_chip ON jobs (chip_x, chip_y, turn);
CREATE TABLE IF NOT EXISTS received (
    id INTEGER PRIMARY KEY AUTOINCREMENT, algorithm TEXT, chip_x INTEGER, chip_y INTEGER,
    refresh INTEGER NOT NULL, arrived TEXT NOT NULL, status INTEGER);
"""


@dataclass(frozen=True)
class Job:
    """A chip to compute, as one worker has taken it.

    Attributes:
        id: its place in the queue.
        algorithm: as the ticket spells it.
        chip: which.
        turn: how many jobs of this chip were taken before, since the records began.
        crashes: how often a worker has died of it.
        trouble: what goes wrong with it, decided when it was first taken.
    """

    id: int
    algorithm: str
    chip: Chip
    turn: int
    crashes: int
    trouble: Trouble | None


class Records:
    """The open file; every method may be called from any thread."""

    def __init__(self, file: Path) -> None:
        self._changed = threading.Condition()
        self._closing = False
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)
        self._database.execute("UPDATE jobs SET state = 'queued' WHERE state = 'taken'")
        row = self._database.execute("SELECT body FROM plan").fetchone()
        self._plan = Plan.model_validate_json(row[0]) if row else Plan()

    @property
    def plan(self) -> Plan:
        """The plan as it is now."""
        return self._plan

    def set_plan(self, plan: Plan, *, count_anew: bool) -> None:
        """Replace the plan; `count_anew` forgets how often each trouble has struck."""
        with self._changed:
            with self._database:
                self._database.execute("BEGIN")
                self._database.execute("INSERT OR REPLACE INTO plan VALUES (1, ?)", (json.dumps(plan.as_json()),))
                if count_anew:
                    self._database.execute("DELETE FROM used")
            self._plan = plan
            self._changed.notify_all()

    def trouble(self, chip: Chip, moment: Moment) -> Trouble | None:
        """Return what strikes a chip now, counting it."""
        with self._changed:
            for key, number, trouble in self._plan.of(chip, moment):
                place = (chip.x, chip.y, key, number)
                (times,) = self._database.execute(
                    "INSERT INTO used VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1 "
                    "RETURNING times",
                    place,
                ).fetchone()
                if trouble.times is None or times <= trouble.times:
                    return trouble
            return None

    def receive(self, algorithm: str, chip: Chip | None, refresh: bool) -> int:
        """Note a request that has arrived, and return its number."""
        with self._changed:
            done = self._database.execute(
                "INSERT INTO received (algorithm, chip_x, chip_y, refresh, arrived) VALUES (?, ?, ?, ?, ?)",
                (algorithm, chip and chip.x, chip and chip.y, refresh, datetime.now(UTC).isoformat()),
            )
            return done.lastrowid or 0

    def answered(self, number: int, status: int) -> None:
        """Note the status with which a request is being answered."""
        with self._changed:
            self._database.execute("UPDATE received SET status = ? WHERE id = ?", (status, number))

    def received(self) -> list[dict[str, Any]]:
        """Return all requests in order of arrival; `status` is None where no answer was sent."""
        with self._changed:
            found = self._database.execute(
                "SELECT algorithm, chip_x, chip_y, refresh, arrived, status FROM received ORDER BY id"
            ).fetchall()
        names = ("algorithm", "chip_x", "chip_y", "refresh", "when", "status")
        return [{**dict(zip(names, row, strict=True)), "refresh": bool(row[3])} for row in found]

    def publish(self, algorithm: str, chip: Chip, *, lost: bool = False, wakes: bool) -> None:
        """Queue a job.

        Args:
            algorithm: as the ticket spells it.
            chip: which.
            lost: it is remembered, and nobody ever gets it.
            wakes: workers that wait for a request (`wakes_on_request`) begin.
        """
        with self._changed:
            self._database.execute(
                "INSERT INTO jobs (algorithm, chip_x, chip_y, published, state) VALUES (?, ?, ?, ?, ?)",
                (algorithm, chip.x, chip.y, time.time(), "lost" if lost else "queued"),
            )
            if wakes and self._plan.settings.wakes_on_request:
                self.set_plan(self._plan.changed({"settings": {"wakes_on_request": False}}), count_anew=False)
            self._changed.notify_all()

    def take(self, worker: int) -> Job | None:
        """Wait for the next job that this worker may have and return it; None when the records are closing.

        Args:
            worker: its number, from 0; one beyond the plan's workers gets nothing.
        """
        with self._changed:
            while not self._closing:
                settings = self._plan.settings
                wait_s = None
                if worker < settings.workers and not (settings.paused or settings.wakes_on_request):
                    now = time.time()
                    row = self._database.execute(
                        "SELECT id, max(published + ?, not_before) AS due FROM jobs WHERE state = 'queued' "
                        "ORDER BY max(due, ?), id LIMIT 1",
                        (settings.queue_delay_s, now),
                    ).fetchone()
                    if row and row[1] <= now:
                        return self._taken(row[0])
                    wait_s = row and row[1] - now
                self._changed.wait(wait_s)
            return None

    def is_taken(self, job: Job) -> bool:
        """Return whether the job is still the worker's: not purged, and the records not closing."""
        with self._changed:
            return not self._closing and self._state(job) == "taken"

    def finish(self, job: Job) -> None:
        """Acknowledge a job after its last pixel."""
        with self._changed:
            self._database.execute("UPDATE jobs SET state = 'done' WHERE id = ? AND state = 'taken'", (job.id,))

    def requeue(self, job: Job, after_s: float) -> None:
        """Put a job back to its old place, as RabbitMQ does; it is not taken again before `after_s` seconds."""
        with self._changed:
            self._database.execute(
                "UPDATE jobs SET state = 'queued', crashes = crashes + 1, not_before = ? "
                "WHERE id = ? AND state = 'taken'",
                (time.time() + after_s, job.id),
            )
            self._changed.notify_all()

    def purge(self, algorithm: str | None = None) -> int:
        """Drop the jobs that wait or are under way, of one algorithm or all; return how many."""
        with self._changed:
            return self._database.execute(
                "UPDATE jobs SET state = 'purged' WHERE state IN ('queued', 'taken') "
                "AND algorithm = ifnull(?, algorithm)",
                (algorithm,),
            ).rowcount

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job ever published, in order."""
        with self._changed:
            found = self._database.execute(
                "SELECT id, algorithm, chip_x, chip_y, published, state, crashes FROM jobs ORDER BY id"
            ).fetchall()
        return [
            {
                "id": number,
                "algorithm": algorithm,
                "chip_x": chip_x,
                "chip_y": chip_y,
                "when": datetime.fromtimestamp(published, UTC).isoformat(),
                "state": state,
                "crashes": crashes,
            }
            for number, algorithm, chip_x, chip_y, published, state, crashes in found
        ]

    def stop(self) -> None:
        """Let every waiting worker go; jobs under way stay taken, and the next start queues them again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file."""
        with self._changed:
            self._database.close()

    def _state(self, job: Job) -> str | None:
        row = self._database.execute("SELECT state FROM jobs WHERE id = ?", (job.id,)).fetchone()
        return str(row[0]) if row else None

    def _taken(self, number: int) -> Job:
        with self._database:
            self._database.execute("BEGIN")
            algorithm, chip_x, chip_y, turn, crashes, kept = self._database.execute(
                "SELECT algorithm, chip_x, chip_y, turn, crashes, trouble FROM jobs WHERE id = ?", (number,)
            ).fetchone()
            chip = Chip(chip_x, chip_y)
            trouble = Trouble.model_validate_json(kept) if kept else None
            if turn is None:
                (turn,) = self._database.execute(
                    "SELECT count(turn) FROM jobs WHERE chip_x = ? AND chip_y = ?", (chip_x, chip_y)
                ).fetchone()
                trouble = self.trouble(chip, "job")
            self._database.execute(
                "UPDATE jobs SET state = 'taken', turn = ?, trouble = ? WHERE id = ?",
                (turn, trouble and trouble.model_dump_json(exclude_defaults=True), number),
            )
        return Job(number, algorithm, chip, turn, crashes, trouble)
