"""Saving one chip as JSON: streamed, checked row by row in the same pass, there whole or not at all.

The file is a JSON list of the table's rows as the operators' notebook wrote them: twelve columns, timestamps
as `isoformat()`, `result` the JSON *string* that it is in the table, ordered by x and y. Existing readers
(TAP, json-matlab, mapify) depend on all of that.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from tasks.chips.grid import PIXELS, Chip
from tasks.chips.results import ResultsTable
from tasks.chips.states import Look
from tasks.files import PartFile, part_file

Flawed = Literal["apart", "with-rest", "skip"]
FailedPixels = Literal["keep", "null"]

_NULL_MD5 = hashlib.md5(b"null", usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class ExportOrder:
    """One chip to save.

    Attributes:
        chip, algorithm: which.
        file: where it goes when all its pixels are good.
        flawed_file: where it goes when some have failed; None to save no such chip.
        failed_pixels: `keep` a failed pixel's error text as it is, or write the text `null`, which readers take.
        update_requested: the chip's `chip_update_requested` when it was counted; if it has changed since, a
            new pass may be under way and the chip is not saved.
        row_bytes: mean size of a row as far as known, for the first page.
    """

    chip: Chip
    algorithm: str
    file: Path
    flawed_file: Path | None
    failed_pixels: FailedPixels
    update_requested: datetime | None
    row_bytes: float


@dataclass(frozen=True)
class Exported:
    """What became of an order.

    Attributes:
        look: what the rows themselves showed, as an aggregate query would.
        file: the file written; None when the chip was not saved, and `problem` says why.
        bytes, mtime_ns, sha256: of the file.
        failed: positions of pixels on which the algorithm failed.
        bad: positions of pixels whose result does not match its md5, or that stand twice.
        row_bytes: mean size of a row in the file.
        page_seconds: how long each page took to arrive.
    """

    look: Look
    file: Path | None = None
    bytes: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    failed: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    problem: str = ""
    row_bytes: float = 0.0
    page_seconds: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass
class _Checked:
    """What the rows seen so far add up to."""

    chip: Chip
    seen: bytearray = field(default_factory=lambda: bytearray(PIXELS))
    pixels: int = 0
    failed: list[int] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    update_requested: datetime | None = None

    def accept(self, row: dict[str, Any]) -> bool:
        """Check one row; return whether it belongs into the file.

        A row off the lattice without a result is a ticket for a point inside the chip, not a pixel of it;
        a partition without any rows is given as one row of nulls.
        """
        self.update_requested = row["chip_update_requested"]
        if row["result_ok"] is None or row["x"] is None:
            return False
        position = self.chip.position_of(row["x"], row["y"])
        if position is None:
            return False
        if self.seen[position]:
            self.bad.append(position)
        self.seen[position] = 1
        self.pixels += 1
        if not row["result_ok"]:
            self.failed.append(position)
        if not _md5_matches(row):
            self.bad.append(position)
        produced = row["result_produced"]
        if produced is not None:
            self.first = produced if self.first is None else min(self.first, produced)
            self.last = produced if self.last is None else max(self.last, produced)
        return True

    def look(self, at: datetime) -> Look:
        return Look(
            at=at,
            ticketed=True,
            pixels=self.pixels,
            some_good=len(self.failed) < self.pixels,
            some_failed=bool(self.failed),
            first_produced=self.first,
            last_produced=self.last,
            update_requested=self.update_requested,
        )


def export_chip(table: ResultsTable, order: ExportOrder) -> Exported:
    """Stream a chip's rows from Cassandra into its file, checking each on the way.

    The file lands only if the rows are all there and each result matches its md5; where it lands depends on
    whether pixels have failed. Memory holds two pages of rows, whatever the chip's size.

    Raises:
        OutputUnusable: the folder cannot be written or the disk is full.
        TransientError, PermanentError: as Cassandra fails.
    """
    started, at = time.monotonic(), datetime.now(UTC)
    checked = _Checked(order.chip)
    page_seconds: list[float] = []
    with part_file(order.file) as part:
        digest = hashlib.sha256()
        size = 0
        for rows, seconds in table.pages(order.chip, order.algorithm, order.row_bytes):
            page_seconds.append(seconds)
            text = _json_of([row for row in rows if checked.accept(row)], order.failed_pixels)
            if text:
                size += _write(part, digest, (b"," if size else b"[") + text)
        size += _write(part, digest, b"]" if size else b"[]")
        outcome = Exported(
            look=checked.look(at),
            failed=tuple(sorted(checked.failed)),
            bad=tuple(sorted(set(checked.bad))),
            row_bytes=size / max(checked.pixels, 1),
            page_seconds=tuple(page_seconds),
        )
        problem, file = _destination(checked, order)
        if file is None:
            return replace(outcome, problem=problem, seconds=time.monotonic() - started)
        stat = part.land(file)
    return replace(
        outcome,
        file=file,
        bytes=size,
        mtime_ns=stat.st_mtime_ns,
        sha256=digest.hexdigest(),
        seconds=time.monotonic() - started,
    )


def _destination(checked: _Checked, order: ExportOrder) -> tuple[str, Path | None]:
    """Return why a chip is not saved, or where it goes."""
    if checked.update_requested != order.update_requested:
        return "It was requested again while it was being read.", None
    if checked.bad:
        return f"The results of {len(set(checked.bad)):,} pixels do not match their md5.", None
    if checked.pixels != PIXELS:
        return f"Only {checked.pixels:,} of {PIXELS:,} pixels are there.", None
    if len(checked.failed) == PIXELS:
        return "The algorithm failed on every pixel.", None
    if not checked.failed:
        return "", order.file
    if order.flawed_file is None:
        return f"The algorithm failed on {len(checked.failed):,} pixels.", None
    return "", order.flawed_file


def _md5_matches(row: dict[str, Any]) -> bool:
    result, md5 = row["result"], row["result_md5"]
    if result is None or md5 is None:
        return not row["result_ok"]  # workers of May 2017 wrote failed pixels without either
    return bool(hashlib.md5(result.encode(), usedforsecurity=False).hexdigest() == md5)


def _json_of(rows: Iterable[dict[str, Any]], failed_pixels: FailedPixels) -> bytes:
    """Return rows as the inside of a JSON list; orjson writes datetimes as `isoformat()` does."""
    if failed_pixels == "null":
        rows = [row if row["result_ok"] else row | {"result": "null", "result_md5": _NULL_MD5} for row in rows]
    return orjson.dumps(rows)[1:-1]


def _write(part: PartFile, digest: Any, text: bytes) -> int:
    digest.update(text)
    return part.file.write(text)
