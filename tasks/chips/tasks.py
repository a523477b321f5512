"""The stages as Prefect tasks: every retry and every timeout is declared here.

A task takes a row of chips. Inside it each chip has its own limit (the Cassandra client's request timeout) and
its own outcome; a retry of the row does only what is left of it. So the declared timeout is a backstop and no
more: Prefect cannot interrupt a thread that waits for a socket.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from tasks.chips import export as export_stage
from tasks.chips import request as request_stage
from tasks.chips import settle as settle_stage
from tasks.chips import survey as survey_stage
from tasks.chips.campaign import Campaign, site_of
from tasks.chips.export import ExportTally
from tasks.chips.grid import Chip
from tasks.chips.heal import Step
from tasks.chips.request import Requested
from tasks.chips.settle import Settled
from tasks.chips.survey import Surveyed
from tasks.chips.upkeep import Verified, verify
from tasks.ledger.keys import Ground
from tasks.retries import is_transient
from tasks.settings import load_settings

ROW_TIMEOUT_S = 1800
"""Fifty chips at the Cassandra client's limit of 30 s, one after the other, and some rest."""


VERIFY_TIMEOUT_S = 6 * 3600
"""320 GB, the largest tile, at 15 MB/s."""

TIME_BOX_S = 600
"""A round of settling is over after ten minutes, whatever is out; the next one goes on."""


@task(
    name="survey",
    task_run_name="{campaign.tile.name} survey {where}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=ROW_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def survey_row(campaign: Campaign, where: str, chips: list[Chip]) -> Surveyed:
    """Look at a row of chips and write down where they stand.

    Args:
        campaign: the run's campaign, open in this process.
        where: the row, for people.
        chips: its chips.
    """
    found = survey_stage.survey(site_of(campaign), chips)
    get_run_logger().info("%s: %s; %d counted", where, _words(found.states), found.counted)
    return found


@task(
    name="export",
    task_run_name="{campaign.tile.name} export {where}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=ROW_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def export_row(campaign: Campaign, where: str, surveyed: Surveyed) -> ExportTally:
    """Save those chips of a surveyed row that are home.

    Args:
        campaign: the run's campaign, open in this process.
        where: the row, for people.
        surveyed: the row's survey.
    """
    done = export_stage.export(site_of(campaign), surveyed.chips)
    get_run_logger().info(
        "%s: %d written, %d kept, %d changed meanwhile, %d not as their md5 says",
        where,
        done.exported,
        done.kept,
        done.changed,
        done.problems,
    )
    return done


@task(
    name="request",
    task_run_name="{campaign.tile.name} request {where}",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=ROW_TIMEOUT_S * 2,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def request_row(campaign: Campaign, where: str, steps: list[tuple[Chip, Step]], begun: datetime) -> Requested:
    """Ask the service for some chips of a row; a retry asks only for those that were certainly not asked for.

    Args:
        campaign: the run's campaign, open in this process.
        where: the row, for people.
        steps: the chips, and how to ask for each.
        begun: when it was decided to ask for them.
    """
    done = request_stage.request(site_of(campaign), steps, begun)
    get_run_logger().info("%s: %d requested, of %d no answer came", where, done.sent, done.uncertain)
    return done


@task(
    name="settle",
    task_run_name="{campaign.tile.name} settle round {number}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.3,
    retry_condition_fn=is_transient,
    timeout_seconds=TIME_BOX_S + 120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def settle_round(campaign: Campaign, number: int, time_box_s: float, first_rows: bool) -> Settled:
    """Watch what was asked for, for one round.

    Args:
        campaign: the run's campaign, open in this process.
        number: the round's, for people.
        time_box_s: the round is over after so long.
        first_rows: whether it is over as soon as a request is seen to have rows.
    """
    seen = settle_stage.settle(site_of(campaign), min(time_box_s, TIME_BOX_S), first_rows=first_rows)
    words = "round %d: %d came home, %d ended otherwise, %d out"
    get_run_logger().info(words, number, len(seen.home), len(seen.ended), seen.out)
    return seen


@task(
    name="verify",
    task_run_name="{ground.tile} verify",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_condition_fn=is_transient,
    timeout_seconds=VERIFY_TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def verify_tile(ground: Ground, root: Path) -> Verified:
    """Compare a tile's files with their manifest.

    Args:
        ground: under which key the ledger keeps the tile.
        root: the output folder.
    """
    found = verify(load_settings(), ground, root)
    words = "%s below %s: %d files, %d not as their manifest says"
    get_run_logger().info(words, ground.tile, root, found.files, found.wrong)
    return found


def _words(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())
