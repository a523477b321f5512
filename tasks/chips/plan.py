"""Plan: what a run would do, found out by looking, without doing it."""

from dataclasses import dataclass

from tasks.chips.campaign import Site
from tasks.chips.export import is_saved, verdict
from tasks.chips.grid import PIXELS
from tasks.chips.heal import rules_of
from tasks.chips.report import Standing, standing
from tasks.chips.results import FIRST_ROW_BYTES
from tasks.chips.survey import survey
from tasks.ledger.chips import last_rate, mean_row_bytes, recall, saved


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        standing: where the chips are now.
        to_write, to_keep: files.
        bytes: of the files to write, by the mean size of a row in the files written so far.
        requests: chips to ask for; 0 with no service set.
        expected_hours: until those are home, at the last run's rate; None before any run has measured one.
        expected_seconds: to write them, at the last run's rate; None before any run has measured one.
    """

    standing: Standing
    to_write: int
    to_keep: int
    bytes: int
    requests: int
    expected_hours: float | None
    expected_seconds: float | None


def plan_tile(site: Site) -> Plan:
    """Look at a campaign's chips and return what a run would do; the looks are written down, files are not.

    Raises:
        OverlanderError: as the survey fails.
    """
    work, root = site.campaign, site.campaign.layout.root
    for row in work.window.rows(work.tile):
        survey(site, row)
    with site.ledger.read() as ledger:
        found = standing(
            ledger, site.ground, work.tile, work.chips, root, rules_of(site.settings), flawed=work.flawed
        )
        records = recall(ledger, site.ground, work.chips)
        earlier = saved(ledger, site.ground, root, work.chips)
        row_bytes = mean_row_bytes(ledger, site.ground.source, work.algorithm) or FIRST_ROW_BYTES
        rate = last_rate(ledger, site.ground.source, "export")
        settle_rate = last_rate(ledger, site.ground.source, "settle")
    verdicts = [
        verdict(site, chip, record, earlier.get(chip))
        for chip, record in records.items()
        if is_saved(record, work.flawed)
    ]
    requests = found.to_request if site.settings.service_url else 0
    rows = verdicts.count("save") * PIXELS
    return Plan(
        standing=found,
        to_write=verdicts.count("save"),
        to_keep=verdicts.count("keep"),
        bytes=int(rows * row_bytes),
        requests=requests,
        expected_hours=None if settle_rate is None else requests * settle_rate / 3600,
        expected_seconds=None if rate is None else rows / rate,
    )
