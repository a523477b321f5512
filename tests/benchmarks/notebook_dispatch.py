"""The baseline: the notebook's way to send jobs and follow them, as a program of its own.

As dispatching.ipynb of GeoscienceAustralia/wit_tooling (branch dispatcher) does it: so many slots, each filled
again when its job has ended; a look each 2 s; xmltodict, and names with the prefix `wps:`. Plain asyncio streams
take the place of aiohttp, which is not installed here: they do less, so the notebook is no slower for it.

    python tests/benchmarks/notebook_dispatch.py '{"url": ..., "jobs": n, "concurrency": n}'
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import xmltodict

from tests.wps_desk import inputs, request, square

POLL_S = 2.0
TIMEOUT_S = 600.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Session:
    """Connections to one host that are kept open, as aiohttp's session has them."""

    def __init__(self) -> None:
        """Have none yet."""
        self._idle: list[Connection] = []

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Send one request, and return the body of its answer."""
        parts = urlsplit(url)
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection(parts.hostname, parts.port)
        )
        head = f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        answer = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return answer


async def see_through(session: Session, url: str, number: int) -> bool:
    """Send one polygon and look until its job has ended or its time is over."""
    began = time.time()
    answer = await session.send("POST", url, request(inputs(square(number))))
    told = xmltodict.parse(answer)["wps:ExecuteResponse"]
    where = told["@statusLocation"]
    while time.time() - began < TIMEOUT_S:
        await asyncio.sleep(POLL_S)
        told = xmltodict.parse(await session.send("GET", where))["wps:ExecuteResponse"]
        if "wps:ProcessSucceeded" in told["wps:Status"]:
            return bool(told["wps:ProcessOutputs"]["wps:Output"]["wps:Data"]["wps:LiteralData"])
        if "wps:ProcessFailed" in told["wps:Status"]:
            return False
    return False


async def see_all_through(url: str, jobs: int, concurrency: int) -> int:
    """See all polygons through, so many at a time; return how many succeeded."""
    session, polygons = Session(), iter(range(jobs))

    async def slot(numbers: Iterator[int]) -> int:
        return sum([await see_through(session, url, number) for number in numbers])

    return sum(await asyncio.gather(*(slot(polygons) for _ in range(concurrency))))


def main() -> None:
    """Do it; print seconds, seconds at the processor and jobs that succeeded as JSON."""
    job = json.loads(sys.argv[1])
    started, computed = time.monotonic(), time.process_time()
    done = asyncio.run(see_all_through(job["url"], job["jobs"], job["concurrency"]))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - computed
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "done": done}))


if __name__ == "__main__":
    main()
