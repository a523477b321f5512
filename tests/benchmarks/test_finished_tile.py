"""A second run of a finished tile: 2,500 chips, of which it reads the heads and keeps the files.

Run with `make bench`; docs/performance.md holds figures.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cassandra.concurrent import execute_concurrent_with_args
from sqlalchemy import Connection

from deployments.sandbox import cassandra, seed
from flows.tile import tile_campaign
from tasks.chips.campaign import Campaign, Site, site, tile_campaign_of
from tasks.chips.export import options_of, wanted_file
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.states import Asked, Look, Record, State
from tasks.ledger.chips import Saved, note_saved, remember, use_tile
from tasks.ledger.requests import note_request
from tests.flows.conftest import prefect_api  # noqa: F401 - a fixture
from tests.flows.desk import Desk, variables_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

TILE, ALGORITHM = "H06V03", "test:a finished tile"
THREADS = 4
"""As many queries at once as a run has by default."""


@pytest.fixture
def desk(tmp_path: Path, cassandra_node: cassandra.Node, change_results: str) -> Desk:
    return Desk(
        tmp_path,
        {
            **variables_of(cassandra_node),
            "OVERLANDER_ALGORITHM": ALGORITHM,
            "OVERLANDER_SERVICE_URL": change_results,
        },
    )


def test_a_second_run_of_a_finished_tile_costs_little_more_than_reading_its_heads(
    desk: Desk,
    cassandra_node: cassandra.Node,
    prefect_api: str,  # noqa: F811
) -> None:
    with desk.at_work():
        work = tile_campaign_of(TILE)
        write_heads(cassandra_node, work)
        with site(work, words="seeding a finished tile") as place:
            place.ledger.write(lambda ledger: note_finished(ledger, place), place.lease)
            heads_s = seconds_for_heads(place)
        tile_campaign(tile=TILE, out=desk.out, return_state=True)

        begun, computed = time.monotonic(), time.process_time()
        state = tile_campaign(tile=TILE, out=desk.out, return_state=True)
        took_s, computed_s = time.monotonic() - begun, time.process_time() - computed

    summary = state.result()
    print(f"\n2,500 heads alone, {THREADS} threads  {heads_s:6.1f} s")
    print(f"second run of the finished tile  {took_s:6.1f} s, {computed_s:.1f} s of it at the processor")
    assert (state.name, summary["kept"], summary["exported"], summary["changed"]) == ("Completed", 2500, 0, 0)
    assert took_s <= 10 * heads_s


def write_heads(node: cassandra.Node, work: Campaign) -> None:
    """Write each chip's ticket, and nothing else of it: all that a second run reads."""
    with cassandra.session(node, timeout_s=120) as connected:
        insert = connected.prepare(
            "INSERT INTO results (chip_x, chip_y, algorithm, x, y, chip_update_requested, inputs_url) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        tickets = [
            (chip.x, chip.y, ALGORITHM, chip.x, chip.y, seed.REQUESTED, seed.inputs_url(chip.x, chip.y))
            for chip in work.chips
        ]
        execute_concurrent_with_args(connected, insert, tickets, concurrency=50)


def note_finished(ledger: Connection, place: Site) -> None:
    """Write into the ledger, and as small files, that every chip was asked for, is complete and saved."""
    work, now = place.campaign, datetime.now(UTC) - timedelta(hours=1)
    requested = seed.REQUESTED.replace(tzinfo=None)
    first, last = requested + timedelta(minutes=1), requested + timedelta(minutes=8)
    look = Look(now, True, PIXELS, True, False, first, last, requested)
    asked = Asked(1, 1, now, refresh=False, renew=False, update_before=None, answer="queued")
    ended = replace(asked, update_requested=requested, rows_at=now, settled_at=now, outcome=State.COMPLETE)
    use_tile(ledger, place.ground, work.name)
    for chip in work.chips:
        note_request(ledger, place.ground, chip, asked, None)
    remember(ledger, place.ground, dict.fromkeys(work.chips, Record(State.COMPLETE, now, look, asked=ended)))
    for chip in work.chips:
        file = wanted_file(work, chip, State.COMPLETE)
        assert file is not None
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"[]\n")
        stat = file.stat()
        found = Saved(
            exported_at=now,
            options=options_of(work, State.COMPLETE),
            file=file,
            bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            sha256="of no one's concern",
            pixels=PIXELS,
            first_produced=first,
            last_produced=last,
            update_requested=requested,
        )
        note_saved(ledger, place.ground, work.layout.root, chip, found)


def seconds_for_heads(place: Site) -> float:
    def head(chip: Chip) -> object:
        return place.table.heads([chip], ALGORITHM)

    begun = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        assert len(list(pool.map(head, place.campaign.chips))) == 2500
    return time.monotonic() - begun
