"""Runs without Prefect: a site, surveyed, that asks and watches as the flow does."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.chips.campaign import Campaign, Site
from tasks.chips.grid import REGIONS, Chip, parse_window, tile_named
from tasks.chips.layout import Layout
from tasks.chips.request import Requested, decide, request
from tasks.chips.settle import settle
from tasks.chips.states import Look, Record, State
from tasks.chips.survey import look_again, survey
from tasks.ledger.chips import recall, remember, use_tile
from tasks.ledger.keys import Ground
from tests.service_desk import PATIENCE_S, Service, await_that

Working = Callable[[Campaign], AbstractContextManager[Site]]


@contextmanager
def a_run(working: Working, service: Service, window: str = "30,30", *, pilot: bool = False) -> Iterator[Site]:
    """A run of a few chips, surveyed; but for `pilot`, its algorithm is known to work on another tile."""
    tile = tile_named("H05V03", REGIONS["conus"])
    campaign = Campaign(tile, parse_window(window), service.algorithm, "a test", Layout(Path("out")))
    with working(campaign) as place:
        place.ledger.write(lambda ledger: use_tile(ledger, place.ground, campaign.name))
        if not pilot:
            _seen_elsewhere(place)
        survey(place, campaign.chips)
        yield place


def _seen_elsewhere(place: Site) -> None:
    ground = Ground(place.ground.source, place.ground.algorithm, "conus", "H01V01")
    now = datetime.now(UTC)
    seen = Record(State.COMPLETE, now, Look(now, ticketed=True, pixels=10_000, some_good=True))
    place.ledger.write(lambda ledger: remember(ledger, ground, {Chip(-2415585, 3164805): seen}))


def ask(place: Site, **how: Any) -> Requested:
    """Ask for what there is to ask for."""
    asking = decide(place, **how)
    return request(place, list(asking.steps.items()), asking.at)


def look(place: Site) -> dict[Chip, Record]:
    """Look at every chip now, as the next run would."""
    for chip, record in known(place).items():
        seen = look_again(place, chip, record)
        place.ledger.write(lambda ledger, chip=chip, seen=seen: remember(ledger, place.ground, {chip: seen}))
    return known(place)


def bring_home(place: Site, until: Callable[[], bool] = lambda: False) -> None:
    """Ask, watch and ask again until nothing is left to do, or something is so."""

    def is_done() -> bool:
        asking = decide(place)
        request(place, list(asking.steps.items()), asking.at)
        seen = settle(place, 1.0, first_rows=asking.pilot)
        return until() or not (asking.steps or seen.home or seen.ended or seen.out)

    await_that(is_done, PATIENCE_S)


def known(place: Site) -> dict[Chip, Record]:
    """Return what the ledger keeps of the tile's chips."""
    with place.ledger.read() as ledger:
        return recall(ledger, place.ground)


def only(place: Site) -> Record:
    """Return what the ledger keeps of the only chip."""
    (record,) = known(place).values()
    return record


def states(place: Site) -> list[str]:
    """Return the states of the campaign's chips, row by row."""
    return [known(place)[chip].state.value for chip in place.campaign.chips]
