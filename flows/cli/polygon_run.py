"""Run a polygon campaign's flow in this process, and tell a person live how far it is."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flows.cli import console
from flows.cli.run import leave_promptly, summary_at_the_end, use_prefect_api, with_consent

if TYPE_CHECKING:
    from tasks.polygons.site import PolygonSite

_SECONDS_TO_LEAVE = 12.0
"""After Ctrl-C requests on their way are let answer, so that few units are uncertain."""

_SECONDS_BETWEEN_LINES = 30.0


def run_polygons(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run `polygon_campaign` and return the summary it ended with.

    Raises:
        OverlanderError: what the run failed with.
    """
    from tasks.polygons.rules import flood_bound

    _check(parameters)
    if parameters.get("concurrency") == "flood":
        console.say(f"Flood: at most {flood_bound():,} jobs at once, as many as this system opens files for us.")
    use_prefect_api(console.say)
    return with_consent(_run, parameters)


def _run(parameters: dict[str, Any]) -> dict[str, Any]:
    from tasks.polygons.site import open_polygon_sites

    with leave_promptly(open_polygon_sites, _SECONDS_TO_LEAVE), _told():
        from flows.polygons import polygon_campaign

        return summary_at_the_end(polygon_campaign(**parameters, return_state=True))


def _check(parameters: dict[str, Any]) -> None:
    """Fail now where file, process or service are not as they should be, before Prefect is started for nothing."""
    import asyncio

    from tasks.polygons.campaign import polygon_campaign_of
    from tasks.polygons.selection import check_selection
    from tasks.polygons.site import service_of
    from tasks.settings import load_settings

    named = ("process", "interval", "url", "layer", "crs", "where", "bbox", "ids", "id_field", "sync")
    work = polygon_campaign_of(
        parameters["source"],
        split_by=parameters.get("split"),
        name=parameters.get("campaign"),
        out=parameters.get("out"),
        properties=tuple(parameters.get("properties") or ()),
        **{name: parameters[name] for name in named if name in parameters},
    )
    check_selection(work.source, work.selection, (*work.properties, *filter(None, [work.id_field])))

    async def ask() -> None:
        async with service_of(work, load_settings()) as service:
            await service.check(work.orders())

    asyncio.run(ask())


@contextmanager
def _told() -> Iterator[None]:
    """Say how far the run is: a line that is renewed in a terminal, else a line now and then."""
    from rich.live import Live
    from rich.text import Text

    from tasks.polygons.site import open_polygon_sites

    rate = _Rate()

    def line() -> str:
        sites = open_polygon_sites()
        return rate.words(sites[0]) if sites else "Reading the file and asking the service what it offers."

    def watch(ended: threading.Event) -> None:
        with Live(Text(line()), console=console.err(), transient=True, refresh_per_second=4) as live:
            while not ended.wait(0.5):
                live.update(Text(line()))

    with console.telling(watch, line, _SECONDS_BETWEEN_LINES):
        yield


class _Rate:
    """How quickly units come to their end, over the last minutes."""

    _WINDOW_S = 600.0

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def words(self, site: "PolygonSite") -> str:
        """Return a line on how far a run is."""
        now, done = time.monotonic(), site.dispatcher.progress
        settled = done.done + done.failed + done.uncertain + done.given_up
        self._seen = [(at, number) for at, number in self._seen if now - at < self._WINDOW_S] + [(now, settled)]
        first_at, first = self._seen[0]
        elapsed_s = now - first_at
        per_s = (settled - first) / elapsed_s if elapsed_s > 1 else 0.0
        line = (
            f"{site.campaign.name}: {done.sent:,} sent, {done.in_flight:,} in flight (limit {done.limit:,}), "
            f"{done.done:,} done, {done.failed:,} failed, {done.uncertain:,} uncertain, {done.given_up:,} given up"
        )
        if not per_s:
            return line
        left_s = max(0, site.units_at_start - settled) / per_s
        return f"{line}; {per_s * 60:,.1f} a minute, about {_length(left_s)} left"


def _length(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.1f} hours" if seconds < 172_800 else f"{seconds / 86400:,.1f} days"
