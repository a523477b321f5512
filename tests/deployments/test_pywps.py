"""The sandbox's real WPS: jobs, the plan, what it remembers, and that the scripted WPS answers as it does."""

import contextlib
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import shapely

from deployments import supervise
from deployments.sandbox import pywps, world
from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from deployments.sandbox.wps_orders import geometry_hash
from tests.service_desk import await_that
from tests.wps_desk import (
    YEAR,
    elements,
    exception,
    inputs,
    local,
    location,
    outputs,
    point,
    request,
    send,
    square,
    status,
)

Asking = Callable[[httpx.Client, str], httpx.Response]
ENDED = ("ProcessSucceeded", "ProcessFailed")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def narrow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("narrow")


@pytest.fixture(scope="module")
def narrow(narrow_folder: Path) -> Iterator[pywps.Wps]:
    """Return a service that runs one job and lets one wait, its documents on another host, as WIT's are."""
    settings = pywps.Settings(parallel=1, queue=1, outputs_host="127.0.0.2", s3_urls=True)
    try:
        yield pywps.up(narrow_folder, report=print, settings=settings)
    finally:
        pywps.down(narrow_folder)


def plan(client: httpx.Client, service: pywps.Wps, **given: object) -> None:
    client.put(f"{service.sandbox_url}/plan", json=given).raise_for_status()


def begun(
    client: httpx.Client, service: pywps.Wps, number: int, shape: Callable[[int], dict[str, Any]] = square
) -> list[tuple[str, list[str]]]:
    everything = client.get(f"{service.sandbox_url}/executions").json()
    mine = geometry_hash(shape(number))
    return [(one["process"], one["interval"]) for one in everything if one["geometry"] == mine]


def read(client: httpx.Client, where: str) -> httpx.Response:
    """Return a status document that can be read: PyWPS does not write them in one piece."""
    found: list[httpx.Response] = []

    def whole() -> bool:
        with contextlib.suppress(httpx.RemoteProtocolError, ET.ParseError):
            answer = client.get(where)
            list(elements(answer.content))
            found.append(answer)
        return bool(found)

    await_that(whole)
    return found[0]


def ended(client: httpx.Client, answer: httpx.Response) -> httpx.Response:
    await_that(lambda: status(read(client, location(answer))) in ENDED)
    return read(client, location(answer))


# Jobs


def test_wit_gives_the_url_of_a_small_table_by_date(client: httpx.Client, wps_sandbox_anew: pywps.Wps) -> None:
    answer = ended(client, send(client, wps_sandbox_anew.url, 500))

    url = outputs(answer)["url"]
    table = pd.read_parquet(io.BytesIO(client.get(url).content))
    shares = table[["water", "wet", "bs", "pv", "npv"]]
    assert url.endswith(".snappy.parquet")
    assert (table.index.name, len(table)) == ("time", 23)
    assert shares.sum(axis=1).to_list() == pytest.approx([1.0] * 23)
    assert shapely.from_wkt(table["geometry"].iloc[0]).equals(shapely.from_geojson(json.dumps(square(500))))


@pytest.mark.parametrize(
    ("process", "interval"),
    [("WOfSDrill", []), ("FractionalCoverDrill", list(YEAR))],
    ids=["of a pixel", "of a polygon"],
)
def test_a_drill_gives_two_urls_and_csv_inside_json(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps, process: str, interval: list[str]
) -> None:
    answer = ended(client, send(client, wps_sandbox_anew.url, 501, process))

    found = outputs(answer)
    assert list(found) == ["image", "url", "timeseries"]
    assert json.loads(found["timeseries"])["data"].startswith("time,water,wet,bs,pv,npv\n2010-01-01")
    assert client.get(found["image"]).text.startswith("<svg")
    shape = square if interval else point
    assert begun(client, wps_sandbox_anew, 501, shape) == [(process, interval)]


def test_what_is_begun_is_written_down_once_for_each_job(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps
) -> None:
    for answer in [send(client, wps_sandbox_anew.url, number) for number in (502, 503, 502)]:
        ended(client, answer)
    lines = [json.loads(line) for line in wps_sandbox_anew.executions.read_text().splitlines()]
    assert client.get(f"{wps_sandbox_anew.sandbox_url}/executions").json() == lines
    assert begun(client, wps_sandbox_anew, 502) == [("WIT", list(YEAR))] * 2
    assert begun(client, wps_sandbox_anew, 503) == [("WIT", list(YEAR))]


