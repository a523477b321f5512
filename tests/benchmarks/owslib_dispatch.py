"""The baseline: OWSLib in threads, one job a thread at a time, as a program of its own.

It opens a connection for each request. Its own loop asks without a pause when a status cannot be read, and for
ever; so there is a deadline here.

    python tests/benchmarks/owslib_dispatch.py '{"url": ..., "jobs": n, "concurrency": n}'
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from owslib.wps import ComplexDataInput, WebProcessingService

from tests.wps_desk import inputs, square

POLL_S = 2.0
DEADLINE_S = 1200.0


def main() -> None:
    """Do it; print seconds, seconds at the processor and jobs that succeeded as JSON."""
    job = json.loads(sys.argv[1])
    started, computed = time.monotonic(), time.process_time()

    def see_through(number: int) -> bool:
        if time.monotonic() - started > DEADLINE_S:
            return False
        service = WebProcessingService(job["url"], skip_caps=True, timeout=120)
        given = [(name, ComplexDataInput(text)) for name, text in inputs(square(number)).items()]
        execution = service.execute("WIT", given, output=[("url", False)])
        while not execution.isComplete() and time.monotonic() - started < DEADLINE_S:
            time.sleep(POLL_S)
            execution.checkStatus(sleepSecs=0)
        return bool(execution.isSucceded())

    with ThreadPoolExecutor(job["concurrency"]) as threads:
        done = sum(threads.map(see_through, range(job["jobs"])))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - computed
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "done": done}))


if __name__ == "__main__":
    main()
