"""What the end of a tile's run tells people who do not look."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import news
from tasks.chips.campaign import tile_campaign_of
from tasks.chips.heal import rules_of
from tasks.chips.report import Standing, standing
from tasks.chips.states import Look, Record, State
from tasks.ledger.chips import remember, use_tile
from tasks.ledger.keys import Ground
from tasks.ledger.store import Ledger
from tasks.settings import load_settings

GROUND = Ground("LCMAP/changes.results", "lcmap-pyccd:2017.08.18", "conus", "H05V03")
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


class Place:
    """A tile of two chips, with what its run's end needs of it."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.settings = load_settings()
        self.ledger, self.ground = ledger, GROUND
        self.campaign = tile_campaign_of(
            "H05V03", window="0:1,0:2", algorithm=GROUND.algorithm, out=folder, settings=self.settings
        )
        ledger.write(lambda writing: use_tile(writing, GROUND, "winter"))

    def now(self, *states: State, since: datetime) -> Standing:
        """Note where the chips stand, and return it."""
        records = {
            chip: Record(state, since, Look(since, ticketed=True))
            for chip, state in zip(self.campaign.chips, states, strict=True)
        }
        self.ledger.write(lambda ledger: remember(ledger, GROUND, records))
        work = self.campaign
        with self.ledger.read() as ledger:
            rules = rules_of(self.settings)
            return standing(ledger, GROUND, work.tile, work.chips, work.layout.root, rules)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Place(tmp_path, ledger)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    found: list[SimpleNamespace] = []

    def emit(**event: Any) -> None:
        found.append(SimpleNamespace(**event))

    monkeypatch.setattr(news, "emit_event", emit)
    return found


def tell(place: Place, before: Standing, after: Standing) -> None:
    news.tell_of_tile(place, before, after)  # type: ignore[arg-type]


def test_a_chip_that_was_given_up_on_is_told_once(place: Place, told: list[SimpleNamespace]) -> None:
    before = place.now(State.COMPLETE, State.INCOMPLETE, since=datetime.now(UTC))
    after = place.now(State.COMPLETE, State.QUARANTINED, since=datetime.now(UTC))

    tell(place, before, after)
    assert [one.event for one in told] == [
        "overlander.campaign.quarantined",
        "overlander.campaign.needs-attention",
    ]
    assert "1 chip more" in told[0].payload["words"]
    assert "overlander tile release" in told[0].payload["words"]
    assert told[0].resource["prefect.resource.name"] == place.campaign.name

    told.clear()
    tell(place, after, after)
    assert [one.event for one in told] == ["overlander.campaign.needs-attention"]


def test_a_tile_on_its_way_is_not_told_of(place: Place, told: list[SimpleNamespace]) -> None:
    found = place.now(State.COMPLETE, State.QUEUED, since=datetime.now(UTC))

    tell(place, found, found)

    assert told == []


def test_a_tile_that_is_home_is_not_told_of(place: Place, told: list[SimpleNamespace]) -> None:
    found = place.now(State.COMPLETE, State.FLAWED, since=LONG_AGO)

    tell(place, found, found)

    assert told == []


def test_a_tile_of_which_nothing_moves_for_long_is_told_of_as_quiet(
    place: Place, told: list[SimpleNamespace]
) -> None:
    found = place.now(State.COMPLETE, State.QUEUED, since=LONG_AGO)

    tell(place, found, found)

    assert [one.event for one in told] == ["overlander.campaign.quiet"]
    assert "nothing has moved for 72 hours" in told[0].payload["words"]
