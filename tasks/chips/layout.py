"""Where a chip's file goes: an output folder and a path template, checked before anything is written."""

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
        name = algorithm.replace(":", "_").replace("/", "_")
        return self.root / self.template.format(tile=tile.name, x=chip.x, y=chip.y, algorithm=name)

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
    try:
        files = [layout.file(tile, algorithm, chip) for chip in tile.chips()]
        flawed = [layout.flawed_file(tile, algorithm, chip) for chip in tile.chips()]
    except (ValueError, LookupError) as error:
        raise BadInput(f"The path template {template!r} cannot be filled in: {error}. {_HOW}") from None
    if len({*files, *flawed}) < 2 * len(files):
        raise BadInput(
            f"The path template {template!r} would write two chips to one file, {files[0]} for example: it "
            f"needs the chip's coordinates {{x}} and {{y}}. {_HOW}"
        )
    top = layout.root.resolve()
    for file in {file.parent / file.name for file in (*files, *flawed)}:
        if not Path(*_without_dots(file)).is_relative_to(layout.root):
            raise BadInput(f"The path template {template!r} leads out of the output folder {root}. {_HOW}")
    for folder in {file.parent for file in files}:
        if not folder.resolve().is_relative_to(top):
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


def _without_dots(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        else:
            parts.append(part)
    return parts


def _algorithm_in(file: Path) -> str | None:
    """Return the algorithm that the first record of an exported file names."""
    with file.open("rb") as opened:
        match = _ALGORITHM.search(opened.read(_FIRST_BYTES))
    return match[1].decode(errors="replace") if match else None
