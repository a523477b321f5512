"""The sandbox's change-results service: answers as lcmap-clownfish does, and has a worker behind it.

One process: the HTTP service, a durable queue in a file, and workers that write into the sandbox's real
Cassandra. The routes are clownfish's (lcmap-changes, endpoints.clj and results.clj, f40d0a6):

    GET      /                                      null
    GET      /health                                200 or 503
    GET      /algorithms
    GET PUT  /algorithm/{algorithm}                 200 or 404; 202 or 403
    GET      /results/{algorithm}/{x}/{y}?refresh=  200, 202 or 422: asks for the whole chip
    GET      /results/{algorithm}/chip?x=&y=        every row of a chip

and those that only the sandbox has, below the same prefix:

    GET          /sandbox/received      every pixel-route request in order of arrival, as JSON:
                                        [{algorithm, chip_x, chip_y, refresh, when, status}], status null
                                        where no answer was sent
    GET          /sandbox/jobs          every job ever published, in order: [{id, algorithm, chip_x, chip_y,
                                        when, state, crashes}]; state is queued, taken, done, lost or purged
    POST         /sandbox/jobs          {algorithm, chip_x, chip_y}: publishes a job as a request does, but writes
                                        no ticket and is none of the requests received; answers as GET
    GET PUT DELETE  /sandbox/plan       the plan, see below; DELETE is back to one without troubles
    POST         /sandbox/pause|resume  workers stop and go on taking jobs (the plan's `paused`)
    POST         /sandbox/purge         drops the jobs that wait or are under way: {"purged": n}

The plan's JSON, here with every setting's default. PUT changes the settings that it names and leaves the others;
troubles that it names replace all troubles and are counted anew, left out they stay as they are:

    {"settings": {
        "pixels_per_s": 0,           a worker's speed; 0 is as fast as it can
        "worker_clock_offset_h": 0,  -6 is a worker in America, whose local time is labelled UTC
        "queue_delay_s": 0,          the least that each job waits before it is taken, those that wait now too
        "workers": 1,                1 to 8 chips at a time
        "worker_algorithm": null,    what all rows are written under; null is what was asked for
        "short_results": false,      texts of 100 bytes instead of 4.4 kB
        "crash_pause_s": 1.0,        how long a job rests after its worker died of it; longer each time
        "paused": false,
        "wakes_on_request": false},  while true no job is taken; the next request that queues one sets it to false
     "troubles": {
        "-1815585,2864805": [{"rows_lost": 23, "times": 1}, {"failed_pixels": 5}],
        "*": [{"slow_answer_s": 3, "times": 1}]}}

A trouble strikes `times` times each chip (left out: for ever), those of `*` each chip by itself. Of a chip's
troubles the first that is not used up strikes, then those of `*`. There are three moments, each with its own
troubles; fields of one moment may stand in one trouble, and one of each moment may strike the same request:

    while answering, every request of the chip
        slow_answer_s: s         answers so much later; all is done beforehand
        html: 502                a proxy's page with this status, and nothing reaches the service,
            queued: true         or it did, and only the answer is the proxy's
        drop: true               closes the connection without an answer; all is done beforehand
    while publishing, requests that queue a job only
        error_before_publish: true   500, nothing is queued
        error_after_publish: true    500, the job is queued but its ticket is not written
        lost_job: true               202 and a ticket, and nobody ever gets the job
    while working, each job of the chip as it is first taken
        rows_lost: n             n rows are not saved, others in each pass (never the first or last pixel), or
            same: true           the same in each pass; a list of positions, 0 to 9999, is those in each pass
        failed_pixels: n         n rows with result_ok false, the same in each pass; or a list of positions
        no_data: true            all rows with result_ok false
        crash_at: position       the worker dies before this pixel, and the chip starts over
            crashes: 1           so many times
        crash_loop: true         dies in each pass, at crash_at or after 150 pixels
        never: true              the job is taken, and nothing is ever written
        other_version: text      all rows are written under this algorithm

RabbitMQ puts the job of a dead worker back to its old place, and so does this; but for `crash_pause_s`, twice as
long each time up to a minute, it is left alone: as on a cluster that starts a worker which keeps dying ever later,
and so that one worker gets to the chips behind it, as the many workers of the real service do.
"""

import argparse
import contextlib
import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployments import supervise
from deployments.sandbox.cassandra import Node
from tasks.errors import ServiceAway
from tasks.files import write_if_changed

