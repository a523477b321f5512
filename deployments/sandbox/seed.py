"""A corner of a tile as a real campaign leaves it: chips of every kind, written as the real service writes.

Tile H05V03 of CONUS; its north-west 4 x 4 chips. Everything is deterministic: the same rows on every machine.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Literal, NamedTuple

from cassandra.cluster import ResponseFuture, Session
from cassandra.query import BatchStatement, BatchType

from deployments.sandbox.cassandra import Node, session
from tasks.chips.grid import CHIP_M, PIXEL_M, Chip

Kind = Literal["complete", "flawed", "no_data", "incomplete", "queued", "unrequested"]
Pixel = tuple[int, int]

ALGORITHM = "lcmap-pyccd:2021.07.19"
TILE = "H05V03"
TILE_UPPER_LEFT = (-1815585, 2864805)
FAILED_RESULT = "Exception running ccd.detect: Singular matrix"
REQUESTED = datetime(2026, 3, 1, 6, tzinfo=UTC)
"""When the first chip was requested; each next one a minute later."""

_MS_A_PIXEL = 40
_BATCH_BYTES = 40_000  # 20 kB costs half as much processor again, 100 kB saves nothing
_BATCHES_IN_FLIGHT = 8


@dataclass(frozen=True)
class SeededChip:
    """One chip of the corner: its row and column from the north-west, and what it is."""

    row: int
    column: int
    kind: Kind

    @property
    def chip_x(self) -> int:
        """Left edge, metres."""
        return TILE_UPPER_LEFT[0] + CHIP_M * self.column

    @property
    def chip_y(self) -> int:
        """Upper edge, metres."""
        return TILE_UPPER_LEFT[1] - CHIP_M * self.row

    @property
    def requested(self) -> datetime:
        """When it was requested, by the service's clock."""
        return REQUESTED + timedelta(minutes=4 * self.row + self.column)


_LAYOUT: tuple[tuple[Kind, ...], ...] = (
    ("complete", "complete", "complete", "complete"),
    ("complete", "flawed", "complete", "no_data"),
    ("complete", "complete", "incomplete", "complete"),
    ("complete", "queued", "complete", "unrequested"),
)
SEEDED = tuple(
    SeededChip(row, column, kind) for row, kinds in enumerate(_LAYOUT) for column, kind in enumerate(kinds)
)
"""The 16 chips, row-major from the north-west."""


class Row(NamedTuple):
    """What the worker writes for one pixel."""

    x: int
    y: int
    result: str
    result_md5: str
    result_ok: bool
    result_produced: datetime


def seed(node: Node, chips: Sequence[SeededChip] = SEEDED, results: Sequence[str] | None = None) -> None:
    """Write the chips that were not written by an earlier call; quick when all were.

    What has become of a chip since is left as it is.

    Args:
        node: where.
        chips: which, and what each is.
        results: texts of `result` to cycle through; None takes those that ship with the sandbox.
    """
    with session(node, timeout_s=120) as connected:
        connected.execute(
            "CREATE TABLE IF NOT EXISTS overlander_seed (chip_x int, chip_y int, kind text, "
            "PRIMARY KEY ((chip_x, chip_y), kind))"
        )
        done = {tuple(row) for row in connected.execute("SELECT chip_x, chip_y, kind FROM overlander_seed")}
        missing = [chip for chip in chips if (chip.chip_x, chip.chip_y, chip.kind) not in done]
        texts = (results or shipped_results()) if missing else ()
        for chip in missing:
            _write_seeded(connected, chip, texts)
            connected.execute(
                "INSERT INTO overlander_seed (chip_x, chip_y, kind) VALUES (%s, %s, %s)",
                (chip.chip_x, chip.chip_y, chip.kind),
            )


def shipped_results() -> list[str]:
    """Return 120 results as the algorithm printed them, 4.4 kB each on average."""
    return (resources.files("deployments.sandbox") / "pyccd-results.jsonl").read_text().splitlines()


