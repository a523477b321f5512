"""Run a flow in this process: against which Prefect API, how it is interrupted, how it ends."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from flows.cli.console import live_progress, say
from flows.cli.prefect_api import prefect_api_set

INTERRUPTED = 130
SECONDS_TO_LEAVE = 4.0
"""After Ctrl-C a run ends what it is at; what takes longer is left to the next run."""


class Stoppable(Protocol):
    """Something at work in this process that Ctrl-C ends."""

    def stop(self) -> None:
        """Begin nothing new and come to an end."""

    def kill(self) -> None:
        """End at once what does not end by itself."""


def run_tile(mode: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run `tile_campaign` and return the summary it ended with.

    Raises:
        OverlanderError: what the run failed with.
    """
    from tasks.chips.campaign import open_sites

    use_prefect_api(say)
    with leave_promptly(open_sites), live_progress(f"{parameters['tile']} {mode}"):
        from flows.tile import tile_campaign

        return summary_at_the_end(tile_campaign(mode=mode, **parameters, return_state=True))


def summary_at_the_end(state: Any) -> dict[str, Any]:
    """Return the summary that a flow run ended with; leave with status 3 when another run is at work.

    Raises:
        OverlanderError: what the run failed with.
    """
    ended = state.result(raise_on_failure=False)
    if isinstance(ended, Exception):
        raise ended
    if state.name == "Skipped":
        say(state.message or "")
        sys.exit(3)
    return dict(ended)


def use_prefect_api(report: Callable[[str], None]) -> None:
    """Point this process at a Prefect API: the one that is set, else the user's local server.

    Raises:
        OverlanderError: the address that is set is no Prefect API of ours; see `prefect_api_set`.
    """
    from deployments import server

    for name, value in server.CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the command speaks for itself
    logging.getLogger("prefect").addHandler(logging.NullHandler())
    if prefect_api_set() is None:
        found = server.up(report)
        os.environ["PREFECT_API_URL"] = found.api_url
        report(f"Prefect: {found.ui_url} (left up; `overlander server down` stops it).")


@contextmanager
def leave_promptly(
    at_work: Callable[[], Iterable[Stoppable]], within_s: float = SECONDS_TO_LEAVE
) -> Iterator[None]:
    """On Ctrl-C begin nothing new, end what is under way, and be gone soon whatever happens."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_leave_at_last, args=(at_work, within_s), daemon=True).start()
        say("Interrupted: what is done is kept. Run the same command again to go on.")
        for place in at_work():
            place.stop()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave_at_last(at_work: Callable[[], Iterable[Stoppable]], within_s: float) -> None:
    threading.Event().wait(within_s)
    for place in at_work():
        place.kill()
    sys.stdout.flush()
    os._exit(INTERRUPTED)
