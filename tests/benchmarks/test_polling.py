"""How soon the end of a job is seen, and for how many requests: beside a poll every two seconds."""

import math
import statistics
from pathlib import Path

import pytest

from deployments.sandbox.scripted_wps import serving
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.polygons_at_desk import desk_at, own, run, wetlands

POLYGONS = 200
FIXED_S = 2.0


@pytest.mark.benchmark
@pytest.mark.timeout(900)
@pytest.mark.parametrize("duration_s", [(1, 20), (20, 60)], ids=["seconds", "a minute"])
def test_ends_are_seen_soon_for_fewer_requests_than_a_fixed_poll_sends(
    tmp_path: Path,
    prefect_api: str,  # noqa: F811
    duration_s: tuple[float, float],
) -> None:
    with serving({"duration_s": duration_s}) as wps:
        desk = desk_at(tmp_path, wps.url, OVERLANDER_WPS_POLL_S=f"{FIXED_S:g}")

        ran = run(desk, wetlands(desk, POLYGONS), "--yes", "--concurrency", str(POLYGONS))
        jobs = wps.jobs()

    assert own(ran) == {"done": POLYGONS}
    took_s = [job["ends_at"] - job["received_at"] for job in jobs]
    late_s = [job["end_seen_at"] - job["ends_at"] for job in jobs]
    looks, fixed = sum(job["polls"] for job in jobs), sum(math.ceil(seconds / FIXED_S) for seconds in took_s)
    over = statistics.median(late / max(2.0, 0.1 * took) for late, took in zip(late_s, took_s, strict=True))
    print(
        f"\n{POLYGONS} jobs of {duration_s[0]} to {duration_s[1]} s: {looks:,} looks, {fixed:,} at one every "
        f"{FIXED_S:g} s; an end is seen {statistics.median(late_s):.1f} s late in the median, {over:.2f} of what "
        "is allowed."
    )
    assert looks < fixed
    assert over <= 1