def rows_of(
    chip_x: int,
    chip_y: int,
    *,
    results: Sequence[str],
    produced_from: datetime,
    ms_a_pixel: float = _MS_A_PIXEL,
    failed: Collection[Pixel] = (),
    missing: Collection[Pixel] = (),
) -> Iterator[Row]:
    """Yield a chip's rows in the worker's order.

    Args:
        chip_x: left edge of the chip, metres.
        chip_y: upper edge of the chip, metres.
        results: texts to cycle through; where the cycle starts depends on the chip.
        produced_from: `result_produced` of the first pixel, the worker's clock.
        ms_a_pixel: by how much it grows from pixel to pixel, missing ones too.
        failed: pixels (x, y) whose result is an error's text with `result_ok` false.
        missing: pixels (x, y) whose rows were lost.
    """
    # The md5 of so few texts is computed once each, not 10,000 times.
    texts = [(text, hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()) for text in results]
    error = (FAILED_RESULT, hashlib.md5(FAILED_RESULT.encode(), usedforsecurity=False).hexdigest())
    start = (chip_x * 7 + chip_y * 13) // PIXEL_M
    failed, missing = frozenset(failed), frozenset(missing)
    for number, (x, y) in enumerate(Chip(chip_x, chip_y).pixels()):
        if (x, y) not in missing:
            ok = (x, y) not in failed
            result, md5 = texts[(start + number) % len(texts)] if ok else error
            produced = produced_from + timedelta(milliseconds=number * ms_a_pixel)
            yield Row(x, y, result, md5, ok, produced)


def write_chip(
    connected: Session,
    chip_x: int,
    chip_y: int,
    *,
    results: Sequence[str],
    algorithm: str = ALGORITHM,
    update_requested: datetime = REQUESTED,
    produced_from: datetime | None = None,
    failed: Collection[Pixel] = (),
    missing: Collection[Pixel] = (),
) -> None:
    """Write a whole chip as ticket and worker do; writing it again changes nothing.

    Args:
        connected: a session on the keyspace.
        chip_x: left edge of the chip, metres.
        chip_y: upper edge of the chip, metres.
        results: texts of `result` to cycle through.
        algorithm: as the service spells it.
        update_requested: the service's clock.
        produced_from: worker's clock at the first pixel; None is a minute after the request.
        failed: pixels (x, y) whose result is an error's text with `result_ok` false.
        missing: pixels (x, y) whose rows were lost. Of the upper left one the ticket's row remains, with
            nulls, for it is the pixel that was requested.
    """
    write_ticket(connected, chip_x, chip_y, algorithm, update_requested)
    write_rows(
        connected,
        chip_x,
        chip_y,
        algorithm,
        rows_of(
            chip_x,
            chip_y,
            results=results,
            produced_from=produced_from or update_requested + timedelta(minutes=1),
            failed=failed,
            missing=missing,
        ),
    )


def write_ticket(connected: Session, chip_x: int, chip_y: int, algorithm: str, when: datetime) -> None:
    """Write what the service writes when it takes a request: a row without result, and the static columns."""
    connected.execute(
        "INSERT INTO results (chip_x, chip_y, algorithm, x, y, chip_update_requested, inputs_url) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (chip_x, chip_y, algorithm, chip_x, chip_y, when, inputs_url(chip_x, chip_y)),
    )


