"""A polygon campaign in the ledger: loaded once, told by what the source says, left when changed."""

from dataclasses import replace

import pytest

from tasks.errors import BadInput
from tasks.ledger.claims import Terms, claim
from tasks.ledger.polygons import Loader, campaign_note, latest_series
from tasks.ledger.store import Ledger
from tasks.ledger.tally import open_units
from tasks.ledger.units import Own, counts, note, retry
from tests.polygon_desk import CAMPAIGN, URL, YEAR, feature, load, rows

EVERY_UNIT = range(1_000_000)


def done(ledger: Ledger, units: list[int]) -> None:
    for unit in units:
        ledger.write(lambda connection, unit=unit: note(connection, unit, {"own": Own.DONE.value}))


def waiting(ledger: Ledger, numbers: list[int]) -> int:
    with ledger.read() as connection:
        return open_units(connection, numbers, EVERY_UNIT, Terms("run")).to_send


def test_features_become_units_in_the_source_s_order_each_interval_apart(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(n) for n in range(3)], intervals=["2010/2011", "2011/2012"])
    assert [one.interval for one in of_series] == ["2010/2011", "2011/2012"]
    assert len(set(units)) == 6
    with ledger.read() as connection:
        assert open_units(connection, [one.number for one in of_series], EVERY_UNIT, Terms("run")).units == units
        assert counts(connection, [one.number for one in of_series]).own[Own.PENDING] == 6


def test_what_is_there_is_not_loaded_again(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(n) for n in range(5)])
    done(ledger, units)
    assert load(ledger, [feature(n) for n in range(5)]) == (of_series, units)
    assert waiting(ledger, [one.number for one in of_series]) == 0


def test_another_rounding_of_the_same_source_sends_nothing_again(ledger: Ledger) -> None:
    found = feature(1)
    of_series, units = load(ledger, [found])
    done(ledger, units)
    assert found.geometry is not None
    rounded = replace(found, geometry=found.geometry.replace("145.01", "145.0100001"))
    assert load(ledger, [rounded])[1] == units
    assert waiting(ledger, [one.number for one in of_series]) == 0


def test_new_rows_of_the_source_join_a_campaign_that_is_under_way(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(n) for n in range(3)])
    done(ledger, units)
    _, more = load(ledger, [feature(n) for n in range(5)])
    assert more[:3] == units
    assert waiting(ledger, [one.number for one in of_series]) == 2


def test_a_changed_polygon_is_reported_and_left(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(0), feature(1)])
    done(ledger, units)
    loader = Loader(ledger, CAMPAIGN, "OBJECTID", of_series)
    (loaded,) = loader.load([feature(0, shape=77), feature(1), feature(2)])
    assert (loaded.changed, loaded.new, loaded.same) == (("p0",), 1, 1)
    assert units[0] not in loaded.units
    assert waiting(ledger, [one.number for one in of_series]) == 1


def test_a_changed_polygon_that_is_accepted_is_sent_and_the_old_one_is_no_more_in_the_results(
    ledger: Ledger,
) -> None:
    of_series, units = load(ledger, [feature(0), feature(1)])
    done(ledger, units)
    _, changed = load(ledger, [feature(0, shape=77), feature(1)], accept_changes=True)
    assert changed[0] != units[0]
    assert changed[1] == units[1]
    assert waiting(ledger, [one.number for one in of_series]) == 1
    with ledger.read() as connection:
        assert counts(connection, [one.number for one in of_series]).units == 2
    assert rows(ledger)["p0"].unit == changed[0]


def test_a_polygon_that_changes_back_has_its_old_result_again(ledger: Ledger) -> None:
    _, units = load(ledger, [feature(0)])
    done(ledger, units)
    load(ledger, [feature(0, shape=77)], accept_changes=True)
    assert load(ledger, [feature(0)], accept_changes=True)[1] == units
    assert rows(ledger)["p0"].own == "done"


def test_without_an_id_field_polygons_are_told_by_their_geometry_wherever_they_stand(ledger: Ledger) -> None:
    numbered = [feature(n, id=str(n)) for n in range(3)]
    _, units = load(ledger, numbered, identity="")
    one_before = [feature(0, shape=50, id="0")]
    shifted = one_before + [replace(each, number=each.number + 1, id=str(each.number + 1)) for each in numbered]
    _, more = load(ledger, shifted, identity="")
    assert more[1:] == units
    assert rows(ledger)["3"].unit == units[2]


