"""One campaign with every trouble of the service's plan: where each leads, what was sent, what is reported."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deployments.sandbox import cassandra, seed
from flows.tile import tile_campaign
from tasks.chips.campaign import Campaign, tile_campaign_of
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.heal import rules_of
from tasks.chips.report import Standing, standing
from tasks.ledger.chips import find_tiles
from tasks.ledger.store import Ledger
from tasks.report.chips import ChipLine
from tasks.settings import load_settings
from tests.flows.desk import Desk, Ran
from tests.service_desk import QUICK, Service, begin_anew

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(400)]

TILE, WINDOW = "H05V03", "40:43,0:5"
OTHER = "test:another version"
MAX_ATTEMPTS = 3
MOST_RUNS = 12
HURRY = {
    **QUICK,
    "STALL_AFTER_S": "2.5",
    "SERVICE_TIMEOUT_S": "1",
    "MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "EXPORT_PROCESSES": "1",
}

TROUBLES: dict[str, dict[str, Any]] = {
    "none": {},
    "rows lost once": {"rows_lost": 23, "times": 1},
    "same rows lost": {"rows_lost": [17, 4_711]},
    "failed pixels": {"failed_pixels": 5},
    "no data": {"no_data": True},
    "worker dies half way": {"crash_at": 5_000, "times": 1},
    "poison": {"crash_loop": True},
    "another version": {"other_version": OTHER},
    "500, not queued": {"error_before_publish": True, "times": 1},
    "500, queued": {"error_after_publish": True, "times": 1},
    "job lost": {"lost_job": True, "times": 1},
    "proxy's 502, not queued": {"html": 502, "times": 1},
    "proxy's 502, queued": {"html": 502, "queued": True, "times": 1},
    "answer lost": {"drop": True, "times": 1},
    "slow answer": {"slow_answer_s": 2.5, "times": 1},
}
"""What goes wrong with each chip of the window, row by row."""

ONCE, TWICE = [False], [False, True]
ENDS: dict[str, tuple[str, list[bool]]] = {
    "none": ("complete", ONCE),
    "rows lost once": ("complete", TWICE),
    "same rows lost": ("quarantined", TWICE),
    "failed pixels": ("flawed", ONCE),
    "no data": ("no_data", ONCE),
    "worker dies half way": ("complete", ONCE),
    "poison": ("quarantined", [False, True, True]),
    "500, not queued": ("complete", TWICE),
    "500, queued": ("complete", ONCE),
    "job lost": ("complete", TWICE),
    "proxy's 502, not queued": ("complete", TWICE),
    "proxy's 502, queued": ("complete", ONCE),
    "answer lost": ("complete", ONCE),
    "slow answer": ("complete", ONCE),
}
"""Where each ends, and the flags of the requests that were sent. A worker of another version never ends."""


@dataclass(frozen=True)
class Healed:
    """The campaign when no run does anything more.

    Attributes:
        summaries: what each run ended with, the last one's name beside.
        found: where the ledger says that each chip stands.
        status: `overlander tile status` afterwards.
    """

    desk: Desk
    service: Service
    summaries: list[dict[str, Any]]
    name: str
    found: Standing
    status: Ran

    def line(self, trouble: str) -> ChipLine:
        return self.found.lines[list(TROUBLES).index(trouble)]

    def chip(self, trouble: str) -> Chip:
        return Chip(self.line(trouble).chip_x, self.line(trouble).chip_y)


@pytest.fixture(scope="module")
def service(change_results: str) -> Iterator[Service]:
    """The session's service with all troubles, and a queue in which each job waits for some seconds."""
    begin_anew(change_results)  # the test before has left its pace and its queue
    found = Service(change_results, "test:healing")
    found.enable()
    chips = tile_campaign_of(TILE, window=WINDOW, algorithm=found.algorithm).chips
    troubles = {chip: [trouble] for chip, trouble in zip(chips, TROUBLES.values(), strict=True) if trouble}
    found.plan(troubles, short_results=True, workers=2, crash_pause_s=0.2, queue_delay_s=4)  # type: ignore[arg-type]
    yield found
    found.forget()


@pytest.fixture(scope="module")
def healed(shared_desk: Desk, service: Service, prefect_api: str) -> Healed:
    """Run the campaign again and again until nothing is out but what another version took."""
    given = {"OVERLANDER_SERVICE_URL": service.url, "OVERLANDER_ALGORITHM": service.algorithm}
    given |= {f"OVERLANDER_{name}": value for name, value in HURRY.items()}
    summaries: list[dict[str, Any]] = []
    with shared_desk.at_work(**given):
        work = tile_campaign_of(TILE, window=WINDOW)
        while not summaries or summaries[-1]["waiting"] > 1:
            assert len(summaries) < MOST_RUNS, _standing(work).lines
            summaries.append(_run(shared_desk, deadline_hours=15 / 3600)[1])
    with shared_desk.at_work(**given, OVERLANDER_WAIT_LIMIT_S="0.1"):
        name, last = _run(shared_desk)
        found = _standing(work)
    status = shared_desk.run("tile", "status", TILE, "--window", WINDOW, **given, OVERLANDER_WAIT_LIMIT_S="0.1")
    return Healed(shared_desk, service, [*summaries, last], name, found, status)


