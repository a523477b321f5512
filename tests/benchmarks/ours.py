"""Our way to count and to save the same chips, as a program of its own: the stages, without Prefect.

python tests/benchmarks/ours.py survey|export '{"tile": ..., "window": ..., "out": ...}'
"""

import json
import resource
import sys
import time
from pathlib import Path

from tasks.chips.campaign import site, tile_campaign_of
from tasks.chips.export import export
from tasks.chips.survey import survey


def main() -> None:
    """Survey the window, and for `export` save it; print seconds, rows and resident memory as JSON."""
    what, job = sys.argv[1], json.loads(sys.argv[2])
    work = tile_campaign_of(job["tile"], window=job["window"], algorithm=job["algorithm"], out=Path(job["out"]))
    with site(work, words="benchmark") as place:
        started = time.monotonic()
        counted = survey(place, work.chips).counted
        seconds, rows = time.monotonic() - started, 0
        if what == "export":
            started = time.monotonic()
            rows = export(place, work.chips).rows
            seconds = time.monotonic() - started
    memory = {
        "parent": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }
    print(json.dumps({"seconds": seconds, "rows": rows, "counted": counted, "memory": memory}))


if __name__ == "__main__":
    main()
