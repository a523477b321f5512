"""What is read of the table, from a real Cassandra, and what a user is told when it cannot be read."""

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ResponseFuture, Session
from cassandra.query import SimpleStatement, ordered_dict_factory
from pydantic import SecretStr

from deployments import supervise
from deployments.sandbox import cassandra, seed
from deployments.sandbox.cassandra import Node
from deployments.sandbox.seed import ALGORITHM, SEEDED, SeededChip
from tasks.chips import results
from tasks.chips.grid import PIXELS, Chip
from tasks.chips.results import COLUMNS, FIRST_ROW_BYTES, ResultsTable, rows_a_page
from tasks.errors import (
    BadInput,
    CredentialsRefused,
    OverlanderError,
    SchemaMismatch,
    ServiceAway,
    ServiceTimedOut,
)
from tasks.settings import CassandraSettings

CHIP = Chip(-1785585, 2834805)  # of the seeded tile, outside the seeded corner
REQUESTED = datetime(2026, 5, 1, 6, tzinfo=UTC)
WRONG_PASSWORD = "guessed-in-vain"


def naive(moment: datetime) -> datetime:
    """As the driver gives it."""
    return moment.replace(tzinfo=None)


def seeded(kind: str) -> tuple[Chip, SeededChip]:
    found = next(chip for chip in SEEDED if chip.kind == kind)
    return Chip(found.chip_x, found.chip_y), found


# What is there


@pytest.mark.parametrize(
    ("kind", "ticketed", "pixels", "some_good", "some_failed"),
    [
        ("complete", True, 10_000, True, False),
        ("flawed", True, 10_000, True, True),
        ("no_data", True, 10_000, False, True),
        ("incomplete", True, 9_977, True, False),
        ("queued", True, 0, False, False),
        ("unrequested", False, 0, False, False),
    ],
)
def test_one_look_tells_a_chips_kinds_apart(
    kind: str,
    ticketed: bool,
    pixels: int,
    some_good: bool,
    some_failed: bool,
    table: ResultsTable,
    seeded_node: Node,
) -> None:
    chip, written = seeded(kind)
    before = datetime.now(UTC)
    look = table.look(chip, ALGORITHM)
    assert (look.ticketed, look.pixels, look.some_good, look.some_failed) == (
        *(ticketed, pixels, some_good, some_failed),
    )
    assert before <= look.at <= datetime.now(UTC)
    assert look.update_requested == (naive(written.requested) if ticketed else None)
    first = naive(written.requested) + timedelta(minutes=1)
    assert look.first_produced == (first if pixels else None)
    assert look.last_produced == (first + timedelta(milliseconds=40 * (PIXELS - 1)) if pixels else None)


@pytest.mark.parametrize("kind", ["complete", "flawed", "no_data", "incomplete", "queued", "unrequested"])
def test_the_head_tells_whether_and_when_a_chip_was_requested(
    kind: str, table: ResultsTable, seeded_node: Node
) -> None:
    chip, written = seeded(kind)
    requested = {} if kind == "unrequested" else {chip: naive(written.requested)}
    assert table.heads([chip], ALGORITHM) == requested


def test_the_heads_of_many_chips_are_those_of_each(table: ResultsTable, seeded_node: Node) -> None:
    chips = [seeded(kind)[0] for kind in ("complete", "flawed", "no_data", "queued", "unrequested")]
    each = [table.heads([chip], ALGORITHM) for chip in chips]
    together = table.heads(chips, ALGORITHM)
    assert together == {chip: requested for head in each for chip, requested in head.items()}
    assert set(together) == set(chips[:-1])


@pytest.mark.parametrize(
    ("kind", "is_written"), [("complete", True), ("incomplete", True), ("queued", False), ("unrequested", False)]
)
def test_the_last_pixel_tells_whether_the_worker_has_been_everywhere(
    kind: str, is_written: bool, table: ResultsTable, seeded_node: Node
) -> None:
    chip, written = seeded(kind)
    last = naive(written.requested) + timedelta(minutes=1, milliseconds=40 * (PIXELS - 1))
    assert table.last_pixel(chip, ALGORITHM) == (last if is_written else None)


