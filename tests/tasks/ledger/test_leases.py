"""Leases: one holder at a time, whatever stops, dies or wakes."""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from sqlalchemy import Connection, Row, event, select

from tasks.errors import LeaseHeld, LeaseLost
from tasks.ledger.database import database_clock
from tasks.ledger.leases import lease
from tasks.ledger.schema import leases
from tasks.ledger.store import Ledger

TILE = "tile LCMAP H05V03"
WORDS = "overlander tile run H05V03"
LIMIT_S = 120
spawn = multiprocessing.get_context("spawn")


def row_of(ledger: Ledger, name: str = TILE) -> Row[Any]:
    with ledger.read() as connection:
        return connection.execute(select(leases).where(leases.c.name == name)).one()


def rewrite(ledger: Ledger, **columns: object) -> None:
    """Set columns of the lease's row, as time or another process would."""
    ledger.write(lambda connection: connection.execute(leases.update().values(**columns)))


def rewrite_holder(ledger: Ledger, **fields: object) -> None:
    rewrite(ledger, holder=json.dumps(json.loads(row_of(ledger).holder) | fields))


def nothing(_connection: Connection) -> None:
    """Change nothing, where only the check of the lease matters."""


def hold(place: str, pipe: Pipe) -> None:
    """Hold the lease in a process of its own; when told to, write under it and answer how that went."""
    with Ledger.open(place) as ledger, lease(ledger, TILE, WORDS) as held:
        pipe.send("held")
        pipe.recv()
        try:
            ledger.write(nothing, lease=held)
        except LeaseLost:
            pipe.send("LeaseLost")
        else:
            pipe.send("written")


@pytest.fixture
def holder(ledger: Ledger, place: str) -> Iterator[tuple[BaseProcess, Pipe]]:
    here, there = spawn.Pipe()
    process = spawn.Process(target=hold, args=(place, there), daemon=True)
    process.start()
    assert here.poll(LIMIT_S)
    assert here.recv() == "held"
    yield process, here
    process.kill()
    process.join(LIMIT_S)


def test_a_lease_is_released_and_its_epoch_grows_with_each_claim(ledger: Ledger) -> None:
    epochs = []
    for _ in range(3):
        with lease(ledger, TILE, WORDS) as held:
            epochs.append(held.epoch)

    assert epochs == [1, 2, 3]


def test_a_living_holder_is_named(ledger: Ledger, holder: tuple[BaseProcess, Pipe]) -> None:
    process, pipe = holder

    with pytest.raises(LeaseHeld) as refused, lease(ledger, TILE, "another run"):
        pass

    message = str(refused.value)
    for part in [
        WORDS,
        str(process.pid),
        os.uname().nodename,
        f"{row_of(ledger).since:%Y-%m-%d %H:%M:%S} UTC",
    ]:
        assert part in message
    pipe.send("write")
    assert pipe.recv() == "written"


def test_other_names_are_free(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS), lease(ledger, "tile LCMAP H05V04", WORDS) as other:
        assert other.epoch == 1


def test_a_killed_holder_is_followed_at_once(ledger: Ledger, holder: tuple[BaseProcess, Pipe]) -> None:
    process, _pipe = holder
    process.kill()
    process.join(LIMIT_S)

    with lease(ledger, TILE, WORDS) as held:
        assert held.epoch == 2


def test_a_killed_holder_whose_parent_does_not_reap_it_is_followed_at_once(
    ledger: Ledger, holder: tuple[BaseProcess, Pipe]
) -> None:
    process, _pipe = holder
    assert process.pid
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table

    with lease(ledger, TILE, WORDS) as held:
        assert held.epoch == 2


def test_a_holder_whose_process_id_is_another_process_now_is_followed_at_once(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS) as earlier:
        rewrite_holder(ledger, created=0.0)
        with lease(ledger, TILE, WORDS) as later:
            assert later.epoch == earlier.epoch + 1


