"""A run that means fewer polygons than the campaign has: it follows every job, and sends none but its own."""

from pathlib import Path

from tasks.ledger.claims import run_on
from tasks.ledger.store import Ledger
from tasks.ledger.tally import open_units
from tasks.polygons.dispatch import Dispatcher
from tests.polygon_desk import (
    CAMPAIGN,
    LIMIT_S,
    QUICK,
    URL,
    FakeService,
    accepted,
    by_id,
    dispatching,
    failed,
    feature,
    load,
    rows,
    running,
)


def test_jobs_of_others_are_followed_and_not_sent_again_when_they_fail(tmp_path: Path) -> None:
    place = f"{URL}/p0/1"
    service = FakeService(says={place: [running(), failed()]}, script={"p0": [accepted(place)]})
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        series, units = load(ledger, [feature(0), feature(1)])
        with dispatching(ledger, series, FakeService(says={place: [running()]}), tmp_path, QUICK, by_id) as first:
            first.dispatch(units[:1], 0.3)

        with (
            run_on(ledger, CAMPAIGN, "a narrower run") as lease,
            Dispatcher(
                ledger,
                lease,
                [one.number for one in series],
                service,
                by_id,
                QUICK,
                tmp_path,
                may_send={units[1]}.__contains__,
            ) as second,
        ):
            second.dispatch(units, LIMIT_S)

        assert {name: row.own for name, row in rows(ledger).items()} == {"p0": "pending", "p1": "done"}
        assert service.received == ["p1"]


def test_jobs_in_flight_come_before_all_that_is_to_be_sent(tmp_path: Path) -> None:
    place = f"{URL}/p3/1"
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        series, units = load(ledger, [feature(number) for number in range(4)])
        with dispatching(ledger, series, FakeService(says={place: [running()]}), tmp_path, QUICK, by_id) as first:
            first.dispatch(units[3:], 0.3)

            with ledger.read() as reading:
                found = open_units(reading, [series[0].number], set(units), first.terms)

    assert (found.units, found.to_send) == ([units[3], *units[:3]], 3)
