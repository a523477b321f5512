"""The pacer gives and takes by the numbers it is fed; no test here measures time."""

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.pacing import Pacer, PacerRule

RULE = PacerRule(ceiling=8)
LIMIT_S = 60


def feed(pacer: Pacer, kind: str, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        pacer.note(kind, seconds)


def test_never_more_than_the_ceiling_is_under_way_at_once() -> None:
    pacer = Pacer(PacerRule(ceiling=3))
    begun, release = threading.Semaphore(0), threading.Event()
    lock = threading.Lock()
    under_way = most = 0

    def work(_number: int) -> None:
        nonlocal under_way, most
        with pacer.slot():
            with lock:
                under_way += 1
                most = max(most, under_way)
            begun.release()
            assert release.wait(LIMIT_S)
            with lock:
                under_way -= 1

    with ThreadPoolExecutor(9) as threads:
        done = threads.map(work, range(30))
        for _ in range(3):
            assert begun.acquire(timeout=LIMIT_S)
        release.set()
        assert len(list(done)) == 30
    assert most == 3


def test_a_slot_is_given_back_by_work_that_fails() -> None:
    pacer = Pacer(PacerRule(ceiling=1))
    for _ in range(2):
        with pytest.raises(ValueError, match="on purpose"), pacer.slot():
            raise ValueError("on purpose")


def test_a_limit_that_fell_holds_back_work_until_enough_is_done() -> None:
    pacer = Pacer(PacerRule(ceiling=2))
    asking, entered = threading.Event(), threading.Event()

    def third() -> None:
        asking.set()
        with pacer.slot():
            entered.set()

    waiting = threading.Thread(target=third)
    with pacer.slot():
        with pacer.slot():
            pacer.overloaded()
            waiting.start()
        assert asking.wait(LIMIT_S)
        assert not entered.is_set()  # one is under way, and one is all that may be
    assert entered.wait(LIMIT_S)
    waiting.join(LIMIT_S)


def test_a_pacer_begins_at_its_ceiling_and_stays_there_while_answers_take_equally_long() -> None:
    pacer = Pacer(RULE)
    for seconds in (0.04, 0.05, 0.1, 0.04) * 100:
        pacer.note("count", seconds)
        assert pacer.limit == RULE.ceiling


def test_answers_that_grow_slow_take_work_away_down_to_one() -> None:
    pacer = Pacer(RULE)
    feed(pacer, "count", 0.04, 50)
    limits = []
    for _ in range(20):
        feed(pacer, "count", 0.4, RULE.patience)
        limits.append(pacer.limit)
    assert limits == sorted(limits, reverse=True)
    assert limits[0] >= RULE.ceiling // 2  # not at a stroke
    assert limits[-1] == 1


def test_quick_answers_give_back_one_by_one_up_to_the_ceiling() -> None:
    pacer = Pacer(RULE)
    feed(pacer, "count", 0.04, 50)
    feed(pacer, "count", 0.4, 400)
    assert pacer.limit == 1
    limits = [pacer.limit]
    for _ in range(600):
        pacer.note("count", 0.04)
        limits.append(pacer.limit)
    assert limits[-1] == RULE.ceiling
    assert {after - before for before, after in itertools.pairwise(limits)} == {0, 1}


def test_a_single_pause_takes_nothing_away() -> None:
    pacer = Pacer(RULE)
    feed(pacer, "count", 0.04, 50)
    feed(pacer, "count", 0.5)
    feed(pacer, "count", 0.04, 50)
    assert pacer.limit == RULE.ceiling


def test_overload_halves_but_never_stops() -> None:
    pacer = Pacer(RULE)
    limits = []
    for _ in range(5):
        pacer.overloaded()
        limits.append(pacer.limit)
    assert limits == [4, 2, 1, 1, 1]


def test_after_an_overload_as_many_answers_are_awaited_as_after_any_change() -> None:
    pacer = Pacer(RULE)
    feed(pacer, "count", 0.04, 100)
    pacer.overloaded()
    feed(pacer, "count", 0.04, RULE.patience - 1)
    assert pacer.limit == RULE.ceiling // 2
    feed(pacer, "count", 0.04)
    assert pacer.limit == RULE.ceiling // 2 + 1


def test_a_slow_kind_of_answer_is_not_compared_with_a_quick_one() -> None:
    pacer = Pacer(RULE)
    for _ in range(200):
        pacer.note("head", 0.001)
        pacer.note("count", 0.5)
        assert pacer.limit == RULE.ceiling


def test_a_kind_that_grows_slow_is_seen_among_others_that_do_not() -> None:
    pacer = Pacer(RULE)
    for _ in range(50):
        pacer.note("head", 0.001)
        pacer.note("count", 0.05)
    for _ in range(100):
        pacer.note("head", 0.001)
        pacer.note("count", 5.0)
    assert pacer.limit < RULE.ceiling


def test_one_trouble_that_hits_all_that_is_under_way_halves_once() -> None:
    pacer = Pacer(PacerRule(ceiling=8))
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(pacer.slot())
        for _ in range(8):
            pacer.overloaded()
        assert pacer.limit == 4
        pacer.overloaded()
        assert pacer.limit == 2
