"""A run on a polygon campaign as a program, to be killed: `python -m tests.polygon_run LEDGER URL POLYGONS`."""

import sys
from dataclasses import replace
from pathlib import Path

from tasks.ledger.store import Ledger
from tasks.polygons.exchange import WpsRules
from tasks.polygons.service import WpsService
from tests.polygon_desk import LIMIT_S, QUICK, dispatching, feature, load


def main(path: str, url: str, polygons: str) -> None:
    """Run to the end, eight jobs at a time."""
    rules = replace(QUICK, concurrency=8, poll_s=0.1, poll_longest_s=0.5)
    with Ledger.open(Path(path)) as ledger:
        of_series, units = load(ledger, [feature(number) for number in range(int(polygons))], url=url)
        service = WpsService(url, WpsRules(max_connections=rules.connections, allowed_hosts=("127.0.0.2",)))
        with dispatching(ledger, of_series, service, Path(path).parent, rules) as dispatcher:
            print("started", flush=True)  # noqa: T201 - whoever kills it waits for that
            dispatcher.dispatch(units, LIMIT_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
