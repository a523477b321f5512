"""The baseline: the notebook's way to make polygons ready, as a program of its own.

As dispatching.ipynb of GeoscienceAustralia/wit_tooling (branch dispatcher) does it: one record after another,
`transform_geom` to EPSG:4326, then text. What keeps it from running today is left out: axes are no longer
swapped by fiona, and text is made by json, since `str` of a geometry is none.

    python tests/benchmarks/notebook_polygons.py FILE COUNT
"""

import json
import re
import sys
import time
from pathlib import Path

import fiona
import fiona.transform


def main() -> None:
    """Read so many records; print seconds, features and the most resident memory as JSON."""
    path, count = sys.argv[1], int(sys.argv[2])
    features = 0
    started = time.monotonic()
    with fiona.open(f"zip://{path}") as collection:
        for record in collection:
            geometry = fiona.transform.transform_geom(collection.crs, "EPSG:4326", record["geometry"])
            json.dumps({"type": geometry.type, "coordinates": geometry.coordinates}, separators=(",", ":"))
            features += 1
            if features == count:
                break
    seconds = time.monotonic() - started
    # not ru_maxrss, which starts from what the parent had when it forked
    memory = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    print(json.dumps({"seconds": seconds, "features": features, "memory": memory}))


if __name__ == "__main__":
    main()
