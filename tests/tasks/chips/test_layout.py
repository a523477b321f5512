"""Where a chip's file goes, and which templates are refused."""

import json
from pathlib import Path

import pytest

from tasks.chips.grid import REGIONS, tile_named
from tasks.chips.layout import Layout, checked_layout, refuse_foreign_files
from tasks.errors import BadInput

TILE = tile_named("H05V03", REGIONS["conus"])
ALGORITHM = "lcmap-pyccd:2017.08.18"
CHIP = TILE.chip(0, 1)


def test_the_default_file_is_named_as_readers_take_it_apart(tmp_path: Path) -> None:
    layout = checked_layout(tmp_path, Layout(tmp_path).template, TILE, ALGORITHM)
    file = layout.file(TILE, ALGORITHM, CHIP)
    assert file == tmp_path / "lcmap-pyccd_2017.08.18" / "H05V03" / "H05V03_-1812585_2864805.json"
    assert layout.flawed_file(TILE, ALGORITHM, CHIP) == file.parent / "flawed" / file.name
    assert layout.folder(TILE, ALGORITHM) == file.parent


def test_the_notebook_s_template_works(tmp_path: Path) -> None:
    layout = checked_layout(tmp_path, "H05V03/{x}_{y}.json", TILE, ALGORITHM)
    assert layout.file(TILE, ALGORITHM, CHIP) == tmp_path / "H05V03" / "-1812585_2864805.json"


def test_an_absolute_template_below_the_output_folder_works(tmp_path: Path) -> None:
    layout = checked_layout(tmp_path, f"{tmp_path}/pyccd/{{x}}_{{y}}.json", TILE, ALGORITHM)
    assert layout.file(TILE, ALGORITHM, CHIP).parent == tmp_path / "pyccd"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{tile}/chip.json", "two chips to one file"),
        ("{tile}/{x}.json", "two chips to one file"),
        ("{tile}/{y}.json", "two chips to one file"),
        ("../{x}_{y}.json", "leads out of the output folder"),
        ("a/../../{x}_{y}.json", "leads out of the output folder"),
        ("/elsewhere/{x}_{y}.json", "leads out of the output folder"),
        ("{tile}/{z}_{x}_{y}.json", "unknown fields: z"),
        ("{x.__class__}_{x}_{y}.json", "unknown fields"),
        ("{x}_{y", "cannot be read"),
        ("{x:q}_{y}.json", "cannot be filled in"),
        ("{}_{x}_{y}.json", "unknown fields"),
    ],
)
def test_a_template_that_would_lose_or_misplace_a_file_is_refused(template: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        checked_layout(tmp_path, template, TILE, ALGORITHM)


def test_a_link_that_leads_out_of_the_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "H05V03").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="through a link"):
        checked_layout(tmp_path / "out", "{tile}/{x}_{y}.json", TILE, ALGORITHM)


def test_reports_of_two_tiles_in_one_folder_have_names_of_their_own(tmp_path: Path) -> None:
    assert Layout(tmp_path, "{tile}/{x}_{y}.json").report_name("map.png", TILE) == "map.png"
    assert Layout(tmp_path, "{x}_{y}.json").report_name("map.png", TILE) == "H05V03_map.png"


def a_file_of(algorithm: str, path: Path) -> None:
    inner = json.dumps({"algorithm": "lcmap-pyccd:something-else"})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"chip_x": 1, "chip_y": 2, "algorithm": algorithm, "result": inner}]))


def test_a_folder_with_another_algorithm_s_files_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "{tile}/{x}_{y}.json")
    a_file_of("lcmap-pyccd:1.4.0rc1", tmp_path / "H05V03" / "1_2.json")
    with pytest.raises(BadInput, match=r"lcmap-pyccd:1\.4\.0rc1"):
        refuse_foreign_files(layout, TILE, ALGORITHM, [CHIP], known=())


def test_a_folder_with_files_of_the_same_algorithm_is_taken(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "{tile}/{x}_{y}.json")
    a_file_of(ALGORITHM, tmp_path / "H05V03" / "1_2.json")
    (tmp_path / "H05V03" / "notes.json").write_text("{}")
    refuse_foreign_files(layout, TILE, ALGORITHM, [CHIP], known=())
