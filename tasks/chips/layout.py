"""Where a chip's file goes: an output folder and a path template, checked before anything is written."""

import os
import re
import string
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.chips.grid import Chip, Tile
from tasks.errors import BadInput
from tasks.files import unusable

DEFAULT_TEMPLATE = "{algorithm}/{tile}/{tile}_{x}_{y}.json"
"""Readers of the exported files (TAP, json-matlab) take `HxxVyy_x_y` apart by its underscores."""

FLAWED_FOLDER = "flawed"

_FIELDS = {"algorithm", "tile", "x", "y"}
_ALGORITHM = re.compile(rb'"algorithm"\s*:\s*"((?:[^"\\]|\\.)*)"')
_FIRST_BYTES = 4096


@dataclass(frozen=True)
class Layout:
    """An output folder and a template below it.

    Attributes:
        root: the output folder, absolute.
        template: a path with the fields `{tile}`, `{x}`, `{y}` and `{algorithm}` (its colon as `_`).
    """

    root: Path
    template: str = DEFAULT_TEMPLATE

    def file(self, tile: Tile, algorithm: str, chip: Chip) -> Path:
        """Return where a chip whose pixels are all good goes."""
        return self.root / self.name(tile, algorithm, chip)

    def name(self, tile: Tile, algorithm: str, chip: Chip) -> str:
        """Return the template filled in for a chip."""
        spelt = algorithm.replace(":", "_").replace("/", "_")
        return self.template.format(tile=tile.name, x=chip.x, y=chip.y, algorithm=spelt)

    def flawed_file(self, tile: Tile, algorithm: str, chip: Chip) -> Path:
        """Return where a chip with failed pixels goes: a folder beside the others."""
        file = self.file(tile, algorithm, chip)
        return file.parent / FLAWED_FOLDER / file.name

    def folder(self, tile: Tile, algorithm: str) -> Path:
        """Return the folder that holds all of a tile's files: its manifest, map and page go there."""
        first, last = tile.chip(0, 0), tile.chip(49, 49)
        parents = [self.file(tile, algorithm, chip).parent for chip in (first, last)]
        shared = [one for one, other in zip(parents[0].parts, parents[1].parts, strict=False) if one == other]
        return Path(*shared)

    def report_name(self, name: str, tile: Tile) -> str:
        """Return a report file's name, which tells the tile where the folder does not."""
        folders = Path(self.template).parent
        return name if "{tile}" in str(folders) else f"{tile.name}_{name}"


def checked_layout(root: Path, template: str, tile: Tile, algorithm: str) -> Layout:
    """Return the layout, after proving that each of the tile's chips gets a file of its own below `root`.

    Raises:
        BadInput: the template has unknown fields or lacks the chip's coordinates, writes two chips to one
            file, or leads out of `root`.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise BadInput(f"The path template {template!r} cannot be read: {error}. {_HOW}") from None
    if unknown := sorted(set(fields) - _FIELDS):
        raise BadInput(f"The path template {template!r} has unknown fields: {', '.join(unknown)}. {_HOW}")
    layout = Layout(root.absolute(), template)
    top = str(layout.root)
    try:
        # 5,000 paths: as texts, since as Path objects they take a third of a second.
        names = [layout.name(tile, algorithm, chip) for chip in tile.chips()]
    except (ValueError, LookupError) as error:
        raise BadInput(f"The path template {template!r} cannot be filled in: {error}. {_HOW}") from None
    files = [os.path.normpath(os.path.join(top, name)) for name in names]  # noqa: PTH118
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120
    flawed = [os.path.join(os.path.dirname(file), FLAWED_FOLDER, os.path.basename(file)) for file in files]  # noqa: PTH118, PTH119, PTH120
    if len({*files, *flawed}) < 2 * len(files):
        raise BadInput(
            f"The path template {template!r} would write two chips to one file, {files[0]} for example: it "
            f"needs the chip's coordinates {{x}} and {{y}}. {_HOW}"
        )
    real_top = layout.root.resolve()
    for folder in folders:
        if not Path(folder).is_relative_to(top):
            raise BadInput(f"The path template {template!r} leads out of the output folder {root}. {_HOW}")
        if not Path(folder).resolve().is_relative_to(real_top):
            raise BadInput(f"{folder} leads out of the output folder {root} through a link. {_HOW}")
    return layout


def refuse_foreign_files(
    layout: Layout, tile: Tile, algorithm: str, chips: Iterable[Chip], known: Collection[Path]
) -> None:
    """Make sure that the folders the chips go to hold no other algorithm's files.

    Args:
        layout, tile, algorithm, chips: what will be written.
        known: files that the ledger knows to be this algorithm's; only others are opened.

    Raises:
        BadInput: a JSON file there names another algorithm.
        OutputUnusable: a folder cannot be read.
    """
    folders = {layout.file(tile, algorithm, chip).parent for chip in chips}
    for folder in sorted(folders | {folder / FLAWED_FOLDER for folder in folders}):
        try:
            files = [file for file in sorted(folder.glob("*.json")) if file not in known]
            for file in files:
                other = _algorithm_in(file)
                if other is not None and other != algorithm:
                    raise BadInput(
                        f"{folder} holds files of another algorithm: {file.name} is of {other}, this run's are "
                        f"of {algorithm}. Choose another folder with --out, or put {{algorithm}} into the path "
                        "template."
                    )
        except OSError as error:
            raise unusable(folder, error) from error


_HOW = f"A template is a path below the output folder, such as {DEFAULT_TEMPLATE}."


def _algorithm_in(file: Path) -> str | None:
    """Return the algorithm that the first record of an exported file names."""
    with file.open("rb") as opened:
        match = _ALGORITHM.search(opened.read(_FIRST_BYTES))
    return match[1].decode(errors="replace") if match else None
