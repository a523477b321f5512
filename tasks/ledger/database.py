"""The ledger's database, whichever it is: a SQLite file or a Postgres server.

What is peculiar to one of them stands in `sqlite_file.py` or `postgres.py`; what both are asked for stands here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Engine, Row, Table, func, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateColumn

from tasks.errors import LedgerUnusable
from tasks.ledger import schema


@dataclass(frozen=True)
class Database:
    """An open database.

    Attributes:
        name: for people, without a secret.
        reads: connections that cannot write and see the ledger as of their first statement.
        writes: connections whose transactions write.
        border: turns the database's refusals into ours; an error in a statement stays what it is.
    """

    name: str
    reads: Engine
    writes: Engine
    border: Callable[[], AbstractContextManager[None]]

    def dispose(self) -> None:
        """Close the connections."""
        self.reads.dispose()
        self.writes.dispose()


def version_of(connection: Connection) -> int | None:
    """Return the version of a ledger; None of an empty database.

    Raises:
        LedgerUnusable: the database holds something else.
    """
    known = inspect(connection)
    if known.has_table(schema.ledger_version.name):
        return int(connection.scalars(select(schema.ledger_version.c.version)).one())
    if known.get_table_names():
        raise LedgerUnusable("It is a database but no ledger of Overlander's, and is left as it is.")
    return None


def check_version(connection: Connection, name: str) -> bool:
    """Tell whether a ledger is of this program's version, or has to be brought up to date.

    Raises:
        LedgerUnusable: a newer program wrote it, or it is no ledger.
    """
    how = "or name another one with OVERLANDER_LEDGER."
    try:
        version = version_of(connection)
    except LedgerUnusable as error:
        raise LedgerUnusable(f"{name} cannot be used: {error} Empty it, {how}") from None
    if version is not None and version > schema.VERSION:
        raise LedgerUnusable(
            f"The ledger {name} has version {version}, and this Overlander knows {schema.VERSION} at most: a "
            f"newer one wrote it. Update Overlander, {how}"
        )
    return version == schema.VERSION


def bring_up_to_date(connection: Connection) -> None:
    """Make the tables, columns and indexes that a new ledger lacks, or one that an older program made."""
    known = inspect(connection)
    for table in schema.METADATA.sorted_tables:
        if not known.has_table(table.name):
            continue
        there = {column["name"] for column in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    schema.METADATA.create_all(connection)
    for table in schema.METADATA.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    connection.execute(schema.ledger_version.delete())
    connection.execute(schema.ledger_version.insert().values(version=schema.VERSION))


_CLOCKS = {
    # to the millisecond; unixepoch('subsec') would need SQLite 3.42
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())"),
}


def database_clock(connection: Connection) -> float:
    """Return the time on the database's clock, the one that all processes share, in seconds since 1970."""
    return float(connection.execute(_CLOCKS[connection.dialect.name]).scalar_one())


_INSERTS: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or where their primary key is there already set the columns they name and no others.

    Args:
        connection: of `Ledger.write`.
        table: one of the ledger's.
        rows: column name to value, all with the same columns; none is fine.
    """
    if not rows:
        return
    statement = _INSERTS[connection.dialect.name](table)
    named = {name: statement.excluded[name] for name in rows[0] if not table.c[name].primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=named), rows)


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    giving: Sequence[Column[Any]] = (),
) -> Sequence[Row[Any]]:
    """Insert rows, and leave alone those that a unique constraint says are there already.

    Args:
        connection: of `Ledger.write`.
        table: one of the ledger's.
        rows: column name to value, all with the same columns; none is fine.
        giving: columns of the table to return of each row that was inserted.

    Returns:
        Those columns, in no order; nothing of rows that were there already.
    """
    if not rows:
        return ()
    statement = _INSERTS[connection.dialect.name](table).on_conflict_do_nothing()
    if not giving:
        connection.execute(statement, rows)
        return ()
    return connection.execute(statement.returning(*giving), rows).all()


def take_turns(connection: Connection, what: str) -> None:
    """Wait until no other process is inside a transaction that takes turns for the same thing.

    On SQLite every writing transaction is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(key)))
