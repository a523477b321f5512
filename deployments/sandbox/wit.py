"""Processes as datacube-wps offers them, on a real PyWPS, that make their results up; served by gunicorn.

Inputs are read and outputs named as WIT, WOfSDrill and FractionalCoverDrill do it (datacube-wps, processes/, at
7d611fa). What `pywps` says of routes and plan is done here.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import shapely
from pywps import ComplexInput, ComplexOutput, Format, LiteralOutput, Process, Service, dblog
from pywps.app.exceptions import ProcessError
from pywps.response.execute import ExecuteResponse
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.wrappers import Request, Response

from deployments.sandbox import wit_plan
from deployments.sandbox.wps_documents import CATALOG, GEOJSON, GEOJSON_SCHEMA
from deployments.sandbox.wps_orders import geometry_hash
from deployments.sandbox.wps_plan import drawn
from tasks.files import atomic_file

EXECUTIONS = "executions.jsonl"
_GEOJSON = Format(GEOJSON, schema=GEOJSON_SCHEMA)
_BETWEEN_SCENES = timedelta(days=16)
_MOST_ROWS = 200

WsgiApplication = Callable[..., Iterable[bytes]]


def application(settings_file: str = "settings.json") -> WsgiApplication:
    """Return the WSGI application; gunicorn calls it once, before its workers are forked.

    Args:
        settings_file: JSON in the working directory: `results_url`, which the names of results begin with, and
            `config`, the file of PyWPS's own configuration.
    """
    settings = json.loads(Path(settings_file).read_text())
    folder = Path.cwd()
    processes = [kind(folder, settings["results_url"]) for kind in (Wit, WofsDrill, FractionalCoverDrill)]
    service = Service(processes, [settings["config"]])
    # Tables first: two requests at once on a fresh database create them twice, and one fails.
    dblog.get_session().close()
    files = SharedDataMiddleware(_not_found, {"/outputs": str(folder / "outputs")}, cache=False)
    return DispatcherMiddleware(files, {"/wps": service, "/sandbox": _sandbox(folder)})


class _Drill(Process):  # type: ignore[misc] # PyWPS has no types
    """A process that reads one feature, and perhaps an interval."""

    takes_interval = True
    identifier_: str

    def __init__(self, folder: Path, results_url: str, outputs: list[Any]) -> None:
        self.folder = folder
        self.results_url = results_url
        inputs = [ComplexInput("geometry", "Geometry", supported_formats=[_GEOJSON])]
        if self.takes_interval:
            inputs += [ComplexInput(name, name.title(), supported_formats=[_GEOJSON]) for name in ("start", "end")]
        super().__init__(
            self._handler,
            identifier=self.identifier_,
            title=self.identifier_,
            inputs=inputs,
            outputs=outputs,
            store_supported=True,
            status_supported=True,
        )

    def _handler(self, request: Any, response: ExecuteResponse) -> ExecuteResponse:
        collection = _line(request.inputs["geometry"][0])
        interval = tuple(
            _moment(_line(request.inputs[name][0])) for name in ("start", "end") if self.takes_interval
        )
        hashed = geometry_hash(collection)
        attempt = self._begin(hashed, interval)
        features = collection["features"]
        if not features:
            raise ProcessError("no features specified")
        if len(features) > 1:
            raise ProcessError("multiple features specified")
        self._work(hashed, attempt)
        self.answer(features[0]["geometry"], interval, response)
        return response

    def answer(self, geometry: Mapping[str, Any], interval: tuple[str, ...], response: ExecuteResponse) -> None:
        """Set the outputs."""
        raise NotImplementedError

    def _begin(self, geometry: str, interval: tuple[str, ...]) -> int:
        """Write down that work begins on a geometry; return how often it has, this time included."""
        entry = {"process": self.identifier, "geometry": geometry, "interval": list(interval)}
        line = {**entry, "job": str(self.uuid), "when": datetime.now(UTC).isoformat()}
        file = self.folder / EXECUTIONS
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(opened, json.dumps(line).encode() + b"\n")  # in one piece: jobs write at the same time
        finally:
            os.close(opened)
        return sum(one.items() >= entry.items() for one in _begun(file))

    def _work(self, geometry: str, attempt: int) -> None:
        """Take the time that the plan says, and fail if it says so."""
        plan = wit_plan.load(self.folder / "plan.json")
        strikes = [one for one in plan.troubles if one.strikes(self.identifier, geometry, attempt)]
        span = next((one.duration_s for one in strikes if one.duration_s), plan.duration_s)
        time.sleep(drawn(span, f"{geometry} {attempt}"))
        if any(one.dies for one in strikes):
            os._exit(1)
        for one in strikes:
            if isinstance(one.fails, str):
                raise ProcessError(one.fails)
            if one.fails:
                raise RuntimeError("the sandbox's plan says so")


class Wit(_Drill):
    """The Wetlands Insight Tool: one literal output, the URL of a Parquet file."""

    identifier_ = "WIT"

    def __init__(self, folder: Path, results_url: str) -> None:
        super().__init__(folder, results_url, [LiteralOutput("url", "URL", data_type="string")])

    def answer(self, geometry: Mapping[str, Any], interval: tuple[str, ...], response: ExecuteResponse) -> None:
        """Write a small Parquet file and name it."""
        place = f"wit/{self.uuid}/{self.uuid}.snappy.parquet"
        file = self.folder / "outputs" / place
        file.parent.mkdir(parents=True)
        with atomic_file(file) as sink:
            _observations(geometry, *interval).to_parquet(sink, compression="snappy")
        response.outputs["url"].data = f"{self.results_url}/{place}"


class _Chart(_Drill):
    """A drill whose outputs are two URLs and a catalogue member with CSV inside."""

    def __init__(self, folder: Path, results_url: str) -> None:
        literals = [LiteralOutput(name, name.title(), data_type="string") for name in ("image", "url")]
        series = ComplexOutput("timeseries", "Time series", supported_formats=[Format(CATALOG)])
        super().__init__(folder, results_url, [*literals, series])

    def answer(self, geometry: Mapping[str, Any], interval: tuple[str, ...], response: ExecuteResponse) -> None:
        """Name two files that are small, and put the numbers beside them."""
        series = _observations(geometry, *(interval or ("2010-01-01", "2010-06-30"))).drop(columns="geometry")
        place = f"{self.identifier.lower()}/{self.uuid}"
        folder = self.folder / "outputs" / place
        folder.mkdir(parents=True)
        (folder / "chart.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        (folder / "chart.html").write_text("<!DOCTYPE html><title>A chart</title>")
        member = {"type": "csv", "name": self.identifier, "data": series.to_csv()}
        response.outputs["image"].data = f"{self.results_url}/{place}/chart.svg"
        response.outputs["url"].data = f"{self.results_url}/{place}/chart.html"
        response.outputs["timeseries"].data = json.dumps(member)


class WofsDrill(_Chart):
    """The pixel drill: a point, and no interval."""

    identifier_ = "WOfSDrill"
    takes_interval = False


class FractionalCoverDrill(_Chart):
    """The polygon drill of fractional cover."""

    identifier_ = "FractionalCoverDrill"


def _sandbox(folder: Path) -> WsgiApplication:
    """Return what answers below `/sandbox`."""
    file = folder / "plan.json"

    @Request.application
    def answer(request: Request) -> Response:
        if request.path == "/executions":
            return _json(_begun(folder / EXECUTIONS))
        if request.path != "/plan":
            return Response(status=404)
        if request.method == "DELETE":
            file.unlink(missing_ok=True)
        elif request.method == "PUT":
            try:
                wit_plan.save(file, wit_plan.load(file).changed(json.loads(request.get_data())))
            except (ValueError, TypeError) as error:  # TypeError: no JSON object
                return _json(str(error), 400)
        return _json(wit_plan.load(file).model_dump(mode="json", exclude_defaults=True))

    return answer


def _begun(file: Path) -> list[dict[str, Any]]:
    """Return the lines of the file of executions, as far as they are written to their end."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def _observations(geometry: Mapping[str, Any], start: str, end: str) -> pd.DataFrame:
    """Make up what WIT measures: fractions of the area by date, which add up to one."""
    hull = shapely.convex_hull(shapely.from_geojson(json.dumps(geometry))).wkt
    first, last = (pd.Timestamp(text).tz_localize(None) for text in (start, end))
    days = pd.date_range(first, last, freq=_BETWEEN_SCENES, inclusive="left", name="time")[:_MOST_ROWS]
    rows = []
    for day in days:
        shares = [drawn((0.1, 1), f"{hull} {day} {cover}") for cover in ("water", "wet", "bs", "pv", "npv")]
        rows.append([share / sum(shares) for share in shares])
    frame = pd.DataFrame(rows, index=days, columns=["water", "wet", "bs", "pv", "npv"], dtype="float64")
    return frame.assign(geometry=hull)


def _line(given: Any) -> Any:
    """Return the JSON of the first line: WIT reads no further."""
    return json.loads(given.stream.readline())


def _moment(given: Any) -> str:
    return str(given["properties"]["timestamp"]["date-time"])


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, mimetype="application/json")


@Request.application
def _not_found(request: Request) -> Response:
    del request
    return Response(status=404)
