"""`overlander doctor`: try everything the settings name, and say what to do about each that fails."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli import console, options
from tasks.errors import OverlanderError

if TYPE_CHECKING:
    from tasks.polygons.service import WpsService
    from tasks.settings import Settings

_MOST_PROCESSES = 12


def doctor(json: options.Json = False) -> None:
    """Try each service the settings name, and say how to mend it."""
    from tasks.settings import load_settings

    sandbox = [named for named in (options.settle(), options.settle_wps()) if named]
    settings = load_settings()
    checks: dict[str, Callable[[Settings], str]] = {
        "cassandra": _cassandra,
        "change-results service": _service,
        "worker's clock": _worker_clock,
        "wps": _wps,
        "ledger": _ledger,
        "output folder": _output,
        "prefect": _prefect,
        "worker": _worker,
    }
    found = {what: _attempt(check, settings) for what, check in checks.items()}
    if json:
        console.give({what: {"ok": ok, "says": says} for what, (ok, says) in found.items()})
        return
    for named in sandbox:
        console.say(named)
    for what, (ok, says) in found.items():
        console.err().print(f"[{'green' if ok else 'red'}]{'ok  ' if ok else 'FAIL'}[/] [bold]{what}[/]")
        console.say(f"     {says}")


def _attempt(check: "Callable[[Settings], str]", settings: "Settings") -> tuple[bool, str]:
    try:
        return True, check(settings)
    except OverlanderError as error:
        return False, str(error)


def _cassandra(settings: "Settings") -> str:
    from tasks.chips.results import ResultsTable

    with ResultsTable.open(settings.cassandra) as table:
        return f"{table.source} answers at {settings.cassandra.consistency}; its twelve columns are as expected."


def _service(settings: "Settings") -> str:
    from tasks.chips.service import ChangeResults
    from tasks.errors import BadInput

    if settings.service_url is None:
        return "None is set (OVERLANDER_SERVICE_URL): runs look and save, and request nothing."
    if settings.algorithm is None:
        raise BadInput("No algorithm is set, so the service cannot be tried. Set OVERLANDER_ALGORITHM.")
    timeout_s, connect_s = settings.service_timeout_s, settings.service_connect_timeout_s
    with ChangeResults(settings.service_url, timeout_s, connect_s) as service:
        service.check(settings.algorithm)
    return f"{settings.service_url} answers and runs {settings.algorithm}."


def _worker_clock(settings: "Settings") -> str:
    from tasks.chips.results import ResultsTable
    from tasks.ledger.requests import worker_clock
    from tasks.ledger.store import Ledger

    if _is_missing(settings):
        return "Not known: no chip has been requested yet."
    try:
        with ResultsTable.open(settings.cassandra) as table:
            source = table.source
    except OverlanderError:
        return "Not known: it is kept with the table, which does not answer."
    with Ledger.open(settings.ledger_place, create=False) as ledger, ledger.read() as reading:
        seen = worker_clock(reading, source, settings.algorithm)
    if seen is None:
        return "Not known: no chip has come back yet."
    least, most = (bound.total_seconds() / 3600 for bound in (seen.least, seen.most))
    seen_on = f"(by chips that came back until {seen.at:%Y-%m-%d %H:%M} UTC)"
    if most - least > 1:
        return f"Runs between {least:+.1f} and {most:+.1f} hours of ours {seen_on}."
    hours = round((least + most) * 2) / 4  # time zones differ by quarters of an hour
    if not hours:
        return f"Runs as ours, to within {max(abs(least), abs(most)) * 60:.0f} minutes {seen_on}."
    return f"Runs {abs(hours):g} hours {'ahead of' if hours > 0 else 'behind'} ours {seen_on}. That is no fault."


def _wps(settings: "Settings") -> str:
    import asyncio

    from tasks.polygons.exchange import rules_of
    from tasks.polygons.service import WpsService, wps_address

    if settings.wps_url is None:
        return "None is set (OVERLANDER_WPS_URL): `overlander polygons` needs one, here or as --url."
    url = wps_address(settings.wps_url)

    async def ask() -> str:
        async with WpsService(url, rules_of(settings)) as service:
            return await _offered(service)

    return asyncio.run(ask())


async def _offered(service: "WpsService") -> str:
    """Say what a WPS offers, and whether the built-in processes that it has are as they are sent."""
    from tasks.errors import BadInput
    from tasks.polygons.campaign import EXAMPLE
    from tasks.polygons.intervals import parse_interval
    from tasks.polygons.process import BUILT_IN

    names = await service.processes()
    some = ", ".join(names[:_MOST_PROCESSES]) + (" and others" if len(names) > _MOST_PROCESSES else "")
    known = {name: process for name, process in BUILT_IN.items() if process.identifier in names}
    faults = []
    for process in known.values():
        span = parse_interval("2010-01-01/2011-01-01") if process.needs_interval else None
        try:
            await service.check([process.order(EXAMPLE, span)])
        except BadInput as error:
            faults.append(str(error))
    if faults:
        raise BadInput(" ".join(faults))
    matching = f"{', '.join(known)} can be sent as they are" if known else "none of them is built in"
    return f"{service.url} answers as a WPS 1.0.0. It has {some or 'no process'}; {matching}."


def _ledger(settings: "Settings") -> str:
    from tasks.ledger.store import Ledger

    if _is_missing(settings):
        return f"{settings.ledger_place} is not there yet; the first run makes it."
    with Ledger.open(settings.ledger_place) as ledger:
        return f"{ledger.name} opens."


def _is_missing(settings: "Settings") -> bool:
    from tasks.settings import is_url

    return not is_url(settings.ledger_place) and not Path(settings.ledger_place).exists()


def _output(settings: "Settings") -> str:
    from tasks.files import check_writable

    folder = settings.out.absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if there == folder:
        check_writable(folder)
    free = shutil.disk_usage(there).free
    return f"{folder}: {free / 1e9:,.0f} GB free. A chip takes 50 to 130 MB, a tile up to 320 GB."


def _prefect(settings: "Settings") -> str:
    from deployments import server
    from flows.cli.prefect_api import prefect_api_set

    del settings
    url = prefect_api_set()
    if url is not None:
        return f"The API at {url} answers."
    running = server.status()
    if running is None:
        return "No API address is set; a run starts a local server."
    return f"No API address is set; the local server is up at {running.ui_url}."


def _worker(settings: "Settings") -> str:
    from deployments import worker
    from tasks.errors import PartMissing

    del settings
    here = Path.cwd()
    ours = Path(worker.__file__).parent.parent
    for folder in {worker.own_folder(), here} - {ours}:
        if foreign := worker.foreign_files(folder):
            raise PartMissing(
                f"{folder} holds {', '.join(foreign)}: in a worker that is started there it would take the place "
                "of a package of Overlander's. Move it away, or start workers in an empty folder."
            )
    found = worker.status()
    if found is None:
        return "No local worker is up; `overlander server up` starts one. Workers elsewhere are seen in the UI."
    return f"Process {found.pid} takes {found.runs} runs at once from the pool {worker.POOL!r}."