@pytest.mark.parametrize(
    ("kind", "missing", "failed"),
    [
        ("complete", [], []),
        ("flawed", [], list(range(137, PIXELS, 270))),
        ("no_data", [], list(range(PIXELS))),
        ("incomplete", list(range(5000, 5023)), []),
        ("queued", list(range(PIXELS)), []),
        ("unrequested", list(range(PIXELS)), []),
    ],
)
def test_the_pixels_tell_which_are_there_and_which_have_failed(
    kind: str, missing: list[int], failed: list[int], table: ResultsTable, seeded_node: Node
) -> None:
    chip, written = seeded(kind)
    pixels = {pixel.position: pixel for pixel in table.pixels(chip, ALGORITHM)}
    assert sorted(set(range(PIXELS)) - set(pixels)) == missing
    assert sorted(position for position, pixel in pixels.items() if not pixel.ok) == failed
    first = naive(written.requested) + timedelta(minutes=1)
    assert all(pixel.produced == first + timedelta(milliseconds=40 * at) for at, pixel in pixels.items())


def test_a_chip_with_nothing_but_a_ticket_for_a_point_inside_it_is_queued(
    table: ResultsTable, writing: Session
) -> None:
    algorithm = "lcmap-pyccd:test-point"
    ask_for_point(writing, algorithm, CHIP.x + 7, CHIP.y - 11)
    look = table.look(CHIP, algorithm)
    assert (look.ticketed, look.pixels, look.update_requested) == (True, 0, naive(REQUESTED))
    assert table.heads([CHIP], algorithm) == {CHIP: naive(REQUESTED)}
    assert table.pixels(CHIP, algorithm) == []


def test_a_ticket_for_a_point_inside_a_chip_is_no_pixel_of_it(table: ResultsTable, writing: Session) -> None:
    algorithm = "lcmap-pyccd:test-point-and-rows"
    seed.write_rows(writing, CHIP.x, CHIP.y, algorithm, some_rows(3))
    ask_for_point(writing, algorithm, CHIP.x + 7, CHIP.y)
    assert table.look(CHIP, algorithm).pixels == 3
    assert {pixel.position for pixel in table.pixels(CHIP, algorithm)} == {0, 1, 2}


def ask_for_point(writing: Session, algorithm: str, x: int, y: int) -> None:
    writing.execute(
        "INSERT INTO results (chip_x, chip_y, algorithm, x, y, chip_update_requested) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        (CHIP.x, CHIP.y, algorithm, x, y, REQUESTED),
    )


def some_rows(count: int) -> Iterator[seed.Row]:
    return islice(seed.rows_of(CHIP.x, CHIP.y, results=["[]"], produced_from=REQUESTED), count)


# Pages


@pytest.mark.parametrize("page_bytes", [10_000, 6_000_000])
def test_pages_give_each_row_once_as_select_star_does_whatever_their_size(
    page_bytes: int, table: ResultsTable, writing: Session, seeded_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE_BYTES", page_bytes)
    chip, _ = seeded("flawed")
    given = [row for rows, _ in table.pages(chip, ALGORITHM) for row in rows]
    assert len(given) == PIXELS
    assert given == select_star(writing, chip, ALGORITHM)
    assert [(row["x"], row["y"]) for row in given] == sorted((row["x"], row["y"]) for row in given)
    assert {tuple(row) for row in given} == {tuple(COLUMNS)}


def select_star(writing: Session, chip: Chip, algorithm: str) -> list[dict[str, object]]:
    """The rows as the operators' notebook got them, with the columns as the table orders them."""
    profile = writing.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=ordered_dict_factory)
    statement = SimpleStatement(
        "SELECT * FROM results WHERE chip_x = %s AND chip_y = %s AND algorithm = %s", fetch_size=1000
    )
    rows = list(writing.execute(statement, (chip.x, chip.y, algorithm), execution_profile=profile))
    assert [tuple(row) for row in rows[:1]] == [tuple(COLUMNS)]
    return rows


