"""The table of change results in Cassandra: one partition a chip and algorithm, one row a pixel.

Everything this project reads there, and nothing else, goes through `ResultsTable`. Only CQL that Cassandra 3.9
documents is used: 3.9 is the reference deployment of the service, though it is untested there; it is tested
with 5.0. Source of the schema: USGS-EROS/lcmap-changes, dev/resources/cassandra.setup.cql.
"""

import contextlib
import logging
import socket
import ssl
import time
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, Self

from cassandra import (
    AuthenticationFailed,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    RequestExecutionException,
    Unauthorized,
    Unavailable,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    PreparedStatement,
    ResultSet,
    Session,
)
from cassandra.policies import DCAwareRoundRobinPolicy, RoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import BoundStatement, ConsistencyLevel, dict_factory

from tasks.chips.grid import Chip
from tasks.chips.states import Look, Pixel
from tasks.errors import (
    BadInput,
    CredentialsRefused,
    OverlanderError,
    SchemaMismatch,
    ServiceAway,
    ServiceTimedOut,
    ThrottledError,
)
from tasks.settings import CassandraSettings

COLUMNS = {
    "chip_x": "int",
    "chip_y": "int",
    "algorithm": "text",
    "x": "int",
    "y": "int",
    "chip_update_requested": "timestamp",
    "inputs_md5": "text",
    "inputs_url": "text",
    "result": "text",
    "result_md5": "text",
    "result_ok": "boolean",
    "result_produced": "timestamp",
}
"""The table's twelve columns with their CQL types, in the order in which `SELECT *` gives them."""

PAGE_BYTES = 6_000_000
"""Aim for one page of rows. The driver's handling of a page is quadratic in its size, round trips are not free."""

FIRST_ROW_BYTES = 12_000
"""Taken for the size of a row until one was seen; large, so that the first page is rather too small."""

_KEY = "chip_x = ? AND chip_y = ? AND algorithm = ?"
_ROWS = "rows"

logging.getLogger("cassandra").setLevel(logging.ERROR)  # protocol negotiation and lost hosts are ours to tell


