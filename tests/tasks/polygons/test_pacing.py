"""The pacer of jobs gives and takes by the numbers it is fed; no test here measures time."""

import statistics

import pytest

from tasks.polygons.pacing import JobPacer, PaceRule


class Server:
    """Keeps a pacer full: `capacity` jobs at full speed, more of them slower; they end as they began."""

    def __init__(self, pacer: JobPacer, capacity: int = 50) -> None:
        self.pacer = pacer
        self.capacity = capacity
        self.tickets: list[int] = []

    def do(self, jobs: int, alone_s: float = 60.0) -> None:
        for _ in range(jobs):
            while self.pacer.room:
                self.tickets.append(self.pacer.begun())
            slower = max(1.0, self.pacer.outstanding / self.capacity)
            self.pacer.ended(alone_s * slower, self.tickets.pop(0))


def test_it_starts_small_and_grows_to_its_ceiling_while_more_jobs_end() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    assert pacer.limit == 2
    Server(pacer).do(100)
    assert pacer.limit == 8


def test_it_grows_though_another_run_has_the_rest_of_what_the_service_takes() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    pacer.shared_full = True
    for _ in range(100):
        pacer.ended(60.0, pacer.begun())
    assert pacer.limit == 8


def test_it_stops_growing_where_jobs_only_take_longer() -> None:
    pacer = JobPacer(PaceRule(ceiling=64))
    server, limits = Server(pacer, capacity=4), []
    for _ in range(200):
        server.do(1)
        limits.append(pacer.limit)
    assert max(limits) <= 8
    assert statistics.mode(limits) == 5


def test_it_shrinks_when_the_server_gets_other_work() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    server = Server(pacer)
    server.do(150)
    assert pacer.limit == 8
    server.do(60, alone_s=300)
    assert pacer.limit < 8


def test_a_few_jobs_at_the_end_say_nothing_of_the_server() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    Server(pacer).do(100)
    while pacer.outstanding:
        pacer.ended(900.0, ticket=None)
    assert pacer.limit == 8


def test_a_refusal_halves_the_limit_once_for_all_that_were_on_their_way() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    Server(pacer).do(100)
    while pacer.outstanding:
        pacer.back()
    tickets = [pacer.begun() for _ in range(8)]
    for ticket in tickets:
        pacer.refused(ticket, now=100.0, retry_after_s=None)
    assert pacer.limit == 4
    pacer.refused(pacer.begun(), now=101.0, retry_after_s=None)
    assert pacer.limit == 2


def test_the_time_that_a_service_names_is_waited_for() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    pacer.refused(pacer.begun(), now=100.0, retry_after_s=42.0)
    assert pacer.resume_at == pytest.approx(142.0)


def test_pauses_grow_while_refusals_go_on_and_begin_anew_after_an_acceptance() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    pauses = []
    for now in (0.0, 1000.0, 2000.0, 3000.0):
        pacer.refused(pacer.begun(), now, None)
        pauses.append(pacer.resume_at - now)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    pacer.accepted()
    pacer.refused(pacer.begun(), 4000.0, None)
    assert pacer.resume_at == pytest.approx(4001.0)


def test_pauses_stay_within_their_limit_however_long_a_service_refuses() -> None:
    pacer = JobPacer(PaceRule(ceiling=8))
    for now in range(0, 200_000, 100):
        pacer.refused(pacer.begun(), now, None)
        pacer.back()
    assert pacer.resume_at == now + pacer.rule.pause_longest_s


def test_jobs_of_an_earlier_run_make_one_trouble_of_one_outage() -> None:
    pacer = JobPacer(PaceRule(ceiling=20, adaptive=False))
    for now in range(2000):
        pacer.refused(None, now, None)
    assert pacer.limit == 10
    assert pacer.resume_at == now + pacer.rule.pause_first_s


def test_a_fixed_number_is_kept_whatever_the_durations_and_comes_back_after_a_refusal() -> None:
    pacer = JobPacer(PaceRule(ceiling=20, adaptive=False))
    assert pacer.limit == 20
    Server(pacer, capacity=1).do(100)
    assert pacer.limit == 20
    pacer.refused(None, now=0.0, retry_after_s=None)
    while pacer.outstanding:
        pacer.back()
    assert pacer.limit == 10
    for _ in range(10):
        pacer.accepted()
    assert pacer.limit == 20
