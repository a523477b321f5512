"""The baseline: the operators' notebook's way to count and to save chips, as a program of its own.

As the notebook does it: one session shared by the four threads of a pool, simple row by row dictionaries, the
driver's default page of 5,000 rows, a whole chip held as a list, `json.dump` into the file. Its defects that
keep it from running (lcmap-test-notebooks, Curate/PyCCD Results.ipynb) are left out.

    python tests/benchmarks/notebook.py count|save '{"hosts": [...], ..., "chips": [[x, y], ...], "out": "..."}'
"""

import json
import resource
import sys
import time
from datetime import datetime
from multiprocessing.dummy import Pool as ThreadPool
from pathlib import Path

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RoundRobinPolicy
from cassandra.query import ordered_dict_factory

WHERE = "FROM results WHERE chip_x = ? AND chip_y = ? AND algorithm = ?"


def isoformat(value: object) -> str:
    """Serialise a timestamp for `json.dump`."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(value)


def main() -> None:
    """Do the work named by the first argument, and print seconds, rows and resident memory as JSON."""
    what, job = sys.argv[1], json.loads(sys.argv[2])
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(), row_factory=ordered_dict_factory, request_timeout=120
    )
    cluster = Cluster(
        job["hosts"],
        port=job["port"],
        protocol_version=5,
        compression=job["compression"],
        auth_provider=PlainTextAuthProvider(job["username"], job["password"]),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    session = cluster.connect(job["keyspace"])
    count = session.prepare(f"SELECT count(result_ok) AS count {WHERE}")
    whole = session.prepare(f"SELECT * {WHERE}")

    def count_chip(x: int, y: int) -> int:
        return int(session.execute(count, (x, y, job["algorithm"])).one()["count"])

    def save_chip(x: int, y: int) -> int:
        rows = list(session.execute(whole, (x, y, job["algorithm"])))
        with Path(job["out"], f"{x}_{y}.json").open("w") as file:
            json.dump(rows, file, default=isoformat)
        return len(rows)

    started = time.monotonic()
    with ThreadPool(4) as pool:
        rows = sum(pool.starmap(count_chip if what == "count" else save_chip, job["chips"]))
    seconds = time.monotonic() - started
    cluster.shutdown()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "memory": memory}))


if __name__ == "__main__":
    main()
