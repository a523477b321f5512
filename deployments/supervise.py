"""Background programs that outlive the command which started them: started once, found again, stopped whole.

Each program has a folder of its own with its log, the record of what runs (`running.json`) and a lock, so
that any later process finds the program, and two that start it at once start one.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from tasks.errors import LeaseHeld, PartMissing, ServiceAway
from tasks.files import atomic_file, unusable

_LOCK_WITHIN_S = 180.0
_POLL_S = 0.05
_KILLED_WITHIN_S = 10.0
_CLOCK_STEP_S = 2.0  # a process's creation time is computed from the wall clock, which may be set meanwhile
_MARK = "OVERLANDER_SUPERVISED_IN"  # in the environment of the program and all that it starts
_TELLING = re.compile(r"error|exception|caused by|fatal|refused|denied|cannot|unable|in use", re.IGNORECASE)

_PORTS = range(20_000, 32_000)

_children: dict[int, subprocess.Popen[bytes]] = {}  # started by this process: it must reap them


@dataclass(frozen=True)
class Program:
    """What to start, and how to know that it is up.

    Attributes:
        name: for messages and the log's name, for example "the Cassandra node".
        folder: the program's own; also its working directory.
        command: program and arguments, no shell.
        environment: added to this process's own.
        ready: whether it does its work already; called again and again, must not raise.
        ready_within_s: after so long without being ready it is stopped again.
        facts: JSON values that whoever finds it running needs, for example its port.
    """

    name: str
    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    ready_within_s: float
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Running:
    """A program that runs: process id, its creation time (seconds since 1970), facts and log."""

    pid: int
    created: float
    facts: Mapping[str, Any]
    log: Path


def up(program: Program) -> Running:
    """Start the program unless it runs, and wait until it is ready.

    It runs in a session of its own: neither this process's end nor the terminal's Ctrl-C reaches it. A Ctrl-C
    while waiting stops what was started.

    Raises:
        PartMissing: it ended by itself; the paragraph holds what its log says.
        ServiceAway: it was not ready in time; it has been stopped if this call started it.
        LeaseHeld: another process has been starting or stopping it for minutes.
    """
    with locked(program.folder):
        if (found := running(program.folder)) is not None:
            _await_ready(program, found, "It is left running: others may be using it. Stop it if it hangs.")
            return found
        found = _start(program)
        try:
            _await_ready(program, found, "It has been stopped: try again when the machine is less busy.")
        except BaseException:
            _stop(found.pid, program.folder, grace_s=5)
            _record(program.folder).unlink(missing_ok=True)
            raise
        return found


def running(folder: Path) -> Running | None:
    """Return the program that runs in `folder`, or None; what a dead one left counts for nothing."""
    found = _recorded(folder)
    return found if found and _is_alive(found.pid, found.created) else None


def down(folder: Path, grace_s: float = 10) -> bool:
    """Stop the program of `folder` and all that it started; return whether there was anything to stop.

    SIGTERM first; what still lives after `grace_s` seconds is killed. Nothing of it runs when this returns.

    Raises:
        LeaseHeld: another process has been starting or stopping it for minutes.
    """
    if not folder.exists():
        return False
    with locked(folder):
        found = _recorded(folder)
        stopped = found is not None and _stop(found.pid, folder, grace_s, leader_created=found.created)
        _record(folder).unlink(missing_ok=True)
        return stopped


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, against other processes and threads; may be taken again inside.

    Raises:
        LeaseHeld: not free within three minutes.
        OutputUnusable: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=_LOCK_WITHIN_S, is_singleton=True)
        lock.acquire()
    except Timeout:
        raise LeaseHeld(
            f"Another process has been starting or stopping what runs in {folder} for "
            f"{_LOCK_WITHIN_S:.0f} s. Wait for it and try again, or end that process: the lock goes with it."
        ) from None
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def free_port(preferred: int | None = None, host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on: the preferred one, or any when that is taken.

    Never one that the system gives to outgoing connections, from 32768 on Linux and 49152 on macOS: a program
    that takes a minute to start would find it taken by then.
    """
    for port in (preferred, *random.sample(_PORTS, 100)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            if port is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return port
    raise ServiceAway(f"No TCP port is free on {host}. Close some programs and try again.")


def listens(folder: Path, port: int) -> bool:
    """Tell whether the program that runs in `folder`, or one that it started, listens on a TCP port.

    Another program may have taken the port between the moment when it was free and the one when ours wanted it.
    """
    with contextlib.suppress(psutil.Error):
        if (found := running(folder)) is not None:
            leader = psutil.Process(found.pid)
            return any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for process in (leader, *leader.children(recursive=True))
                for connection in process.net_connections(kind="tcp")
            )
    return False


