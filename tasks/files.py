"""Files that appear whole or not at all: temporary name, fsync, rename."""

import contextlib
import errno
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

import psutil

from tasks.errors import OutputUnusable

_PART = re.compile(r"^\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part$")
_ABANDONED_AFTER_S = 24 * 3600.0
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


class PartFile:
    """A temporary file, open for writing, that lands under a name chosen when its content is known."""

    def __init__(self, part: Path, file: IO[bytes]) -> None:
        self._part = part
        self.file = file

    def land(self, path: Path) -> os.stat_result:
        """Give the file its name, replacing what stood there; it is on the disk when this returns.

        Args:
            path: on the same file system as the temporary file. Missing folders are made.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part.replace(path)
        _sync_folder(path.parent)
        return path.stat()


@contextlib.contextmanager
def part_file(beside: Path) -> Iterator[PartFile]:
    """Yield a temporary file in the folder of `beside`; it vanishes at the end unless it has landed.

    Its name is unique to this process and tells whose it is. Missing folders are made.

    Raises:
        OutputUnusable: the folder cannot be written, or the disk is full.
    """
    part = beside.parent / f".{beside.name}.{_HOST}.{os.getpid()}.{uuid4().hex[:8]}.part"
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            yield PartFile(part, file)
    except OSError as error:
        raise unusable(beside, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends, and vanishes if it fails.

    Raises:
        OutputUnusable: the folder cannot be written, or the disk is full.
    """
    with part_file(path) as part:
        yield part.file
        part.land(path)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write `content` to `path` atomically unless it is there already; return whether it was written."""
    if holds(path, content):
        return False
    with atomic_file(path) as file:
        file.write(content)
    return True


def holds(path: Path, content: bytes) -> bool:
    """Tell whether a file is there and has this content.

    Raises:
        OutputUnusable: it cannot be read.
    """
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(path, error) from error


def remove(path: Path) -> None:
    """Remove a file that may be there.

    Raises:
        OutputUnusable: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        pass
    except OSError as error:
        raise unusable(path, error) from error


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(folder: Path) -> None:
    """Make `folder` if need be and prove that a file can be created in it.

    Raises:
        OutputUnusable: it cannot.
    """
    probe = folder / f".probe.{_HOST}.{os.getpid()}.{uuid4().hex[:8]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise unusable(folder, error) from error


@contextlib.contextmanager
def beacon(folder: Path) -> Iterator[Path]:
    """Yield an empty file in `folder`, by which other machines can tell that they see the same folder.

    It vanishes at the end; one that a killed process left is swept by the next beacon there.

    Raises:
        OutputUnusable: the folder cannot be written.
    """
    sweep_parts(folder)
    with part_file(folder / "beacon") as part:
        yield Path(part.file.name)


def sweep_parts(folder: Path) -> int:
    """Remove temporary files in `folder` whose writer is gone; return how many.

    A writer on this host is looked up by its process id; one on another host counts as gone after a day.

    Raises:
        OutputUnusable: the folder cannot be read, or is none.
    """
    swept = 0
    try:
        for part in folder.iterdir():
            if (match := _PART.match(part.name)) and _abandoned(part, match["host"], int(match["pid"])):
                part.unlink(missing_ok=True)
                swept += 1
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unusable(folder, error) from error
    return swept


def unusable(path: Path, error: OSError) -> OutputUnusable:
    """Return the paragraph for an operating system's refusal to write `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "The disk is full or the quota used up: make room, or choose another folder with --out."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "This user may not write there: change its permissions, or choose another folder with --out."
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        advice = "Something else stands at that place: move it away, or choose another folder with --out."
    else:
        advice = "Check the disk, or choose another folder with --out."
    return OutputUnusable(
        f"Cannot write {path}: {error.strerror or error}. {advice} Nothing half-written was left."
    )


def _abandoned(part: Path, host: str, pid: int) -> bool:
    if host == _HOST:
        return not psutil.pid_exists(pid)
    return time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