def _run(desk: Desk, **parameters: Any) -> tuple[str, dict[str, Any]]:
    state = tile_campaign(tile=TILE, window=WINDOW, out=desk.out, return_state=True, **parameters)
    return str(state.name), state.result()


def _standing(work: Campaign) -> Standing:
    settings = load_settings()
    with Ledger.open(settings.ledger_place, create=False) as kept, kept.read() as ledger:
        ground = find_tiles(ledger, work.tile.region.name, work.tile.name, work.algorithm)[0].ground
        return standing(ledger, ground, work.tile, work.chips, work.layout.root, rules_of(settings))


# Each trouble


@pytest.mark.parametrize("trouble", ENDS)
def test_a_trouble_leads_to_its_state(trouble: str, healed: Healed) -> None:
    assert healed.line(trouble).state == ENDS[trouble][0]


@pytest.mark.parametrize("trouble", ENDS)
def test_for_a_trouble_is_sent_what_can_help_and_no_more(trouble: str, healed: Healed) -> None:
    assert healed.service.refreshes(healed.chip(trouble)) == ENDS[trouble][1]


def test_a_chip_that_a_worker_of_another_version_takes_is_waited_for_and_then_left_to_a_person(
    healed: Healed,
) -> None:
    line = healed.line("another version")

    assert line.state == "queued"
    assert line.pixels == 0
    assert 1 <= len(healed.service.received(healed.chip("another version"))) <= MAX_ATTEMPTS
    late = "1 chip of those waited for too long: is the service at work, with the right version?"
    assert late in healed.found.next_steps
    assert (healed.found.waiting, healed.found.needs_person) == (0, 3)


def test_its_rows_lie_under_the_other_version(healed: Healed, seeded_node: cassandra.Node) -> None:
    chip, algorithm = healed.chip("another version"), healed.service.algorithm
    asked = "SELECT count(result_ok) FROM results WHERE chip_x = %s AND chip_y = %s AND algorithm = %s"
    with cassandra.session(seeded_node) as connected:
        counts = [connected.execute(asked, (chip.x, chip.y, name)).one()[0] for name in (OTHER, algorithm)]
    assert counts == [PIXELS, 0]


# What was sent


def test_no_chip_is_requested_more_often_than_its_attempts_allow(healed: Healed) -> None:
    sent = [len(healed.service.received(healed.chip(trouble))) for trouble in TROUBLES]
    assert max(sent) <= MAX_ATTEMPTS
    assert [line.attempts for line in healed.found.lines] == sent


def test_the_first_chip_of_an_unknown_algorithm_goes_alone(healed: Healed) -> None:
    first, second = healed.service.received()[:2]
    assert Chip(first["chip_x"], first["chip_y"]) == healed.chip("none")
    assert second["when"] > healed.service.jobs(healed.chip("none"))[0]["when"]


def test_the_runs_report_every_request_that_the_service_received(healed: Healed) -> None:
    assert sum(summary["requested"] for summary in healed.summaries) == len(healed.service.received())


# The final report


def test_what_is_left_needs_a_person_and_the_last_run_did_nothing_more(healed: Healed) -> None:
    last = healed.summaries[-1]

    assert (healed.name, last["exit_status"]) == ("NeedsAttention", 4)
    assert (last["requested"], last["exported"], last["quarantined"]) == (0, 0, 2)
    assert (
        last["states"] | {"complete": 10, "flawed": 1, "no_data": 1, "quarantined": 2, "queued": 1}
        == (last["states"])
    )


def test_quarantined_chips_say_which_pixels_and_why(healed: Healed) -> None:
    same, poison = healed.line("same rows lost"), healed.line("poison")

    assert (same.missing, poison.missing) == (2, PIXELS - 150)
    assert same.reason == "The same 2 pixels are missing again: asking once more would not help."
    assert poison.reason.startswith("Requested 3 times in vain. Stopped at 150 of 10,000 pixels")
    for line in (same, poison):
        assert line.next_step == "is left alone until `overlander tile release`"


def test_every_chip_that_is_home_is_saved_where_it_belongs(healed: Healed) -> None:
    files = {trouble: healed.line(trouble).file for trouble in TROUBLES}
    saved = {trouble for trouble, file in files.items() if file is not None}

    assert saved == {trouble for trouble, (state, _) in ENDS.items() if state in ("complete", "flawed")}
    assert "flawed/" in str(files["failed pixels"])
    for trouble in saved:
        rows = json.loads((healed.desk.out / str(files[trouble])).read_text())
        assert len(rows) == PIXELS
        failed = sum(row["result"] == seed.FAILED_RESULT for row in rows)
        assert failed == (5 if trouble == "failed pixels" else 0)


def test_the_command_says_the_same_from_the_ledger_alone(healed: Healed) -> None:
    words = " ".join(healed.status.err.split())

    assert healed.status.status == 4
    assert "2 chips in need of a person" in words
    assert "waited for too long" in words