def test_exactly_one_feature_in_the_first_line_is_taken(client: httpx.Client, wps_sandbox_anew: pywps.Wps) -> None:
    given = inputs(square(504))
    collection = json.loads(given["geometry"])
    feature = collection["features"][0]
    told = []
    for features in ([], [feature, feature]):
        body = request(given | {"geometry": json.dumps({**collection, "features": features})})
        told.append(exception(ended(client, client.post(wps_sandbox_anew.url, content=body)))[1])
    spread = request(given | {"geometry": json.dumps(collection, indent=1)})
    told.append(exception(ended(client, client.post(wps_sandbox_anew.url, content=spread)))[1])
    assert told == [
        "Process error: no features specified",
        "Process error: multiple features specified",
        "Process failed, please check server error log",
    ]


# The plan


def test_a_geometry_fails_as_often_as_it_is_told_with_or_without_a_reason(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps
) -> None:
    once = {"geometry": geometry_hash(square(505)), "fails": True, "times": 1}
    always = {"geometry": geometry_hash(square(506)), "fails": "out of water"}
    plan(client, wps_sandbox_anew, troubles=[once, always, {"share": 0, "fails": True}])

    told = [
        [status(ended(client, send(client, wps_sandbox_anew.url, number))) for _ in range(2)]
        for number in (505, 506, 507)
    ]

    assert told == [
        ["ProcessFailed", "ProcessSucceeded"],
        ["ProcessFailed", "ProcessFailed"],
        ["ProcessSucceeded", "ProcessSucceeded"],
    ]
    reason = exception(ended(client, send(client, wps_sandbox_anew.url, 506)))[1]
    assert reason == "Process error: out of water"


def test_a_job_that_dies_stays_started(client: httpx.Client, wps_sandbox_anew: pywps.Wps) -> None:
    plan(client, wps_sandbox_anew, troubles=[{"geometry": geometry_hash(square(508)), "dies": True}])
    answer = send(client, wps_sandbox_anew.url, 508)
    await_that(lambda: begun(client, wps_sandbox_anew, 508))
    assert status(read(client, location(answer))) == "ProcessStarted"


@pytest.mark.parametrize(
    "wrong", [{"troubles": [{"times": 1}]}, {"duration_s": -1}, {"speed": 1}, []], ids=json.dumps
)
def test_a_plan_that_makes_no_sense_is_refused_and_changes_nothing(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps, wrong: object
) -> None:
    assert client.put(f"{wps_sandbox_anew.sandbox_url}/plan", json=wrong).status_code == 400
    assert client.get(f"{wps_sandbox_anew.sandbox_url}/plan").json() == {"duration_s": [0, 0]}


# The process


def test_status_documents_may_lie_on_another_host_and_results_be_named_as_on_s3(
    client: httpx.Client, narrow: pywps.Wps
) -> None:
    plan(client, narrow, duration_s=0, troubles=[])
    answer = ended(client, send(client, narrow.url, 510))
    assert httpx.URL(location(answer)).host == "127.0.0.2"
    assert httpx.URL(narrow.url).host == "127.0.0.1"
    assert outputs(answer)["url"].startswith("s3://")


def test_started_again_it_has_its_port_its_plan_and_its_documents(
    client: httpx.Client, narrow: pywps.Wps, narrow_folder: Path
) -> None:
    plan(client, narrow, duration_s=0)
    where = location(ended(client, send(client, narrow.url, 511)))
    before = read(client, where).content
    settings = pywps.Settings(parallel=1, queue=1, outputs_host="127.0.0.2", s3_urls=True)

    assert pywps.down(narrow_folder) is True
    assert pywps.status(narrow_folder) is None
    assert pywps.up(narrow_folder, report=print, settings=settings) == narrow

    assert pywps.status(narrow_folder) == narrow
    assert read(client, where).content == before
    assert client.get(f"{narrow.sandbox_url}/plan").json()["duration_s"] == [0, 0]
    found = supervise.running(narrow_folder)
    assert found is not None
    assert "Traceback" not in found.log.read_text()


