"""The ledger on a real Postgres: what is unfit is refused, and processes share a service's limit."""

import contextlib
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import anyio
import psycopg
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from deployments.supervise import free_port
from tasks.errors import BadInput, CredentialsRefused, LedgerUnusable, ServiceAway
from tasks.ledger import schema
from tasks.ledger.claims import Terms, claim, end_dead_runs, let_go, run_on, sort_out
from tasks.ledger.leases import Lease
from tasks.ledger.shares import held_at
from tasks.ledger.store import Ledger
from tasks.ledger.units import note
from tasks.polygons.journal import Journal
from tests.polygon_desk import CAMPAIGN, URL, feature, load

LIMIT_S = 120
spawn = multiprocessing.get_context("spawn")


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_an_empty_database_becomes_a_ledger_and_is_found_again(postgres_ledger: str) -> None:
    with Ledger.open(postgres_ledger) as made:
        load(made, [feature(1)])
    with Ledger.open(postgres_ledger, create=False) as found, found.read() as connection:
        assert [row.id for row in connection.execute(select(schema.features))] == ["p1"]


def test_an_empty_database_is_no_ledger_for_who_only_reads(postgres_ledger: str) -> None:
    with pytest.raises(LedgerUnusable, match=r"no ledger in .* yet"):
        Ledger.open(postgres_ledger, create=False)


def test_somebody_elses_database_is_left_as_it_is(postgres_ledger: str) -> None:
    execute(postgres_ledger, "CREATE TABLE theirs (a int)")
    with pytest.raises(LedgerUnusable, match="no ledger of Overlander's"):
        Ledger.open(postgres_ledger)


def test_a_newer_ledger_is_refused(postgres_ledger: str) -> None:
    Ledger.open(postgres_ledger).close()
    execute(postgres_ledger, "UPDATE ledger_version SET version = 99")
    with pytest.raises(LedgerUnusable, match="has version 99"):
        Ledger.open(postgres_ledger)


def test_an_older_ledger_gets_what_it_lacks(postgres_ledger: str) -> None:
    Ledger.open(postgres_ledger).close()
    execute(
        postgres_ledger,
        "ALTER TABLE requests DROP COLUMN alone",
        "DROP TABLE outputs",
        "UPDATE ledger_version SET version = 1",
    )
    with Ledger.open(postgres_ledger, create=False) as ledger, ledger.read() as connection:
        assert connection.execute(select(schema.requests.c.alone)).all() == []
        assert connection.execute(select(schema.outputs)).all() == []


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    url = f"postgresql://someone:open-sesame@127.0.0.1:{free_port()}/overlander"
    with pytest.raises(ServiceAway, match=r"127\.0\.0\.1") as refusal:
        Ledger.open(url)
    assert "open-sesame" not in str(refusal.value)


def test_a_user_that_is_unknown_is_refused(postgres_ledger: str) -> None:
    nobody = make_url(postgres_ledger).set(username="nobody_known").render_as_string()
    with pytest.raises((CredentialsRefused, ServiceAway), match="nobody_known"):
        Ledger.open(nobody)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(BadInput, match="URL is none"):
        Ledger.open("postgresql:what is this")


def test_whoever_reads_cannot_write(postgres_ledger: str) -> None:
    with Ledger.open(postgres_ledger) as ledger, ledger.read() as connection:
        delete = text("DELETE FROM units")
        with pytest.raises(DBAPIError, match="read-only"):
            connection.execute(delete)


def claim_some(place: str, units: list[int], together: Barrier, taken: "SimpleQueue[list[int]]") -> None:
    """Claim one unit after another as a run does, until the service's limit is reached."""
    mine: list[int] = []
    with Ledger.open(place) as ledger, contextlib.ExitStack() as held:
        run = held.enter_context(run_on(ledger, CAMPAIGN, "a test"))
        together.wait(LIMIT_S)
        for unit in units:
            found = ledger.write(lambda c, unit=unit: claim(c, [unit], Terms(run.name), url=URL, limit=7))
            mine += [one.unit for one in found.taken]
        taken.put(mine)
        together.wait(LIMIT_S)  # nobody lets go before all have tried


