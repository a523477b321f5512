"""Which tiles of a region a person means."""

from pathlib import Path

import pytest

from tasks.chips.tile_lists import tiles_named
from tasks.errors import BadInput, OutsideRegion
from tests.tasks.region_desk import CONUS


def names(text: str) -> list[str]:
    return [tile.name for tile in tiles_named(text, CONUS)]


@pytest.mark.parametrize(
    "text", ["H05V03,H05V04", "h5v3, h5v4", "005003,005004", "H05V03,H05V04,H05V03,", "H05V03;H05V04"]
)
def test_tiles_are_named_with_commas_in_any_spelling_and_count_once(text: str) -> None:
    assert names(text) == ["H05V03", "H05V04"]


@pytest.mark.parametrize(
    "listed", ["H05V03\nH05V04\n", "# the west\n005003, 005004 # and no more\n\n", "H05V03 H05V04\r\nH05V03\r\n"]
)
def test_a_file_lists_tiles_with_remarks_and_blank_lines(tmp_path: Path, listed: str) -> None:
    file = tmp_path / "tiles.txt"
    file.write_bytes(listed.encode())

    assert names(str(file)) == ["H05V03", "H05V04"]


def test_a_tile_that_the_region_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutsideRegion, match="'H40V03' is outside conus"):
        names("H05V03,H40V03")
    file = tmp_path / "tiles.txt"
    file.write_text("H05V03\nH40V03\n")
    with pytest.raises(OutsideRegion, match=r"Line 2 of .*tiles.txt: Tile 'H40V03' is outside conus"):
        names(str(file))


def test_a_line_that_names_no_tile_is_pointed_at(tmp_path: Path) -> None:
    file = tmp_path / "tiles.txt"
    file.write_text("H05V03\nyellowstone\n")

    with pytest.raises(BadInput, match=r"Line 2 of .*: 'yellowstone' names no tile"):
        names(str(file))


@pytest.mark.parametrize("text", ["west.txt", "H05V03,west.txt", ""])
def test_what_is_neither_tiles_nor_a_file_says_how_to_name_them(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="Name them with --tiles, as H05V03,H05V04 or as a file"):
        names(text)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"\xff\xfe\x00\x01"])
def test_a_file_without_tiles_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tiles.txt"
    file.write_bytes(content)

    with pytest.raises(BadInput, match=r"tiles\.txt"):
        names(str(file))
