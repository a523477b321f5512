"""Who has which unit: never two runs the same one, and never a unit forgotten with a run that died."""

import multiprocessing
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe

import pytest
from sqlalchemy import event

from tasks.errors import LeaseLost
from tasks.ledger import shares
from tasks.ledger.claims import Claim, Sorted, Terms, claim, end_dead_runs, run_on, sort_out
from tasks.ledger.leases import lease
from tasks.ledger.schema import leases
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own, note, retry
from tests.polygon_desk import CAMPAIGN, URL, feature, load, rows

LIMIT_S = 120
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def units(ledger: Ledger) -> list[int]:
    return load(ledger, [feature(number) for number in range(6)])[1]


def take(ledger: Ledger, units: list[int], run: str = "run", limit: int = 100, **terms: object) -> Claim:
    asked = Terms(run, **terms)  # type: ignore[arg-type]
    return ledger.write(lambda connection: claim(connection, units, asked, url=URL, limit=limit))


def sort(ledger: Ledger, units: list[int], run: str = "another", **terms: object) -> Sorted:
    asked = Terms(run, **terms)  # type: ignore[arg-type]
    return ledger.write(lambda connection: sort_out(connection, units, asked))


def in_flight(ledger: Ledger, unit: int, run: str | None) -> None:
    columns = {
        "own": Own.IN_FLIGHT.value,
        "remote": "accepted",
        "status_location": "http://x/1",
        "accepted_at": datetime.now(UTC),
        "run": run,
    }
    ledger.write(lambda connection: note(connection, unit, columns))


def over(ledger: Ledger, unit: int) -> None:
    ledger.write(lambda connection: note(connection, unit, {"own": Own.DONE.value}))


def test_a_unit_is_one_run_s_only(ledger: Ledger, units: list[int]) -> None:
    assert [one.id for one in take(ledger, units[:4]).taken] == ["p0", "p1", "p2", "p3"]
    second = take(ledger, units, "another")
    assert [one.id for one in second.taken] == ["p4", "p5"]
    assert list(second.gone) == units[:4]


def test_all_runs_together_stay_within_the_limit_of_a_service(ledger: Ledger, units: list[int]) -> None:
    take(ledger, units[:3], "one", limit=4)
    claimed = take(ledger, units[3:], "another", limit=4)
    assert [one.unit for one in claimed.taken] == units[3:4]
    assert list(claimed.full) == units[4:]
    assert rows(ledger)["p4"].attempts == 0


def test_a_run_that_waits_gets_its_part_of_what_comes_free(ledger: Ledger, units: list[int]) -> None:
    take(ledger, units[:4], "first", limit=4)
    assert take(ledger, units[4:], "second", limit=4).taken == ()
    over(ledger, units[0])

    assert take(ledger, units[5:], "first", limit=4).taken == ()
    assert [one.unit for one in take(ledger, units[4:], "second", limit=4).taken] == units[4:5]


def test_what_no_other_run_waits_for_is_the_one_s_that_asks(ledger: Ledger, units: list[int]) -> None:
    take(ledger, units[:3], "first", limit=4)
    take(ledger, units[3:4], "second", limit=4)
    over(ledger, units[3])

    assert [one.unit for one in take(ledger, units[4:], "first", limit=4).taken] == units[4:5]


def test_a_run_that_waited_and_went_leaves_its_part_to_the_others(
    ledger: Ledger, units: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "WAITS_S", -1.0)
    take(ledger, units[:4], "first", limit=4)
    take(ledger, units[4:], "second", limit=4)
    over(ledger, units[0])

    assert [one.unit for one in take(ledger, units[5:], "first", limit=4).taken] == units[5:]


def test_jobs_that_nobody_follows_do_not_count_against_the_limit(ledger: Ledger, units: list[int]) -> None:
    for unit in units[:3]:
        in_flight(ledger, unit, None)
    assert len(take(ledger, units[3:], limit=2).taken) == 2


def test_a_job_without_a_run_is_taken_over_once(ledger: Ledger, units: list[int]) -> None:
    in_flight(ledger, units[0], None)
    assert [job.status_location for job in sort(ledger, units[:1], "one").to_follow] == ["http://x/1"]
    found = sort(ledger, units[:1], "another")
    assert (found.to_follow, list(found.elsewhere)) == ((), units[:1])


