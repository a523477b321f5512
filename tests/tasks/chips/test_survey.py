"""Where chips stand, by a real table and a ledger, from one run to the next."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from cassandra.cluster import Session

from deployments.sandbox import seed
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM, SEEDED
from tasks.chips.campaign import Campaign, Site
from tasks.chips.grid import PIXELS, REGIONS, Chip, parse_window, tile_named
from tasks.chips.layout import Layout
from tasks.chips.results import ResultsTable
from tasks.chips.states import Look, Record, State
from tasks.chips.survey import Surveyed, survey
from tasks.errors import ServiceTimedOut
from tasks.ledger.chips import recall

Working = Callable[[Campaign], AbstractContextManager[Site]]

REQUESTED = datetime(2026, 5, 1, 6, tzinfo=UTC)


def a_run(window: str = "10,10", algorithm: str = ALGORITHM, **how: object) -> Campaign:
    """A run that begins now, on the seeded tile."""
    tile = tile_named("H05V03", REGIONS["conus"])
    return Campaign(tile, parse_window(window), algorithm, "a test", Layout(Path("out")), **how)


def look_at(working: Working, campaign: Campaign) -> Surveyed:
    with working(campaign) as place:
        return survey(place, campaign.chips)


def known(place: Site) -> dict[Chip, Record]:
    with place.ledger.read() as ledger:
        return recall(ledger, place.ground)


def test_the_states_of_the_seeded_corner_are_as_seeded(working: Working, seeded_node: Node) -> None:
    campaign = a_run("0:4,0:4")
    with working(campaign) as place:
        found = survey(place, campaign.chips)
        states = {chip: record.state.value for chip, record in known(place).items()}
        assert place.progress.surveyed == 16
    assert states == {Chip(chip.chip_x, chip.chip_y): chip.kind for chip in SEEDED}
    assert found.states == Counter(chip.kind for chip in SEEDED)
    assert sum(found.states.values()) == found.counted == len(found.chips) == 16


def test_a_second_run_counts_nothing_that_is_home_or_was_never_requested(
    working: Working, seeded_node: Node
) -> None:
    first = look_at(working, a_run("1:4,3"))  # no_data, complete, unrequested
    second = look_at(working, a_run("1:4,3"))
    assert (first.counted, second.counted) == (3, 0)
    assert second.states == first.states


def test_a_chip_that_waits_is_counted_in_each_run(working: Working, seeded_node: Node) -> None:
    counted = [look_at(working, a_run("2:4,1:3")).counted for _ in range(2)]
    assert counted == [4, 2]  # two are complete; the incomplete and the queued one may have moved


def test_recount_counts_every_chip(working: Working, seeded_node: Node) -> None:
    look_at(working, a_run("1,1:4"))
    recounted = look_at(working, a_run("1,1:4", recount=True))
    assert recounted.counted == 3
    assert recounted.states == {"flawed": 1, "complete": 1, "no_data": 1}


def test_a_flawed_chip_that_was_not_counted_again_still_knows_its_failed_pixels(
    working: Working, seeded_node: Node
) -> None:
    for _ in range(2):
        with working(campaign := a_run("1,1")) as place:
            survey(place, campaign.chips)
            assert known(place)[campaign.chips[0]].failed == tuple(range(137, PIXELS, 270))


def test_what_the_runs_of_one_tile_learn_is_one(working: Working, seeded_node: Node) -> None:
    look_at(working, a_run("0,0:2"))
    with working(campaign := a_run("0,1:3")) as place:
        assert survey(place, campaign.chips).counted == 1
        assert len(known(place)) == 3


@pytest.mark.parametrize("hours", [-6, 10], ids=["worker at UTC-6", "worker at UTC+10"])
def test_a_renewed_chip_is_stale_then_running_then_complete_whatever_the_workers_clock(
    hours: int, working: Working, writing: Session
) -> None:
    algorithm = f"lcmap-pyccd:test-renewed{hours:+}"
    (chip,) = a_run().chips
    clock = timedelta(hours=hours)
    seed.write_chip(
        *(writing, chip.x, chip.y),
        results=["[]"],
        algorithm=algorithm,
        update_requested=REQUESTED,
        produced_from=REQUESTED + clock,
    )
    assert look_at(working, a_run(algorithm=algorithm)).states == {"complete": 1}

    again = REQUESTED + timedelta(hours=1)  # long before the clock of a worker at UTC+10, long after UTC-6's
    seed.request_again(writing, chip.x, chip.y, algorithm, again)
    stale = look_at(working, a_run(algorithm=algorithm))
    assert (stale.states, stale.counted) == ({"stale": 1}, 1)

    rows = seed.rows_of(chip.x, chip.y, results=["[1]"], produced_from=again + clock)
    seed.write_rows(writing, chip.x, chip.y, algorithm, islice(rows, 300))
    assert look_at(working, a_run(algorithm=algorithm)).states == {"running": 1}

    seed.write_rows(writing, chip.x, chip.y, algorithm, rows)
    assert look_at(working, a_run(algorithm=algorithm)).states == {"complete": 1}


def test_a_chip_moves_on_as_its_rows_arrive(working: Working, writing: Session) -> None:
    algorithm = "lcmap-pyccd:test-arriving"
    (chip,) = a_run().chips
    rows = seed.rows_of(chip.x, chip.y, results=["[]"], produced_from=REQUESTED)
    states = []

    def look() -> None:
        states.extend(look_at(working, a_run(algorithm=algorithm)).states)

    look()
    seed.write_ticket(writing, chip.x, chip.y, algorithm, REQUESTED)
    look()
    seed.write_rows(writing, chip.x, chip.y, algorithm, islice(rows, 400))
    look()
    lost = next(rows)
    seed.write_rows(writing, chip.x, chip.y, algorithm, rows)
    look()
    seed.write_rows(writing, chip.x, chip.y, algorithm, [lost])
    look()
    assert states == ["unrequested", "queued", "running", "incomplete", "complete"]


def test_a_chip_whose_rows_do_not_move_has_stalled_after_the_time_that_is_set(
    working: Working, writing: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = "lcmap-pyccd:test-stalled"
    (chip,) = a_run().chips
    rows = seed.rows_of(chip.x, chip.y, results=["[]"], produced_from=REQUESTED)
    seed.write_rows(writing, chip.x, chip.y, algorithm, islice(rows, 100))
    assert look_at(working, a_run(algorithm=algorithm)).states == {"running": 1}
    assert look_at(working, a_run(algorithm=algorithm)).states == {"running": 1}
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "0.000001")
    assert look_at(working, a_run(algorithm=algorithm)).states == {"stalled": 1}
    seed.write_rows(writing, chip.x, chip.y, algorithm, islice(rows, 1))
    assert look_at(working, a_run(algorithm=algorithm)).states == {"running": 1}


class Impatient:
    """Has the look at one chip time out as long as it is set to; writes down which chips were looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chip: Chip) -> None:
        self.times_out = True
        self.looked: list[Chip] = []
        look = ResultsTable.look

        def impatient_look(table: ResultsTable, one: Chip, algorithm: str) -> Look:
            self.looked.append(one)
            if one == chip and self.times_out:
                raise ServiceTimedOut("Cassandra did not answer in time.")
            return look(table, one, algorithm)

        monkeypatch.setattr(ResultsTable, "look", impatient_look)


