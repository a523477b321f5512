"""What the ledger keeps of a polygon campaign: its features, and what is to be done with each.

A unit is one feature in one series: one process at one service over one interval. What was loaded once is never
loaded twice, whatever has become of the projection library or the rounding since: a feature is told by its id
and by the fingerprint of its geometry as it is in the source.
"""

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Connection, Row, func, select, update

from tasks.errors import BadInput
from tasks.ledger.database import insert_new
from tasks.ledger.schema import campaigns, features, series, units
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own

LOT = 500
"""Rows read or written by one statement: enough to be quick, few enough for every database's parameters."""

BAD_GEOMETRY = "BadGeometry"
"""The error class of a unit whose feature cannot be sent."""


class SourceFeature(Protocol):
    """A feature as the source has it, and as it would be sent."""

    @property
    def number(self) -> int:
        """Record number in the source."""

    @property
    def id(self) -> str:
        """What people call it."""

    @property
    def fingerprint(self) -> str:
        """Of its geometry in the source, and its CRS."""

    @property
    def geometry(self) -> str | None:
        """One line of GeoJSON; None when it cannot be sent."""

    @property
    def problem(self) -> str:
        """Why it cannot be sent, or nothing."""

    @property
    def note(self) -> str:
        """What was done to it, or nothing."""

    @property
    def properties(self) -> Mapping[str, Any]:
        """Values of fields to be sent with it, or none."""


@dataclass(frozen=True)
class Series:
    """One process at one service over one interval.

    Attributes:
        number: the ledger's key.
        url: of the service, without a secret.
        process: its name, for people.
        process_fingerprint: of its definition.
        interval: as '2010-01-01/2011-01-01'; empty when the process takes none.
    """

    number: int
    url: str
    process: str
    process_fingerprint: str
    interval: str


@dataclass(frozen=True)
class CampaignNote:
    """What the ledger keeps of a campaign as a whole."""

    name: str
    source: str
    identity: str
    created_at: datetime
    last_used_at: datetime


@dataclass(frozen=True)
class Loaded:
    """What came of loading some features.

    Attributes:
        units: their units in the source's order, all series of a feature together; those of a changed feature
            that was not accepted are left out.
        new, same: how many features were new, or known already.
        changed: ids of features whose geometry is another than before.
    """

    units: tuple[int, ...]
    new: int = 0
    same: int = 0
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Foreseen:
    """What loading some features would do: how many are new or changed, and units that would be to be sent."""

    new: int
    changed: int
    to_send: int


def use_campaign(ledger: Connection, name: str, source: str, identity: str) -> None:
    """Write down that a run works on a campaign.

    Args:
        ledger: of `Ledger.write`.
        name: what people call the campaign.
        source: where the polygons come from, for people.
        identity: the field that names a feature; empty when none does and the geometry has to.

    Raises:
        BadInput: the campaign was begun with another identity, so that every polygon would count as new.
    """
    now = datetime.now(UTC)
    values = {"source": source, "identity": identity, "created_at": now, "last_used_at": now}
    insert_new(ledger, campaigns, [{"campaign": name} | values])
    known = campaign_note(ledger, name)
    if known is not None and known.identity != identity:
        raise BadInput(
            f"Campaign {name!r} tells its polygons by {_identity_words(known.identity)}, and this run would tell "
            f"them by {_identity_words(identity)}: each would count as new and be sent again. Say --id-field as "
            "before, or give the run another --campaign."
        )
    ledger.execute(update(campaigns).where(campaigns.c.campaign == name).values(source=source, last_used_at=now))


def campaign_note(ledger: Connection, name: str) -> CampaignNote | None:
    """Return what is kept of a campaign; None when it is unknown."""
    row = ledger.execute(select(campaigns).where(campaigns.c.campaign == name)).one_or_none()
    if row is None:
        return None
    return CampaignNote(row.campaign, row.source, row.identity, row.created_at, row.last_used_at)


def use_series(
    ledger: Connection, campaign: str, url: str, process: str, process_fingerprint: str, intervals: Sequence[str]
) -> list[Series]:
    """Write down what a run does with each feature, and return it in the order of `intervals`.

    Another service, another definition of the process or another interval is other work: its units are new.
    """
    what = {"campaign": campaign, "url": url, "process": process, "process_fingerprint": process_fingerprint}
    now = datetime.now(UTC)
    insert_new(ledger, series, [what | {"interval": interval, "used_at": now} for interval in intervals])
    same = [series.c[name] == value for name, value in what.items()]
    of_run = (*same, series.c.interval.in_(intervals))
    ledger.execute(update(series).where(*of_run).values(used_at=now))
    found = {row.interval: _series(row) for row in ledger.execute(select(series).where(*of_run))}
    return [found[interval] for interval in intervals]


