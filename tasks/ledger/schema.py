"""The ledger's tables: what a run knew, asked and wrote, so that the next one can go on from there.

The chips' results are not here: they are in the Cassandra table, and their files under the export folder.
"""

from datetime import UTC as _UTC
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

VERSION = 5
"""Raised with each change below; an older ledger gets the tables, columns and indexes it lacks when it is opened.

A new column is therefore nullable or has a `server_default`.
"""
METADATA = MetaData()


class UTC(TypeDecorator[datetime]):
    """A moment on our own clock: timezone-aware in Python, always UTC, to the microsecond.

    Two clocks are a rule of the design: ours is never compared with the worker's or the service's. Python
    keeps that rule for us: comparing an aware datetime with a naive one (see `Labelled`) raises TypeError.
    """

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime: it is no moment on our clock."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError(f"{value!r} has no time zone: our clock's datetimes are aware, see `UTC`")
        return value.astimezone(_UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Return it aware, in UTC."""
        return value and value.replace(tzinfo=_UTC)


class Labelled(TypeDecorator[datetime]):
    """A moment as the worker or the service labelled it: naive, cut to the millisecond as Cassandra keeps it.

    `result_produced` is the worker's local time labelled UTC, `chip_update_requested` the service's UTC.
    Neither is compared with ours: Python raises TypeError when a naive datetime meets an aware one (`UTC`).
    """

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse an aware datetime: it comes from another clock."""
        if value is None:
            return None
        if value.tzinfo is not None:
            raise TypeError(f"{value!r} has a time zone: other clocks' datetimes are naive, see `Labelled`")
        return value.replace(microsecond=value.microsecond // 1000 * 1000)


ledger_version = Table("ledger_version", METADATA, Column("version", Integer, nullable=False))

chips = Table(
    "chips",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("chip_x", Integer, primary_key=True, autoincrement=False),
    Column("chip_y", Integer, primary_key=True, autoincrement=False),
    Column("region", Text, nullable=False),
    Column("tile", Text, nullable=False),  # as 'H05V03'
    Column("state", Text, nullable=False),
    Column("since", UTC, nullable=False),  # when the state began
    Column("reason", Text, nullable=False, default=""),
    Column("looked_at", UTC, nullable=False),
    Column("pixels", Integer, nullable=False),  # rows that hold a result
    Column("update_requested", Labelled),  # service's clock
    Column("first_produced", Labelled),  # worker's clock, as all *_produced
    Column("last_produced", Labelled),
    Column("farthest", Integer),  # position 0..9999 of the current pass's farthest pixel
    Column("farthest_at", UTC),  # when we first saw it there
    Column("baseline", Labelled),  # latest result_produced known before the current request
    Column("renew", Boolean, nullable=False, default=False),  # the current pass is meant to renew all rows
    Column("missing", LargeBinary),  # packed pixel set
    Column("failed", LargeBinary),  # packed pixel set
    # all that a look at a region wants, so that it reads no rows
    Index("chips_by_state", "source", "algorithm", "region", "tile", "state", "since", "update_requested"),
)

# A row without `file` is a chip that was not exported: `problem` says why.
exports = Table(
    "exports",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("chip_x", Integer, primary_key=True, autoincrement=False),
    Column("chip_y", Integer, primary_key=True, autoincrement=False),
    Column("root", Text, primary_key=True),  # folder that was exported to
    Column("region", Text, nullable=False),
    Column("tile", Text, nullable=False),
    Column("file", Text),  # absolute path
    Column("kind", Text, nullable=False),  # 'main' or 'flawed'
    Column("options", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("pixels", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("first_produced", Labelled),
    Column("last_produced", Labelled),
    Column("update_requested", Labelled),
    Column("exported_at", UTC, nullable=False),
    Column("problem", Text),  # as a md5 that does not match
    Column("bad_pixels", LargeBinary),  # packed pixel set
    Index("exports_by_file", "file"),
    Index(
        "exports_saved",
        *("source", "algorithm", "region", "tile", "root", "update_requested"),
        sqlite_where=text("file IS NOT NULL"),
        postgresql_where=text("file IS NOT NULL"),
    ),
    Index(
        "exports_with_problem",
        *("source", "algorithm", "region", "tile"),
        sqlite_where=text("problem IS NOT NULL"),
        postgresql_where=text("problem IS NOT NULL"),
    ),
)

# One row a request, written before it is sent. `answer` is what became of it: 'sending' until one came.
requests = Table(
    "requests",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("chip_x", Integer, primary_key=True, autoincrement=False),
    Column("chip_y", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, ... for each chip
    Column("region", Text, nullable=False),
    Column("tile", Text, nullable=False),
    Column("at", UTC, nullable=False),
    Column("refresh", Boolean, nullable=False),
    Column("renew", Boolean, nullable=False),
    Column("baseline", Labelled),  # latest result_produced known before it
    Column("update_before", Labelled),  # chip_update_requested known before it
    Column("answer", Text, nullable=False),
    Column("update_requested", Labelled),  # as the answer gave it
    Column("missing", LargeBinary),  # packed pixel set known before it
    Column("alone", Boolean, nullable=False, server_default=false()),  # no other job can have been at work
    Column("rows_at", UTC),  # when we first saw a row of its pass
    Column("settled_at", UTC),  # when we first saw its end
    Column("outcome", Text),  # the chip's state at its end
    Column("unsettled_at", UTC),  # when we last looked and had not seen its end
    Column("end_produced", Labelled),  # latest result_produced at its end
    Column("released", Boolean, nullable=False, default=False),  # a person has written it off
    Index("requests_of_tile", "source", "algorithm", "region", "tile"),
)

tiles = Table(
    "tiles",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("tile", Text, primary_key=True),
    Column("campaign", Text, nullable=False),
    Column("closed_at", UTC),
    Column("closed_reason", Text, nullable=False, default=""),
    Column("guard", Text, nullable=False, server_default=""),  # why nothing more is requested, until a release
    Column("last_used_at", UTC, nullable=False),
    Column("last_run", Text),  # JSON: what the last run was asked for, for upkeep to ask the same
)

rates = Table(
    "rates",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Column("unit", Text, nullable=False),
    Column("measured_at", UTC, nullable=False),
)

# A released lease keeps its row, with an empty holder: an epoch must never come twice.
leases = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),  # JSON, see leases.py
    Column("epoch", BigInteger, nullable=False),
    Column("since", UTC, nullable=False),
    Column("renewed_at", Double, nullable=False),  # database's clock, seconds since 1970, as expires_at
    Column("expires_at", Double, nullable=False),
)

# One row a run of a tile, written before it is asked for, so that it is asked for under one key however often.
# Number 0 is no run: the tile is one of those that the region's campaign was last run with.
region_runs = Table(
    "region_runs",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("campaign", Text, primary_key=True),
    Column("tile", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # the pass: 1, 2, ... for each tile
    Column("key", Text, nullable=False),  # idempotency key
    Column("noted_at", UTC, nullable=False),
    Column("flow_run", Text),  # Prefect's id; none: no answer was seen
    Column("flow_run_name", Text, nullable=False, default=""),
    Column("outcome", Text),  # name of its last state; none: it has not ended, as far as we know
    Column("message", Text, nullable=False, default=""),
    Column("ended_at", UTC),  # when we first saw its end
)

campaigns = Table(
    "campaigns",
    METADATA,
    Column("campaign", Text, primary_key=True),
    Column("source", Text, nullable=False),  # where its polygons came from last, for people
    Column("identity", Text, nullable=False),  # the field that names a feature; empty: its geometry does
    Column("created_at", UTC, nullable=False),
    Column("last_used_at", UTC, nullable=False),
)

# One row a geometry: a feature that changed under its old key gets a second row, and one of them is current.
features = Table(
    "features",
    METADATA,
    Column("feature", Integer, primary_key=True),
    Column("campaign", Text, nullable=False),
    Column("key", Text, nullable=False),  # what tells it from others, see polygons.py
    Column("fingerprint", Text, nullable=False),  # of the geometry as it is in the source, and its CRS
    Column("current", Boolean, nullable=False),
    Column("ordinal", Integer, nullable=False),  # record number in the source
    Column("id", Text, nullable=False),  # what people call it
    Column("geometry", LargeBinary),  # GeoJSON ready to be sent, zlib; none: it cannot be sent
    Column("properties", Text),  # JSON to be sent with it; none: nothing is
    Column("problem", Text, nullable=False),  # why it cannot be sent
    Column("note", Text, nullable=False),  # what was done to it, as 'repaired'
    UniqueConstraint("campaign", "key", "fingerprint"),
)

# One process at one service over one interval: each feature is a unit of each series.
series = Table(
    "series",
    METADATA,
    Column("series", Integer, primary_key=True),
    Column("campaign", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("process_fingerprint", Text, nullable=False),  # of its definition: another one is other work
    Column("interval", Text, nullable=False),  # as '2010-01-01/2011-01-01'; empty: the process takes none
    Column("used_at", UTC, nullable=False),  # when a run last began to work on it
    UniqueConstraint("campaign", "url", "process", "process_fingerprint", "interval"),
)

# All moments are on our clock. `run` is the name of the lease of the run that has it, or had it last.
units = Table(
    "units",
    METADATA,
    Column("unit", Integer, primary_key=True),
    Column("series", Integer, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("own", Text, nullable=False),
    Column("remote", Text),  # what the service said last
    Column("message", Text, nullable=False, default=""),  # in its words
    Column("status_location", Text),
    Column("attempts", Integer, nullable=False, default=0),  # requests that count, the present one included
    Column("run", Text),
    Column("submitted_at", UTC),  # before the request was sent
    Column("accepted_at", UTC),  # when its answer came
    Column("started_at", UTC),  # when we first saw it running
    Column("ended_at", UTC),  # when we first saw its end
    Column("looked_at", UTC),  # when a status that said something new was read
    Column("looked_again", Boolean, nullable=False, default=False),  # after it was given up
    Column("error_class", Text, nullable=False, default=""),
    Column("error_text", Text, nullable=False, default=""),
    UniqueConstraint("series", "feature"),
    Index("units_by_own", "series", "own"),
    Index("units_at_work", "own", "run"),
)

# Runs that found a service full and have less than their part of it (shares.py).
waiting_runs = Table(
    "waiting_runs",
    METADATA,
    Column("url", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("until", Double, nullable=False),  # seconds since 1970 on the database's clock
)

outputs = Table(
    "outputs",
    METADATA,
    Column("unit", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the service's order
    Column("identifier", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("mime_type", Text),
    Column("value", Text),  # none: too long, and in `file`
    Column("file", Text),  # absolute path
)