def test_a_chip_that_cannot_be_looked_at_does_not_lose_the_looks_at_the_others(
    working: Working, seeded_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = a_run("0,0:4")
    Impatient(monkeypatch, campaign.chips[1])
    with working(campaign) as place:
        with pytest.raises(ServiceTimedOut):
            survey(place, campaign.chips)
        assert set(known(place)) == {campaign.chips[0], *campaign.chips[2:]}
        assert {record.state for record in known(place).values()} == {State.COMPLETE}
        assert place.pacer.limit < place.pacer.rule.ceiling


def test_a_retry_within_a_run_looks_only_at_what_is_left(
    working: Working, seeded_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = a_run("0,0:3")
    impatient = Impatient(monkeypatch, campaign.chips[1])
    with working(campaign) as place:
        with pytest.raises(ServiceTimedOut):
            survey(place, campaign.chips)
        impatient.times_out = False
        impatient.looked.clear()
        found = survey(place, campaign.chips)
        assert impatient.looked == [campaign.chips[1]]
        assert (found.counted, found.states) == (1, {"complete": 3})


def test_a_run_that_is_being_stopped_begins_no_further_look(working: Working, seeded_node: Node) -> None:
    campaign = a_run("0,0:2")
    with working(campaign) as place:
        place.stopping.set()
        assert survey(place, campaign.chips).counted == 0
        assert known(place) == {}