def _start(program: Program) -> Running:
    log = program.folder / f"{program.name.replace(' ', '-')}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    environment = {**os.environ, **program.environment, _MARK: _mark(program.folder)}
    try:
        with log.open("wb") as sink:
            child = subprocess.Popen(
                list(program.command),
                cwd=program.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise PartMissing(
            f"Cannot start {program.name}: {error.filename} is not there. Install Overlander again."
        ) from error
    except OSError as error:
        raise unusable(log, error) from error
    _children[child.pid] = child
    try:
        started = Running(child.pid, psutil.Process(child.pid).create_time(), dict(program.facts), log)
        _write_record(program.folder, started)
    except BaseException:
        _stop(child.pid, program.folder, grace_s=0)
        raise
    return started


def _await_ready(program: Program, found: Running, advice: str) -> None:
    until = time.monotonic() + program.ready_within_s
    while not program.ready():
        if not _is_alive(found.pid, found.created):
            raise PartMissing(f"{_capital(program.name)} ended by itself before it was ready. {_told(found.log)}")
        if time.monotonic() > until:
            raise ServiceAway(
                f"{_capital(program.name)} was not ready within {program.ready_within_s:.0f} s. "
                f"{advice} {_told(found.log)}"
            )
        time.sleep(_POLL_S)


def _stop(pid: int, folder: Path, grace_s: float, leader_created: float | None = None) -> bool:
    """End the group that `pid` leads and its descendants; return whether any of them lived."""
    members = _members(pid, folder, leader_created)
    lived = bool(members)
    for sign, within_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILLED_WITHIN_S)):
        until = time.monotonic() + within_s
        told: set[psutil.Process] = set()
        while members:
            for member in members - told:  # one that was started meanwhile is told too
                with contextlib.suppress(psutil.Error):
                    member.send_signal(sign)
            told |= members
            if time.monotonic() > until:
                break
            psutil.wait_procs(members, timeout=_POLL_S)
            members = _members(pid, folder, leader_created, members)
    if child := _children.pop(pid, None):
        child.wait()
    return lived


def _members(
    pid: int, folder: Path, leader_created: float | None, known: Collection[psutil.Process] = ()
) -> set[psutil.Process]:
    """Return the living processes of the group that `pid` leads or led, descendants and known ones too.

    With the leader gone, its number may have been given to a stranger: then only processes count that bear
    the folder's mark in their environment.
    """
    ours = leader_created is None or _is_alive(pid, leader_created)
    found = set(known)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == pid and (ours or process.environ().get(_MARK) == _mark(folder)):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if _lives(process)}


def _is_alive(pid: int, created: float) -> bool:
    if pid in _children:
        _children[pid].poll()
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < _CLOCK_STEP_S and _lives(process)
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _mark(folder: Path) -> str:
    return str(folder.resolve())


def _record(folder: Path) -> Path:
    return folder / "running.json"


def _write_record(folder: Path, started: Running) -> None:
    record = {"pid": started.pid, "created": started.created, "facts": started.facts, "log": str(started.log)}
    with atomic_file(_record(folder)) as file:
        file.write(json.dumps(record).encode())


def _recorded(folder: Path) -> Running | None:
    try:
        record = json.loads(_record(folder).read_bytes())
        return Running(int(record["pid"]), float(record["created"]), record["facts"], Path(record["log"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _told(log: Path) -> str:
    """Return the log's last telling lines in a sentence: those that name an error, else its very last."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65_536))
        lines = [line.strip()[:300] for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if _TELLING.search(line) and not line.startswith("at ")]
        if lines:
            return f"Its log ends with: {' | '.join((telling or lines)[-5:])}. All of it: {log}"
    return f"Its log is empty: {log}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
