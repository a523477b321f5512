"""A Dask cluster that saves chips: what its workers do, how it is reached, and what it means when it is not.

A worker reads chips from Cassandra and writes their files. What became of them the run notes in the ledger, so
that a worker needs neither ledger nor lease. How to reach Cassandra a worker knows from `OVERLANDER_*` variables
of its own, or from a block that it loads by name: no secret travels with a task.
"""

import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.task_runners import ThreadPoolTaskRunner

from deployments.blocks import results_settings
from tasks.chips.campaign import Site
from tasks.chips.chip_file import Exported, ExportOrder, export_chip
from tasks.chips.results import ResultsTable
from tasks.errors import (
    BadInput,
    OutputUnusable,
    OverlanderError,
    PartMissing,
    PermanentError,
    ServiceAway,
    TransientError,
)
from tasks.parts import need_dask
from tasks.settings import CassandraSettings, Settings

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

WORKERS_WITHIN_S = 120.0
"""A cluster without any worker is waited for so long."""

_CONNECTED_WITHIN_S = 20.0
_LOOK_S = 1.0


@task(
    name="write",
    task_run_name="write {what}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def write_chips(
    what: str, orders: Sequence[ExportOrder], beacon: Path, source: str, results_block: str | None
) -> list[Exported | OverlanderError]:
    """Save some chips, on a worker of the cluster; a retry is the run's to make, of what is left.

    Args:
        what: the chips, for people.
        orders: which chips, and where to.
        beacon: a file of the run's: a worker that does not see it would write to a disk of its own.
        source: the table that the run reads; a worker set for another one must not write.
        results_block: ResultsCassandra block to read from; None takes the worker's own settings.

    Returns:
        What became of each order, in their order; ends at one that the disk refuses, as the rest would be.

    Raises:
        OutputUnusable: the worker does not see the output folder.
        BadInput: it is set for another table.
        OverlanderError: it cannot read the table.
    """
    if not beacon.exists():
        raise OutputUnusable(
            f"The Dask worker on {socket.gethostname()} does not see {beacon.parent} as this run does. Dask "
            "workers need the output folder at the same place, on a disk that all machines share."
        )
    table = _table(results_settings(results_block))
    if table.source != source:
        raise BadInput(
            f"The Dask worker on {socket.gethostname()} reads {table.source}, and this run reads {source}. Give "
            "Dask workers the same OVERLANDER_CASSANDRA_* variables, or name a ResultsCassandra block for both."
        )
    outcomes: list[Exported | OverlanderError] = []
    for order in orders:
        try:
            outcomes.append(export_chip(table, order))
        except OverlanderError as error:
            outcomes.append(error)
            if isinstance(error, OutputUnusable):
                break
    get_run_logger().info("%s: %d read", what, sum(isinstance(outcome, Exported) for outcome in outcomes))
    return outcomes


class DaskCluster:
    """A cluster at work for a run.

    Args:
        runner: started.
        beacon, results_block: as `write_chips` takes them.
    """

    def __init__(self, runner: "DaskTaskRunner", beacon: Path, results_block: str | None) -> None:
        self._runner = runner
        self._beacon = beacon
        self._results_block = results_block
        self._given_up: OverlanderError | None = None

    @property
    def threads(self) -> int:
        """How many chips the cluster's workers can be at, now; none when the scheduler does not say."""
        try:
            return sum(self._runner.client.nthreads().values())
        except OSError:
            return 0

    @property
    def is_over(self) -> bool:
        """Whether the cluster does no more for this run: its scheduler is gone, or its workers stay away."""
        return self._given_up is not None or self._runner.client.status != "running"

    def work_for(self, place: Site) -> None:
        """Have the chips of an open tile saved by the cluster."""

        def save(orders: Sequence[ExportOrder]) -> Sequence[Exported | OverlanderError]:
            return self._save(place, orders)

        place.save_together = save

    def _save(self, place: Site, orders: Sequence[ExportOrder]) -> Sequence[Exported | OverlanderError]:
        if self.is_over:
            raise self._given_up or _gone()
        others = f" and {len(orders) - 1} more" if len(orders) > 1 else ""
        given = {
            "what": orders[0].file.stem + others,
            "orders": orders,
            "beacon": self._beacon,
            "source": place.ground.source,
            "results_block": self._results_block,
        }
        future: PrefectDaskFuture[Any] = self._runner.submit(write_chips, given)
        seen = time.monotonic()
        while not future.wrapped_future.done():
            future.wait(timeout=_LOOK_S)
            if place.stopping.is_set():
                future.wrapped_future.cancel()
                return []
            if self.is_over:
                raise self._given_up or _gone()
            if self.threads:
                seen = time.monotonic()
            elif time.monotonic() - seen > WORKERS_WITHIN_S:
                self._given_up = _no_workers()
                future.wrapped_future.cancel()
                raise self._given_up
        return _result(future)