def write_rows(connected: Session, chip_x: int, chip_y: int, algorithm: str, rows: Iterable[Row]) -> None:
    """Write rows of one chip, many at a time; all of them are written when this returns.

    Raises:
        Exception: the driver's own, for the first batch that could not be written.
    """
    connected.execute(
        "UPDATE results SET inputs_md5 = 'not implemented' WHERE chip_x = %s AND chip_y = %s AND algorithm = %s",
        (chip_x, chip_y, algorithm),
    )
    insert = connected.prepare(
        "INSERT INTO results "
        "(chip_x, chip_y, algorithm, x, y, result, result_md5, result_ok, result_produced) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    with _Sender(connected) as send:
        for group in _batches(rows):
            batch = BatchStatement(BatchType.UNLOGGED)
            for row in group:
                batch.add(insert, (chip_x, chip_y, algorithm, *row))
            send(batch)


def requested_at(connected: Session, chip_x: int, chip_y: int, algorithm: str) -> datetime | None:
    """Return the chip's time of request, None when it was never requested."""
    found = connected.execute(
        "SELECT DISTINCT chip_x, chip_y, algorithm, chip_update_requested FROM results "
        "WHERE chip_x = %s AND chip_y = %s AND algorithm = %s",
        (chip_x, chip_y, algorithm),
    ).one()
    moment = found.chip_update_requested if found else None
    return moment.replace(tzinfo=UTC) if moment else None


def request_again(connected: Session, chip_x: int, chip_y: int, algorithm: str, when: datetime) -> None:
    """Set the chip's time of request and nothing else, as somebody else's refresh=true does."""
    connected.execute(
        "UPDATE results SET chip_update_requested = %s WHERE chip_x = %s AND chip_y = %s AND algorithm = %s",
        (when, chip_x, chip_y, algorithm),
    )


def enable(node: Node, algorithm: str = ALGORITHM) -> None:
    """Write the algorithm's definition, so that the service takes requests for it."""
    with session(node) as connected:
        connected.execute(
            "INSERT INTO algorithms (algorithm, enabled, inputs_url_template) VALUES (%s, true, %s)",
            (algorithm, inputs_url("{{x}}", "{{y}}")),
        )


def inputs_url(chip_x: int | str, chip_y: int | str) -> str:
    """Return an address of the length and shape that the service writes; nothing answers there."""
    ubids = "".join(
        f"&ubid={satellite}/SRB{band}"
        for satellite in ("LANDSAT_4/TM", "LANDSAT_5/TM", "LANDSAT_7/ETM", "LANDSAT_8/OLI_TIRS")
        for band in range(1, 9)
    )
    return f"http://localhost/landsat/chips?x={chip_x}&y={chip_y}&acquired=1982-01-01/2017-12-31{ubids}"


def _write_seeded(connected: Session, chip: SeededChip, results: Sequence[str]) -> None:
    pixels = Chip(chip.chip_x, chip.chip_y).pixels()
    failed: Collection[Pixel] = ()
    missing: Collection[Pixel] = ()
    match chip.kind:
        case "unrequested":
            return
        case "queued":
            write_ticket(connected, chip.chip_x, chip.chip_y, ALGORITHM, chip.requested)
            return
        case "flawed":
            failed = pixels[137::270]  # 37 of them, all over the chip
        case "no_data":
            failed = pixels
        case "incomplete":
            missing = pixels[5000:5023]
        case "complete":
            pass
    write_chip(
        connected,
        chip.chip_x,
        chip.chip_y,
        results=results,
        update_requested=chip.requested,
        failed=failed,
        missing=missing,
    )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row.result) + 100
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Sender:
    """Sends statements with a few in flight; on leaving, all are answered, and the first error is raised."""

    def __init__(self, connected: Session) -> None:
        self._session = connected
        self._places = threading.BoundedSemaphore(_BATCHES_IN_FLIGHT)
        self._errors: list[BaseException] = []

    def __enter__(self) -> Callable[[BatchStatement], None]:
        return self._send

    def __exit__(self, *_: object) -> None:
        for _place in range(_BATCHES_IN_FLIGHT):
            self._places.acquire()
        if self._errors:
            raise self._errors[0]

    def _send(self, statement: BatchStatement) -> None:
        self._places.acquire()
        future: ResponseFuture = self._session.execute_async(statement)
        future.add_callbacks(lambda _: self._places.release(), self._failed)

    def _failed(self, error: BaseException) -> None:
        self._errors.append(error)
        self._places.release()
