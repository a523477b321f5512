"""When a job is looked at, and when it is given up: numbers in, numbers out."""

import random
import statistics
from dataclasses import replace

import pytest

from tasks.polygons.jobs import Remote
from tasks.polygons.polling import Durations, Watch, limit_reached, wait_s
from tasks.polygons.rules import Rules

RULES = Rules()
CALM = Watch(age_s=10, in_phase_s=10, quiet_s=10, others_ended_s=10)


def follow(durations_s: list[float]) -> tuple[list[float], int]:
    """Look at jobs one after the other as a run would; return how late each end was seen, and all looks."""
    chance = random.Random(1)
    seen = Durations()
    late_s, looks = [], 0
    for duration_s in durations_s:
        age_s, mine = 0.0, 0
        while age_s < duration_s or mine == 0:
            age_s += wait_s(age_s, mine, seen.quick_s, RULES, chance.random())
            mine += 1
        seen.note(age_s)
        late_s.append(age_s - duration_s)
        looks += mine
    return late_s, looks


@pytest.mark.parametrize("longest_s", [4.0, 10.0, 60.0, 600.0, 3600.0])
def test_ends_are_seen_soon_with_fewer_looks_than_every_two_seconds(longest_s: float) -> None:
    chance = random.Random(2)
    durations_s = [chance.uniform(longest_s / 4, longest_s) for _ in range(300)]
    late_s, looks = follow(durations_s)
    assert looks < sum(-(-duration_s // 2) for duration_s in durations_s)
    too_late = [late - max(2.0, 0.1 * lasted) for late, lasted in zip(late_s, durations_s, strict=True)]
    assert statistics.median(too_late) <= 0


def test_jobs_that_nearly_always_take_minutes_are_not_looked_at_every_few_seconds() -> None:
    _, looks = follow([150.0 + number % 7 for number in range(100)])
    assert looks < 800  # every two seconds: 7,650


def test_no_pause_is_longer_than_the_longest() -> None:
    assert wait_s(1e5, 50, 1e6, RULES, 1) == RULES.poll_longest_s


def test_a_job_waits_in_the_queue_as_long_as_others_end() -> None:
    stuck = replace(CALM, age_s=5000, in_phase_s=5000, others_ended_s=5000)
    reached = limit_reached(Remote.ACCEPTED, stuck, RULES)
    assert reached is not None
    assert reached[0] == "AcceptedLimit"
    assert limit_reached(Remote.ACCEPTED, replace(stuck, others_ended_s=60), RULES) is None


def test_each_phase_has_its_own_limit() -> None:
    long = replace(CALM, age_s=8000, in_phase_s=8000, others_ended_s=0)
    assert limit_reached(Remote.ACCEPTED, long, RULES) is None
    for remote in (Remote.RUNNING, Remote.PAUSED):
        reached = limit_reached(remote, long, RULES)
        assert reached is not None
        assert reached[0] == "RunningLimit"
    total = limit_reached(Remote.ACCEPTED, replace(long, age_s=20000), RULES)
    assert total is not None
    assert total[0] == "TotalLimit"


def test_a_percentage_that_does_not_move_is_no_reason_unless_asked_for() -> None:
    quiet = replace(CALM, quiet_s=5000)
    assert limit_reached(Remote.RUNNING, quiet, RULES) is None
    reached = limit_reached(Remote.RUNNING, quiet, replace(RULES, no_progress_s=600))
    assert reached is not None
    assert reached[0] == "NoProgress"
