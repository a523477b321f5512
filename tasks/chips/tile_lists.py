"""Which tiles of a region a person means: names, or a file that lists them."""

import re
from pathlib import Path
from typing import Final

from tasks.chips.grid import Region, Tile, tile_named
from tasks.errors import BadInput

LAND_TILES: Final = {"conus": 420, "alaska": 110, "hawaii": 8}
"""Tiles that hold land (USGS, landsat.usgs.gov/what-us-ard-tile-grid); which ones, that page does not say."""

_LONGEST_LIST = 1_000_000
"""Bytes; the longest list of tiles, 726 names, has 5,000."""


def tiles_named(text: str, region: Region) -> list[Tile]:
    """Return the tiles that a person means, each once, in their order.

    Args:
        text: names separated by commas, `H05V03,H05V04`, or a file with names: separated by commas, blanks or
            line ends, and without what follows a `#`.
        region: whose grid.

    Raises:
        BadInput: there is no such file, it cannot be read, or something in it names no tile.
        OutsideRegion: the region's grid has no such tile.
    """
    names = _names(text)
    if names and all(re.fullmatch(r"[hH]\d+[vV]\d+|\d{6}", name) for name in names):
        return list(dict.fromkeys(tile_named(name, region) for name in names))
    file = Path(text).expanduser()
    try:
        listed = file.read_bytes()[:_LONGEST_LIST].decode()
    except FileNotFoundError:
        raise BadInput(f"{text!r} names no tiles, and there is no such file. {how_to_name(region)}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"The list of tiles {file} cannot be read: {error}. {how_to_name(region)}") from None
    found: dict[Tile, None] = {}
    for number, line in enumerate(listed.splitlines(), start=1):
        for name in _names(line.partition("#")[0]):
            try:
                found[tile_named(name, region)] = None
            except BadInput as error:
                raise type(error)(f"Line {number} of {file}: {error}") from None
    if not found:
        raise BadInput(f"{file} names no tiles. {how_to_name(region)}")
    return list(found)


def refuse_whole_region(region: Region) -> BadInput:
    """Return why a region without a list of tiles cannot be meant."""
    return BadInput(
        f"Which tiles? The grid of {region.name} has {region.columns * region.rows}, and some "
        f"{LAND_TILES[region.name]} of them hold land. {how_to_name(region)}"
    )


def how_to_name(region: Region) -> str:
    """Return what a person can do who has named no tiles."""
    return (
        "Name them with --tiles, as H05V03,H05V04 or as a file that lists them, or with --touching and a vector "
        f"file: tiles of {region.name} that its geometries touch."
    )


def _names(text: str) -> list[str]:
    return [name for name in re.split(r"[\s,;]+", text) if name]