def test_a_job_that_was_given_up_is_looked_at_by_one_run_and_never_by_the_one_that_gave_it_up(
    ledger: Ledger, units: list[int]
) -> None:
    with run_on(ledger, CAMPAIGN, "gives up") as held:
        in_flight(ledger, units[0], held.name)
        ledger.write(lambda connection: note(connection, units[0], {"own": Own.GIVEN_UP.value}))
        assert list(sort(ledger, units[:1], held.name).settled) == units[:1]
        assert ledger.write(lambda connection: retry(connection, units, [Own.GIVEN_UP])) == 0
    with run_on(ledger, CAMPAIGN, "looks") as held:
        assert [job.given_up for job in sort(ledger, units[:1], held.name).to_follow] == [True]
        assert list(sort(ledger, units[:1], "another").settled) == units[:1]
        assert ledger.write(lambda connection: retry(connection, units, [Own.GIVEN_UP])) == 0
    assert ledger.write(lambda connection: retry(connection, units, [Own.GIVEN_UP])) == 1


def test_what_a_run_leaves_in_order_is_free_for_the_next(ledger: Ledger, units: list[int]) -> None:
    with run_on(ledger, CAMPAIGN, "a test") as held:
        take(ledger, units[:1], held.name)
        in_flight(ledger, units[1], held.name)
    found = rows(ledger)
    assert (found["p0"].own, found["p1"].own, found["p1"].run) == ("uncertain", "in_flight", None)


def claim_and_wait(place: str, units: list[int], pipe: Pipe) -> None:
    """Be a run in a process of its own that has units in hand, until it is killed."""
    with Ledger.open(place) as ledger, run_on(ledger, CAMPAIGN, "to be killed") as held:
        take(ledger, units[:2], held.name)
        in_flight(ledger, units[1], held.name)
        pipe.send(held.name)
        pipe.recv()


def test_what_a_killed_run_was_sending_is_uncertain_and_never_sent_again_unasked(
    ledger: Ledger, place: str, units: list[int]
) -> None:
    here, there = spawn.Pipe()
    process = spawn.Process(target=claim_and_wait, args=(place, units, there), daemon=True)
    process.start()
    assert here.poll(LIMIT_S)
    here.recv()
    assert ledger.write(end_dead_runs) == 0
    process.kill()
    process.join(LIMIT_S)

    assert ledger.write(end_dead_runs) == 1

    found = rows(ledger)
    assert (found["p0"].own, found["p0"].attempts) == ("uncertain", 1)
    assert (found["p1"].own, found["p1"].run) == ("in_flight", None)
    assert list(sort(ledger, units[:1]).settled) == units[:1]
    assert list(take(ledger, units[:1]).gone) == units[:1]
    assert list(sort(ledger, units[:1], uncertain_before=datetime.now(UTC)).to_send) == units[:1]


def test_a_run_that_slept_past_its_lease_may_write_no_more(ledger: Ledger, units: list[int]) -> None:
    with lease(ledger, "polygons wetlands run x", "a test", ttl_s=3600) as held:
        take(ledger, units[:1], held.name)
        ledger.write(lambda connection: connection.execute(leases.update().values(expires_at=0.0)))
        assert ledger.write(end_dead_runs) == 1
        with pytest.raises(LeaseLost):
            ledger.write(lambda connection: note(connection, units[0], {"own": "done"}), lease=held)
    assert rows(ledger)["p0"].own == "uncertain"


def test_an_uncertain_unit_is_not_sent_more_often_than_its_attempts(ledger: Ledger, units: list[int]) -> None:
    columns = {"own": Own.UNCERTAIN.value, "attempts": 2, "submitted_at": datetime.now(UTC)}
    ledger.write(lambda connection: note(connection, units[0], columns))
    terms = {"uncertain_before": datetime.now(UTC), "attempts": 2}
    assert list(sort(ledger, units[:1], **terms).settled) == units[:1]
    assert list(take(ledger, units[:1], **terms).gone) == units[:1]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_claim_finds_its_units_by_an_index(ledger: Ledger, units: list[int]) -> None:
    """A claim among hundreds of thousands of units takes no longer than among few."""
    asked: list[tuple[str, object]] = []

    def listen(_connection: object, _cursor: object, statement: str, values: object, *_more: object) -> None:
        asked.append((statement, values))

    event.listen(ledger._database.writes, "before_cursor_execute", listen)
    take(ledger, units)
    event.remove(ledger._database.writes, "before_cursor_execute", listen)
    with ledger.read() as connection:
        plans = [
            row.detail
            for statement, values in asked
            if statement.startswith(("SELECT", "UPDATE"))
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert len(plans) > 3
    assert not [plan for plan in plans if plan.startswith(("SCAN units", "SCAN features"))]
