"""What a report says of one unit of polygon work, and of the reasons for which units failed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

_MOST_REASONS = 1_000
_OTHERS = "Other reasons, more than can be told apart here: see results.csv."


@dataclass(frozen=True)
class UnitLine:
    """What a report says of one unit.

    Attributes:
        id: the polygon's, in its source.
        interval: as the person wrote it, or empty.
        state: a key of `UNIT_LOOKS`.
        remote: what the service said last, in OGC words; empty when it has said nothing.
        attempts: how often it may have been sent.
        error_class: why it is not home, in a word; empty when nothing went wrong.
        error: the same in a sentence.
    """

    id: str
    interval: str = ""
    state: str = "pending"
    remote: str = ""
    attempts: int = 0
    error_class: str = ""
    error: str = ""


@dataclass(frozen=True)
class Reason:
    """Why some units are not home.

    Attributes:
        error_class: as of the units.
        error: of one of them; those of the others differ in words with digits at most.
        count: how many units.
        example: that one's id.
        advice: what to do about it; may be empty.
    """

    error_class: str
    error: str
    count: int
    example: str
    advice: str


def reasons_of(lines: Iterable[UnitLine], advice: Mapping[str, str]) -> list[Reason]:
    """Return why units are not home, the most frequent reason first; those without an error are passed over.

    Errors are one reason when they are of one class and differ only in words that hold a digit: coordinates,
    sizes, job identifiers. Beyond 1,000 reasons, further ones of a class are one.

    Args:
        lines: read once, as a stream.
        advice: what to do, by error class.
    """
    found: dict[tuple[str, str], Reason] = {}
    for line in lines:
        if not (line.error_class or line.error):
            continue
        key = line.error_class, _NUMBERED.sub("…", line.error)
        error = line.error
        if key not in found and len(found) >= _MOST_REASONS:
            key, error = (line.error_class, _OTHERS), _OTHERS
        known = found.get(key) or Reason(line.error_class, error, 0, line.id, advice.get(line.error_class, ""))
        found[key] = replace(known, count=known.count + 1)
    return sorted(found.values(), key=lambda reason: (-reason.count, reason.error_class, reason.error))


_NUMBERED = re.compile(r"\S*\d\S*")