def known_series(
    ledger: Connection, campaign: str, url: str, process: str, process_fingerprint: str, intervals: Sequence[str]
) -> list[Series]:
    """Return what a run would do with each feature; number 0 is what no run has done yet."""
    known = {
        row.interval: _series(row)
        for row in ledger.execute(
            select(series).where(
                series.c.campaign == campaign,
                series.c.url == url,
                series.c.process == process,
                series.c.process_fingerprint == process_fingerprint,
                series.c.interval.in_(intervals),
            )
        )
    }
    return [
        known.get(interval) or Series(0, url, process, process_fingerprint, interval) for interval in intervals
    ]


def latest_series(ledger: Connection, campaign: str) -> list[Series]:
    """Return the series that the campaign's latest run worked on, by interval."""
    latest = select(func.max(series.c.used_at)).where(series.c.campaign == campaign).scalar_subquery()
    rows = select(series).where(series.c.campaign == campaign, series.c.used_at == latest)
    return [_series(row) for row in ledger.execute(rows.order_by(series.c.interval))]


class Loader:
    """Loads the features of one run into the ledger, lot by lot.

    Example:
        ```python
        loader = Loader(ledger, "wetlands", "OBJECTID", series)
        for loaded in loader.load(read_features(source)):
            batches.append(loaded.units)
        ```
    """

    def __init__(
        self,
        ledger: Ledger,
        campaign: str,
        identity: str,
        of_series: Sequence[Series],
        *,
        accept_changes: bool = False,
    ) -> None:
        """Prepare to load; nothing is written.

        Args:
            ledger: open.
            campaign: of `use_campaign`.
            identity: as there.
            of_series: of `use_series`.
            accept_changes: whether a geometry that changed under an old id takes its place.
        """
        self._ledger = ledger
        self._campaign = campaign
        self._identity = identity
        self._series = of_series
        self._accept = accept_changes
        self._alike: Counter[int] = Counter()

    def load(self, found: Iterable[SourceFeature], lot: int = LOT) -> Iterable[Loaded]:
        """Write features down, `lot` at a time, and say of each lot what became of it."""
        reader = iter(found)
        while some := list(islice(reader, lot)):
            keyed = [(self._key(feature), feature) for feature in some]
            yield self._ledger.write(partial(self._write, lot=keyed))

    def foresee(self, found: Iterable[SourceFeature], lot: int = LOT) -> Iterable[Foreseen]:
        """Say of each lot of features what loading it would do, and how many units it would leave to be sent."""
        reader = iter(found)
        while some := list(islice(reader, lot)):
            keyed = [(self._key(feature), feature) for feature in some]
            with self._ledger.read() as connection:
                yield self._foresee(connection, keyed)

    def _key(self, feature: SourceFeature) -> str:
        """Return what tells a feature from others: its id, else its geometry and which of equal ones it is."""
        if self._identity:
            return feature.id
        short = int(feature.fingerprint[:16], 16)
        self._alike[short] += 1
        return f"{feature.fingerprint} {self._alike[short]}"

    def _write(self, ledger: Connection, lot: Sequence[tuple[str, SourceFeature]]) -> Loaded:
        known = self._known(ledger, [key for key, _ in lot])
        current = {row.key: row for row in known if row.current}
        by_print = {(row.key, row.fingerprint): row for row in known}
        changed = [
            (key, found) for key, found in lot if key in current and current[key].fingerprint != found.fingerprint
        ]
        if changed and self._accept:
            _replace(ledger, [current[key].feature for key, _ in changed], changed, by_print)
        left = set() if self._accept else {key for key, _ in changed}
        kept = [(key, found) for key, found in lot if key not in left]
        fresh = [(key, found) for key, found in kept if (key, found.fingerprint) not in by_print]
        insert_new(ledger, features, [self._row(key, found) for key, found in fresh])
        for key, found in kept:
            if (old := by_print.get((key, found.fingerprint))) is not None:
                _bring_up_to_date(ledger, old, found)
        if fresh or changed:
            known = self._known(ledger, [key for key, _ in kept])
        new = sum(key not in current for key, _ in lot)
        held = {row.key: row for row in known if row.current}
        begun = {key for key, _ in kept} - {key for key, _ in fresh}
        return Loaded(
            units=self._units(ledger, [held[key] for key, _ in kept], begun),
            new=new,
            same=len(lot) - new - len(changed),
            changed=tuple(found.id for _, found in changed),
        )

    def _foresee(self, ledger: Connection, lot: Sequence[tuple[str, SourceFeature]]) -> Foreseen:
        known = self._known(ledger, [key for key, _ in lot])
        current = {row.key: row for row in known if row.current}
        changed = {key for key, found in lot if key in current and current[key].fingerprint != found.fingerprint}
        held = select(units.c.feature, func.count().label("number")).where(
            units.c.series.in_([one.number for one in self._series]),
            units.c.feature.in_([row.feature for row in current.values()]),
            units.c.own != Own.PENDING.value,
        )
        settled = {row.feature: row.number for row in ledger.execute(held.group_by(units.c.feature))}
        to_send = 0
        for key, found in lot:
            if found.problem or (key in changed and not self._accept):
                continue
            old = None if key in changed else current.get(key)
            to_send += len(self._series) - (settled.get(old.feature, 0) if old is not None else 0)
        new = sum(key not in current for key, _ in lot)
        return Foreseen(new=new, changed=len(changed), to_send=to_send)

    def _known(self, ledger: Connection, keys: Sequence[str]) -> Sequence[Row[Any]]:
        named = ("feature", "key", "fingerprint", "current", "ordinal", "id", "problem")
        columns = [features.c[name] for name in named]
        query = select(*columns).where(features.c.campaign == self._campaign, features.c.key.in_(keys))
        return ledger.execute(query).all()

    def _row(self, key: str, found: SourceFeature) -> dict[str, Any]:
        where = {"campaign": self._campaign, "key": key, "fingerprint": found.fingerprint, "current": True}
        return where | {"ordinal": found.number, "id": found.id} | _as_sent(found)

    def _units(self, ledger: Connection, found: Sequence[Row[Any]], begun: Collection[str]) -> tuple[int, ...]:
        """Return the units of some features, and make those that are missing.

        Args:
            ledger: of `Ledger.write`.
            found: the features' rows.
            begun: keys of those that may have units already.
        """
        wanted = [(row.feature, one.number) for row in found for one in self._series]
        there = self._units_of(ledger, [row.feature for row in found if row.key in begun])
        missing = [
            _unit(row, one.number)
            for row in found
            for one in self._series
            if (row.feature, one.number) not in there
        ]
        made = insert_new(ledger, units, missing, giving=(units.c.feature, units.c.series, units.c.unit))
        there |= {(row.feature, row.series): row.unit for row in made}
        there |= self._units_of(ledger, {feature for feature, number in wanted if (feature, number) not in there})
        return tuple(there[pair] for pair in wanted)

    def _units_of(self, ledger: Connection, of_features: Collection[int]) -> dict[tuple[int, int], int]:
        if not of_features:
            return {}
        query = select(units.c.feature, units.c.series, units.c.unit).where(
            units.c.series.in_([one.number for one in self._series]), units.c.feature.in_(of_features)
        )
        return {(row.feature, row.series): row.unit for row in ledger.execute(query)}


