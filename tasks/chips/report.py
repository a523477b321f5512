"""Report: what the ledger says of a tile, for people and for other programs.

Nothing here asks Cassandra. Files are written only where they change, and hold no moment of ours, so that a run
that changed nothing leaves them byte for byte.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tasks.chips.campaign import Campaign
from tasks.chips.chip_file import Flawed
from tasks.chips.export import is_saved
from tasks.chips.grid import Chip, Tile, row_column
from tasks.chips.heal import (
    WAITS,
    Room,
    Rules,
    in_words,
    next_step,
    queue_moved_past,
    room_for,
    waits_too_long,
)
from tasks.chips.layout import FLAWED_FOLDER
from tasks.chips.states import HOME, NEEDS_PERSON, Record, State
from tasks.files import holds, remove, write_if_changed
from tasks.ledger.chips import Saved, find_tiles, recall, saved
from tasks.ledger.keys import Ground
from tasks.ledger.requests import outstanding_elsewhere, seen_anywhere
from tasks.report.chips import ChipLine, count_states


@dataclass(frozen=True)
class Standing:
    """Where a tile stands.

    Attributes:
        lines: each chip, row by row.
        states: how many chips stand where; lists every state and sums to the number of chips.
        waiting: chips that are not home yet and that running again later will help.
        needs_person: chips that no further run changes, with those that the guard keeps from being requested.
        next_steps: what to do, in sentences.
        unsaved: chips that are home and have no file below the output folder yet, or an older one.
        to_request: chips that the next run asks for, if a service is set and it waits for what is out.
        guard: why nothing more is requested until a person releases the tile; empty when nothing stops it.
        records, files: what is known of the tile's chips, and of their files, beyond those of `lines` too.
    """

    lines: tuple[ChipLine, ...]
    states: dict[str, int]
    waiting: int
    needs_person: int
    next_steps: tuple[str, ...]
    unsaved: int = 0
    to_request: int = 0
    guard: str = ""
    records: Mapping[Chip, Record] = field(default_factory=dict)
    files: Mapping[Chip, Saved] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 all home, saved or not, 3 running again will help, 4 a person has to; 3 beats 4."""
        return 3 if self.waiting else 4 if self.needs_person else 0


def standing(
    ledger: Connection,
    ground: Ground,
    tile: Tile,
    chips: Sequence[Chip],
    root: Path,
    rules: Rules,
    *,
    flawed: Flawed = "apart",
) -> Standing:
    """Return where some chips of a tile stand, by the ledger alone.

    Args:
        ledger: to read.
        ground: under which key the tile is kept.
        tile, chips: whose, and which.
        root: the output folder.
        rules: how far asking goes.
        flawed: what becomes of chips with failed pixels.
    """
    now = datetime.now(UTC)
    everyone = recall(ledger, ground)
    files = saved(ledger, ground, root)
    records = {chip: everyone[chip] for chip in chips if chip in everyone}
    notes = find_tiles(ledger, ground.region, ground.tile, ground.algorithm)
    guard = next((note.guard for note in notes if note.ground == ground), "")
    moved_past = queue_moved_past(everyone.values())
    steps = {chip: next_step(record, rules, moved_past) for chip, record in records.items()}
    to_request = [chip for chip, step in steps.items() if step.do == "request"]
    held_back: dict[Chip, str] = {}
    if to_request:
        room = _room(ledger, ground, everyone, guard, rules)
        held_back = dict.fromkeys(set(to_request) - set(room.take(to_request)), room.held_by)
    words = {
        chip: in_words(step, records[chip], rules, now, held_back.get(chip, "")) for chip, step in steps.items()
    }
    lines = tuple(
        _line(tile, chip, records[chip], files.get(chip), root, words[chip])
        if chip in records
        else ChipLine(chip.x, chip.y, *row_column(chip, tile), State.UNKNOWN.value, reason="Not looked at yet.")
        for chip in chips
    )
    states = count_states(lines)
    stuck = sum(_is_stuck(record, files.get(chip)) for chip, record in records.items())
    late = sum(waits_too_long(record, now, rules) for record in records.values())
    away = sum(count for state, count in states.items() if state not in HOME | NEEDS_PERSON)
    held = 0
    if guard:
        held = sum(count for state, count in states.items() if state not in HOME | NEEDS_PERSON | WAITS)
    advice = (*steps_for(states, stuck, late, guarded=bool(guard)), *_what_holds_back(held_back))
    nothing_moves = len(held_back) == len(to_request) and not any(states[state] for state in WAITS)
    return Standing(
        lines=lines,
        states=states,
        waiting=away - late - held,
        needs_person=stuck + late + held,
        next_steps=(guard, *advice) if guard else advice,
        unsaved=sum(_lacks_its_file(record, files.get(chip), flawed) for chip, record in records.items()),
        to_request=0 if guard or nothing_moves else len(to_request),
        guard=guard,
        records=everyone,
        files=files,
    )