def test_pages_follow_the_size_of_the_rows(
    table: ResultsTable, seeded_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE_BYTES", 2_400_000)
    chip, _ = seeded("complete")
    pages = [rows for rows, _ in table.pages(chip, ALGORITHM)]
    assert len(pages[0]) == 2_400_000 / FIRST_ROW_BYTES  # nothing is known of the rows yet
    assert len(pages[1]) > 10 * len(pages[0])  # they are short
    texts = sum(len(row["result"]) + len(row["inputs_url"]) for row in pages[1])
    assert 1_500_000 < texts + 200 * len(pages[1]) < 2_500_000


def test_a_page_has_100_to_5000_rows_and_some_six_megabytes() -> None:
    assert rows_a_page(12_000) == 500
    assert rows_a_page(1_000_000) == 100
    assert rows_a_page(0) == rows_a_page(300) == 5_000


def test_a_chip_without_a_partition_gives_no_rows(table: ResultsTable) -> None:
    assert [rows for rows, _ in table.pages(CHIP, "lcmap-pyccd:test-none")] == [[]]


# How it is read


def test_every_query_asks_for_the_consistency_that_is_set(
    cassandra_settings: CassandraSettings, seeded_node: Node
) -> None:
    chip, _ = seeded("complete")
    for consistency in ("QUORUM", "ALL"):
        asked = queries_of_everything(cassandra_settings.model_copy(update={"consistency": consistency}), chip)
        assert len(asked) >= 5
        assert set(asked) == {ConsistencyLevel.name_to_value[consistency]}


def queries_of_everything(settings: CassandraSettings, chip: Chip) -> list[int]:
    """The consistency of each message that was sent while everything was asked of one chip."""
    sent: list[ResponseFuture] = []
    with ResultsTable.open(settings) as opened:
        opened._session.add_request_init_listener(sent.append)
        opened.look(chip, ALGORITHM)
        opened.heads([chip], ALGORITHM)
        opened.last_pixel(chip, ALGORITHM)
        opened.pixels(chip, ALGORITHM)
        list(opened.pages(chip, ALGORITHM))
    return [future.message.consistency_level for future in sent]


def test_quorum_is_the_default(cassandra_settings: CassandraSettings) -> None:
    assert cassandra_settings.consistency == "QUORUM"


def test_the_driver_is_not_in_its_legacy_mode(
    cassandra_settings: CassandraSettings, seeded_node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """The notebook's way was: it reads at LOCAL_ONE, whatever profile is set."""
    chip, _ = seeded("queued")
    with caplog.at_level(logging.WARNING, logger="cassandra"), warnings.catch_warnings():
        warnings.simplefilter("error")
        queries_of_everything(cassandra_settings, chip)
    told = [record.getMessage().lower() for record in caplog.records]
    assert not [words for words in told if "legacy" in words or "deprecated" in words]


def test_a_closed_table_leaves_no_thread_behind(cassandra_settings: CassandraSettings) -> None:
    program = """
import sys, threading
from tasks.chips.results import ResultsTable
from tasks.settings import load_settings
settings = load_settings().cassandra
for _ in range(2):
    before = set(threading.enumerate())
    with ResultsTable.open(settings):
        assert len(threading.enumerate()) > len(before)
for thread in set(threading.enumerate()) - before:
    thread.join(30)
print(*(thread.name for thread in set(threading.enumerate()) - before))
"""
    environment = {
        "OVERLANDER_CASSANDRA_HOSTS": ",".join(cassandra_settings.hosts),
        "OVERLANDER_CASSANDRA_PORT": str(cassandra_settings.port),
        "OVERLANDER_CASSANDRA_USERNAME": "cassandra",
        "OVERLANDER_CASSANDRA_PASSWORD": "cassandra",
        "OVERLANDER_CASSANDRA_KEYSPACE": cassandra_settings.keyspace or "",
    }
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.strip() == ""


# What a user is told


def refusal(kind: type[OverlanderError], settings: CassandraSettings) -> str:
    """Return the paragraph that a user reads when the table cannot be opened or read."""
    with pytest.raises(OverlanderError) as refused, ResultsTable.open(settings) as opened:
        opened.look(seeded("complete")[0], ALGORITHM)
    text = str(refused.value)
    assert type(refused.value) is kind, text
    assert "\n" not in text
    assert WRONG_PASSWORD not in text
    return text


def test_a_wrong_password_is_refused_and_not_repeated(cassandra_settings: CassandraSettings) -> None:
    settings = cassandra_settings.model_copy(update={"password": SecretStr(WRONG_PASSWORD)})
    told = refusal(CredentialsRefused, settings)
    assert f"Cassandra at 127.0.0.1 port {settings.port} refuses" in told
    assert "Check OVERLANDER_CASSANDRA_USERNAME and OVERLANDER_CASSANDRA_PASSWORD" in told


def test_no_user_name_where_one_is_asked_for_is_refused(cassandra_settings: CassandraSettings) -> None:
    settings = cassandra_settings.model_copy(update={"username": None, "password": None})
    assert "OVERLANDER_CASSANDRA_USERNAME" in refusal(CredentialsRefused, settings)


def test_a_user_who_may_not_read_the_table_is_told_so(
    cassandra_settings: CassandraSettings, writing: Session
) -> None:
    writing.execute(f"CREATE ROLE IF NOT EXISTS stranger WITH PASSWORD = '{WRONG_PASSWORD}' AND LOGIN = true")
    update = {"username": "stranger", "password": SecretStr(WRONG_PASSWORD)}
    told = refusal(CredentialsRefused, cassandra_settings.model_copy(update=update))
    assert "stranger" in told
    assert "may read the table" in told


@pytest.mark.parametrize(("what", "variable"), [("keyspace", "KEYSPACE"), ("table", "TABLE")])
def test_a_keyspace_or_table_that_is_not_there_is_named(
    what: str, variable: str, cassandra_settings: CassandraSettings
) -> None:
    told = refusal(SchemaMismatch, cassandra_settings.model_copy(update={what: "elsewhere"}))
    assert f"no {what} 'elsewhere'" in told
    assert f"127.0.0.1 port {cassandra_settings.port}" in told
    assert f"OVERLANDER_CASSANDRA_{variable}" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE {table} DROP result_md5", "Column result_md5 of {keyspace}.{table} at {host} is missing"),
        (
            "ALTER TABLE {table} RENAME y TO pixel_y",
            "Column y of {keyspace}.{table} at {host} is missing; it should be of type int",
        ),
        ("retype", "Column result_produced of {keyspace}.{table} at {host} is of type text"),
    ],
    ids=["missing", "renamed", "retyped"],
)
def test_a_column_that_is_missing_or_of_another_type_is_named(
    change: str, told: str, cassandra_settings: CassandraSettings, writing: Session, request: pytest.FixtureRequest
) -> None:
    table = "results_" + request.node.callspec.id
    create = cassandra.SCHEMA[0].replace("IF NOT EXISTS results", f"IF NOT EXISTS {table}")
    if change == "retype":
        writing.execute(create.replace("result_produced timestamp", "result_produced text"))
    else:
        writing.execute(create)
        writing.execute(change.format(table=table))
    try:
        text = refusal(SchemaMismatch, cassandra_settings.model_copy(update={"table": table}))
    finally:
        writing.execute(f"DROP TABLE {table}")
    where = f"Cassandra at 127.0.0.1 port {cassandra_settings.port}"
    assert told.format(keyspace=cassandra_settings.keyspace, table=table, host=where) in text
    assert "Is it the table of the change-results service?" in text


