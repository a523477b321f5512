"""Dispatch with the real client at a scripted WPS: faults as they come over the wire, counted at the service."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own
from tasks.polygons.exchange import WpsRules
from tasks.polygons.rules import Rules
from tasks.polygons.service import WpsService
from tests.polygon_desk import LIMIT_S, QUICK, dispatching, feature, load, rows

PROMPT = replace(QUICK, concurrency=16, poll_s=0.05, poll_longest_s=0.2)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def run(
    ledger: Ledger, wps: ScriptedWps, folder: Path, polygons: int, rules: Rules = PROMPT, timeout_s: float = 5.0
) -> Counter[str]:
    """Run in four batches at once; return how many units are in each own status."""
    of_series, units = load(ledger, [feature(number) for number in range(polygons)], url=wps.url)
    service = WpsService(wps.url, WpsRules(max_connections=rules.connections, timeout_s=timeout_s))
    batches = [units[first::4] for first in range(4)]
    with dispatching(ledger, of_series, service, folder, rules) as dispatcher, ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda batch: dispatcher.dispatch(batch, LIMIT_S), batches):
            pass
    return Counter(row.own for row in rows(ledger).values())


def jobs_of(wps: ScriptedWps) -> Counter[str]:
    """Return how often each geometry became a job."""
    return Counter(one["geometry"] for one in wps.received() if one["job"] is not None)


NO_VERDICT: list[dict[str, Any]] = [
    {"when": "execute", "every": 10, "offset": 1, "busy": True, "times": 1},
    {"when": "execute", "every": 10, "offset": 2, "status": 503, "retry_after": "0", "times": 1},
    {"when": "poll", "every": 10, "offset": 3, "empty": True, "times": 2},
    {"when": "poll", "every": 10, "offset": 4, "cut": "document", "times": 1},
    {"when": "poll", "every": 10, "offset": 5, "missing": True, "times": 1},
    {"when": "poll", "every": 10, "offset": 6, "html": 502, "times": 1},
    {"when": "job", "every": 10, "offset": 7, "second_location": "elsewhere"},
    {"when": "job", "every": 10, "offset": 8, "prefix": "mixed"},
    {"when": "job", "every": 10, "offset": 9, "at_once": True},
]


def test_what_is_no_verdict_is_waited_out_and_every_polygon_is_one_job(ledger: Ledger, tmp_path: Path) -> None:
    with serving({"duration_s": [0, 0.3], "troubles": NO_VERDICT}) as wps:
        assert run(ledger, wps, tmp_path, polygons=100) == {"done": 100}
        assert set(jobs_of(wps).values()) == {1}
        assert wps.summary()["polls_astray"] == 0


def test_each_fault_leads_to_the_state_that_the_script_says(ledger: Ledger, tmp_path: Path) -> None:
    troubles: list[dict[str, Any]] = [
        {"when": "execute", "every": 10, "offset": 1, "reset": "after"},
        {"when": "execute", "every": 10, "offset": 2, "refuse": "FileSizeExceeded"},
        {"when": "job", "every": 10, "offset": 3, "stays": "accepted"},
        {"when": "job", "every": 10, "offset": 4, "stays": "started"},
        {"when": "job", "every": 10, "offset": 5, "fails": "Process error: no data"},
        {"when": "job", "every": 10, "offset": 6, "vanishes_after": 1, "duration_s": 30},
    ]
    rules = replace(PROMPT, accepted_limit_s=3, running_limit_s=3, total_limit_s=5)
    with serving({"duration_s": [0, 0.2], "troubles": troubles}) as wps:
        ends = run(ledger, wps, tmp_path, polygons=50, rules=rules)
        index_of = {one["geometry"]: one["index"] for one in wps.jobs()}
        jobs = jobs_of(wps)
    assert ends == {"done": 20, "uncertain": 5, "failed": 10, "given_up": 15}
    assert sum(jobs.values()) == 45 + 5  # 5 were refused; those that fail are tried twice
    assert {index_of[geometry] % 10 for geometry, times in jobs.items() if times > 1} == {5}
    given_up = Counter(row.error_class for row in rows(ledger).values() if row.own == Own.GIVEN_UP)
    assert sum(given_up.values()) == 15
    assert set(given_up) <= {"AcceptedLimit", "RunningLimit", "TotalLimit"}
    texts = {row.error_text for row in rows(ledger).values() if row.own == Own.FAILED}
    assert any("no data" in text for text in texts)


def test_a_server_with_a_short_queue_is_filled_and_not_flooded(ledger: Ledger, tmp_path: Path) -> None:
    with serving({"duration_s": 0.05, "parallel": 2, "busy_beyond": 4}) as wps:
        assert run(ledger, wps, tmp_path, polygons=30, rules=replace(PROMPT, concurrency=8)) == {"done": 30}
        assert set(jobs_of(wps).values()) == {1}
        assert len(wps.received()) < 2 * 30
    assert {row.attempts for row in rows(ledger).values()} == {1}


def test_two_programs_at_one_campaign_leave_one_job_for_each_polygon(ledger: Ledger, tmp_path: Path) -> None:
    with serving({"duration_s": [0, 0.2]}) as wps, Ledger.open(tmp_path / "ledger.sqlite") as another:
        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(run, each, wps, tmp_path, 80) for each in (ledger, another)]
            assert [each.result() for each in both] == [{"done": 80}, {"done": 80}]
        assert set(jobs_of(wps).values()) == {1}
