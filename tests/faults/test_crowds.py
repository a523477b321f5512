"""Two runs at once, and a long queue behind a clock that is far off: one request a chip."""

import json
from collections.abc import Callable

import pytest

from tasks.chips.campaign import tile_campaign_of
from tests.faults.conftest import AtDesk
from tests.service_desk import Service

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

TILE, WINDOW = "H05V03", "48:50,0:3"


def requests_a_chip(service: Service) -> list[list[bool]]:
    chips = tile_campaign_of(TILE, window=WINDOW, algorithm=service.algorithm).chips
    return [service.refreshes(chip) for chip in chips]


def test_two_runs_started_together_send_no_more_requests_than_one(
    service_named: Callable[[str], Service], at_desk: AtDesk
) -> None:
    service = service_named("test:two-at-once")
    desk = at_desk(service, "two")
    command = ("tile", "run", TILE, "--window", WINDOW, "--json")

    runs = [desk.start(*command) for _ in range(2)]
    ended = [run.communicate(timeout=300) for run in runs]

    assert sorted(run.returncode for run in runs) == [0, 3], ended
    (summary,) = (json.loads(out) for out, _ in ended if out)
    assert (summary["states"]["complete"], summary["requested"]) == (6, 6)
    assert requests_a_chip(service) == [[False]] * 6


def test_a_worker_at_utc_minus_6_with_a_queue_ten_times_as_long_as_our_patience_gets_one_request_a_chip(
    service_named: Callable[[str], Service], at_desk: AtDesk
) -> None:
    service = service_named("test:utc-6")
    desk = at_desk(service, "utc-6")
    service.plan(worker_clock_offset_h=-6, queue_delay_s=30)

    ran = desk.run("tile", "run", TILE, "--window", WINDOW, "--json", OVERLANDER_STALL_AFTER_S="3")

    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["states"]["complete"] == 6
    assert requests_a_chip(service) == [[False]] * 6
