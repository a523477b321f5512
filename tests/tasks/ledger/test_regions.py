"""What the ledger keeps of a region's campaign: its tiles, and each run of them that was asked for."""

from pathlib import Path

from tasks.chips.states import State
from tasks.ledger.regions import (
    RegionGround,
    choose_tiles,
    chosen_tiles,
    known_tiles,
    last_passes,
    last_source,
    note_asked,
    note_ended,
    note_pass,
)
from tasks.ledger.store import Ledger
from tests.tasks.region_desk import ALGORITHM, SOURCE, RegionDesk

GROUND = RegionGround(SOURCE, ALGORITHM, "conus", "the west")
OTHER = RegionGround(SOURCE, ALGORITHM, "conus", "the east")


def test_passes_of_a_tile_count_upwards_each_with_a_key_of_its_own(ledger: Ledger) -> None:
    asked = [ledger.write(lambda change: note_pass(change, GROUND, "H05V03")) for _ in range(3)]
    elsewhere = ledger.write(lambda change: note_pass(change, OTHER, "H05V03"))

    assert [one.number for one in [*asked, elsewhere]] == [1, 2, 3, 1]
    assert len({one.key for one in [*asked, elsewhere]}) == 4
    with ledger.read() as reading:
        assert last_passes(reading, GROUND) == {"H05V03": asked[-1]}


def test_what_became_of_a_pass_is_kept_with_it(ledger: Ledger) -> None:
    first = ledger.write(lambda change: note_pass(change, GROUND, "H05V03"))
    ledger.write(lambda change: note_asked(change, GROUND, first, "an-id", "H05V03 run"))
    ledger.write(lambda change: note_ended(change, GROUND, first, "Crashed", "The worker died."))

    with ledger.read() as reading:
        kept = last_passes(reading, GROUND)["H05V03"]
    assert (kept.flow_run, kept.flow_run_name) == ("an-id", "H05V03 run")
    assert (kept.outcome, kept.message, kept.key) == ("Crashed", "The worker died.", first.key)


def test_a_campaigns_tiles_are_those_it_was_last_run_with_in_their_order(ledger: Ledger) -> None:
    ledger.write(lambda change: choose_tiles(change, GROUND, ["H09V09", "H05V03"]))
    ledger.write(lambda change: note_pass(change, GROUND, "H09V09"))
    ledger.write(lambda change: choose_tiles(change, GROUND, ["H05V04", "H05V03"]))

    with ledger.read() as reading:
        assert chosen_tiles(reading, GROUND) == ["H05V04", "H05V03"]
        assert chosen_tiles(reading, OTHER) == []
        assert list(last_passes(reading, GROUND)) == ["H09V09"]


def test_the_table_that_a_region_was_last_looked_at_in_is_known(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.read() as reading:
        assert last_source(reading, ALGORITHM, "conus") is None
    RegionDesk(ledger, tmp_path).use("H05V03")
    with ledger.read() as reading:
        assert last_source(reading, ALGORITHM, "conus") == SOURCE
        assert last_source(reading, "another:1", "conus") is None
        assert known_tiles(reading, GROUND) == ["H05V03"]


def test_tiles_are_counted_alike_in_every_database(ledger: Ledger, tmp_path: Path) -> None:
    desk = RegionDesk(ledger, tmp_path)
    desk.finish("H05V03")
    chips = desk.note("H05V04", [State.COMPLETE, State.QUEUED, State.COMPLETE])
    desk.save("H05V04", chips[:1], problem="The results of 2 pixels do not match their md5.")

    finished, begun, untouched = desk.standing("H05V03", "H05V04", "H05V05").lines

    assert (finished.condition, begun.condition, untouched.condition) == ("finished", "open", "unknown")
    assert (begun.home, begun.saved, begun.waiting, begun.unsaved, begun.needs_person) == (2, 0, 2, 1, 1)
