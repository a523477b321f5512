"""Collect: from the ledger to files that say for each polygon what became of it and where its result is."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection

from tasks.errors import BadInput
from tasks.files import PartFile, part_file, sha256_of, unusable
from tasks.ledger.outcomes import Outcome, OutputNote, outcomes
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own

_LOT = 2000
_SCHEMA = pa.schema(
    [
        ("unit", pa.int64()),
        ("id", pa.string()),
        ("interval", pa.string()),
        ("process", pa.string()),
        ("service_url", pa.string()),
        ("own", pa.string()),
        ("remote", pa.string()),
        ("attempts", pa.int32()),
        ("submitted_at", pa.timestamp("us", "UTC")),
        ("submitting_s", pa.float64()),  # from the request to its answer
        ("accepted_s", pa.float64()),  # from there until it was seen running, or its end
        ("running_s", pa.float64()),  # from there to its end
        ("total_s", pa.float64()),
        ("outputs", pa.string()),  # JSON: identifier to value, or to the file that holds it
        ("error_class", pa.string()),
        ("error_text", pa.string()),
        ("message", pa.string()),
        ("note", pa.string()),
        ("status_location", pa.string()),
    ]
)


@dataclass(frozen=True)
class Collected:
    """The files of a campaign, and how many units they tell of."""

    units: int
    parquet: Path
    csv: Path
    urls: Path
    polygons: Path


def collect(ledger: Ledger, series_numbers: Iterable[int], out: Path) -> Collected:
    """Write `results.parquet`, `results.csv`, `urls.txt` and `polygons.geojson`, each whole or not at all.

    A file whose content is there already is left alone. Memory does not grow with the units.

    Args:
        ledger: open; also while others write to it.
        series_numbers: which units.
        out: folder; made when it is missing.

    Raises:
        OutputUnusable: the folder cannot be written, or the disk is full.
    """
    names = ("results.parquet", "results.csv", "urls.txt", "polygons.geojson")
    paths = [out / name for name in names]
    written = 0
    with ExitStack() as stack:
        parts = [stack.enter_context(part_file(path)) for path in paths]
        table, lines, urls, polygons = [part.file for part in parts]
        with ledger.read() as connection, pq.ParquetWriter(table, _SCHEMA) as parquet:
            found = outcomes(connection, series_numbers, geometry=True)
            _write_text(lines, [list(_SCHEMA.names)])
            polygons.write(b'{"type":"FeatureCollection","features":[')
            for lot in _lots(found):
                rows = [result_row(outcome) for outcome in lot]
                parquet.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
                _write_text(lines, [[_plain(row[name]) for name in _SCHEMA.names] for row in rows])
                urls.writelines(f"{url}\n".encode() for outcome in lot for url in result_urls(outcome))
                for outcome, row in zip(lot, rows, strict=True):
                    polygons.write(b",\n" if written else b"\n")
                    polygons.write(_geojson(outcome, row))
                    written += 1
            polygons.write(b"\n]}\n")
        for part, path in zip(parts, paths, strict=True):
            _land_if_other(part, path)
    return Collected(written, *paths)


def result_row(outcome: Outcome) -> dict[str, Any]:
    """Return a unit's row of the table of results, by column."""
    begun = outcome.started_at or outcome.ended_at
    return {
        "unit": outcome.unit,
        "id": outcome.id,
        "interval": outcome.interval,
        "process": outcome.process,
        "service_url": outcome.service_url,
        "own": outcome.own,
        "remote": outcome.remote,
        "attempts": outcome.attempts,
        "submitted_at": outcome.submitted_at,
        "submitting_s": _seconds(outcome.submitted_at, outcome.accepted_at),
        "accepted_s": _seconds(outcome.accepted_at, begun),
        "running_s": _seconds(outcome.started_at, outcome.ended_at),
        "total_s": _seconds(outcome.submitted_at, outcome.ended_at),
        "outputs": json.dumps({one.identifier: one.file or one.value for one in outcome.outputs}),
        "error_class": outcome.error_class,
        "error_text": outcome.error_text,
        "message": outcome.message,
        "note": outcome.note,
        "status_location": outcome.status_location,
    }


def selected(
    connection: Connection, series_numbers: Iterable[int], where: str, columns: Sequence[str]
) -> tuple[list[str], Iterator[list[object]]]:
    """Return names of columns of the table of results, and their values in the rows that meet a condition.

    Args:
        connection: of `Ledger.read`.
        series_numbers: which units.
        where: as `outcomes` takes it.
        columns: which; none is all.

    Raises:
        BadInput: there is no such column, or the condition makes no sense.
    """
    names = list(columns) or list(_SCHEMA.names)
    if unknown := [name for name in names if name not in _SCHEMA.names]:
        raise BadInput(f"There is no column {', '.join(unknown)}. Choose among {', '.join(_SCHEMA.names)}.")
    rows = (result_row(outcome) for outcome in outcomes(connection, series_numbers, where))
    return names, ([_plain(row[name]) for name in names] for row in rows)


def result_urls(outcome: Outcome) -> list[str]:
    """Return the outputs of a unit that is done whose value is a URL, in the service's order."""
    if outcome.own != Own.DONE:
        return []
    return [output.value for output in outcome.outputs if output.value and _is_url(output)]


def _is_url(output: OutputNote) -> bool:
    value = (output.value or "").strip()
    return value.startswith(("http://", "https://", "s3://")) and len(value.split()) == 1


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return None if since is None or until is None else round((until - since).total_seconds(), 3)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _write_text(file: IO[bytes], rows: Sequence[Sequence[object]]) -> None:
    """Write rows as RFC 4180 has them, but for the ends of lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    file.write(text.getvalue().encode())


def _geojson(outcome: Outcome, row: dict[str, Any]) -> bytes:
    geometry = None if outcome.geometry is None else orjson.Fragment(outcome.geometry)
    return orjson.dumps({"type": "Feature", "geometry": geometry, "properties": row})


def _lots(found: Iterator[Outcome]) -> Iterator[list[Outcome]]:
    lot: list[Outcome] = []
    for outcome in found:
        lot.append(outcome)
        if len(lot) == _LOT:
            yield lot
            lot = []
    if lot:
        yield lot


def _land_if_other(part: PartFile, path: Path) -> None:
    """Give a file its name unless the same content stands there."""
    part.file.flush()
    written = Path(part.file.name)
    try:
        if path.stat().st_size == written.stat().st_size and sha256_of(path) == sha256_of(written):
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unusable(path, error) from error
    part.land(path)