class ResultsTable:
    """A session with the cluster and the statements prepared on it.

    `open` connects; every other method sends one query, or one a page, each within `request_timeout_s`.
    """

    def __init__(self, cluster: Cluster, session: Session, settings: CassandraSettings) -> None:
        table = f'"{settings.keyspace}"."{settings.table}"'
        self._cluster = cluster
        self._session = session
        self._where = _where(settings)
        self.source = f"{cluster.metadata.cluster_name}/{settings.keyspace}.{settings.table}"
        self._look = self._prepare(
            "SELECT count(result_ok) AS pixels, count(*) AS records, min(result_ok) AS worst, "
            "max(result_ok) AS best, min(result_produced) AS first_produced, "
            f"max(result_produced) AS last_produced, chip_update_requested FROM {table} WHERE {_KEY}"
        )
        self._heads = self._prepare(
            f"SELECT DISTINCT chip_x, chip_y, algorithm, chip_update_requested FROM {table} "
            "WHERE chip_x IN ? AND chip_y = ? AND algorithm = ?"
        )
        self._pixels = self._prepare(f"SELECT x, y, result_ok, result_produced FROM {table} WHERE {_KEY}")
        self._pixel = self._prepare(
            f"SELECT result_ok, result_produced FROM {table} WHERE {_KEY} AND x = ? AND y = ?"
        )
        self._rows = self._prepare(f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE {_KEY}")

    @classmethod
    def open(cls, settings: CassandraSettings) -> Self:
        """Connect, and check that the keyspace, the table and its columns are as expected.

        Raises:
            BadInput: no hosts or no keyspace are set.
            ServiceAway: none of the hosts answers.
            CredentialsRefused: the cluster does not accept the user name and password.
            SchemaMismatch: the keyspace, the table or a column is missing or of another type.
        """
        if not settings.hosts or not settings.keyspace:
            what = "hosts" if not settings.hosts else "keyspace"
            raise BadInput(
                f"No Cassandra {what} set, so there is nothing to look at. Set OVERLANDER_CASSANDRA_"
                f"{what.upper()} (or cassandra.{what} in overlander.toml), or start the sandbox with "
                "`overlander sandbox up`."
            )
        with _border(_where(settings)):
            cluster = _cluster(settings)
            try:
                session = cluster.connect()
                _check_schema(cluster, settings)
                return cls(cluster, session, settings)
            except BaseException:
                cluster.shutdown()
                raise

    def close(self) -> None:
        """Close the session."""
        self._cluster.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def look(self, chip: Chip, algorithm: str) -> Look:
        """Count a chip's rows: one aggregate over its partition, about 40 ms of a server's time when full."""
        row = self._one(self._look, (chip.x, chip.y, algorithm))
        return Look(
            at=datetime.now(UTC),
            ticketed=row.records > 0,
            pixels=row.pixels,
            some_good=row.best is True,
            some_failed=row.worst is False,
            first_produced=row.first_produced,
            last_produced=row.last_produced,
            update_requested=row.chip_update_requested,
        )

    def heads(self, chips: Iterable[Chip], algorithm: str) -> dict[Chip, datetime | None]:
        """Return the `chip_update_requested` of those chips whose partition exists: under a millisecond each.

        One query for the chips of a row, so take a few of one at a time: a node gathers them all.
        """
        rows: dict[int, list[int]] = {}
        for chip in chips:
            rows.setdefault(chip.y, []).append(chip.x)
        with _border(self._where):
            return {
                Chip(head.chip_x, head.chip_y): head.chip_update_requested
                for y, columns in rows.items()
                for head in self._session.execute(self._heads, (columns, y, algorithm))
            }

    def last_pixel(self, chip: Chip, algorithm: str) -> datetime | None:
        """Return when the pixel that the worker writes last was produced; None while it is not written."""
        row = self._one(self._pixel, (chip.x, chip.y, algorithm, *chip.last_pixel))
        return None if row is None or row.result_ok is None else row.result_produced

    def pixels(self, chip: Chip, algorithm: str) -> list[Pixel]:
        """Read every pixel's `result_ok` and `result_produced`, about 90 ms; rows off the lattice left out."""
        with _border(self._where):
            rows = self._session.execute(self._pixels, (chip.x, chip.y, algorithm))
            return [
                Pixel(position, row.result_ok, row.result_produced)
                for row in rows
                if row.result_ok is not None and (position := chip.position_of(row.x, row.y)) is not None
            ]

    def pages(
        self, chip: Chip, algorithm: str, row_bytes: float = FIRST_ROW_BYTES
    ) -> Iterator[tuple[list[dict[str, Any]], float]]:
        """Stream a chip's rows, ordered by x and y, a page of about `PAGE_BYTES` at a time.

        The next page is under way while the caller works on this one, never more than one.

        Args:
            chip, algorithm: the partition.
            row_bytes: mean size of a row as far as known; each page is sized by the rows seen before it.

        Yields:
            The rows as dictionaries in the order of `COLUMNS`, and the seconds the page took to arrive.
        """
        bound = self._rows.bind((chip.x, chip.y, algorithm))
        with _border(self._where):
            bound.fetch_size = rows_a_page(row_bytes)
            coming: _Page | None = _Page(self._session, bound, None)
            while coming is not None:
                page, took = coming.arrived()
                rows, coming = page.current_rows, None
                if page.paging_state:
                    bound.fetch_size = rows_a_page(_mean_bytes(rows))
                    coming = _Page(self._session, bound, page.paging_state)
                del page
                yield rows, took

    def _prepare(self, statement: str) -> PreparedStatement:
        return self._session.prepare(statement)

    def _one(self, statement: PreparedStatement, values: Sequence[Any]) -> Any:
        with _border(self._where):
            return self._session.execute(statement, values).one()


class _Page:
    """A page of rows that is on its way."""

    def __init__(self, session: Session, bound: BoundStatement, paging_state: bytes | None) -> None:
        self._asked = time.monotonic()
        self._came: float | None = None
        self._future = session.execute_async(bound, execution_profile=_ROWS, paging_state=paging_state)
        self._future.add_callback(self._note)

    def _note(self, _: object) -> None:
        self._came = time.monotonic()

    def arrived(self) -> tuple[ResultSet, float]:
        """Wait for the page, and return it with the seconds it took to arrive, however late it is read."""
        page = self._future.result()
        return page, (self._came or time.monotonic()) - self._asked


def rows_a_page(row_bytes: float) -> int:
    """Return how many rows of a mean size make a page of `PAGE_BYTES`, within 100 and 5,000."""
    return max(100, min(5_000, int(PAGE_BYTES / max(row_bytes, 1))))


def _mean_bytes(rows: Sequence[dict[str, Any]]) -> float:
    """Return the mean size of rows: their two long texts, and 200 bytes for the ten short columns."""
    texts = sum(len(row["result"] or "") + len(row["inputs_url"] or "") for row in rows)
    return texts / max(len(rows), 1) + 200


def _where(settings: CassandraSettings) -> str:
    return f"Cassandra at {', '.join(settings.hosts)} port {settings.port}"


def _cluster(settings: CassandraSettings) -> Cluster:
    policy = (
        DCAwareRoundRobinPolicy(local_dc=settings.local_datacenter)
        if settings.local_datacenter
        else RoundRobinPolicy()
    )

    def profile(**how: Any) -> ExecutionProfile:
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(policy),
            consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
            request_timeout=settings.request_timeout_s,
            **how,
        )

    password = settings.password.get_secret_value() if settings.password else ""
    return Cluster(
        settings.hosts,
        port=settings.port,
        auth_provider=PlainTextAuthProvider(settings.username, password) if settings.username else None,
        ssl_context=_tls(settings) if settings.tls else None,
        connect_timeout=settings.connect_timeout_s,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # or small requests wait for Nagle's algorithm
        control_connection_timeout=settings.connect_timeout_s,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: profile(row_factory=_rows),
            _ROWS: profile(row_factory=dict_factory),
        },
    )


