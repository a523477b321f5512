"""The scripted WPS: what it answers, what it does wrong when told, and what it remembers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.sandbox import scripted_wps as background
from deployments.sandbox.scripted_wps import serving
from deployments.sandbox.wps_answers import ScriptedWps
from deployments.sandbox.wps_orders import geometry_hash
from deployments.sandbox.wps_plan import Plan
from tasks.errors import ServiceAway
from tests.service_desk import await_that
from tests.wps_desk import (
    YEAR,
    exception,
    inputs,
    location,
    outputs,
    request,
    send,
    square,
    status,
)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=30) as opened:
        yield opened


def followed(client: httpx.Client, service: ScriptedWps, number: int = 0, process: str = "WIT") -> httpx.Response:
    """Send a job and ask for it until it has ended."""
    where = location(send(client, service.url, number, process))
    await_that(lambda: status(client.get(where)) in ("ProcessSucceeded", "ProcessFailed"))
    return client.get(where)


def test_a_job_is_accepted_then_started_then_succeeds(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(queue_s=0.2, duration_s=0.2)

    answer = send(client, scripted_wps.url)

    where = location(answer)
    seen = [status(answer)]
    while seen[-1] != "ProcessSucceeded":
        seen.append(status(client.get(where)))
    assert list(dict.fromkeys(seen)) == ["ProcessAccepted", "ProcessStarted", "ProcessSucceeded"]
    assert outputs(client.get(where))["url"].startswith("s3://")


def test_a_drill_gives_two_urls_and_csv_inside_json(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    found = outputs(followed(client, scripted_wps, process="WOfSDrill"))
    assert list(found) == ["image", "url", "timeseries"]
    assert json.loads(found["timeseries"])["data"].startswith("time,wet\n2010-01-01")


def test_a_request_that_is_not_stored_is_answered_with_the_result(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    body = request(inputs(square(0)), stored=False)
    answer = client.post(scripted_wps.url, content=body)
    assert (status(answer), location(answer)) == ("ProcessSucceeded", "")


def test_a_job_remembers_when_it_ended_and_when_that_was_first_told(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    scripted_wps.plan(duration_s=0.1)
    where = location(send(client, scripted_wps.url))
    await_that(lambda: scripted_wps.summary()["outstanding"] == 0)
    (before,) = scripted_wps.jobs()
    client.get(where)
    (after,) = scripted_wps.jobs()

    assert before["end_seen_at"] is None
    assert before["ends_at"] == pytest.approx(before["starts_at"] + 0.1)
    assert after["end_seen_at"] > before["ends_at"]
    assert (before["polls"], after["polls"]) == (0, 1)


def test_every_request_is_counted_by_its_geometry_however_it_is_written(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    geometry = square(7)
    turned = dict(reversed(geometry.items()))
    for given in (inputs(geometry), inputs(turned, name="Mary & <Co>"), inputs(square(8))):
        client.post(scripted_wps.url, content=request(given))
    mine = scripted_wps.received(geometry_hash(geometry))
    assert [(one["start"], one["end"], one["outcome"]) for one in mine] == [(*YEAR, "accepted")] * 2
    assert len(scripted_wps.received()) == 3
    assert scripted_wps.counts()[geometry_hash(geometry)] == {"received": 2, "jobs": 2}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<wps:Execute", "NoApplicableCode"),
        (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "NoApplicableCode"),
        (request(inputs(square(0)), "Nobody"), "InvalidParameterValue"),
        (request({"geometry": "{}", "start": "{}"}), "MissingParameterValue"),
    ],
)
def test_a_request_that_cannot_be_executed_is_refused_and_no_job(
    client: httpx.Client, scripted_wps: ScriptedWps, body: bytes, code: str
) -> None:
    answer = client.post(scripted_wps.url, content=body)
    assert (answer.status_code, exception(answer)[0]) == (400, code)
    assert scripted_wps.jobs() == []


# Troubles of the answer to a request


@pytest.mark.parametrize(
    ("trouble", "code", "jobs"),
    [
        ({"busy": True}, 400, 0),
        ({"refuse": "FileSizeExceeded"}, 400, 0),
        ({"status": 503, "retry_after": "1"}, 503, 0),
        ({"status": 503, "queued": True}, 503, 1),
        ({"html": 200}, 200, 0),
        ({"empty": True}, 200, 1),
        ({"cut": "document"}, 200, 1),
    ],
    ids=str,
)
def test_a_trouble_of_the_answer_takes_the_job_on_or_not(
    client: httpx.Client, scripted_wps: ScriptedWps, trouble: dict[str, Any], code: int, jobs: int
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "times": 1, **trouble}])

    answer = send(client, scripted_wps.url)

    assert (answer.status_code, len(scripted_wps.jobs())) == (code, jobs)
    assert answer.headers.get("retry-after") == trouble.get("retry_after")
    assert len(scripted_wps.received()) == 1
    assert status(send(client, scripted_wps.url)) == "ProcessAccepted"  # it struck once


@pytest.mark.parametrize(
    ("trouble", "jobs"), [({"reset": "before"}, 0), ({"reset": "after"}, 1), ({"cut": "connection"}, 1)], ids=str
)
def test_a_connection_that_breaks_leaves_a_job_or_none(
    client: httpx.Client, scripted_wps: ScriptedWps, trouble: dict[str, Any], jobs: int
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", **trouble}])
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        send(client, scripted_wps.url)
    assert len(scripted_wps.jobs()) == jobs


def test_who_does_not_wait_for_a_slow_answer_has_a_job_all_the_same(scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "slow_s": 30}])
    with httpx.Client(trust_env=False, timeout=0.3) as impatient, pytest.raises(httpx.ReadTimeout):
        send(impatient, scripted_wps.url)
    assert len(scripted_wps.jobs()) == 1


def test_beyond_its_queue_it_is_busy_until_a_job_has_ended(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    scripted_wps.plan(duration_s=0.3, parallel=1, busy_beyond=2)
    told = [status(send(client, scripted_wps.url, number)) for number in range(3)]
    assert told == ["ProcessAccepted", "ProcessAccepted", ""]
    first, second = scripted_wps.jobs()
    assert second["starts_at"] == first["ends_at"]
    await_that(lambda: scripted_wps.summary()["outstanding"] == 1)
    assert status(send(client, scripted_wps.url, 2)) == "ProcessAccepted"
    assert scripted_wps.summary()["executes"] == {"accepted": 3, "busy": 1}


# What becomes of a job


def test_a_job_fails_once_or_always(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    once = {"when": "job", "jobs": [0], "fails": "out of luck", "times": 1}
    always = {"when": "job", "jobs": [1], "fails": "bow-tie"}
    scripted_wps.plan(troubles=[once, always])
    told = [[status(followed(client, scripted_wps, number)) for _ in range(2)] for number in range(3)]
    assert told == [
        ["ProcessFailed", "ProcessSucceeded"],
        ["ProcessFailed", "ProcessFailed"],
        ["ProcessSucceeded", "ProcessSucceeded"],
    ]
    assert exception(followed(client, scripted_wps, 1)) == ("NoApplicableCode", "bow-tie")


@pytest.mark.parametrize(("stays", "told"), [("accepted", "ProcessAccepted"), ("started", "ProcessStarted")])
def test_a_job_may_never_end(client: httpx.Client, scripted_wps: ScriptedWps, stays: str, told: str) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "stays": stays}])
    where = location(send(client, scripted_wps.url))
    assert [status(client.get(where)) for _ in range(3)] == [told] * 3
    assert scripted_wps.jobs()[0]["ends_at"] is None


def test_the_first_answer_may_tell_of_the_end(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(duration_s=60, troubles=[{"when": "job", "at_once": True}])
    answer = send(client, scripted_wps.url)
    assert status(answer) == "ProcessSucceeded"
    assert "url" in outputs(answer)
    assert scripted_wps.jobs()[0]["end_seen_at"] is not None


def test_a_status_document_may_vanish(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(duration_s=60, troubles=[{"when": "job", "vanishes_after": 2}])
    where = location(send(client, scripted_wps.url))
    assert [client.get(where).status_code for _ in range(4)] == [200, 200, 404, 404]
    scripted_wps.plan(troubles=[{"when": "job", "vanishes_after": 0}])
    assert client.get(location(send(client, scripted_wps.url))).status_code == 404


def test_a_later_document_may_name_another_place_where_nothing_is(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    scripted_wps.plan(duration_s=60, troubles=[{"when": "job", "second_location": "elsewhere"}])
    where = location(send(client, scripted_wps.url))
    second = location(client.get(where))
    assert second != where
    assert client.get(second).status_code == 404
    assert scripted_wps.summary()["polls_astray"] == 1


def test_the_first_answer_may_name_any_place_or_none(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    for given in ("http://169.254.169.254/status.xml", ""):
        scripted_wps.plan(troubles=[{"when": "job", "location": given}])
        assert location(send(client, scripted_wps.url)) == given


@pytest.mark.parametrize("prefix", ["wps", "ns", "ns0", "none", "mixed"])
def test_a_document_says_the_same_with_any_prefix(
    client: httpx.Client, scripted_wps: ScriptedWps, prefix: str
) -> None:
    scripted_wps.plan(prefix=prefix)
    answer = followed(client, scripted_wps)
    assert status(answer) == "ProcessSucceeded"
    assert set(outputs(answer)) == {"url"}
    marks = {"wps": b"<wps:Status ", "ns": b"<ns:Status ", "ns0": b"<ns0:Status ", "none": b"<Status "}
    assert marks.get(prefix, b"<ns:ExecuteResponse") in answer.content


def test_troubles_of_a_job_add_up(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    reference = {"when": "job", "every": 2, "reference": "xlink:href"}
    long = {"when": "job", "share": 1, "output_bytes": 5000}
    scripted_wps.plan(troubles=[reference, long, {"when": "job", "share": 0, "fails": "never"}])
    answer = followed(client, scripted_wps)
    assert b"xlink:href=" in answer.content
    assert len(outputs(answer)["url"]) == 5000
    assert len(outputs(followed(client, scripted_wps, 1))["url"]) == 5000
    assert b"Reference" not in followed(client, scripted_wps, 1).content


# Troubles of the answer to a question about a job


@pytest.mark.parametrize(
    ("trouble", "code", "length"),
    [
        ({"empty": True}, 200, 0),
        ({"missing": True}, 404, None),
        ({"status": 503, "retry_after": "2"}, 503, None),
        ({"html": 502}, 502, None),
    ],
    ids=str,
)
def test_a_question_may_get_no_verdict_once(
    client: httpx.Client, scripted_wps: ScriptedWps, trouble: dict[str, Any], code: int, length: int | None
) -> None:
    scripted_wps.plan(troubles=[{"when": "poll", "times": 1, **trouble}])
    where = location(send(client, scripted_wps.url))
    answer = client.get(where)
    assert answer.status_code == code
    assert length is None or len(answer.content) == length
    assert scripted_wps.jobs()[0]["end_seen_at"] is None
    assert status(client.get(where)) == "ProcessSucceeded"


def test_a_status_document_may_be_cut_short(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    cuts = [{"when": "poll", "times": 1, "cut": how} for how in ("document", "connection")]
    scripted_wps.plan(troubles=cuts)
    where = location(send(client, scripted_wps.url))
    half = client.get(where)
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        client.get(where)
    assert client.get(where).content.startswith(half.content[:100])
    assert half.status_code == 200
    assert not half.text.rstrip().endswith("ExecuteResponse>")


def test_every_third_answer_goes_wrong_whosever_it_is(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    scripted_wps.plan(troubles=[{"when": "poll", "every_answer": 3, "missing": True}])
    places = [location(send(client, scripted_wps.url, number)) for number in range(2)]
    assert [client.get(place).status_code for place in places * 3] == [200, 200, 404, 200, 200, 404]


# The plan, the port, the process


@pytest.mark.parametrize(
    "wrong",
    [
        {"troubles": [{"when": "job"}]},
        {"troubles": [{"when": "job", "busy": True}]},
        {"troubles": [{"when": "poll", "refuse": "x"}]},
        {"speed": 5},
        [],
    ],
    ids=json.dumps,
)
def test_a_plan_that_makes_no_sense_is_refused_and_changes_nothing(
    client: httpx.Client, scripted_wps: ScriptedWps, wrong: object
) -> None:
    scripted_wps.plan(duration_s=5)
    address = scripted_wps.url.replace("/wps", "/sandbox/plan")
    assert client.put(address, json=wrong).status_code == 400
    assert client.get(address).json() == {"duration_s": [5, 5]}


def test_durations_are_drawn_from_their_span_and_the_same_each_time(client: httpx.Client) -> None:
    drawn = []
    for _ in range(2):
        with serving({"duration_s": [1, 9]}) as service:
            for number in range(5):
                send(client, service.url, number)
            drawn.append([round(job["ends_at"] - job["starts_at"], 3) for job in service.jobs()])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 5
    assert all(1 <= seconds <= 9 for seconds in drawn[0])


def test_status_documents_may_lie_on_another_host(client: httpx.Client) -> None:
    with serving(status_host="127.0.0.2") as service:
        where = location(send(client, service.url))
        assert httpx.URL(where).host == "127.0.0.2"
        assert status(client.get(where)) == "ProcessSucceeded"


def test_a_port_that_is_taken_is_said_in_a_sentence(scripted_wps: ScriptedWps) -> None:
    port = httpx.URL(scripted_wps.url).port
    assert port is not None
    with pytest.raises(ServiceAway, match="Choose another port"), serving(port=port):
        pass


def test_what_happened_is_told_over_http_and_forgotten_when_asked(
    client: httpx.Client, scripted_wps: ScriptedWps
) -> None:
    base = scripted_wps.url.removesuffix("/wps")
    followed(client, scripted_wps)
    assert client.get(f"{base}/sandbox/received").json() == scripted_wps.received()
    assert client.get(f"{base}/sandbox/jobs").json() == scripted_wps.jobs()
    assert client.get(f"{base}/sandbox/counts").json() == scripted_wps.counts()
    assert client.get(f"{base}/sandbox/summary").json()["ends_seen"] == 1
    client.post(f"{base}/sandbox/forget")
    assert (scripted_wps.received(), scripted_wps.jobs()) == ([], [])


def test_it_runs_in_the_background_until_it_is_stopped(client: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "scripted"
    try:
        url = background.up(folder, {"duration_s": 60})
        assert background.up(folder, {"duration_s": 60}) == url
        assert status(client.get(location(send(client, url)))) == "ProcessStarted"
    finally:
        assert background.down(folder) is True
    assert background.down(folder) is False
    with pytest.raises(httpx.ConnectError):
        client.get(url)


def test_a_plan_survives_being_written_as_json() -> None:
    plan = Plan().changed({"troubles": [{"when": "job", "jobs": [1, 2], "duration_s": 3}], "queue_s": [1, 2]})
    assert Plan().changed(plan.model_dump(mode="json", exclude_defaults=True)) == plan


def test_capabilities_and_descriptions_name_each_process(client: httpx.Client, scripted_wps: ScriptedWps) -> None:
    offered = client.get(scripted_wps.url, params={"service": "WPS", "request": "GetCapabilities"})
    described = client.get(
        scripted_wps.url,
        params={"service": "WPS", "version": "1.0.0", "request": "DescribeProcess", "identifier": "WIT"},
    )
    assert all(f">{name}<" in offered.text for name in ("WIT", "WOfSDrill", "FractionalCoverDrill"))
    assert all(f">{name}<" in described.text for name in ("geometry", "start", "end", "url"))
