"""The sandbox as a whole, under the user's state folder.

A real Cassandra with a seeded corner of a tile, a change-results service that writes into it, and a real WPS with
processes that make their results up.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from deployments import server
from deployments.sandbox import cassandra, change_results, pywps, seed
from deployments.sandbox.cassandra import Node
from tasks.chips.grid import Chip
from tasks.settings import state_folder

ALGORITHM = seed.ALGORITHM
"""The algorithm whose results the sandbox holds."""

_AT_FIRST = {
    "short_results": True,
    "pixels_per_s": 4000,
    "workers": 2,
    "crash_pause_s": 1e-6,
    "wakes_on_request": True,
}
"""The service's plan in a new sandbox: slow enough to see chips at work, some seconds each on two cores.

With so few workers, a job that rests after its first crash would be overtaken by whole chips, and look stalled.
"""

JARS_VARIABLE = "OVERLANDER_SANDBOX_JARS"
"""Environment variable that names another folder for the jars, so that several sandboxes share them."""


def up(*, report: Callable[[str], None], fresh: bool = False) -> Node:
    """Start what does not run yet, write what is not there yet, and return where the table is.

    Network: Maven Central, the first time only.

    Args:
        report: is told each step in a line, before it begins.
        fresh: start again from nothing: wipes the table, the service's queue, the WPS's jobs and the sandbox's
            own ledger.

    Raises:
        PartMissing: Java, the jars or memory; says what to do.
        ServiceAway: the node or the service did not answer in time.
    """
    folder, jars = _folder(), jars_folder()
    if fresh:
        report("Wiping the sandbox's table, queue and ledger.")
        change_results.down(_service_folder())
        cassandra.down(folder / "cassandra")
        for file in folder.glob(f"{ledger_file().name}*"):
            file.unlink(missing_ok=True)
    report("Starting Cassandra (some 10 s; the first time 66 MB are downloaded as well).")
    started = cassandra.up(folder / "cassandra", jars, fresh=fresh)
    report(f"Seeding tile {seed.TILE} (some 40 s the first time).")
    seed.seed(started)
    seed.enable(started)
    service_url = change_results.up(_service_folder(), started, report=report, fresh=fresh)
    _queue_seeded(service_url)
    wps_up(report=report, fresh=fresh)
    return started


def wps_up(*, report: Callable[[str], None], fresh: bool = False) -> pywps.Wps:
    """Start the sandbox's WPS alone, all that a campaign of polygons needs, and return where it is.

    Args:
        report: is told that it is being started, before it is.
        fresh: forget its jobs, results and plan first.

    Raises:
        PartMissing: PyWPS or gunicorn; says what to do.
        ServiceAway: it did not answer in time.
    """
    return pywps.up(_wps_folder(), report=report, fresh=fresh)


def down() -> bool:
    """Stop the sandbox; return whether any of it ran. What it holds stays for the next `up`."""
    ran = [
        pywps.down(_wps_folder()),
        change_results.down(_service_folder()),
        cassandra.down(_folder() / "cassandra"),
    ]
    return any(ran)


def status() -> dict[str, Any]:
    """Return where each part of the sandbox is, None for a part that does not run; JSON values only."""
    running = node()
    running_wps = wps()
    running_server = server.status()
    return {
        "cassandra": {**asdict(running), "hosts": list(running.hosts)} if running else None,
        "service_url": service_url(),
        "wps_url": running_wps.url if running_wps else None,
        "wps_executions": str(running_wps.executions) if running_wps else None,
        "prefect_api_url": running_server.api_url if running_server else None,
    }


def node() -> Node | None:
    """Return where the sandbox's table is, None when it is not up."""
    return cassandra.status(_folder() / "cassandra")


def ledger_file() -> Path:
    """Return the sandbox's own ledger: what is learnt on made-up chips stays apart from real campaigns."""
    return _folder() / "ledger.sqlite"


def service_url() -> str | None:
    """Return the base URL of the sandbox's change-results service, None when it is not up."""
    return change_results.status(_service_folder())


def wps() -> pywps.Wps | None:
    """Return where the sandbox's WPS is, None when it is not up."""
    return pywps.status(_wps_folder())


def renew_one() -> bool:
    """Ask for one complete chip again, as someone else's refresh=true does: the next look finds it stale.

    Once only, until the sandbox starts again from nothing; return whether it was now.
    """
    running, url = node(), service_url()
    if running is None or url is None:
        return False
    chip = seeded("complete")
    with cassandra.session(running) as connected:
        if seed.requested_at(connected, chip.chip_x, chip.chip_y, ALGORITHM) != chip.requested:
            return False
        if not _has_job(url, chip):  # as the service does: the job first, then the time of request
            _queue(url, chip)
        when = chip.requested + timedelta(days=30)
        seed.request_again(connected, chip.chip_x, chip.chip_y, ALGORITHM, when)
    return True


def give_troubles(troubles: Mapping[Chip, Sequence[Mapping[str, Any]]]) -> bool:
    """Make chips misbehave as the service's plan says; return False, and do nothing, if they were told to before.

    Troubles of other chips stay, but count anew.
    """
    url = service_url()
    if url is None:
        return False
    named = {f"{chip.x},{chip.y}": [dict(trouble) for trouble in listed] for chip, listed in troubles.items()}
    known = change_results.tell(url, "/sandbox/plan")["troubles"]
    if set(named) <= set(known):
        return False
    change_results.tell(url, "/sandbox/plan", {"troubles": {**known, **named}}, "PUT")
    return True


def seeded(kind: seed.Kind) -> seed.SeededChip:
    """Return the first chip that was seeded as of this kind."""
    return next(chip for chip in seed.SEEDED if chip.kind == kind)


def _queue_seeded(service_url: str) -> None:
    """Put the job behind the seeded ticket into the queue, once ever, and keep it there until somebody asks.

    So the seeded states stay as they are for whoever only looks, and the first run brings everything home.
    """
    chip = seeded("queued")
    if not _has_job(service_url, chip):
        change_results.tell(service_url, "/sandbox/plan", {"settings": _AT_FIRST}, "PUT")
        _queue(service_url, chip)


def _has_job(service_url: str, chip: seed.SeededChip) -> bool:
    jobs = change_results.tell(service_url, "/sandbox/jobs")
    wanted = (ALGORITHM, chip.chip_x, chip.chip_y)
    return any((job["algorithm"], job["chip_x"], job["chip_y"]) == wanted for job in jobs)


def _queue(service_url: str, chip: seed.SeededChip) -> None:
    job = {"algorithm": ALGORITHM, "chip_x": chip.chip_x, "chip_y": chip.chip_y}
    change_results.tell(service_url, "/sandbox/jobs", job)


def jars_folder() -> Path:
    """Return the folder of Cassandra's jars: `OVERLANDER_SANDBOX_JARS`, else the sandbox's own."""
    named = os.environ.get(JARS_VARIABLE)
    return Path(named) if named else _folder() / "jars"


def _service_folder() -> Path:
    return _folder() / "change-results"


def _wps_folder() -> Path:
    return _folder() / "wps"


def _folder() -> Path:
    return state_folder() / "sandbox"
