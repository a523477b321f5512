"""Options of `overlander polygons`, and what a person means by them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tasks.errors import BadInput


class OnUncertainChoice(StrEnum):
    """What becomes of polygons whose request may have arrived."""

    LEAVE = "leave"
    WAIT = "wait"
    RESEND = "resend"


Source = Annotated[str, typer.Argument(help="Vector file: a zipped shapefile, GeoPackage, GeoJSON, a folder.")]
ProcessName = Annotated[
    str,
    typer.Option("--process", help="wit, wofs-drill, fractional-cover-drill, mangrove-cover-drill, or a .toml."),
]
IntervalText = Annotated[str | None, typer.Option("--interval", help="From when to when: 2010-01-01/2011-01-01.")]
Split = Annotated[str | None, typer.Option(help="Divide the interval by 1Y, 6M, 2W or 30D, a job for each part.")]
Url = Annotated[str | None, typer.Option(help="URL of the WPS.")]
Layer = Annotated[str | None, typer.Option(help="Layer of the file, where it has several.")]
Crs = Annotated[str | None, typer.Option(help="CRS of a file that names none, as EPSG:3577.")]
Where = Annotated[str | None, typer.Option(help='Only records that meet it, in OGR SQL: "Shape_Leng <= 2000".')]
Bbox = Annotated[str | None, typer.Option(help="Only records in a box of degrees: west,south,east,north.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many.")]
Ids = Annotated[Path | None, typer.Option(help="Only records whose ids this file lists, one a line.")]
IdField = Annotated[str | None, typer.Option(help="Field that names a record; else one is guessed.")]
SplitParts = Annotated[bool, typer.Option("--split-multipolygons", help="Send each part on its own.")]
Repair = Annotated[bool, typer.Option("--repair", help="Send what can be made valid of an invalid geometry.")]
Precision = Annotated[int, typer.Option(min=0, max=15, help="Decimals of a degree.")]
MaxBytes = Annotated[int | None, typer.Option("--max-request-bytes", min=1, help="Larger requests are not sent.")]
MaxArea = Annotated[float | None, typer.Option("--max-area", min=1e-9, help="Larger ones, in km2, are not sent.")]
Properties = Annotated[str | None, typer.Option(help="Fields to send along, separated by commas.")]
CampaignName = Annotated[str | None, typer.Option("--campaign", help="What to call it; else the file's name.")]


def listed(text: str | None) -> list[str]:
    """Return the items of a list with commas; none of no text."""
    return [part for item in (text or "").split(",") if (part := item.strip())]


def concurrency(text: str) -> int | str | None:
    """Return how many jobs at a time a person means; None lets the pacer find out.

    Raises:
        BadInput: it is no number.
    """
    if text == "auto":
        return None
    if text == "flood" or (text.isdigit() and int(text) > 0):
        return text if text == "flood" else int(text)
    raise BadInput(f"--concurrency {text!r} is neither auto nor flood nor a number of jobs. 2 is a trickle.")


def retried(text: str | None) -> list[str]:
    """Return the ends that a person wants sent again.

    Raises:
        BadInput: one is unknown.
    """
    known = ("failed", "given_up", "uncertain")
    named = listed(text)
    if unknown := sorted(set(named) - set(known)):
        raise BadInput(f"--retry knows no {', '.join(unknown)}. Choose among {', '.join(known)}.")
    return named


def seconds(text: str | None, option: str) -> float | None:
    """Return a length of time as seconds: 90, 2s, 15m or 1h.

    Raises:
        BadInput: it is none.
    """
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadInput(f"{option} {text!r} is no length of time. Write 2s, 15m or 1h.")
    return seconds
