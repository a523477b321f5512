"""Processes that save chips, each with a Cassandra session of its own.

Decoding rows and writing JSON is bound by the interpreter's lock: threads gain nothing, processes do. The
children import no Prefect, and end when their parent ends, even when it is killed.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.popen_spawn_posix import Popen
from multiprocessing.process import BaseProcess
from types import ModuleType

from tasks.chips.chip_file import Exported, ExportOrder, export_chip
from tasks.chips.results import ResultsTable
from tasks.errors import TransientError
from tasks.settings import CassandraSettings

_MAIN_MODULE = threading.Lock()


class ExportPool:
    """A few processes that save chips; a process that dies is replaced, and its chip reported."""

    def __init__(self, settings: CassandraSettings, processes: int) -> None:
        self._settings = settings
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def export(self, order: ExportOrder) -> Exported:
        """Have the next free process save one chip, and wait for it.

        Raises:
            TransientError: a process died, for example for want of memory.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    self._processes, mp_context=_BareContext(), initializer=_begin, initargs=(self._settings,)
                )
            pool = self._pool
        try:
            return pool.submit(_export, order).result()
        except BrokenProcessPool as error:
            with self._lock:
                if self._pool is pool:
                    self._pool = None
            raise TransientError(
                "A process that saves chips died, perhaps for want of memory; the chips it was at are saved "
                "again by the next try. OVERLANDER_EXPORT_PROCESSES lowers the number of processes."
            ) from error

    def close(self) -> None:
        """End the processes; chips not yet begun are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def kill(self) -> None:
        """End the processes at once, whatever they are at; files half-written are swept by the next run."""
        pool = self._pool
        for process in list(getattr(pool, "_processes", None) or {}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class _BareProcess(SpawnProcess):
    """A spawned process that does not import its parent's main module (which may import Prefect).

    It is deaf to the terminal's Ctrl-C from its first moment.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:  # noqa: N802
        with _no_main_module(), _no_interrupts():
            return SpawnProcess._Popen(process_obj)


class _BareContext(SpawnContext):
    Process = _BareProcess


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    with _MAIN_MODULE:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Block SIGINT in this thread: a process inherits that from the one that starts it, and keeps it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(settings: CassandraSettings) -> None:
    """Prepare a child: it is gone when its parent is."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Child.settings = settings


class _Child:
    settings: CassandraSettings


@cache
def _table() -> ResultsTable:
    return ResultsTable.open(_Child.settings)


def _export(order: ExportOrder) -> Exported:
    return export_chip(_table(), order)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
