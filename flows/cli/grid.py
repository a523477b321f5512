"""`overlander grid`: tiles, chips and pixels, without any service."""

from typing import Annotated

import typer

from flows.cli import options
from flows.cli.console import give
from tasks.chips.grid import (
    chip_of,
    parse_window,
    pixel_of,
    region_named,
    row_column,
    tile_named,
    tile_of,
)

app = typer.Typer(help="Tiles, chips and pixels of the ARD grids.", no_args_is_help=True)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def tile(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    json: options.Json = False,
) -> None:
    """Say where a tile is."""
    found = tile_named(tile, region_named(region))
    answer = {
        "tile": found.name,
        "digits": found.digits,
        "region": found.region.name,
        "h": found.h,
        "v": found.v,
        "x": found.x,
        "y": found.y,
    }
    _answer(answer, json)


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def points(
    tile: options.Tile,
    region: options.Region = options.RegionName.CONUS,
    window: options.Window = "0:50,0:50",
    json: options.Json = False,
) -> None:
    """List the upper left corners of a tile's chips, row by row. The first is the north-west one."""
    rows = parse_window(window).rows(tile_named(tile, region_named(region)))
    corners = [[chip.x, chip.y] for row in rows for chip in row]
    if json:
        give(corners)
    else:
        for x, y in corners:
            typer.echo(f"{x} {y}")


@app.command(context_settings=options.NEGATIVE_COORDINATES)
def find(
    x: Annotated[int, typer.Argument(help="Metres in the region's Albers projection.")],
    y: Annotated[int, typer.Argument(help="Metres in the region's Albers projection.")],
    region: options.Region = options.RegionName.CONUS,
    json: options.Json = False,
) -> None:
    """Find the tile, the chip and the pixel that hold a point."""
    where = region_named(region)
    found, chip = tile_of(x, y, where), chip_of(x, y, where)
    row, column = row_column(chip, found)
    pixel_x, pixel_y = pixel_of(x, y, where)
    answer = {
        "tile": found.name,
        "region": where.name,
        "tile_x": found.x,
        "tile_y": found.y,
        "chip_x": chip.x,
        "chip_y": chip.y,
        "row": row,
        "column": column,
        "pixel_x": pixel_x,
        "pixel_y": pixel_y,
    }
    _answer(answer, json)


def _answer(answer: dict[str, object], json: bool) -> None:
    if json:
        give(answer)
    else:
        for name, value in answer.items():
            typer.echo(f"{name:8} {value}")
