"""Collect: a person reads from the files what became of each polygon, and where its result is."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import BadInput, OutputUnusable
from tasks.ledger.outcomes import outcomes
from tasks.ledger.polygons import Series
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own, counts
from tasks.polygons.collect import collect
from tasks.polygons.jobs import JobStatus, Output, Remote
from tests.polygon_desk import (
    LIMIT_S,
    QUICK,
    URL,
    FakeService,
    by_id,
    dispatching,
    failed,
    feature,
    load,
    running,
)

NAMES = ["results.parquet", "results.csv", "urls.txt", "polygons.geojson"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def numbers(ledger: Ledger, tmp_path: Path) -> list[int]:
    """Return a campaign's series: three units done, one with two URLs, one failed, one that cannot be sent."""
    several = (
        Output("image", "literal", "https://example.org/a chart"),
        Output("url", "literal", "https://example.org/chart.html"),
        Output("timeseries", "complex", '{"data": "a,b\\n1,2"}', "application/json"),
        Output("raster", "reference", "http://example.org/r.tif"),
    )
    service = FakeService()
    service.says[f"{URL}/p0/1"] = [running(), JobStatus(Remote.SUCCESSFUL, outputs=several)]
    service.says[f"{URL}/p2/1"] = [failed('No data, "none" at all\nhere.')]
    found = [feature(4), feature(0), feature(2), feature(9, geometry=None, problem="It is empty."), feature(1)]
    of_series, units = load(ledger, found)
    with dispatching(ledger, of_series, service, tmp_path, replace(QUICK, attempts=1), by_id) as dispatcher:
        dispatcher.dispatch(units, LIMIT_S)
    return [one.number for one in of_series]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_urls_stand_in_the_source_s_order_and_only_urls(
    ledger: Ledger, numbers: list[int], tmp_path: Path
) -> None:
    assert collect(ledger, numbers, tmp_path / "out").urls.read_text().splitlines() == [
        "https://example.org/chart.html",
        "http://example.org/r.tif",
        "s3://bucket/p1/1.parquet",
        "s3://bucket/p4/1.parquet",
    ]


def test_csv_and_parquet_say_the_same_of_every_unit(ledger: Ledger, numbers: list[int], tmp_path: Path) -> None:
    collected = collect(ledger, numbers, tmp_path / "out")
    assert collected.units == 5
    table = pq.read_table(collected.parquet).to_pylist()
    text = lines(collected.csv)
    for name in ("id", "interval", "own", "error_class", "error_text", "outputs", "status_location"):
        assert [row[name] for row in table] == [row[name] for row in text]
    assert [row["id"] for row in table] == ["p0", "p1", "p2", "p4", "p9"]
    assert [row["own"] for row in table] == ["done", "done", "failed", "done", "failed"]
    assert table[2]["error_text"] == 'No data, "none" at all\nhere.'
    assert table[4]["error_text"] == "It is empty."
    assert table[4]["total_s"] is None
    assert json.loads(table[1]["outputs"]) == {"url": "s3://bucket/p1/1.parquet"}


def test_the_seconds_of_the_phases_make_up_the_whole(ledger: Ledger, numbers: list[int], tmp_path: Path) -> None:
    first = pq.read_table(collect(ledger, numbers, tmp_path / "out").parquet).to_pylist()[0]
    phases = [first[name] for name in ("submitting_s", "accepted_s", "running_s")]
    assert min(phases) >= 0
    assert sum(phases) == pytest.approx(first["total_s"], abs=0.01)


def test_the_polygons_carry_the_columns_as_geojson(ledger: Ledger, numbers: list[int], tmp_path: Path) -> None:
    document = json.loads(collect(ledger, numbers, tmp_path / "out").polygons.read_text())
    found = {one["properties"]["id"]: one for one in document["features"]}
    assert list(found) == ["p0", "p1", "p2", "p4", "p9"]
    assert found["p1"]["geometry"] == json.loads(feature(1).geometry or "")
    assert found["p1"]["properties"]["own"] == "done"
    assert found["p9"]["geometry"] is None


def test_collecting_again_what_has_not_changed_leaves_the_files_alone(
    ledger: Ledger, numbers: list[int], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def written() -> list[tuple[int, int]]:
        stats = [(out / name).stat() for name in NAMES]
        return [(one.st_ino, one.st_mtime_ns) for one in stats]

    collect(ledger, numbers, out)
    before = written()
    collect(ledger, numbers, out)
    assert written() == before
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)


def test_a_campaign_without_units_has_files_that_say_so(ledger: Ledger, tmp_path: Path) -> None:
    collected = collect(ledger, [], tmp_path / "out")
    assert collected.units == 0
    assert pq.read_table(collected.parquet).num_rows == 0
    assert lines(collected.csv) == []
    assert json.loads(collected.polygons.read_text())["features"] == []


def test_a_folder_that_cannot_be_written_is_told(ledger: Ledger, numbers: list[int], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputUnusable, match="out"):
        collect(ledger, numbers, tmp_path / "out")


def test_a_condition_selects(ledger: Ledger, numbers: list[int]) -> None:
    with ledger.read() as connection:
        failures = outcomes(connection, numbers, "own = 'failed' AND attempts > 0")
        assert [one.id for one in failures] == ["p2"]
        likes = outcomes(connection, numbers, "status_location LIKE 'http://%/p1/1'")
        assert [one.id for one in likes] == ["p1"]


@pytest.mark.parametrize("where", ["nonsense = 1", "own = ", "own = 'done'); DELETE FROM units; --"])
def test_a_condition_that_makes_no_sense_is_bad_input_and_changes_nothing(
    where: str, ledger: Ledger, numbers: list[int]
) -> None:
    with ledger.read() as connection, pytest.raises(BadInput, match="error_class"):
        list(outcomes(connection, numbers, where))
    with ledger.read() as connection:
        assert counts(connection, numbers).units == 5


def test_counts_name_every_status(ledger: Ledger, numbers: list[int]) -> None:
    with ledger.read() as connection:
        found = counts(connection, numbers)
    assert found.units == 5
    assert found.own == dict.fromkeys(Own, 0) | {Own.DONE: 3, Own.FAILED: 2}
    assert found.remote == dict.fromkeys(Remote, 0) | {Remote.SUCCESSFUL: 3, Remote.FAILED: 1}


def test_results_can_be_collected_while_a_run_is_at_work(ledger: Ledger, tmp_path: Path) -> None:
    service = FakeService(says={f"{URL}/p0/1": [running()]})
    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        while dispatcher.dispatch(units, 0.1)[Own.IN_FLIGHT] != 1:
            pass
        assert _ids(ledger, of_series, tmp_path) == [("p0", "in_flight")]


def _ids(ledger: Ledger, of_series: list[Series], folder: Path) -> list[tuple[str, str]]:
    collected = collect(ledger, [one.number for one in of_series], folder / "out")
    return [(row["id"], row["own"]) for row in lines(collected.csv)]
