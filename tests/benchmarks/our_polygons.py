"""Our way to make the same polygons ready, identity and checks included, as a program of its own.

python tests/benchmarks/our_polygons.py FILE COUNT
"""

import json
import re
import sys
import time
from pathlib import Path

from tasks.polygons.features import read_features
from tasks.polygons.identity import identify
from tasks.polygons.pieces import Preparation
from tasks.polygons.selection import Selection
from tasks.polygons.source import Source


def main() -> None:
    """Read so many records; print seconds, features and the most resident memory as JSON."""
    source, selection = Source(sys.argv[1]), Selection(limit=int(sys.argv[2]))
    started = time.monotonic()
    identity = identify(source, selection)
    features = 0
    for feature in read_features(source, identity, selection, Preparation()):
        assert feature.geometry, feature.problem
        features += 1
    seconds = time.monotonic() - started
    # not ru_maxrss, which starts from what the parent had when it forked
    memory = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    print(json.dumps({"seconds": seconds, "features": features, "memory": memory}))


if __name__ == "__main__":
    main()