def test_a_holder_on_another_machine_is_believed_until_its_lease_expires(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS):
        rewrite_holder(ledger, host="elsewhere", machine="elsewhere 001122334455 ", created=0.0)
        with pytest.raises(LeaseHeld, match="on elsewhere"), lease(ledger, TILE, WORDS):
            pass

        with ledger.read() as connection:
            rewrite(ledger, expires_at=database_clock(connection))
        with lease(ledger, TILE, WORDS) as later:
            assert later.epoch == 2


def test_machines_without_a_network_card_are_never_taken_for_the_same(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = 0x010000000000 | uuid.getnode()
    monkeypatch.setattr(uuid, "getnode", lambda: made_up)
    with lease(ledger, TILE, WORDS):
        rewrite_holder(ledger, created=0.0)
        with pytest.raises(LeaseHeld), lease(ledger, TILE, WORDS):
            pass


def test_a_holder_that_slept_through_its_lease_can_no_longer_write(
    ledger: Ledger, holder: tuple[BaseProcess, Pipe]
) -> None:
    process, pipe = holder
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    rewrite(ledger, expires_at=0.0)

    with lease(ledger, TILE, "another run") as held:
        os.kill(process.pid, signal.SIGCONT)
        pipe.send("write")
        assert pipe.poll(LIMIT_S)
        assert pipe.recv() == "LeaseLost"
        process.join(LIMIT_S)

        ledger.write(nothing, lease=held)  # the first one's end did not release the second one's lease
    assert row_of(ledger).epoch == 2


def test_nothing_is_changed_under_a_lost_lease_and_the_new_holder_is_named(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS) as lost:
        rewrite(ledger, expires_at=0.0)
        with lease(ledger, TILE, "another run"):
            with pytest.raises(LeaseLost, match="another run"):
                ledger.write(lambda connection: connection.execute(leases.delete()), lease=lost)

            assert lost.lost.is_set()
            assert row_of(ledger).epoch == 2


def test_nothing_is_changed_under_a_released_lease(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS) as held:
        pass

    with pytest.raises(LeaseLost):
        ledger.write(nothing, lease=held)


def test_a_lease_that_expired_unclaimed_is_still_its_holders(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS) as held:
        rewrite(ledger, expires_at=0.0)

        ledger.write(nothing, lease=held)


def test_the_renewal_finds_out_that_the_lease_is_lost(ledger: Ledger) -> None:
    with lease(ledger, TILE, WORDS, ttl_s=0.03) as held:
        rewrite(ledger, epoch=held.epoch + 1)

        assert held.lost.wait(LIMIT_S)


def test_the_renewal_moves_the_end_of_the_lease(ledger: Ledger) -> None:
    commits = threading.Semaphore(0)
    with lease(ledger, TILE, WORDS, ttl_s=0.03):
        rewrite(ledger, expires_at=0.0)
        event.listen(ledger._database.writes, "commit", lambda _connection: commits.release())
        for _ in range(3):  # the event comes before its commit, and the first may be the rewriting's
            assert commits.acquire(timeout=LIMIT_S)

        assert row_of(ledger).expires_at > 0


def claim_all(place: str, names: list[str], together: Barrier, claims: "SimpleQueue[list[str]]") -> None:
    mine = []
    with Ledger.open(place) as ledger, contextlib.ExitStack() as held:
        together.wait(LIMIT_S)
        for name in names:
            with contextlib.suppress(LeaseHeld):
                held.enter_context(lease(ledger, name, WORDS))
                mine.append(name)
        together.wait(LIMIT_S)  # nobody releases before all have tried
        claims.put(mine)


def test_of_four_processes_that_claim_the_same_names_each_name_has_one_holder(place: str) -> None:
    names = [f"tile LCMAP H05V{v:02}" for v in range(50)]
    together, claims = spawn.Barrier(4), spawn.SimpleQueue()
    arguments = (place, names, together, claims)
    processes = [spawn.Process(target=claim_all, args=arguments, daemon=True) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT_S)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert sorted(name for _ in processes for name in claims.get()) == names