def _bring_up_to_date(ledger: Connection, old: Row[Any], found: SourceFeature) -> None:
    """Take over where a known feature stands in the source, and how it can be sent where it could not."""
    fresh: dict[str, Any] = {}
    if (old.ordinal, old.id) != (found.number, found.id):
        fresh = {"ordinal": found.number, "id": found.id}
    mended = old.problem and not found.problem
    spoilt = found.problem and not old.problem  # by a limit that was not set before
    if mended:
        fresh |= _as_sent(found)
    elif spoilt:
        fresh["problem"] = found.problem
    if fresh:
        ledger.execute(update(features).where(features.c.feature == old.feature).values(fresh))
    if mended:
        never_sent = (units.c.feature == old.feature, units.c.error_class == BAD_GEOMETRY)
        ledger.execute(
            update(units).where(*never_sent).values(own=Own.PENDING.value, error_class="", error_text="")
        )
    elif spoilt:
        to_be_sent = (units.c.feature == old.feature, units.c.own == Own.PENDING.value)
        why = {"own": Own.FAILED.value, "error_class": BAD_GEOMETRY, "error_text": found.problem}
        ledger.execute(update(units).where(*to_be_sent).values(why))


def _as_sent(found: SourceFeature) -> dict[str, Any]:
    geometry = None if found.geometry is None else zlib.compress(found.geometry.encode())
    properties = json.dumps(dict(found.properties), default=str) if found.properties else None
    return {"geometry": geometry, "properties": properties, "problem": found.problem, "note": found.note}


def _replace(
    ledger: Connection,
    old: list[int],
    changed: Sequence[tuple[str, SourceFeature]],
    by_print: dict[tuple[str, str], Row[Any]],
) -> None:
    """Make the changed features' new rows the current ones; some may have been that before."""
    ledger.execute(update(features).where(features.c.feature.in_(old)).values(current=False))
    before = [by_print.get((key, found.fingerprint)) for key, found in changed]
    again = [row.feature for row in before if row is not None]
    ledger.execute(update(features).where(features.c.feature.in_(again)).values(current=True))


def _unit(feature: Row[Any], series_number: int) -> dict[str, Any]:
    return {
        "series": series_number,
        "feature": feature.feature,
        "own": (Own.FAILED if feature.problem else Own.PENDING).value,
        "error_class": BAD_GEOMETRY if feature.problem else "",
        "error_text": feature.problem,
    }


def _series(row: Row[Any]) -> Series:
    return Series(row.series, row.url, row.process, row.process_fingerprint, row.interval)


def _identity_words(identity: str) -> str:
    return f"their field {identity}" if identity else "their geometry"
