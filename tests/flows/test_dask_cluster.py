"""The Dask cluster that saves chips: what is refused before anything is sent to it, and by its workers."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import dask_cluster as cluster_module
from flows.dask_cluster import dask_cluster, write_chips
from tasks.errors import BadInput, OutputUnusable, PartMissing, ServiceAway
from tasks.settings import Settings
from tests.flows.desk import Desk


def connect(address: str | None) -> None:
    with dask_cluster(address, Settings(), Path("beacon"), None):
        pass


def test_without_the_extra_a_person_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask", None)

    with pytest.raises(PartMissing, match=r"pip install 'overlander\[dask\]'"):
        connect(None)
    ran = Desk(tmp_path).run("region", "export", "conus", "--tiles", "H05V03")

    assert (ran.status, ran.out) == (1, "")
    assert "pip install 'overlander[dask]'" in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_workers_elsewhere_cannot_report_to_an_api_of_this_machine() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}),
        pytest.raises(BadInput, match="Set PREFECT_API_URL"),
    ):
        connect("tcp://10.0.0.5:8786")


def test_an_address_without_a_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_CONNECTED_WITHIN_S", 1)

    with pytest.raises(ServiceAway, match=r"127\.0\.0\.1:9 does not answer"):
        connect("tcp://127.0.0.1:9")
    with pytest.raises(BadInput, match="no address of a Dask scheduler"):
        connect("nonsense://127.0.0.1:9")


def test_a_worker_that_does_not_see_the_output_folder_writes_nothing(tmp_path: Path) -> None:
    with disable_run_logger(), pytest.raises(OutputUnusable, match="does not see"):
        write_chips.fn("a chip", [], tmp_path / "beacon", "LCMAP/changes.results", None)


def test_a_worker_that_reads_another_table_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(source="LCMAP/elsewhere.results")
    monkeypatch.setattr(cluster_module, "_table", lambda _settings: other)

    with disable_run_logger(), pytest.raises(BadInput, match=r"reads LCMAP/elsewhere\.results"):
        write_chips.fn("a chip", [], tmp_path, "LCMAP/changes.results", None)