def test_the_wps_can_be_had_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_STATE_FOLDER", str(tmp_path))
    try:
        started = world.wps_up(report=print)
        assert started.executions.is_relative_to(tmp_path)
        status = world.status()
        assert (status["wps_url"], status["cassandra"], status["service_url"]) == (started.url, None, None)
    finally:
        assert world.down() is True
    assert world.wps() is None


# The scripted WPS beside it


def outlined(answer: httpx.Response, without: frozenset[str] = frozenset()) -> object:
    """Return what an answer is but for its texts: status, type, elements, attributes, exception codes."""

    def outline(element: ET.Element) -> object:
        children = [outline(child) for child in element if local(child) not in without]
        return (element.tag, sorted(element.attrib), element.get("exceptionCode"), children)

    return (answer.status_code, answer.headers["content-type"], outline(next(elements(answer.content))))


def getting(**parameters: str) -> Asking:
    return lambda client, url: client.get(url, params={"service": "WPS", "version": "1.0.0", **parameters})


def posting(body: bytes) -> Asking:
    return lambda client, url: client.post(url, content=body)


def _described(client: httpx.Client, url: str) -> httpx.Response:
    return getting(request="DescribeProcess", identifier="WIT,WOfSDrill,FractionalCoverDrill")(client, url)


SAME: dict[str, Asking] = {
    "accepted": lambda client, url: send(client, url, 520),
    "succeeded": lambda client, url: ended(client, send(client, url, 520)),
    "a drill succeeded": lambda client, url: ended(client, send(client, url, 520, "FractionalCoverDrill")),
    "failed": lambda client, url: ended(client, send(client, url, 521)),
    "not stored": posting(request(inputs(square(520)), stored=False)),
    "not stored and failed": posting(request(inputs(square(521)), stored=False)),
    "a parameter missing": posting(request({"geometry": "{}", "start": "{}"})),
    "unknown process": posting(request(inputs(square(520)), "Nobody")),
    "no XML": posting(b"<wps:Execute"),
    "no request": posting(b'<wps:Other xmlns:wps="http://www.opengis.net/wps/1.0.0"/>'),
    "described": _described,
    "unknown process to describe": getting(request="DescribeProcess", identifier="Nobody"),
    "no process to describe": getting(request="DescribeProcess"),
    "no such operation": getting(request="GetStatus"),
    "no service": lambda client, url: client.get(url),
}


@pytest.mark.parametrize("name", SAME)
def test_the_scripted_wps_answers_as_pywps_does(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps, scripted_wps: ScriptedWps, name: str
) -> None:
    failing = {"geometry": geometry_hash(square(521)), "fails": "out of water"}
    plan(client, wps_sandbox_anew, troubles=[failing])
    scripted_wps.plan(troubles=[{"when": "job", **failing}])
    ask = SAME[name]

    real, ours = ask(client, wps_sandbox_anew.url), ask(client, scripted_wps.url)

    assert outlined(ours) == outlined(real)


def test_the_scripted_wps_offers_what_pywps_does(
    client: httpx.Client, wps_sandbox_anew: pywps.Wps, scripted_wps: ScriptedWps
) -> None:
    ask = getting(request="GetCapabilities")
    provider = frozenset({"ServiceIdentification", "ServiceProvider"})  # who runs it is nobody's business here
    real, ours = ask(client, wps_sandbox_anew.url), ask(client, scripted_wps.url)
    assert outlined(ours, provider) == outlined(real, provider)


def test_the_scripted_wps_runs_queues_and_is_busy_as_pywps_is(client: httpx.Client, narrow: pywps.Wps) -> None:
    plan(client, narrow, duration_s=6, troubles=[])
    seen = {}
    with serving({"duration_s": 6, "parallel": 1, "busy_beyond": 2}) as scripted:
        for url in (narrow.url, scripted.url):
            first = send(client, url, 530)
            await_that(lambda first=first: status(read(client, location(first))) == "ProcessStarted")
            running, waiting = read(client, location(first)), send(client, url, 531)
            busy, queued = send(client, url, 532), read(client, location(waiting))
            assert [status(one) for one in (waiting, queued)] == ["ProcessAccepted"] * 2
            assert exception(busy)[0] == "ServerBusy"
            seen[url] = [outlined(answer) for answer in (running, waiting, queued, busy)]
            plan(client, narrow, duration_s=0)  # for the one that waits
    assert seen[scripted.url] == seen[narrow.url]