def summary_of(campaign: Campaign, found: Standing, seconds: float) -> dict[str, Any]:
    """Return what the command's `--json` gives for a tile: `states` lists every state and sums to `chips`."""
    return {
        "tile": campaign.tile.name,
        "region": campaign.tile.region.name,
        "algorithm": campaign.algorithm,
        "chips": len(found.lines),
        "states": found.states,
        "seconds": round(seconds, 3),
        "next_steps": list(found.next_steps),
    }


def not_home(found: Standing) -> list[dict[str, Any]]:
    """Return what `tile status --json` says of each chip that is not home, but of those never looked at."""
    names = ("chip_x", "chip_y", "state", "attempts", "reason", "next_step")
    return [
        {name: getattr(line, name) for name in names} | {"since": line.since.isoformat() if line.since else None}
        for line in found.lines
        if line.state not in HOME and line.state != State.UNKNOWN
    ]


def write_files(source: str, campaign: Campaign, found: Standing) -> dict[str, Path]:
    """Write a tile's manifest, list of bad pixels, map and page beside its chips; return what is there.

    Args:
        source: the table that the chips are in, for people.
        campaign: whose chips, and where they go.
        found: where they stand.

    Returns:
        Paths by what they are: `manifest`, `parquet`, `map`, `page`, and `bad_pixels` where there are any.

    Raises:
        OutputUnusable: the folder cannot be written.
    """
    from tasks.report.page import tile_page

    tile, layout = campaign.tile, campaign.layout
    folder = layout.folder(tile, campaign.algorithm)

    def place(name: str) -> Path:
        return folder / layout.report_name(name, tile)

    paths = {"manifest": place("manifest.csv"), "parquet": place("manifest.parquet")}
    table, columns = _manifest(tile, campaign.algorithm, folder, found)
    write_if_changed(paths["manifest"], table)
    write_if_changed(paths["parquet"], columns)
    lists = [place("bad-pixels.csv"), folder / FLAWED_FOLDER / place("bad-pixels.csv").name]
    if bad := _bad_pixels(found):
        paths["bad_pixels"] = lists[campaign.flawed == "apart"]  # beside the flawed chips, wherever those are
        write_if_changed(paths["bad_pixels"], bad)
    for earlier in set(lists) - set(paths.values()):
        remove(earlier)
    title = f"{tile.name} ({tile.region.name}), {campaign.algorithm}"
    paths |= {"map": place("map.png"), "page": place("report.html")}
    page = tile_page(
        found.lines,
        title,
        f"{len(found.lines):,} chips of {source}",
        found.states,
        paths["map"].name,
        list(found.next_steps),
    )
    # The map shows a part of what the page says, and takes longer to draw than all the rest.
    if not (paths["map"].exists() and holds(paths["page"], page)):
        from tasks.report.maps import tile_map

        write_if_changed(paths["map"], tile_map(found.lines, title, (tile.x, tile.y)))
        write_if_changed(paths["page"], page)
    return paths


def _line(tile: Tile, chip: Chip, record: Record, file: Saved | None, root: Path, next_words: str) -> ChipLine:
    row, column = row_column(chip, tile)
    current = file is not None and file.update_requested == record.look.update_requested
    return ChipLine(
        chip_x=chip.x,
        chip_y=chip.y,
        row=row,
        column=column,
        state=record.state.value,
        pixels=record.look.pixels,
        failed=record.look.pixels if record.state == State.NO_DATA else len(record.failed),
        missing=len(record.missing),
        update_requested=record.look.update_requested,
        file=_relative(file.file, root) if file is not None and file.file is not None and current else None,
        reason=file.problem if file is not None and _is_stuck(record, file) else record.reason,
        since=record.since,
        attempts=record.asked.attempts if record.asked is not None else 0,
        next_step=next_words,
    )


def _relative(file: Path, folder: Path) -> str:
    below = f"{folder}{os.sep}"
    return str(file).removeprefix(below) if str(file).startswith(below) else os.path.relpath(file, folder)


def _is_stuck(record: Record, file: Saved | None) -> bool:
    """Tell whether no further run changes a chip: it is quarantined, or home but cannot be saved as it is."""
    if record.state in NEEDS_PERSON:
        return True
    return (
        record.state in HOME
        and file is not None
        and file.problem != ""
        and file.update_requested == record.look.update_requested
    )


def _room(ledger: Connection, ground: Ground, everyone: Mapping[Chip, Record], guard: str, rules: Rules) -> Room:
    return room_for(
        everyone,
        guard,
        rules,
        seen_elsewhere=seen_anywhere(ledger, ground.source, ground.algorithm),
        out_elsewhere=outstanding_elsewhere(ledger, ground),
    )