_READY_WITHIN_S = 60.0  # one to two seconds on a machine at rest
_STOPPED_WITHIN_S = 10.0
_ANSWER_WITHIN_S = 30.0


def up(folder: Path, node: Node, *, report: Callable[[str], None], prefix: str = "", fresh: bool = False) -> str:
    """Start the service of `folder` unless it runs, and return its base URL, prefix included, no slash at the end.

    One that runs with another table or prefix is stopped first.

    Args:
        folder: its own: queue, plan, requests received, log.
        node: where the table is.
        report: is told in a line that it is being started, before it is.
        prefix: path below which it answers, for example `/v1/changes`.
        fresh: stop it and forget queue, plan and requests first.

    Raises:
        PartMissing: it ended by itself; the paragraph holds what its log says.
        ServiceAway: it did not answer in time.
    """
    prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
    wanted = {"node": {**asdict(node), "hosts": list(node.hosts)}, "prefix": prefix}
    with supervise.locked(folder):
        found = supervise.running(folder)
        if found and (fresh or {key: found.facts.get(key) for key in wanted} != wanted):
            supervise.down(folder, _STOPPED_WITHIN_S)
            found = None
        if fresh:
            shutil.rmtree(folder / "records", ignore_errors=True)
        if found is None:
            report("Starting the change-results service (some 2 s).")
        port = int(found.facts["port"]) if found else _port(folder)
        service_url = f"http://127.0.0.1:{port}{prefix}"
        command = [
            sys.executable,
            "-m",
            "deployments.sandbox.change_results",
            json.dumps({**wanted, "port": port}),
        ]
        program = supervise.Program(
            name="change-results service",
            folder=folder,
            command=command,
            environment={"PYTHONUNBUFFERED": "1"},
            ready=lambda: _answers(service_url),
            ready_within_s=_READY_WITHIN_S,
            facts={**wanted, "port": port, "service_url": service_url},
        )
        return str(supervise.up(program).facts["service_url"])


def down(folder: Path) -> bool:
    """Stop the service of `folder`; return whether it ran. Queue, plan and requests stay."""
    return supervise.down(folder, _STOPPED_WITHIN_S)


def status(folder: Path) -> str | None:
    """Return the base URL of the service that runs in `folder`, or None. Asks the process table only."""
    found = supervise.running(folder)
    return str(found.facts["service_url"]) if found else None


def tell(service_url: str, path: str, told: Mapping[str, Any] | None = None, verb: str | None = None) -> Any:
    """Send one request to a route of the sandbox's own, and return its JSON.

    Args:
        service_url: as `up` returned it.
        path: from the slash on, for example `/sandbox/plan`.
        told: the JSON to send; None sends none.
        verb: None is GET without `told`, POST with it.

    Raises:
        ServiceAway: it does not answer, or refuses.
    """
    body = None if told is None else json.dumps(told).encode()
    asked = urllib.request.Request(f"{service_url}{path}", data=body, method=verb)  # noqa: S310 - this machine's own
    try:
        with _opener().open(asked, timeout=_ANSWER_WITHIN_S) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise ServiceAway(
            f"The sandbox's change-results service at {service_url} did not do {path}: {error}. See its log, or "
            "stop and start it: `overlander sandbox down`, `overlander sandbox up`."
        ) from error


def _opener() -> urllib.request.OpenerDirector:
    # No proxy: the address is this machine's own.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _answers(service_url: str) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, OSError, ValueError),
        _opener().open(f"{service_url}/", timeout=5) as answer,
    ):
        return bool(answer.read() == b"null")
    return False


def _port(folder: Path) -> int:
    """Return the folder's port if it is free, so that addresses people noted stay true; else another."""
    kept = folder / "port"
    known = None
    with contextlib.suppress(OSError, ValueError):
        known = int(kept.read_text())
    port = supervise.free_port(known)
    write_if_changed(kept, f"{port}\n".encode())
    return port


def _main() -> None:
    parser = argparse.ArgumentParser(description="The sandbox's change-results service, in the working directory.")
    parser.add_argument("settings", type=json.loads, help='JSON: {"node": {...}, "port": n, "prefix": ""}')
    settings = parser.parse_args().settings
    node = Node(**{**settings["node"], "hosts": tuple(settings["node"]["hosts"])})
    # Only the service itself needs the web framework, not whoever starts it or asks for it.
    from deployments.sandbox.clownfish import serve

    serve(Path("records"), node, settings["port"], settings["prefix"])


if __name__ == "__main__":
    _main()