@contextmanager
def dask_cluster(
    address: str | None, settings: Settings, beacon: Path, results_block: str | None
) -> Iterator[DaskCluster]:
    """Connect to a Dask cluster, or start one here, for the length of a block.

    A flow that was given a DaskTaskRunner, by `with_options`, uses that.

    Args:
        address: the scheduler's, as tcp://10.0.0.5:8786; None starts a cluster in processes of this machine,
            as many as OVERLANDER_EXPORT_PROCESSES.
        settings: this run's.
        beacon, results_block: as `write_chips` takes them.

    Raises:
        PartMissing: prefect-dask is not installed.
        BadInput: the address is none, or workers elsewhere could not reach Prefect's API.
        ServiceAway: no scheduler answers there.
    """
    need_dask()
    from prefect_dask.task_runners import DaskTaskRunner

    context = FlowRunContext.get()
    given = context.task_runner if context is not None else None
    if isinstance(given, DaskTaskRunner):
        if given.address:
            _refuse_unreachable_api(given.address)
        _connect(given)
        yield DaskCluster(given, beacon, results_block)
        return
    if given is not None and not isinstance(given, ThreadPoolTaskRunner):
        raise BadInput(f"The export on Dask takes a DaskTaskRunner, and was given a {type(given).__name__}.")
    if address is None:
        here: dict[str, Any] = {
            "n_workers": settings.export_processes,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
        here |= {"silence_logs": logging.ERROR, "preload": __name__}
        runner = DaskTaskRunner(cluster_kwargs=here)
    else:
        _refuse_unreachable_api(address)
        runner = DaskTaskRunner(address=address, client_kwargs={"timeout": _CONNECTED_WITHIN_S})
    with runner:
        _connect(runner)
        yield DaskCluster(runner, beacon, results_block)


def dask_setup(worker: object) -> None:
    """Make a worker on this machine deaf to the terminal's Ctrl-C: it ends with the run. Dask calls it by name."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Tables:
    """The tables that this worker has open, one for each way to reach one; they stay open as long as it lives."""

    opened: list[tuple[CassandraSettings, ResultsTable]] = []  # noqa: RUF012 - of the process
    opening = Lock()


def _table(settings: CassandraSettings) -> ResultsTable:
    with _Tables.opening:
        for how, table in _Tables.opened:
            if how == settings:
                return table
        table = ResultsTable.open(settings)
        _Tables.opened.append((settings, table))
        return table


def _connect(runner: "DaskTaskRunner") -> None:
    """Connect now: threads that did so at the same time would each make a client, or a cluster."""
    where = f"at {runner.address}" if runner.address else "on this machine"
    try:
        _ = runner.client
    except ValueError as error:
        raise BadInput(
            f"{runner.address} is no address of a Dask scheduler: {error}. It looks like tcp://10.0.0.5:8786."
        ) from None
    except OSError as error:
        raise ServiceAway(
            f"The Dask scheduler {where} does not answer: {error}. Start it (`dask scheduler`), correct the "
            "address, or leave it out to use processes of this machine."
        ) from None


def _result(future: "PrefectDaskFuture[Any]") -> Sequence[Exported | OverlanderError]:
    """Return what a batch came to; what Dask itself fails with becomes an error of ours here."""
    from distributed import KilledWorker
    from distributed.client import CancelledError

    try:
        return list(future.result())
    except OverlanderError:
        raise
    except KilledWorker as error:
        raise TransientError(
            "Dask workers died again and again while they saved the same chips, perhaps for want of memory: "
            f"{error}"
        ) from error
    except CancelledError:
        raise _gone() from None
    except Exception as error:
        raise PermanentError(
            f"A Dask worker could not save chips: {type(error).__name__}: {error}. Scheduler and workers need the "
            "versions of Overlander, Prefect and Dask that this run has."
        ) from error


def _gone() -> PermanentError:
    return PermanentError(
        "The Dask scheduler is gone, or has dropped this run's work. What was saved and noted is kept: start the "
        "cluster, and run this again."
    )


def _no_workers() -> PartMissing:
    return PartMissing(
        f"The Dask cluster has had no worker for {WORKERS_WITHIN_S:.0f} s. Start some (`dask worker ADDRESS "
        "--nthreads 1`), on machines that have Overlander installed and see the output folder."
    )


def _refuse_unreachable_api(address: str) -> None:
    """Refuse a cluster elsewhere where Prefect's API is known as this machine's own."""
    api = get_current_settings().api.url or ""
    if _is_loopback(api) and not _is_loopback(address):
        raise BadInput(
            f"Workers of the Dask cluster at {address} report to Prefect's API, which is {api}: an address of "
            "this machine alone. Set PREFECT_API_URL to the address that they reach it by."
        )


def _is_loopback(address: str) -> bool:
    host = urlsplit(address if "://" in address else f"tcp://{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
