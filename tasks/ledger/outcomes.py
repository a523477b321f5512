"""What has become of each unit, as a table of results: one row a unit, in the source's order."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, text
from sqlalchemy.exc import DBAPIError

from tasks.errors import BadInput
from tasks.ledger.schema import features, outputs, series, units

_LOT = 500

COLUMNS = (
    "unit",
    "id",
    "interval",
    "process",
    "service_url",
    "own",
    "remote",
    "attempts",
    "submitted_at",
    "accepted_at",
    "started_at",
    "ended_at",
    "message",
    "error_class",
    "error_text",
    "note",
    "status_location",
)
"""What a condition on results may name."""


@dataclass(frozen=True)
class OutputNote:
    """An output as it was kept: its value, or the file that holds a value too long for the ledger."""

    identifier: str
    kind: str
    mime_type: str | None
    value: str | None
    file: str | None


@dataclass(frozen=True)
class Outcome:
    """What has become of one unit.

    Attributes:
        unit: the ledger's key.
        id: of the feature, as people call it.
        interval, process, service_url: what was asked of whom.
        own, remote: the two statuses; `remote` is empty while nothing was said.
        attempts: requests that count.
        submitted_at, accepted_at, started_at, ended_at: our clock; None for what has not been seen.
        message, error_class, error_text: the service's last words, and why it failed or was given up.
        note: what was done to the geometry before it was sent.
        status_location: where the job is asked about.
        geometry: GeoJSON as it was sent; None when it cannot be, or was not asked for.
        outputs: in the service's order.
    """

    unit: int
    id: str
    interval: str
    process: str
    service_url: str
    own: str
    remote: str
    attempts: int
    submitted_at: datetime | None
    accepted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    message: str
    error_class: str
    error_text: str
    note: str
    status_location: str
    geometry: str | None
    outputs: tuple[OutputNote, ...]


def outcomes(
    ledger: Connection, series_numbers: Iterable[int], where: str = "", *, geometry: bool = False
) -> Iterator[Outcome]:
    """Yield the outcome of each unit of some series, in the source's order; memory does not grow with them.

    Args:
        ledger: of `Ledger.read`: one that cannot write.
        series_numbers: which series.
        where: a condition in SQL on `COLUMNS`, as "own = 'failed' AND attempts > 1"; empty takes all.
        geometry: whether to read the geometries too.

    Raises:
        BadInput: the condition makes no sense.
    """
    table = _table(list(series_numbers), geometry=geometry).subquery("results")
    query = select(table).order_by(table.c.ordinal, table.c.feature, table.c.series)
    if where:
        query = query.where(text("(" + where.replace(":", r"\:") + ")"))
    try:
        found = ledger.execution_options(yield_per=_LOT).execute(query)
        for lot in found.partitions():
            given = _outputs(ledger, [row.unit for row in lot])
            for row in lot:
                yield _outcome(row, given.get(row.unit, []))
    except DBAPIError as error:
        if not where:
            raise
        raise BadInput(
            f"The condition {where!r} cannot be used: {error.orig}. Write it in SQL, on these columns: "
            f"{', '.join(COLUMNS)}; for example own = 'failed' AND attempts > 1."
        ) from None


def _table(series_numbers: list[int], *, geometry: bool) -> Select[Any]:
    of_unit = [units.c[name] for name in COLUMNS if name in units.c and name not in ("message", "unit")]
    columns: list[Any] = [
        units.c.unit,
        units.c.message,
        *of_unit,
        features.c.id,
        features.c.note,
        features.c.ordinal,
        features.c.feature,
        series.c.series,
        series.c.interval,
        series.c.process,
        series.c.url.label("service_url"),
    ]
    if geometry:
        columns.append(features.c.geometry)
    return (
        select(*columns)
        .join_from(units, features, features.c.feature == units.c.feature)
        .join(series, series.c.series == units.c.series)
        .where(units.c.series.in_(series_numbers), features.c.current)
    )


def _outputs(ledger: Connection, wanted: Sequence[int]) -> dict[int, list[OutputNote]]:
    query = select(outputs).where(outputs.c.unit.in_(wanted)).order_by(outputs.c.unit, outputs.c.number)
    found: dict[int, list[OutputNote]] = {}
    for row in ledger.execute(query):
        output = OutputNote(row.identifier, row.kind, row.mime_type, row.value, row.file)
        found.setdefault(row.unit, []).append(output)
    return found


def _outcome(row: Row[Any], given: list[OutputNote]) -> Outcome:
    found = row._mapping
    geometry = found.get("geometry")
    values = {name: found[name] for name in COLUMNS}
    return Outcome(
        **values | {"remote": row.remote or "", "status_location": row.status_location or ""},
        geometry=None if geometry is None else zlib.decompress(geometry).decode(),
        outputs=tuple(given),
    )