def _what_holds_back(held_back: Mapping[Chip, str]) -> list[str]:
    """Return what chips wait for that would be requested; of a guard its own paragraph tells."""
    words = {
        "pilot": "until the first chip of this algorithm has rows.",
        "limit": "for room: with those of other tiles, as many are out as OVERLANDER_MAX_OUTSTANDING allows.",
    }
    counted = Counter(held_back.values())
    return [f"{_chips(counted[by])} to be requested must wait {why}" for by, why in words.items() if counted[by]]


def _lacks_its_file(record: Record, file: Saved | None, flawed: Flawed) -> bool:
    """Tell whether a chip is home and was never saved, well or not, as it is now."""
    if not is_saved(record, flawed):
        return False
    return file is None or file.update_requested != record.look.update_requested


def steps_for(states: dict[str, int], stuck: int, late: int = 0, *, guarded: bool = False) -> tuple[str, ...]:
    """Return what to do about chips in these states, in sentences.

    Args:
        states: how many chips stand where.
        stuck: so many need a person.
        late: so many have waited for too long.
        guarded: whether a run asks for nothing.
    """
    asks, asks_again = ": `overlander tile run` asks for them.", ": `overlander tile run` asks again."
    if guarded:
        asks = asks_again = "."
    sentences = {
        State.UNKNOWN: "not looked at yet: run `overlander tile count`.",
        State.UNREQUESTED: f"never requested{asks}",
        State.INCOMPLETE: f"ended with missing pixels{asks_again}",
        State.STALLED: f"stopped half way{asks_again}",
        State.QUEUED: "waiting in the service's queue: run again later.",
        State.STALE: "waiting to be renewed: run again later.",
        State.RUNNING: "at work: run again later.",
        State.UNCERTAIN: "perhaps requested: run again later.",
        State.FLAWED: "with failed pixels: see bad-pixels.csv.",
        State.NO_DATA: "without any good pixel: nothing to export.",
    }
    steps = [f"{_chips(states[state])} {words}" for state, words in sentences.items() if states[state]]
    if late:
        steps.append(
            f"{_chips(late)} of those waited for too long: is the service at work, with the right version?"
        )
    if stuck:
        steps.append(f"{_chips(stuck)} in need of a person: see the reasons.")
    return tuple(steps)


def _chips(count: int) -> str:
    return "1 chip" if count == 1 else f"{count:,} chips"


def _manifest(tile: Tile, algorithm: str, folder: Path, found: Standing) -> tuple[bytes, bytes]:
    """Return the manifest of a tile's files as CSV and as Parquet."""
    import pandas as pd

    rows = [
        {
            "region": tile.region.name,
            "tile": tile.name,
            "chip_x": chip.x,
            "chip_y": chip.y,
            "algorithm": algorithm,
            "state": found.records[chip].state.value if chip in found.records else State.UNKNOWN.value,
            "file": _relative(file.file, folder),
            "bytes": file.bytes,
            "sha256": file.sha256,
            "pixels": file.pixels,
            "failed_pixels": file.failed,
            "first_produced": file.first_produced,
            "last_produced": file.last_produced,
            "update_requested": file.update_requested,
        }
        for chip, file in sorted(found.files.items(), key=lambda item: (-item[0].y, item[0].x))
        if file.file is not None and file.file.exists()
    ]
    names = "region tile chip_x chip_y algorithm state file bytes sha256 pixels failed_pixels"
    moments = ["first_produced", "last_produced", "update_requested"]
    frame = pd.DataFrame(rows, columns=[*names.split(), *moments])
    whole = dict.fromkeys(("chip_x", "chip_y", "bytes", "pixels", "failed_pixels"), "int64")
    frame = frame.astype(whole | dict.fromkeys(moments, "datetime64[ms]"))
    table = frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f", lineterminator="\n")
    columns = io.BytesIO()
    frame.to_parquet(columns, index=False)
    return table.encode(), columns.getvalue()


def _bad_pixels(standing: Standing) -> bytes:
    """Return the list of pixels that a person may have to look at; empty when there are none.

    Those that failed, those whose result does not match its md5, and those that quarantined chips lack.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["chip_x", "chip_y", "x", "y", "problem"])
    found = 0
    for chip, record in sorted(standing.records.items(), key=lambda item: (-item[0].y, item[0].x)):
        stuck = record.state == State.QUARANTINED
        problems = {
            "failed": record.failed if stuck or record.state == State.FLAWED else (),
            "missing": record.missing if stuck else (),
            "md5": standing.files[chip].bad if chip in standing.files else (),
        }
        for problem, positions in problems.items():
            for position in positions:
                writer.writerow([chip.x, chip.y, *chip.pixel_at(position), problem])
                found += 1
    return text.getvalue().encode() if found else b""