def test_a_port_where_nothing_listens_is_away(cassandra_settings: CassandraSettings) -> None:
    port = supervise.free_port()
    told = refusal(ServiceAway, cassandra_settings.model_copy(update={"port": port}))
    assert f"Cassandra at 127.0.0.1 port {port} does not answer" in told
    assert "OVERLANDER_CASSANDRA_HOSTS" in told


def test_a_host_that_no_name_server_knows_is_away(cassandra_settings: CassandraSettings) -> None:
    hosts = ["cassandra.invalid"]
    assert "cassandra.invalid" in refusal(ServiceAway, cassandra_settings.model_copy(update={"hosts": hosts}))


@pytest.mark.parametrize(("what", "empty"), [("hosts", []), ("keyspace", None)])
def test_a_table_that_is_not_set_is_bad_input_and_the_sandbox_is_offered(
    what: str, empty: object, cassandra_settings: CassandraSettings
) -> None:
    told = refusal(BadInput, cassandra_settings.model_copy(update={what: empty}))
    assert f"OVERLANDER_CASSANDRA_{what.upper()}" in told
    assert "overlander sandbox up" in told


def test_no_answer_within_the_limit_is_a_time_out(
    cassandra_settings: CassandraSettings, seeded_node: Node
) -> None:
    told = refusal(ServiceTimedOut, cassandra_settings.model_copy(update={"request_timeout_s": 0.001}))
    assert "did not answer in time" in told
    assert "OVERLANDER_CASSANDRA_QUERIES_IN_FLIGHT" in told