def test_processes_that_claim_at_once_share_the_limit_and_take_no_unit_twice(place: str) -> None:
    with Ledger.open(place) as ledger:
        _, units = load(ledger, [feature(number) for number in range(20)])
        together, taken = spawn.Barrier(4), spawn.SimpleQueue()
        arguments = (place, units, together, taken)
        processes = [spawn.Process(target=claim_some, args=arguments, daemon=True) for _ in range(3)]
        for process in processes:
            process.start()
        together.wait(LIMIT_S)
        found = [unit for _ in processes for unit in taken.get()]
        with ledger.read() as connection:
            assert sum(held_at(connection, URL).values()) == 7
        together.wait(LIMIT_S)
        for process in processes:
            process.join(LIMIT_S)
    assert len(found) == len(set(found)) == 7


def look_and_sort(ledger: Ledger, held: Lease, units: list[int]) -> None:
    """Look for dead runs and take over what is free, as each run does every few seconds, and let it go again."""

    def change(connection: Connection) -> None:
        end_dead_runs(connection)
        sort_out(connection, units, Terms(held.name))

    for _ in range(150):
        ledger.write(change, lease=held)
        ledger.write(partial(let_go, run=held.name), lease=held)


def test_runs_that_look_at_each_other_at_once_are_never_in_each_other_s_way(postgres_ledger: str) -> None:
    with Ledger.open(postgres_ledger) as ledger, Ledger.open(postgres_ledger) as another:
        _, units = load(ledger, [feature(number) for number in range(60)])
        for unit in units[:50]:
            columns = {"own": "in_flight", "status_location": "x", "remote": "accepted"}
            ledger.write(partial(note, unit=unit, columns=columns))
        with (
            run_on(ledger, CAMPAIGN, "one") as held,
            run_on(another, CAMPAIGN, "another") as other_held,
            ThreadPoolExecutor(2) as threads,
        ):
            for book, run, mine in ((ledger, held, units[50:55]), (another, other_held, units[55:])):
                taken = book.write(
                    lambda c, mine=mine, run=run: claim(c, mine, Terms(run.name), url=URL, limit=100)
                )
                assert len(taken.taken) == 5
            one = threads.submit(look_and_sort, ledger, held, units)
            other = threads.submit(look_and_sort, another, other_held, units[::-1])
            one.result()
            other.result()


def keep_two(ledger: Ledger, held: Lease, units: list[int], both: threading.Barrier) -> int:
    """Write about two units in one change, the first time when another holds the second; return how often."""
    tries: list[int] = []

    def change(connection: Connection) -> None:
        tries.append(1)
        note(connection, units[0], {"message": held.name})
        if len(tries) == 1:
            both.wait(LIMIT_S)
        note(connection, units[1], {"message": held.name})

    async def keep() -> None:
        journal = Journal(ledger, held)
        async with anyio.create_task_group() as group:
            group.start_soon(journal.keep)
            await journal.write(change)
            group.cancel_scope.cancel()

    anyio.run(keep)
    return len(tries)


def test_a_change_that_the_server_took_back_for_a_deadlock_is_made_again(postgres_ledger: str) -> None:
    with Ledger.open(postgres_ledger) as ledger, Ledger.open(postgres_ledger) as another:
        _, units = load(ledger, [feature(number) for number in range(2)])
        both = threading.Barrier(2)
        with (
            run_on(ledger, CAMPAIGN, "one") as held,
            run_on(another, CAMPAIGN, "another") as other_held,
            ThreadPoolExecutor(2) as threads,
        ):
            one = threads.submit(keep_two, ledger, held, units, both)
            other = threads.submit(keep_two, another, other_held, units[::-1], both)
            assert sorted([one.result(), other.result()]) == [1, 2]
