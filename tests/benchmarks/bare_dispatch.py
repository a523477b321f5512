"""The baseline: the shortest loop over httpx that sends jobs and follows them, as a program of its own.

No ledger: what it knows is gone when it is killed. A look each 2 s, whatever a job's age.

    python tests/benchmarks/bare_dispatch.py '{"url": ..., "jobs": n, "concurrency": n}'
"""

import asyncio
import json
import sys
import time

import httpx

from tests.wps_desk import inputs, location, request, square, status

POLL_S = 2.0


async def see_through(client: httpx.AsyncClient, url: str, number: int) -> bool:
    """Send one polygon and look until its job has ended."""
    answer = await client.post(url, content=request(inputs(square(number))))
    where = location(answer)
    while status(answer) not in ("ProcessSucceeded", "ProcessFailed"):
        await asyncio.sleep(POLL_S)
        answer = await client.get(where)
    return status(answer) == "ProcessSucceeded"


async def see_all_through(url: str, jobs: int, concurrency: int) -> int:
    """See all polygons through, so many at a time; return how many succeeded."""
    slots = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=1.0)  # as ours
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:

        async def in_turn(number: int) -> bool:
            async with slots:
                return await see_through(client, url, number)

        return sum(await asyncio.gather(*map(in_turn, range(jobs))))


def main() -> None:
    """Do it; print seconds, seconds at the processor and jobs that succeeded as JSON."""
    job = json.loads(sys.argv[1])
    started, computed = time.monotonic(), time.process_time()
    done = asyncio.run(see_all_through(job["url"], job["jobs"], job["concurrency"]))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - computed
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "done": done}))


if __name__ == "__main__":
    main()
