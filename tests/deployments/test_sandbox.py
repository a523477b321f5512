"""The sandbox's real Cassandra and what is seeded into it."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from cassandra.cluster import NoHostAvailable, Session

from deployments import supervise
from deployments.sandbox import cassandra, seed, world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM, SEEDED, SeededChip
from tasks.chips.grid import Chip
from tasks.errors import BadInput, PartMissing

CHIP = (-1785585, 2834805)  # of the same tile, outside the seeded corner
_STATE = (
    "SELECT count(result_ok), count(*), min(result_ok), max(result_ok), min(result_produced), "
    "max(result_produced), chip_update_requested FROM results WHERE chip_x=%s AND chip_y=%s AND algorithm=%s"
)
EXPECTED = {
    "complete": (10_000, 10_000, True, True),
    "flawed": (10_000, 10_000, False, True),
    "no_data": (10_000, 10_000, False, False),
    "incomplete": (9_977, 9_977, True, True),
    "queued": (0, 1, None, None),
    "unrequested": (0, 0, None, None),
}


def state_of(connected: Session, chip_x: int, chip_y: int, algorithm: str = ALGORITHM) -> tuple[Any, ...]:
    return tuple(connected.execute(_STATE, (chip_x, chip_y, algorithm)).one())


def cluster_name(node: Node) -> str:
    with cassandra.session(node) as connected:
        return str(connected.execute("SELECT cluster_name FROM system.local").one()[0])


def test_the_table_has_the_services_columns(cassandra_node: Node) -> None:
    with cassandra.session(cassandra_node) as connected:
        assert connected.execute("SELECT * FROM results LIMIT 1").column_names == [
            *("chip_x", "chip_y", "algorithm", "x", "y", "chip_update_requested", "inputs_md5", "inputs_url"),
            *("result", "result_md5", "result_ok", "result_produced"),
        ]


def test_a_wrong_password_is_refused(cassandra_node: Node) -> None:
    stranger = Node(cassandra_node.hosts, cassandra_node.port, password="guessed")
    with pytest.raises(NoHostAvailable, match="Bad credentials"), cassandra.session(stranger):
        pass


@pytest.mark.parametrize("chip", SEEDED, ids=lambda chip: f"{chip.row}-{chip.column}-{chip.kind}")
def test_each_seeded_chip_is_what_it_says(seeded_node: Node, chip: SeededChip) -> None:
    with cassandra.session(seeded_node) as connected:
        *counts, first, last, requested = state_of(connected, chip.chip_x, chip.chip_y)

    assert tuple(counts) == EXPECTED[chip.kind]
    assert (requested is None) == (chip.kind == "unrequested")
    assert first is None or requested < first < last


def test_the_seeded_corner_holds_eleven_complete_chips_and_one_of_each_other_kind() -> None:
    kinds = [chip.kind for chip in SEEDED]
    assert {kind: kinds.count(kind) for kind in EXPECTED} == {**dict.fromkeys(EXPECTED, 1), "complete": 11}


def test_the_incomplete_chip_has_its_last_pixel(seeded_node: Node) -> None:
    (chip,) = (chip for chip in SEEDED if chip.kind == "incomplete")
    with cassandra.session(seeded_node) as connected:
        last = connected.execute(
            "SELECT result_ok FROM results WHERE chip_x=%s AND chip_y=%s AND algorithm=%s AND x=%s AND y=%s",
            (chip.chip_x, chip.chip_y, ALGORITHM, chip.chip_x + 2970, chip.chip_y - 2970),
        ).one()
    assert last.result_ok is True


def test_seeding_again_is_quick_and_changes_nothing_that_became_of_a_chip(seeded_node: Node) -> None:
    (chip,) = (chip for chip in SEEDED if chip.kind == "queued")
    later = chip.requested + timedelta(days=1)
    with cassandra.session(seeded_node) as connected:
        seed.request_again(connected, chip.chip_x, chip.chip_y, ALGORITHM, later)
        began = time.monotonic()
        seed.seed(seeded_node)
        took_s = time.monotonic() - began
        requested = state_of(connected, chip.chip_x, chip.chip_y)[-1]
        seed.request_again(connected, chip.chip_x, chip.chip_y, ALGORITHM, chip.requested)

    assert requested == later.replace(tzinfo=None)
    assert took_s < 5


def test_a_chip_can_be_written_with_failed_and_missing_pixels_from_any_time_on(cassandra_node: Node) -> None:
    pixels = Chip(*CHIP).pixels()
    produced_from = datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)
    requested = datetime(2026, 1, 1, tzinfo=UTC)
    with cassandra.session(cassandra_node) as connected:
        seed.write_chip(
            connected,
            *CHIP,
            algorithm="lcmap-pyccd:test",
            results=["{}"],
            update_requested=requested,
            produced_from=produced_from,
            failed=pixels[10:12],
            missing=pixels[-3:],
        )
        found = state_of(connected, *CHIP, "lcmap-pyccd:test")

    last = produced_from + timedelta(milliseconds=40 * 9_996)
    times = [moment.replace(tzinfo=None) for moment in (produced_from, last, requested)]
    assert found == (9_997, 9_997, False, True, *times)


def test_a_request_by_someone_else_changes_the_time_of_request_only(cassandra_node: Node) -> None:
    again = datetime(2026, 2, 2, tzinfo=UTC)
    with cassandra.session(cassandra_node) as connected:
        seed.write_chip(connected, *CHIP, algorithm="lcmap-pyccd:again", results=["{}"])
        before = state_of(connected, *CHIP, "lcmap-pyccd:again")
        seed.request_again(connected, *CHIP, "lcmap-pyccd:again", again)
        after = state_of(connected, *CHIP, "lcmap-pyccd:again")

    assert after == (*before[:-1], again.replace(tzinfo=None))


def test_the_shipped_results_are_the_real_things() -> None:
    results = seed.shipped_results()
    assert len(results) == 120
    assert all(result.startswith('{"algorithm": "lcmap-pyccd:') for result in results)


def test_the_inputs_address_is_as_long_as_the_services_and_names_no_host() -> None:
    address = seed.inputs_url(*CHIP)
    assert address.startswith("http://localhost/")
    assert 700 < len(address) < 1000


def test_the_sandboxs_status_says_how_to_reach_the_table(cassandra_node: Node) -> None:
    assert world.status()["cassandra"] == {
        "hosts": ["127.0.0.1"],
        "port": cassandra_node.port,
        "username": "cassandra",
        "password": "cassandra",
        "keyspace": "lcmap_changes_local",
    }


def test_another_number_of_nodes_does_not_touch_the_data(
    cassandra_node: Node, cassandra_folder: Path, cassandra_jars: Path
) -> None:
    with pytest.raises(BadInput, match="holds the data of 1 Cassandra node"):
        cassandra.up(cassandra_folder, cassandra_jars, nodes=3)
    assert cassandra.status(cassandra_folder) == cassandra_node


def test_too_little_memory_is_said_before_anything_starts(
    tmp_path: Path, cassandra_jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Little:
        available = 900_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.raises(PartMissing, match=r"need 1\.5 GB of memory, and 0\.9 GB are available"):
        cassandra.up(tmp_path, cassandra_jars)
    assert cassandra.status(tmp_path) is None


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_without_the_network_it_says_that_the_jars_are_needed_once(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match="network to Maven Central is needed once") as caught:
        cassandra.download(tmp_path)  # sockets of tests reach loopback addresses only
    assert str(tmp_path) in str(caught.value)


@pytest.mark.campaign
def test_the_data_survive_a_restart_under_the_same_cluster_name(
    seeded_node: Node, cassandra_folder: Path, cassandra_jars: Path
) -> None:
    name = cluster_name(seeded_node)
    assert cassandra.down(cassandra_folder) is True
    assert cassandra.status(cassandra_folder) is None

    node = cassandra.up(cassandra_folder, cassandra_jars)

    assert node == seeded_node
    assert cluster_name(node) == name
    with cassandra.session(node) as connected:
        assert state_of(connected, SEEDED[0].chip_x, SEEDED[0].chip_y)[:4] == EXPECTED["complete"]
    facts = supervise.running(cassandra_folder / "node-1")
    assert facts is not None
    assert psutil.Process(facts.pid).memory_info().rss < 1_100_000_000
