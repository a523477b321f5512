"""Files appear whole or not at all."""

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import OutputUnusable
from tasks.files import atomic_file, beacon, check_writable, part_file, sha256_of, sweep_parts, write_if_changed


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "chip.json"
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "chip.json"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_does_not_land_vanishes(tmp_path: Path) -> None:
    with part_file(tmp_path / "chip.json") as part:
        part.file.write(b"flawed")
    assert list(tmp_path.iterdir()) == []


def test_a_part_can_land_elsewhere(tmp_path: Path) -> None:
    with part_file(tmp_path / "chip.json") as part:
        part.file.write(b"flawed")
        part.land(tmp_path / "flawed" / "chip.json")
    assert (tmp_path / "flawed" / "chip.json").read_bytes() == b"flawed"
    assert not (tmp_path / "chip.json").exists()


def test_a_full_disk_is_one_paragraph_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chip.json"

    def fill() -> None:
        with atomic_file(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputUnusable, match=rf"{re.escape(str(path))}.*No space left.*make room"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputUnusable, match="Cannot write"):
        check_writable(tmp_path / "taken" / "out")


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    assert write_if_changed(path, b"one")
    before = path.stat().st_mtime_ns
    assert not write_if_changed(path, b"one")
    assert path.stat().st_mtime_ns == before
    assert write_if_changed(path, b"two")
    assert path.read_bytes() == b"two"


def test_only_parts_whose_writer_is_gone_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    dead = tmp_path / f".chip.json.{host}.{gone.pid}.0123abcd.part"
    alive = tmp_path / f".chip.json.{host}.{os.getpid()}.0123abcd.part"
    elsewhere = tmp_path / f".chip.json.another-host.{gone.pid}.0123abcd.part"
    theirs = tmp_path / ".something.part"
    for file in (dead, alive, elsewhere, theirs):
        file.write_bytes(b"half")
    assert sweep_parts(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere, theirs])


def test_sha256_is_the_one_that_sha256sum_gives(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == known


def test_a_beacon_is_there_for_as_long_as_it_is_held_and_sweeps_that_of_a_killed_process(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    die = f"import os, pathlib, tasks.files as f\nwith f.beacon(pathlib.Path({str(folder)!r})): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", die], timeout=60, check=False).returncode == 9
    (left,) = folder.iterdir()

    with beacon(folder) as held:
        assert list(folder.iterdir()) == [held] != [left]
    assert list(folder.iterdir()) == []
