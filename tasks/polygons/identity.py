"""What names a record: a field whose values are unique, or else the record's number.

The fields to guess and their order are those of GeoscienceAustralia/dea-conflux (guess_id_field).
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from tasks.errors import BadInput
from tasks.polygons.selection import Selection, matching
from tasks.polygons.source import Layer, Source, open_layer, readable

GUESSES = ("UID", "WB_ID", "FID_1", "FID", "ID", "OBJECTID", "ORIG_FID", "FeatureID")
_LOT = 1000
_NAMED = 5


@dataclass(frozen=True)
class Identity:
    """What names the records of a layer.

    Attributes:
        field: whose values are the ids; None means the record's number.
        by: whether a person gave the field, or it was guessed, or there is none.
        records: how many the layer has.
    """

    field: str | None
    by: Literal["given", "guessed", "number"]
    records: int

    @property
    def words(self) -> str:
        """How to say it: `OBJECTID, guessed`."""
        return f"{self.field}, {self.by}" if self.field else "the record's number"

    def of(self, record: Any) -> str:
        """Return a record's id."""
        return (id_text(record.properties[self.field]) if self.field else None) or str(record.id)


def identify(source: Source, selection: Selection, id_field: str | None = None) -> Identity:
    """Find what names the records; reads the layer once without geometries, in 8 bytes of memory a record.

    A guess must be unique in the whole layer, so that it does not depend on what is selected; a given field
    among the records that `where` leaves.

    Raises:
        BadInput: the given field is not there, has no value or two equal ones, an id asked for is not there, the
            condition is none for this layer, or the file holds fewer records than it says.
    """
    with open_layer(source, fields=(), geometry=False) as layer:
        guesses = [
            name for guess in GUESSES for name in dict.fromkeys((guess, guess.lower())) if name in layer.fields
        ]
    fields = (id_field,) if id_field else tuple(guesses)
    judged = bool(id_field and selection.where)  # a condition may be on the geometry
    with open_layer(source, fields=fields, condition=selection.where, geometry=judged) as layer:
        columns = _Columns(fields)
        for record in _every(layer, source, Selection()):
            columns.add(record)
        _check_whole(layer, source, columns.count)
        if judged:
            columns = _Columns(fields)
            for record in _every(layer, source, Selection(where=selection.where)):
                columns.add(record)
        unique = next((field for field in fields if columns.unique(field)), None)
        if id_field and not unique:
            raise _ambiguous(layer, source, selection, id_field, columns)
        by: Literal["given", "guessed", "number"] = "given" if id_field else "guessed" if unique else "number"
        identity = Identity(unique, by, columns.count)
        if selection.ids is not None:
            found = {identity.of(record) for record in _every(layer, source, Selection())}
            _check_all_there(selection.ids - found, source, identity)
    return identity


def id_text(value: object) -> str | None:
    """Return a field's value as an id: whole numbers without a fraction; None for no value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value).strip() or None


class _Columns:
    """Hashes of the values of some fields, and which of them have a record without a value."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.count = 0
        self._hashes = {field: array("q") for field in fields}
        self.without: dict[str, str] = {}

    def add(self, record: Any) -> None:
        self.count += 1
        for field, hashes in self._hashes.items():
            text = id_text(record.properties[field])
            if text is None:
                self.without.setdefault(field, record.id)
            else:
                hashes.append(hash(text))

    def unique(self, field: str) -> bool:
        return field not in self.without and not self.repeated(field)

    def repeated(self, field: str) -> frozenset[int]:
        values, counts = np.unique(np.frombuffer(self._hashes[field], dtype=np.int64), return_counts=True)
        return frozenset(values[counts > 1].tolist())


def _every(layer: Layer, source: Source, selection: Selection) -> Iterator[Any]:
    found = matching(layer, source, selection)
    while True:
        with readable(source):
            lot = list(islice(found, _LOT))
        if not lot:
            return
        yield from lot


def _check_whole(layer: Layer, source: Source, count: int) -> None:
    """Compare with the number that the file states: GDAL reads a FlatGeobuf cut short without a word."""
    stated = len(layer.collection)
    if count < stated:
        raise BadInput(
            f"{source.path} is damaged: it says that it has {stated:,} records, and {count:,} can be read. Fetch "
            "or copy it again."
        )


def _check_all_there(missing: frozenset[str], source: Source, identity: Identity) -> None:
    if missing:
        some = sorted(missing)[:_NAMED]
        more = f" and {len(missing) - len(some):,} more" if len(missing) > len(some) else ""
        raise BadInput(
            f"{source.path} has no record {', '.join(some)}{more}; records are named by {identity.words}. Check "
            "the list of ids, or name another field with --id-field."
        )


def _ambiguous(layer: Layer, source: Source, selection: Selection, field: str, columns: _Columns) -> BadInput:
    how = "Name another field with --id-field, or leave it away to use the records' numbers."
    if field in columns.without:
        return BadInput(
            f"Record {columns.without[field]} of {source.path} has no value in {field}, so that cannot name the "
            f"records. {how}"
        )
    repeated = columns.repeated(field)
    seen: dict[str, str] = {}
    equal: list[str] = []
    for record in _every(layer, source, Selection(where=selection.where)):
        text = id_text(record.properties[field]) or ""
        if hash(text) in repeated:
            if text in seen and len(equal) < _NAMED:
                equal.append(f"{text} (records {seen[text]} and {record.id})")
            seen.setdefault(text, record.id)
    return BadInput(
        f"{field} cannot name the records of {source.path}: it has equal values, {', '.join(equal)}. {how}"
    )