@cache
def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)  # noqa: PYI024 - its columns are known when rows come


def _rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Return rows as named tuples, as the driver does, but making their class once and not for each answer."""
    make = _row_class(tuple(names))._make
    return [make(row) for row in rows]


def _tls(settings: CassandraSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.check_hostname = settings.tls_check_hostname
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"The TLS certificates for Cassandra cannot be read: {error}. Check OVERLANDER_CASSANDRA_TLS_CA, "
            "_TLS_CERTIFICATE and _TLS_KEY."
        ) from error
    return context


def _check_schema(cluster: Cluster, settings: CassandraSettings) -> None:
    keyspace = cluster.metadata.keyspaces.get(settings.keyspace)
    if keyspace is None:
        raise SchemaMismatch(
            f"{_where(settings)} has no keyspace {settings.keyspace!r} that this user may see. Check "
            "OVERLANDER_CASSANDRA_KEYSPACE."
        )
    table = keyspace.tables.get(settings.table)
    if table is None:
        raise SchemaMismatch(
            f"Keyspace {settings.keyspace!r} at {_where(settings)} has no table {settings.table!r}. Check "
            "OVERLANDER_CASSANDRA_KEYSPACE and OVERLANDER_CASSANDRA_TABLE."
        )
    for name, kind in COLUMNS.items():
        column = table.columns.get(name)
        found = "missing" if column is None else f"of type {column.cql_type}"
        if column is None or column.cql_type != kind:
            raise SchemaMismatch(
                f"Column {name} of {settings.keyspace}.{settings.table} at {_where(settings)} is {found}; it "
                f"should be of type {kind}. Is it the table of the change-results service?"
            )


@contextlib.contextmanager
def _border(where: str) -> Iterator[None]:
    """Turn the driver's exceptions into ours, here and nowhere else."""
    try:
        yield
    except (DriverException, NoHostAvailable, RequestExecutionException, OSError) as error:
        raise _ours(error, where) from error


def _ours(error: Exception, where: str) -> OverlanderError:
    causes = list(error.errors.values()) if isinstance(error, NoHostAvailable) else [error]
    for cause in causes:
        if isinstance(cause, AuthenticationFailed | Unauthorized):
            return CredentialsRefused(
                f"{where} refuses this user: {_words(cause)}. Check OVERLANDER_CASSANDRA_USERNAME and "
                "OVERLANDER_CASSANDRA_PASSWORD, and that the user may read the table."
            )
    if isinstance(error, InvalidRequest):
        return SchemaMismatch(f"{where} does not accept a query: {_words(error)}. Is it the change-results table?")
    if any(isinstance(cause, OverloadedErrorMessage) for cause in causes):
        return ThrottledError(
            f"{where} says it is overloaded. Running again later will help; "
            "OVERLANDER_CASSANDRA_QUERIES_IN_FLIGHT lowers the load."
        )
    if isinstance(error, OperationTimedOut | ReadTimeout):
        return ServiceTimedOut(
            f"{where} did not answer in time. Running again later will help; lower "
            "OVERLANDER_CASSANDRA_QUERIES_IN_FLIGHT if it is busy."
        )
    if isinstance(error, Unavailable):
        return ServiceAway(
            f"{where} has too few replicas up for this consistency: {_words(error)}. Run again when its nodes "
            "are back."
        )
    return ServiceAway(
        f"{where} does not answer: {_words(causes[0] if causes else error)}. Check that it is up, and "
        "OVERLANDER_CASSANDRA_HOSTS and _PORT."
    )


def _words(error: object) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
