"""How the command speaks: to people on stderr, to programs with one JSON object on stdout."""

import csv
import json
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.chips.campaign import Progress
    from tasks.chips.report import Standing

_SECONDS_BETWEEN_LINES = 5.0


@cache
def err() -> "Console":
    """Return the console on stderr; rich is not imported before somebody is told something."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell a person one thing."""
    err().print(text, markup=False)


def paragraph(text: str) -> None:
    """Tell a person what went wrong, folded to the width of the terminal."""
    # Paths and addresses stay whole, however long, so that they can be copied.
    folded = textwrap.fill(
        " ".join(text.split()), min(err().width, 100), break_on_hyphens=False, break_long_words=False
    )
    print(folded, file=sys.stderr)  # noqa: T201


def give(answer: object) -> None:
    """Give a program its answer: one line of JSON, and nothing else, on stdout."""
    print(json.dumps(answer, default=str), flush=True)  # noqa: T201


def show(found: "Standing", title: str) -> None:
    """Show a person where a tile stands and what to do next."""
    show_states(found.states, title)
    for step in found.next_steps:
        say(f"  * {step}")


def show_states(states: Mapping[str, int], title: str) -> None:
    """Show a person how many chips stand where."""
    from rich.table import Table

    from tasks.report.palette import STATE_LOOKS

    table = Table(title=title, title_justify="left")
    table.add_column("State")
    table.add_column("Chips", justify="right")
    table.add_column("Meaning")
    for state, count in states.items():
        if count:
            look = STATE_LOOKS[state]
            table.add_row(f"[{look.colour}]■[/] {state}", f"{count:,}", look.words)
    err().print(table)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Show a person some facts, a line each."""
    say(f"{title}:")
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        say(f"  {name.replace('_', ' '):{width}}  {value}")


def show_outcome(summary: Mapping[str, Any]) -> None:
    """Show a person what a run changed, and the files it keeps up to date."""
    if "exported" in summary:
        say(
            f"{counted(summary['requested'], 'request')} sent, {counted(summary['exported'], 'file')} written, "
            f"{summary['kept']:,} kept."
        )
    if not summary["changed"] and not summary.get("exported"):
        say("Nothing has changed: every chip stands where it stood before this run.")
    if "files" in summary:
        show_facts("Files", summary["files"])


def give_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], *, as_json: bool) -> None:
    """Print a table on stdout as it comes: CSV with a line of names, or one JSON object with a list of rows."""
    if not as_json:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(names)
        lines.writerows(rows)
        return
    sys.stdout.write('{"rows": [')
    for number, row in enumerate(rows):
        sys.stdout.write((", " if number else "") + json.dumps(dict(zip(names, row, strict=True))))
    sys.stdout.write("]}\n")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 file`, `2,500 files`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


@contextmanager
def live_progress(words: str) -> Iterator[None]:
    """Show how far the campaign that this process runs is: live in a terminal, else a plain line now and then."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    def watch(ended: threading.Event) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=err(), transient=True) as bars:
            seen = bars.add_task(f"{words}: starting", total=None)
            settled = bars.add_task("", total=None, visible=False)
            saved = bars.add_task("", total=None, visible=False)
            while not ended.wait(0.2):
                if (progress := _progress()) is not None:
                    looked = f"{words}: chips looked at"
                    bars.update(seen, description=looked, completed=progress.surveyed, total=progress.chips)
                    if progress.requested or progress.settled:
                        back = f"come home ({counted(progress.requested, 'request')} sent)"
                        # Of how many nobody knows: a request may be the second for its chip, or somebody else's.
                        bars.update(
                            settled,
                            description=f"{back:>{len(looked)}}",
                            completed=progress.settled,
                            visible=True,
                        )
                    if progress.to_export:
                        written = f"files written ({progress.kept:,} kept)"
                        bars.update(
                            saved,
                            description=f"{written:>{len(looked)}}",
                            completed=progress.exported,
                            total=progress.to_export,
                            visible=True,
                        )

    def line() -> str | None:
        progress = _progress()
        return None if progress is None else f"{words}: {progress_line(progress)}"

    with telling(watch, line, _SECONDS_BETWEEN_LINES):
        yield


@contextmanager
def telling(
    watch: Callable[[threading.Event], None], line: Callable[[], str | None], between_lines_s: float
) -> Iterator[None]:
    """Tell a person how something goes while it goes on.

    Args:
        watch: shows it live in a terminal, in a thread of its own, until the event.
        line: says it in a line, for whoever has no terminal; None while there is nothing to say.
        between_lines_s: at least so long between two different lines.
    """
    ended = threading.Event()

    def report() -> None:
        said, said_at = None, -between_lines_s
        while not ended.wait(0.2):
            if time.monotonic() - said_at >= between_lines_s and (now := line()) not in (None, said):
                say(now or "")
                said, said_at = now, time.monotonic()

    target = (lambda: watch(ended)) if err().is_terminal else report
    thread = threading.Thread(target=target, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)


def progress_line(progress: "Progress") -> str:
    """Return how far a run is, in a line: the chips it has looked at, asked for, seen come home, and saved."""
    parts = [f"{progress.surveyed:,} of {progress.chips:,} chips looked at"]
    if progress.requested or progress.settled:
        parts += [f"{counted(progress.requested, 'request')} sent", f"{progress.settled:,} come home"]
    return ", ".join([*parts, f"{progress.exported:,} files written", f"{progress.kept:,} kept"])


def _progress() -> "Progress | None":
    from tasks.chips.campaign import open_sites

    sites = open_sites()
    return sites[0].progress if sites else None
