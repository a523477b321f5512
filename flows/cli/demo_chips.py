"""The demo's chips: some are missing or broken, and the sandbox's service has one of each trouble in store."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli import console, options

if TYPE_CHECKING:
    from deployments.sandbox.cassandra import Node
    from tasks.chips.campaign import Campaign
    from tasks.chips.grid import Chip
    from tasks.chips.report import Standing

TILE, WINDOW = "H05V03", "0:6,0:4"

_PACE = {**options.SANDBOX_PACE, "wait_limit_s": 45, "max_attempts": 3}
"""A chip that only waits for longer than 45 s is left to a person; at the real service that takes days."""

_PATIENCE_S = 100.0
"""The run waits no longer than that for what it asked for."""

_SECONDS_BETWEEN_LOOKS = 0.5
_TROUBLES: tuple[tuple[int, int, str, dict[str, Any]], ...] = (
    (4, 0, "23 of its rows are lost, once", {"rows_lost": 23, "times": 1}),
    (4, 1, "the same 40 rows are lost each time", {"rows_lost": 40, "same": True}),
    (4, 2, "the algorithm fails on 5 pixels", {"failed_pixels": 5}),
    (4, 3, "there are no input data for it", {"no_data": True}),
    (3, 1, "its worker dies half way and starts over", {"crash_at": 3000, "times": 1}),
    (3, 3, "the service queues it and then answers 500", {"error_after_publish": True, "times": 1}),
    (2, 2, "the service queues it and the answer is lost", {"drop": True, "times": 1}),
    (5, 0, "its worker dies of it each time (poison)", {"crash_loop": True}),
    (
        5,
        1,
        "a worker of another version takes it",
        {"other_version": "lcmap-pyccd:2017.6.8"},
    ),
    (5, 2, "the service takes 3 s to answer", {"slow_answer_s": 3, "times": 1}),
)
"""Row and column of a chip, what goes wrong with it, and that as the service's plan says it."""


def demo_chips(node: "Node", out: Path) -> None:
    """Look at some chips of the sandbox, make trouble, and bring them home.

    Args:
        node: the sandbox's table.
        out: folder that files go to.
    """
    console.say("\nCHIPS: the north-west corner of tile H05V03, 24 chips of 100 x 100 pixels.")
    _use_the_sandbox_alone(node, out)
    work = _campaign()

    console.say("\n1. A first look: which chips are there?")
    counted = _tile("count", work)
    console.show_states(counted["states"], f"Tile {TILE}")

    console.say("\n2. Trouble is made, the first time only.")
    _make_trouble()

    console.say("\n3. A run: save what is home, ask for what is missing, wait, and ask again where that can help.")
    with _told(work):
        summary = _tile("run", work)
    if not summary["requested"]:
        console.say("Nothing was asked for: no chip is left for which asking would help.")

    console.say("\n4. How it ended.")
    _show_end(work, summary, out)


def _use_the_sandbox_alone(node: "Node", out: Path) -> None:
    """Leave out whatever services and pace the settings name: the demo touches none of the user's."""
    from deployments.sandbox import world

    for name in [name for name in os.environ if name.startswith("OVERLANDER_CASSANDRA_")]:
        del os.environ[name]
    options.use_sandbox(node)
    options.settle(
        algorithm=world.ALGORITHM,
        ledger=str(world.ledger_file()),
        keyspace=node.keyspace,
        out=out,
        service_url=world.service_url(),
    )
    os.environ.update({f"OVERLANDER_{name.upper()}": str(value) for name, value in _PACE.items()})


def _campaign() -> "Campaign":
    from tasks.chips.campaign import tile_campaign_of

    return tile_campaign_of(TILE, window=WINDOW, name="demo")


def _make_trouble() -> None:
    from deployments.sandbox import world

    place = {(row, column): (what, plan) for row, column, what, plan in _TROUBLES}
    if world.give_troubles({_chip(*where): [plan] for where, (_, plan) in place.items()}):
        console.say("  The service of the sandbox will misbehave. When it is asked for the chip at")
        for (row, column), (what, _) in place.items():
            console.say(f"    row {row}, column {column}: {what}.")
    else:
        console.say("  It was made before: the service misbehaves as it did, and nothing is added.")
    if world.renew_one():
        console.say("  And somebody else asks for the chip at row 0, column 0 again, though it was complete.")


def _chip(row: int, column: int) -> "Chip":
    from tasks.chips.grid import REGIONS, tile_named

    return tile_named(TILE, REGIONS["conus"]).chip(row, column)


def _tile(mode: str, work: "Campaign") -> dict[str, Any]:
    from flows.cli.run import run_tile

    return run_tile(
        mode,
        {
            "tile": TILE,
            "window": WINDOW,
            "algorithm": work.algorithm,
            "out": work.layout.root,
            "campaign": work.name,
            "deadline_hours": _PATIENCE_S / 3600,
        },
    )


@contextmanager
def _told(work: "Campaign") -> Iterator[None]:
    """Say in a line what becomes of each chip, as the ledger hears of it."""
    ended = threading.Event()
    known = _states(_standing(work))

    def watch() -> None:
        last = False
        while not last:
            last = ended.wait(_SECONDS_BETWEEN_LOOKS)
            found = _standing(work)
            _say_changes(found, known)
            known.update(_states(found))

    thread = threading.Thread(target=watch, name="story", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _say_changes(found: "Standing", known: Mapping[tuple[int, int], tuple[str, int]]) -> None:
    for line in found.lines:
        before, attempts = known[line.row, line.column]
        if (before, attempts) != (line.state, line.attempts):
            asked = f", asked for {_times(line.attempts)}" if line.attempts > attempts else ""
            reason = f": {line.reason}" if line.reason else ""
            console.say(f"  row {line.row}, column {line.column}: {before} -> {line.state}{asked}{reason}")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _states(found: "Standing") -> dict[tuple[int, int], tuple[str, int]]:
    return {(line.row, line.column): (line.state, line.attempts) for line in found.lines}


def _standing(work: "Campaign") -> "Standing":
    from tasks.chips.heal import rules_of
    from tasks.chips.report import standing
    from tasks.ledger.chips import find_tiles
    from tasks.ledger.store import Ledger
    from tasks.settings import load_settings

    settings = load_settings()
    with Ledger.open(settings.ledger_place, create=False) as kept, kept.read() as ledger:
        ground = find_tiles(ledger, work.tile.region.name, work.tile.name, work.algorithm)[0].ground
        return standing(ledger, ground, work.tile, work.chips, work.layout.root, rules_of(settings))


def _show_end(work: "Campaign", summary: Mapping[str, Any], out: Path) -> None:
    from tasks.chips.states import HOME

    found = _standing(work)
    console.show(found, f"Tile {TILE}: {summary['seconds']:.1f} s")
    away: Sequence[Any] = [line for line in found.lines if line.state not in HOME]
    if away:
        console.say(f"{console.counted(len(away), 'chip')} not home:")
    for line in away:
        console.say(
            f"  row {line.row}, column {line.column} ({line.chip_x},{line.chip_y}): {line.state}, requested "
            f"{_times(line.attempts)}. {line.reason} It {line.next_step}."
        )
    console.show_outcome({**summary, "files": {"folder": out.absolute(), **summary["files"]}})
    console.say(f"`overlander tile status {TILE} --window {WINDOW}` says the same later, from the ledger alone.")