def test_without_an_id_field_equal_polygons_are_units_of_their_own(ledger: Ledger) -> None:
    twins = [feature(n, shape=7, id=str(n)) for n in range(3)]
    _, units = load(ledger, twins, identity="")
    assert len(set(units)) == 3
    assert load(ledger, twins, identity="")[1] == units


def test_a_campaign_does_not_change_how_it_tells_its_polygons(ledger: Ledger) -> None:
    load(ledger, [feature(0)], identity="OBJECTID")
    with pytest.raises(BadInput, match=r"their field OBJECTID.*their geometry.*--campaign"):
        load(ledger, [feature(0)], identity="")


def test_another_service_and_another_interval_are_other_work(ledger: Ledger) -> None:
    _, here = load(ledger, [feature(0)])
    there_series, there = load(ledger, [feature(0)], url=f"{URL}/other")
    _, later = load(ledger, [feature(0)], intervals=["2011-01-01/2012-01-01"])
    assert len({*here, *there, *later}) == 3
    load(ledger, [feature(0)], url=f"{URL}/other")
    with ledger.read() as connection:
        assert latest_series(connection, CAMPAIGN) == there_series


def test_a_polygon_that_cannot_be_sent_is_a_failed_unit_until_it_is_repaired(ledger: Ledger) -> None:
    broken = feature(0, geometry=None, problem="It crosses itself at 145.1 -20.2.")
    _, units = load(ledger, [broken])
    row = rows(ledger)["p0"]
    assert (row.own, row.error_class, row.error_text) == ("failed", "BadGeometry", broken.problem)
    assert ledger.write(lambda connection: retry(connection, units, [Own.FAILED])) == 0
    assert load(ledger, [replace(feature(0), note="repaired")])[1] == units
    assert rows(ledger)["p0"].own == "pending"
    claimed = ledger.write(lambda connection: claim(connection, units, Terms("run"), url=URL, limit=9))
    assert claimed.taken[0].geometry == feature(0).geometry
    assert claimed.taken[0].interval == YEAR


def test_what_failed_is_sent_again_when_a_person_says_so_with_all_its_attempts(ledger: Ledger) -> None:
    _, units = load(ledger, [feature(n) for n in range(3)])
    columns = {"own": Own.FAILED.value, "attempts": 2, "error_class": "x", "error_text": "y"}
    ledger.write(lambda connection: note(connection, units[0], columns))
    done(ledger, units[1:])
    assert ledger.write(lambda connection: retry(connection, units, [Own.FAILED, Own.GIVEN_UP])) == 1
    row = rows(ledger)["p0"]
    assert (row.own, row.attempts, row.error_text) == ("pending", 0, "")


def test_a_campaign_is_told_with_its_source(ledger: Ledger) -> None:
    load(ledger, [feature(0)])
    with ledger.read() as connection:
        found = campaign_note(connection, CAMPAIGN)
        assert campaign_note(connection, "another") is None
    assert found is not None
    assert (found.source, found.identity) == ("wetlands.zip", "OBJECTID")


def test_a_run_sends_only_what_it_selected_and_follows_whatever_is_at_work(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(n) for n in range(4)])
    numbers = [one.number for one in of_series]
    ledger.write(lambda connection: note(connection, units[0], {"own": Own.IN_FLIGHT.value}))
    ledger.write(lambda connection: note(connection, units[1], {"own": Own.DONE.value}))
    with ledger.read() as connection:
        found = open_units(connection, numbers, {units[1], units[3]}, Terms("run"))
    assert (found.units, found.to_send) == ([units[0], units[3]], 1)


def test_a_plan_foretells_what_loading_would_leave_to_be_sent_and_keeps_nothing(ledger: Ledger) -> None:
    of_series, units = load(ledger, [feature(n) for n in range(3)])
    done(ledger, units[:1])
    bad = feature(5, geometry=None, problem="it has no geometry")
    found = [feature(0), feature(1, shape=9), feature(2), feature(4), bad]
    loader = Loader(ledger, CAMPAIGN, "OBJECTID", of_series)
    (foreseen,) = loader.foresee(found)
    assert (foreseen.new, foreseen.changed, foreseen.to_send) == (2, 1, 2)
    assert len(rows(ledger)) == 3
