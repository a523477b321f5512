"""Upkeep: which tiles a further run would help, and whether what was delivered is still as its manifest says.

Neither asks a service for anything that costs it work: the ledger and the files are enough.
"""

import csv
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tasks.chips.campaign import Campaign, lease_name, tile_campaign_of
from tasks.chips.heal import rules_of
from tasks.chips.report import standing
from tasks.files import sha256_of
from tasks.ledger.chips import recall, saved
from tasks.ledger.keys import Ground
from tasks.ledger.store import Ledger
from tasks.ledger.upkeep import is_held, last_runs
from tasks.settings import Settings

PROBLEMS_TOLD = 100
"""A disk that is gone has as many problems as files; a person reads the first."""


@dataclass(frozen=True)
class OpenTile:
    """A tile that a further run would help.

    Attributes:
        tile, region, algorithm: which.
        waiting: chips that are not home yet and that running again helps.
        unsaved: chips that are home and have no file yet, or an older one.
        asked: the parameters of its last run, for the next one.
        held: whether somebody is at work on it, by its lease.
    """

    tile: str
    region: str
    algorithm: str
    waiting: int
    unsaved: int
    asked: Mapping[str, Any]
    held: bool


@dataclass(frozen=True)
class Verified:
    """What a look at one tile's delivered files came to.

    Attributes:
        tile, folder: whose, and below which output folder.
        files: looked at.
        wrong: files that are not as their manifest says; one when there is no manifest.
        problems: the first of them, with what is wrong.
    """

    tile: str
    folder: str
    files: int
    wrong: int
    problems: tuple[tuple[str, str], ...]


def asked_of(campaign: Campaign) -> dict[str, Any]:
    """Return the parameters of a tile's run that say which chips, where to and how, as plain JSON values."""
    return {
        "tile": campaign.tile.name,
        "region": campaign.tile.region.name,
        "algorithm": campaign.algorithm,
        "window": str(campaign.window),
        "campaign": campaign.name,
        "out": str(campaign.layout.root),
        "path_template": campaign.layout.template,
        "flawed": campaign.flawed,
        "failed_pixels": campaign.failed_pixels,
    }


def open_tiles(ledger: Connection, source: str, settings: Settings) -> list[OpenTile]:
    """Return the tiles of a source that a run was made for and that another would help.

    A run's window, folder and options are kept with the tile, so nobody's corner of a tile becomes a whole one.

    Args:
        ledger: to read.
        source: the table that this worker's settings name; another table's tiles are another worker's.
        settings: how far asking goes.
    """
    found = []
    for last in last_runs(ledger, source):
        asked = last.asked
        work = tile_campaign_of(
            asked["tile"],
            region=asked["region"],
            window=asked["window"],
            algorithm=asked["algorithm"],
            out=Path(asked["out"]),
            template=asked["path_template"],
            flawed=asked["flawed"],
            settings=settings,
        )
        root, rules = work.layout.root, rules_of(settings)
        seen = standing(ledger, last.ground, work.tile, work.chips, root, rules, flawed=work.flawed)
        if seen.waiting or seen.unsaved:
            held = is_held(ledger, lease_name(last.ground))
            place = (work.tile.name, work.tile.region.name, work.algorithm)
            found.append(OpenTile(*place, seen.waiting, seen.unsaved, asked, held))
    return found


def last_moved(ledger: Connection, ground: Ground) -> datetime | None:
    """Return when any of a tile's chips last changed its state or wrote a pixel, our clock; None of no chip."""
    records = recall(ledger, ground).values()
    return max((max(record.since, record.farthest_at or record.since) for record in records), default=None)


def verify(settings: Settings, ground: Ground, root: Path) -> Verified:
    """Read every file of a tile again and compare its SHA-256 with the manifest's and the ledger's.

    The manifest is written when a run ends, so what a run renews meanwhile is as the ledger says.

    Args:
        settings: where the ledger is.
        ground: which tile.
        root: below which output folder.

    Raises:
        LedgerUnusable: the ledger cannot be read.
    """
    recorded = _recorded(settings, ground, root)
    manifest = _manifest(ground, root, recorded)
    right = {file: {sha256} for file, sha256 in recorded.items()}
    listed, problems = _listed(ground, root, manifest)
    for file, sha256 in listed.items():
        right.setdefault(file, set()).add(sha256)
    wrong = {file: what for file in right if (what := _fault(file, right[file]))}
    if wrong:
        now = _recorded(settings, ground, root)
        wrong = {file: what for file, what in wrong.items() if file not in now or _fault(file, {now[file]})}
    problems += [(str(file), what) for file, what in wrong.items()]
    return Verified(
        tile=ground.tile,
        folder=str(root),
        files=len(right),
        wrong=len(problems),
        problems=tuple(problems[:PROBLEMS_TOLD]),
    )


def _recorded(settings: Settings, ground: Ground, root: Path) -> Mapping[Path, str]:
    with Ledger.open(settings.ledger_place, create=False) as ledger, ledger.read() as reading:
        return {file.file: file.sha256 for file in saved(reading, ground, root).values() if file.file is not None}


def _manifest(ground: Ground, root: Path, files: Collection[Path]) -> Path | None:
    """Return the manifest of a tile's files: in the folder that holds them all, or above that."""
    names = ("manifest.csv", f"{ground.tile}_manifest.csv")
    folder = Path(os.path.commonpath([file.parent for file in files])) if files else root
    for place in (folder, *folder.parents):
        for name in names:
            if (place / name).is_file():
                return place / name
        if place == root:
            break
    return None


def _listed(ground: Ground, root: Path, manifest: Path | None) -> tuple[dict[Path, str], list[tuple[str, str]]]:
    """Return the SHA-256 of each file that a manifest lists, and what is wrong with the manifest."""
    if manifest is None:
        return {}, [(str(root), f"holds no manifest of {ground.tile}")]
    try:
        with manifest.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        return {Path(os.path.normpath(manifest.parent / row["file"])): row["sha256"] for row in rows}, []
    except (OSError, UnicodeError, csv.Error, KeyError, TypeError) as error:
        return {}, [(str(manifest), f"is no manifest any more: {type(error).__name__}: {error}")]


def _fault(file: Path, right: Collection[str]) -> str:
    """Return what is wrong with a file; empty when its SHA-256 is one of those that are right."""
    try:
        return "" if sha256_of(file) in right else "is not what was written: its SHA-256 differs"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
