"""A WPS 1.0.0 that computes nothing: thousands of jobs, and every fault that a plan scripts.

It answers as PyWPS 4.8.1 does, from one process without forks. In a test it runs inside the test's own process:

    with serving({"duration_s": [0, 1]}) as service:
        ...service.url...
        service.received()

and `up`, `down` keep one as a program in the background. Beside `/wps` and the status documents it has

    GET             /sandbox/received    every request to execute in order of arrival, refused ones too:
                                         [{when, process, geometry, start, end, outcome, job}]; geometry is a hash,
                                         `wps_orders.geometry_hash`; job is null where none was taken on
    GET             /sandbox/jobs        every job: [{job, index, process, geometry, start, end, received_at,
                                         starts_at, ends_at, ends, end_seen_at, polls}]; moments in seconds since
                                         1970, null for never; end_seen_at is when an answer first told of its end
    GET             /sandbox/counts      {geometry: {received: n, jobs: m}}
    GET             /sandbox/summary     {executes: {outcome: n}, units, jobs, polls, polls_astray, ends_seen,
                                         outstanding, most_outstanding}
    GET PUT DELETE  /sandbox/plan        the plan; PUT changes what it names, DELETE is back to the plain one
    POST            /sandbox/forget      forgets jobs and requests; the plan stays

The plan, with its defaults. A span is a number of seconds or [least, most], drawn anew for each job, but the same
for the same unit at each try of a test. A unit is process, geometry and interval; its index is its place in order
of first arrival, from 0.

    {"duration_s": 0,       how long a job runs
     "queue_s": 0,          how long it is no more than accepted
     "parallel": null,      so many run at once, the others wait
     "busy_beyond": null,   ServerBusy while so many jobs wait or run
     "prefix": "wps",       of the documents' namespace: wps, ns, ns0, none or mixed
     "stored": true,        whether the processes are described as storing their answers, with status
     "troubles": []}

A trouble says `when` it strikes, and whom: `jobs` (a list of indexes), `geometry` (a hash), `every` n units with
`offset`, `share` (0 to 1, drawn by geometry), `every_answer` n; all that it names must hold, nothing named means
everybody. It strikes each unit (or, `poll`, each job) `times` times, left out: always.

    when: execute           the answer to a request; the first trouble that concerns it strikes
        busy: true              ServerBusy, nothing is taken on
        refuse: code            an exception report with this code; status 400 unless `status` says
        status: 503             a page with this status and, if given, `retry_after`; nothing is taken on,
            queued: true        or the job was
        html: 200               a proxy's page with this status; `queued` as above
        reset: before|after     the connection is reset before or after the job is taken on
        slow_s: s               the job is taken on at once, the answer comes so much later
        empty: true             the job is taken on, the answer has no body
        cut: document|connection   the answer is half a document, or the connection closes half way
    when: job               what becomes of it; every trouble that concerns it strikes, the first of each kind
        stays: accepted|started it never gets further
        fails: text             ProcessFailed with this text
        at_once: true           the first answer tells of the end
        duration_s, queue_s     in place of the plan's
        paused: true            ProcessPaused in place of ProcessStarted
        vanishes_after: n       the status document is not found after n questions
        second_location: url    later documents name this status location; "elsewhere" is one of the service's own
                                that is never found, whose questions are counted as polls_astray
        location: url           the first answer names this status location; "" none at all
        prefix                  in place of the plan's
        no_percent: true        no percentCompleted
        output_bytes: n         the output is so long
        reference: href|xlink:href   the output is a reference
    when: poll              the answer to a question about a job; the first trouble that concerns it strikes
        empty, cut, html, status with retry_after, slow_s   as above
        reset: before           the connection is reset
        missing: true           404
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deployments import supervise
from deployments.sandbox import http_peer
from deployments.sandbox.http_peer import Reply, Request
from deployments.sandbox.wps_answers import ScriptedWps
from deployments.sandbox.wps_plan import Plan
from tasks.errors import ServiceAway

_READY_WITHIN_S = 30.0
_STOPPED_WITHIN_S = 5.0


@contextlib.contextmanager
def serving(
    plan: Mapping[str, Any] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    status_host: str | None = None,
) -> Iterator[ScriptedWps]:
    """Serve inside this process, from a thread with a loop of its own, until the block ends.

    Args:
        plan: as above; None is the plain one.
        host, port: where it listens; port 0 takes a free one.
        status_host: where the status documents lie if that is another host, for example 127.0.0.2; they get a
            port of their own there.

    Raises:
        ServiceAway: the port is taken.
    """
    ready: threading.Event = threading.Event()
    found: list[ScriptedWps | OSError] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        try:
            async with _listening(Plan().changed(dict(plan or {})), host, port, status_host) as service:
                found.append(service)
                ready.set()
                await ended.wait()
        except OSError as error:
            found.append(error)
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="scripted WPS", daemon=True)
    thread.start()
    ready.wait()
    service = found[0]
    if isinstance(service, OSError):
        raise ServiceAway(f"The scripted WPS cannot listen on {host}:{port}: {service}. Choose another port.")
    try:
        yield service
    finally:
        stop[0]()
        thread.join()


@contextlib.asynccontextmanager
async def _listening(plan: Plan, host: str, port: int, status_host: str | None) -> AsyncIterator[ScriptedWps]:
    service: ScriptedWps | None = None

    def answer(request: Request) -> Reply:
        assert service is not None  # noqa: S101 - set before the loop gets to any request
        return service.answer(request)

    servers = [await http_peer.listen(host, port, answer)]
    if status_host is not None:
        servers.append(await http_peer.listen(status_host, 0, answer))
    bases = ["http://{}:{}".format(*server.sockets[0].getsockname()[:2]) for server in servers]
    service = ScriptedWps(plan, f"{bases[0]}/wps", f"{bases[-1]}/outputs")
    try:
        yield service
    finally:
        for server in servers:
            server.close()


def up(folder: Path, plan: Mapping[str, Any] | None = None, *, status_host: str | None = None) -> str:
    """Start the service of `folder` in the background unless it runs, and return its URL, `/wps` included.

    Raises:
        PartMissing: it ended by itself; the paragraph holds what its log says.
        ServiceAway: it did not answer in time.
    """
    with supervise.locked(folder):
        found = supervise.running(folder)
        port = int(found.facts["port"]) if found else supervise.free_port()
        settings = {"plan": dict(plan or {}), "port": port, "status_host": status_host}
        program = supervise.Program(
            name="scripted WPS",
            folder=folder,
            command=[sys.executable, "-m", "deployments.sandbox.scripted_wps", json.dumps(settings)],
            environment={"PYTHONUNBUFFERED": "1"},
            ready=lambda: _listens(port),
            ready_within_s=_READY_WITHIN_S,
            facts={"port": port, "url": f"http://127.0.0.1:{port}/wps"},
        )
        return str(supervise.up(program).facts["url"])


def down(folder: Path) -> bool:
    """Stop the service of `folder` and forget its jobs; return whether it ran."""
    ran = supervise.down(folder, _STOPPED_WITHIN_S)
    shutil.rmtree(folder, ignore_errors=True)
    return ran


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted WPS, until SIGTERM.")
    parser.add_argument("settings", type=json.loads, help='JSON: {"plan": {}, "port": n, "status_host": null}')
    settings = parser.parse_args().settings

    async def serve() -> None:
        plan = Plan().changed(settings["plan"])
        async with _listening(plan, "127.0.0.1", settings["port"], settings["status_host"]):
            await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    _main()
