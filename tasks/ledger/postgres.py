"""The ledger on a Postgres server: for a team, and for workers on many machines.

A password comes with the URL from the environment (OVERLANDER_LEDGER), or as Postgres's own clients take it, from
PGPASSWORD or ~/.pgpass; it is never shown.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from tasks.errors import (
    BadInput,
    CredentialsRefused,
    LedgerBusy,
    LedgerUnusable,
    OutputUnusable,
    OverlanderError,
    PartMissing,
    ServiceAway,
)
from tasks.ledger.database import Database, bring_up_to_date, check_version, take_turns, version_of

_CONNECT_WITHIN_S = 10
_STATEMENT_WITHIN_S = 60

_CLASSES: dict[str, tuple[type[OverlanderError], str]] = {
    "08": (ServiceAway, "Check that it is up, and OVERLANDER_LEDGER."),
    "28": (CredentialsRefused, "Correct the user or the password: OVERLANDER_LEDGER, PGPASSWORD or ~/.pgpass."),
    "3D": (LedgerUnusable, "Make the database, or name another in OVERLANDER_LEDGER."),
    "42501": (CredentialsRefused, "Give the user the rights to make and write tables in that database."),
    "40": (LedgerBusy, "Others wrote the same at the same time: run it again."),
    "53": (OutputUnusable, "Make room there, then run it again: nothing that was recorded is lost."),
    "55": (LedgerBusy, "Others keep it locked: see pg_stat_activity, then run it again."),
    "57014": (LedgerBusy, "Others keep it locked, or it is slow: see pg_stat_activity, then run it again."),
    "57": (ServiceAway, "It is shutting down or was told to stop: run again when it is up."),
    "58": (OutputUnusable, "Its disk fails: check it, then run it again."),
}
"""By the first characters of SQLSTATE. Source: PostgreSQL's documentation, appendix A."""


def open_server(url: str, *, create: bool) -> Database:
    """Open the ledger in a database of a Postgres server; an older one is brought up to date.

    Args:
        url: as postgresql://user@host:5432/overlander.
        create: make the tables when they are missing; several processes may do so at once.

    Raises:
        BadInput: the URL is none.
        PartMissing: the driver is not installed.
        ServiceAway, CredentialsRefused, LedgerUnusable, LedgerBusy, OutputUnusable: as the server says.
    """
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except ArgumentError:
        raise BadInput("The ledger's URL is none. Write postgresql://user@host:5432/database.") from None
    name = address.set(drivername="postgresql").render_as_string(hide_password=True)
    border = partial(_border, name)
    given = {"connect_timeout": _CONNECT_WITHIN_S, "options": f"-c statement_timeout={_STATEMENT_WITHIN_S}s"}

    def engine(isolation: str, *, readonly: bool) -> Engine:
        return create_engine(
            address,
            connect_args=given,
            isolation_level=isolation,
            pool_pre_ping=True,
            max_overflow=-1,
            execution_options={"postgresql_readonly": readonly},
        )

    try:
        reads, writes = engine("REPEATABLE READ", readonly=True), engine("READ COMMITTED", readonly=False)
    except ModuleNotFoundError:
        raise PartMissing(
            "A ledger on Postgres needs a driver that is not installed. Run: pip install 'overlander[postgres]'."
        ) from None
    found = Database(name, reads, writes, border)
    try:
        _make_ready(found, create=create)
    except BaseException:
        found.dispose()
        raise
    return found


def _make_ready(found: Database, *, create: bool) -> None:
    with found.border():
        with found.reads.connect() as connection:
            if check_version(connection, found.name):
                return
            is_empty = _is_empty(connection)
        if is_empty and not create:
            raise LedgerUnusable(f"There is no ledger in {found.name} yet: run `overlander tile run` to make one.")
        with found.writes.begin() as connection:
            take_turns(connection, "making the ledger")
            if not check_version(connection, found.name):
                bring_up_to_date(connection)


def _is_empty(connection: Connection) -> bool:
    return version_of(connection) is None


@contextlib.contextmanager
def _border(name: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ("08" if isinstance(error, OperationalError) else "")
        found = next((_CLASSES[start] for start in (state, state[:2]) if start in _CLASSES), None)
        if found is None:
            raise
        kind, advice = found
        why = " ".join(str(error.orig).split())
        raise kind(f"The ledger {name} cannot be used: {why.rstrip('.')}. {advice}") from error
