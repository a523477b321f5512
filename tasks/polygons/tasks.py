"""The stages as Prefect tasks: every retry and every timeout is declared here.

Inside a batch each polygon has its own limits and its own outcome (`rules.py`), and a retry of a batch does only
what is left of it. So the declared timeout is a backstop: Prefect cannot interrupt a thread that waits.
"""

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from tasks.ledger.units import Own
from tasks.polygons import collect as collect_stage
from tasks.polygons import load as load_stage
from tasks.polygons import report as report_stage
from tasks.polygons.campaign import PolygonCampaign
from tasks.polygons.load import Read
from tasks.polygons.report import Drawn, Standing
from tasks.polygons.site import open_polygon_sites, site_of
from tasks.retries import is_transient

LOAD_TIMEOUT_S = 3600
"""Half a million polygons at a tenth of the rate measured (docs/performance.md)."""

TIME_BOX_S = 600
"""A round of dispatch is over after ten minutes, whatever is out; its jobs are followed on meanwhile."""

COLLECT_TIMEOUT_S = 3600


def _may_go_on(task: object, task_run: object, state: Any) -> bool:
    """Retry what may succeed later, unless the run is over: what ended it has had its time."""
    over = any(site.dispatcher.is_over for site in open_polygon_sites())
    return is_transient(task, task_run, state) and not over


@task(
    name="read-polygons",
    task_run_name="{campaign.name} read",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=LOAD_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read_polygons(campaign: PolygonCampaign) -> Read:
    """Bring the source's polygons into the ledger; a retry adds only what is not there.

    Args:
        campaign: the run's campaign, open in this process.
    """
    read = load_stage.load(site_of(campaign))
    words = "%d polygons read, %d of them new, %d changed under an old id"
    get_run_logger().info(words, read.features, read.new, read.changed)
    return read


@task(
    name="dispatch",
    task_run_name="{campaign.name} dispatch {where}",
    retries=1,
    retry_delay_seconds=30,
    retry_condition_fn=_may_go_on,
    timeout_seconds=TIME_BOX_S + 120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def dispatch_batch(
    campaign: PolygonCampaign, where: str, units: list[int], time_box_s: float, linger_s: float
) -> dict[str, int]:
    """See a batch of polygons through, or as far as the time allows.

    Args:
        campaign: the run's campaign, open in this process.
        where: the batch and the round, for people.
        units: the ledger's keys.
        time_box_s: the round is over after so long,
        linger_s: or so long after the last of them was sent.
    """
    found = site_of(campaign).dispatcher.dispatch(units, min(time_box_s, TIME_BOX_S), linger_s)
    get_run_logger().info("%s: %s", where, _words(found))
    return {own.value: number for own, number in found.items() if number}


@task(
    name="draw",
    task_run_name="{campaign.name} draw",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=COLLECT_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def draw_report(campaign: PolygonCampaign, found: Standing) -> Drawn:
    """Write the campaign's page and map.

    Args:
        campaign: the run's campaign, open in this process.
        found: where it stands.
    """
    site = site_of(campaign)
    with site.ledger.read() as ledger:
        return report_stage.draw(ledger, site.series, campaign.name, found, campaign.out)


@task(
    name="collect",
    task_run_name="{campaign.name} collect",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=COLLECT_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def collect_results(campaign: PolygonCampaign) -> dict[str, str]:
    """Write the campaign's tables from the ledger; return the files by what they are.

    Args:
        campaign: the run's campaign, open in this process.
    """
    site = site_of(campaign)
    done = collect_stage.collect(site.ledger, site.series_numbers, campaign.out)
    get_run_logger().info("%d units written below %s", done.units, campaign.out)
    files = {"parquet": done.parquet, "csv": done.csv, "urls": done.urls, "polygons": done.polygons}
    return {what: str(path) for what, path in files.items()}


def _words(found: Mapping[Own, int]) -> str:
    return ", ".join(f"{number} {own}" for own, number in found.items() if number)
