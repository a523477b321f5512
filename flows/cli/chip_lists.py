"""Which chips and states a person names on the command line."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.chips.states import AGAIN
from tasks.errors import BadInput

if TYPE_CHECKING:
    from tasks.chips.campaign import Campaign

_CORNER = re.compile(r"\s*\[?\s*(-?\d+)[\s,]+(-?\d+)\s*\]?\s*,?\s*")


def read_chips(file: Path, campaign: "Campaign") -> list[tuple[int, int]]:
    """Return the corners in a file: x and y of a chip's upper left corner on each line.

    Lines may be as `overlander grid points` prints them; empty ones and those that begin with # do not count.

    Raises:
        BadInput: the file cannot be read, or a line holds no corner of one of the campaign's chips.
    """
    from tasks.chips.campaign import chips_of

    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The list of chips {file} cannot be read: {error}. Name a text file.") from None
    corners: list[tuple[int, int]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not (match := _CORNER.fullmatch(line)):
            raise BadInput(
                f"Line {number} of {file} holds no chip: {line.strip()[:80]!r}. Write x and y of its upper left "
                "corner in metres, as in: -1815585 2864805."
            )
        corners.append((int(match[1]), int(match[2])))
    if not corners:
        raise BadInput(f"The list of chips {file} is empty. Write a chip's x and y on each line.")
    chips_of(campaign, corners)
    return corners


def read_states(text: str | None, *, again: bool, listed: bool) -> list[str]:
    """Return the states that a person wants asked for again; of listed chips, any if none is named.

    Raises:
        BadInput: an unknown state, or states without --again.
    """
    if text is None:
        if again and not listed:
            raise BadInput(
                "--again needs to know which chips: name states, for example --states flawed,quarantined, or list "
                "chips with --chips FILE."
            )
        return list(AGAIN) if again else []
    if not again:
        raise BadInput("--states asks for chips again that are there: say --again too if you mean it.")
    named = [state for part in text.split(",") if (state := part.strip())]
    if unknown := sorted(set(named) - set(AGAIN)):
        raise BadInput(f"No such states to ask again: {', '.join(unknown)}. Choose among {', '.join(AGAIN)}.")
    return named
