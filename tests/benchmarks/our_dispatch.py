"""Our way to send jobs and follow them to their ends, ledger included, as a program of its own.

python tests/benchmarks/our_dispatch.py '{"url": ..., "jobs": n, "concurrency": n, "folder": ...}'
"""

import json
import re
import sys
import time
from pathlib import Path

from tasks.ledger.store import Ledger
from tasks.polygons.exchange import WpsRules
from tasks.polygons.rules import Rules
from tasks.polygons.service import WpsService
from tests.polygon_desk import dispatching, feature, load

LIMIT_S = 1500.0
BATCH = 500


def main() -> None:
    """Load polygons, see them through; print seconds of the latter and the most resident memory as JSON."""
    job = json.loads(sys.argv[1])
    rules, folder = Rules(concurrency=job["concurrency"]), Path(job["folder"])
    done = 0
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        polygons = range(job["jobs"])
        units = []
        for start in polygons[::BATCH]:
            of_series, lot = load(
                ledger, [feature(number) for number in polygons[start : start + BATCH]], url=job["url"]
            )
            units += lot
        service = WpsService(job["url"], WpsRules(max_connections=rules.connections))
        started, computed = time.monotonic(), time.process_time()
        with dispatching(ledger, of_series, service, folder, rules) as dispatcher:
            done = dispatcher.dispatch(units, LIMIT_S)["done"]
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - computed
    # not ru_maxrss, which starts from what the parent had when it forked
    memory = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "done": done, "memory": memory}))


if __name__ == "__main__":
    main()
