"""The sandbox's real WPS: PyWPS 4.8.1 under gunicorn, with the processes of `wit`, which make their results up.

    /wps                              WIT, WOfSDrill and FractionalCoverDrill
    /outputs/...                      status documents and results
    GET             /sandbox/executions   what was begun, in order: [{process, geometry, interval, job, when}]; the
                                          geometry is the hash of `wps_orders.geometry_hash`. A line of the file
                                          `executions.jsonl` each
    GET PUT DELETE  /sandbox/plan         the plan; PUT changes what it names

The plan, with its defaults; a job reads it as it begins. A span is a number of seconds or [least, most].

    {"duration_s": [0.5, 1.5],
     "troubles": [{
        "geometry": hash, "share": 0.1, "process": "WIT",    whom: all that is named must hold
        "times": 1,               the first so many jobs of a geometry and interval; left out: all
        "fails": true,            ProcessFailed without a reason, as WIT's
        "fails": "words",         ProcessFailed with these words, letters and blanks
        "dies": true,             the job's process is gone: its status stays ProcessStarted for ever
        "duration_s": 5}]}        in place of the plan's

PyWPS keeps its jobs in a SQLite file and works in forked children, so gunicorn's workers have to be `sync` ones:
threads in the parent make children wait for locks for ever. It carries some 15 jobs a second.
"""

import configparser
import contextlib
import io
import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments import supervise
from tasks.files import write_if_changed

_READY_WITHIN_S = 120.0  # some 4 s on a machine at rest, 25 s on a very busy one
_STOPPED_WITHIN_S = 10.0  # jobs under way may end within this; later ones stay started for ever
_ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class Settings:
    """How the service runs; a service that runs otherwise is started again.

    Attributes:
        parallel: so many jobs run at once, the others wait; -1 as many as are asked for, as at WIT.
        queue: so many wait, then ServerBusy; -1 any number.
        outputs_host: where status documents and results lie; with another host than the service's own they have a
            port of their own, as WIT's lie on S3.
        s3_urls: WIT's results are named by URLs of S3, as the real ones, in place of such that can be fetched.
    """

    parallel: int = -1
    queue: int = 10
    outputs_host: str = "127.0.0.1"
    s3_urls: bool = False


@dataclass(frozen=True)
class Wps:
    """Where the service is: its URL, the sandbox's own routes, and the file of what was begun."""

    url: str
    sandbox_url: str
    executions: Path


def up(
    folder: Path, *, report: Callable[[str], None], settings: Settings | None = None, fresh: bool = False
) -> Wps:
    """Start the service of `folder` unless it runs.

    Args:
        folder: its own: jobs, results, plan, log.
        report: is told in a line that it is being started, before it is.
        settings: None keeps to the defaults.
        fresh: stop it and forget jobs, results and plan first.

    Raises:
        PartMissing: it ended by itself; the paragraph holds what its log says.
        ServiceAway: it did not answer in time.
    """
    wanted = asdict(settings or Settings())
    with supervise.locked(folder):
        found = supervise.running(folder)
        if fresh or found is None or found.facts["settings"] != wanted:
            # Also without a record of one that runs: orphans of one that was killed hold its port.
            supervise.down(folder, _STOPPED_WITHIN_S)
            found = None
        if fresh:
            shutil.rmtree(folder / "service", ignore_errors=True)
        if found is None:
            report("Starting the process service (some 5 s).")
        facts = dict(found.facts) if found else _laid_out(folder, wanted)
        program = supervise.Program(
            name="process service",
            folder=folder,
            command=_command(folder / "service", facts),
            environment={"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            ready=lambda: _answers(str(facts["url"])),
            ready_within_s=_READY_WITHIN_S,
            facts=facts,
        )
        return _wps(folder, supervise.up(program))


def down(folder: Path) -> bool:
    """Stop the service of `folder`; return whether it ran. Results, status documents and plan stay."""
    return supervise.down(folder, _STOPPED_WITHIN_S)


def status(folder: Path) -> Wps | None:
    """Return where the service of `folder` is, or None when it does not run. Asks the process table only."""
    found = supervise.running(folder)
    return _wps(folder, found) if found else None


def _wps(folder: Path, found: supervise.Running) -> Wps:
    url = str(found.facts["url"])
    return Wps(url, f"{url.removesuffix('/wps')}/sandbox", folder / "service" / "executions.jsonl")


def _laid_out(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write the configuration, and return the facts: ports stay those of the last time where they are free."""
    home = folder / "service"
    for name in ("outputs", "work"):
        (home / name).mkdir(parents=True, exist_ok=True)
    port = _port(folder / "port", "127.0.0.1")
    binds = [f"127.0.0.1:{port}"]
    if wanted["outputs_host"] != "127.0.0.1":
        binds.append(f"{wanted['outputs_host']}:{_port(folder / 'outputs-port', wanted['outputs_host'])}")
    url, outputs_url = f"http://{binds[0]}/wps", f"http://{binds[-1]}/outputs"
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(
        {
            "metadata:main": {"identification_title": "Overlander sandbox"},
            "server": {
                "url": url,
                "outputurl": f"{outputs_url}/",
                "outputpath": str(home / "outputs"),
                "workdir": str(home / "work"),
                "maxprocesses": str(wanted["queue"]),
                "parallelprocesses": str(wanted["parallel"]),
                "maxrequestsize": "3mb",
                "maxsingleinputsize": "1mb",
            },
            "logging": {
                "level": "INFO",
                "file": str(home / "pywps.log"),
                "database": f"sqlite:///{home / 'jobs.sqlite3'}",
            },
        }
    )
    text = io.StringIO()
    config.write(text)
    write_if_changed(home / "pywps.cfg", text.getvalue().encode())
    results_url = "s3://sandbox-results" if wanted["s3_urls"] else outputs_url
    own = {"results_url": results_url, "config": str(home / "pywps.cfg")}
    write_if_changed(home / "settings.json", json.dumps(own).encode())
    return {"settings": wanted, "url": url, "binds": binds}


def _command(home: Path, facts: dict[str, Any]) -> list[str]:
    binds = [argument for bind in facts["binds"] for argument in ("--bind", bind)]
    return [
        *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--worker-class", "sync"),
        "--no-control-socket",  # it would lie in the user's home, and bring a thread
        *("--timeout", "120", "--graceful-timeout", str(int(_STOPPED_WITHIN_S)), "--chdir", str(home), *binds),
        "deployments.sandbox.wit:application()",
    ]


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the address is this machine's own
    asked = f"{url}?service=WPS&request=GetCapabilities"
    with (
        contextlib.suppress(urllib.error.URLError, OSError, ValueError),
        opener.open(asked, timeout=_ANSWER_WITHIN_S) as answer,
    ):
        return b"Capabilities" in answer.read()
    return False


def _port(kept: Path, host: str) -> int:
    """Return the port that is kept in a file if it is free, so that status locations stay true; else another."""
    known = None
    with contextlib.suppress(OSError, ValueError):
        known = int(kept.read_text())
    port = supervise.free_port(known, host)
    write_if_changed(kept, f"{port}\n".encode())
    return port
