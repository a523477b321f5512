"""The sandbox's change-results service, on the real Cassandra: its answers, its worker, its troubles."""

import itertools
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cassandra.cluster import Session

from deployments import supervise
from deployments.sandbox import cassandra, change_results, seed, world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.clownfish import snap
from deployments.sandbox.plan import Trouble
from deployments.sandbox.seed import ALGORITHM
from tasks.chips.grid import PIXELS, REGIONS, Chip, tile_named

TILE = tile_named("H21V07", REGIONS["conus"])  # no other test writes here
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIRST = {
    *("chip_x", "chip_y", "algorithm", "x", "y", "chip_update_requested", "inputs_url", "refresh"),
    *("algorithm-available", "source-data-available"),
}
RESULT = {"result", "result_ok", "result_md5", "result_produced", "inputs_md5"}
COLUMNS = {
    *("chip_x", "chip_y", "algorithm", "x", "y", "chip_update_requested", "inputs_md5", "inputs_url"),
    *("result", "result_md5", "result_ok", "result_produced"),
}
_chips = iter(TILE.chips())


@pytest.fixture
def chip() -> Chip:
    """Return a chip that no test has used."""
    return next(_chips)


@pytest.fixture
def service(change_results_anew: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=change_results_anew, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def table(cassandra_node: Node) -> Iterator[Session]:
    with cassandra.session(cassandra_node) as connected:
        yield connected


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """Return the folder for a service that a test may kill."""
    folder = tmp_path / "own service"
    yield folder
    change_results.down(folder)


def plan(service: httpx.Client, chip: Chip | None = None, *troubles: dict[str, Any], **settings: Any) -> None:
    key = f"{chip.x},{chip.y}" if chip else "*"
    answer = service.put("/sandbox/plan", json={"settings": settings, "troubles": {key: list(troubles)}})
    assert answer.status_code == 200, answer.text


def ask(
    service: httpx.Client, chip: Chip, refresh: object = "false", algorithm: str = ALGORITHM
) -> httpx.Response:
    return service.get(f"/results/{algorithm}/{chip.x}/{chip.y}", params={"refresh": str(refresh)})


def jobs(service: httpx.Client, chip: Chip) -> list[dict[str, Any]]:
    everything = service.get("/sandbox/jobs").json()
    return [job for job in everything if (job["chip_x"], job["chip_y"]) == (chip.x, chip.y)]


def received(service: httpx.Client, chip: Chip) -> list[dict[str, Any]]:
    everything = service.get("/sandbox/received").json()
    return [one for one in everything if (one["chip_x"], one["chip_y"]) == (chip.x, chip.y)]


def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def work(service: httpx.Client, chip: Chip) -> None:
    until(lambda: all(job["state"] not in ("queued", "taken") for job in jobs(service, chip)))


def rows(table: Session, chip: Chip, algorithm: str = ALGORITHM) -> dict[int, Any]:
    """Return the rows that the worker wrote, by position."""
    found = table.execute(
        "SELECT x, y, result, result_ok, result_produced FROM results "
        "WHERE chip_x = %s AND chip_y = %s AND algorithm = %s",
        (chip.x, chip.y, algorithm),
    )
    written = {chip.position_of(row.x, row.y): row for row in found if row.result_ok is not None}
    return {position: row for position, row in written.items() if position is not None}


def counts(table: Session, chip: Chip) -> tuple[int, int]:
    return tuple(
        table.execute(
            "SELECT count(*), count(result_ok) FROM results WHERE chip_x = %s AND chip_y = %s AND algorithm = %s",
            (chip.x, chip.y, ALGORITHM),
        ).one()
    )


# What it answers


def test_the_root_is_null(service: httpx.Client) -> None:
    answer = service.get("/")
    assert (answer.status_code, answer.json()) == (200, None)
    assert answer.headers["content-type"] == "application/json"


def test_health_names_its_three_backing_services(service: httpx.Client) -> None:
    answer = service.get("/health")
    assert answer.status_code == 200
    assert list(answer.json()) == ["db", "event", "search"]
    for check in answer.json().values():
        assert set(check) == {"healthy", "message", "error"}
        assert check["healthy"] is True


@pytest.mark.parametrize("path", ["/", "/health", "/algorithms", f"/results/{ALGORITHM}/1/2", "/results/x/chip"])
def test_other_verbs_are_refused(service: httpx.Client, path: str) -> None:
    answer = service.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("point", ["1.5/2", "x/2", "1/", "1"])
def test_a_point_that_is_no_pair_of_integers_is_not_found(service: httpx.Client, point: str) -> None:
    assert service.get(f"/results/{ALGORITHM}/{point}").status_code == 404


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json,text/html;q=0.5", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "application/json"),
    ],
)
def test_only_who_wants_html_gets_html(service: httpx.Client, accept: str, expected: str) -> None:
    answer = service.get("/health", headers={"Accept": accept})
    assert answer.headers["content-type"] == expected
    assert ("<html>" in answer.text) == expected.startswith("text/html")


def test_an_algorithm_is_stored_in_the_table_and_read_from_it(service: httpx.Client, table: Session) -> None:
    definition = {"enabled": True, "inputs_url_template": "http://host/{{algorithm}}/{{x}}/{{y}}/{{now}}"}
    stored = {"algorithm": "good/one:1.0", **definition}

    answer = service.put("/algorithm/good/one:1.0", json=definition)

    assert (answer.status_code, answer.json()) == (202, stored)
    assert service.get("/algorithm/good/one:1.0").json() == stored
    assert stored in service.get("/algorithms").json()
    found = table.execute("SELECT * FROM algorithms WHERE algorithm = 'good/one:1.0'").one()
    assert found._asdict() == stored


def test_an_algorithm_that_nobody_defined_is_not_found(service: httpx.Client) -> None:
    answer = service.get("/algorithm/lcmap-pyccd:0.0")
    assert (answer.status_code, answer.json()) == (404, "lcmap-pyccd:0.0 not found.")


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"enabled": True, "bad-inputs_url_template": "http://host"}, "inputs_url_template missing-required-key"),
        ({"not-enabled": True, "enabled": True, "inputs_url_template": "h"}, "not_enabled disallowed-key"),
        ({"enabled": "string", "inputs_url_template": "h"}, "enabled (not (instance? java.lang.Boolean"),
    ],
)
def test_a_definition_with_wrong_keys_is_refused(service: httpx.Client, body: dict[str, Any], wrong: str) -> None:
    answer = service.put("/algorithm/bad", json=body)
    assert answer.status_code == 403
    assert wrong in answer.json()
    assert service.get("/algorithm/bad").status_code == 404


def test_a_body_of_another_type_is_not_even_decoded(service: httpx.Client) -> None:
    body = json.dumps({"enabled": True, "inputs_url_template": "h"})
    answer = service.put(
        "/algorithm/bad", content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert (answer.status_code, set(answer.json())) == (500, {"class", "cause", "message"})


@pytest.mark.parametrize(
    ("point", "corner"),
    [
        ((123, 456), (-585, 2805)),
        ((-1815585, 2864805), (-1815585, 2864805)),
        ((-1815584, 2864804), (-1815585, 2864805)),
        ((-1815586, 2864806), (-1818585, 2867805)),
    ],
)
def test_points_snap_to_chips_by_clownfishs_formula(point: tuple[int, int], corner: tuple[int, int]) -> None:
    assert snap(*point) == Chip(*corner)


def test_the_first_request_gets_a_ticket(service: httpx.Client, table: Session, chip: Chip) -> None:
    service.put("/algorithm/keys", json={"enabled": True, "inputs_url_template": "h/{{algorithm}}/{{x}}/{{y}}"})
    service.post("/sandbox/pause")

    answer = service.get(f"/results/keys/{chip.x + 123}/{chip.y - 45}?refresh=False")

    assert answer.status_code == 202
    ticket = answer.json()
    assert set(ticket) == FIRST
    assert (ticket["chip_x"], ticket["chip_y"]) == (chip.x, chip.y)
    assert (ticket["x"], ticket["y"]) == (chip.x + 123, chip.y - 45)
    assert (ticket["algorithm"], ticket["refresh"]) == ("keys", False)
    assert ticket["algorithm-available"] is ticket["source-data-available"] is True
    assert ticket["inputs_url"] == f"h/keys/{chip.x + 123}/{chip.y - 45}"
    assert ISO.fullmatch(ticket["chip_update_requested"])
    requested = datetime.fromisoformat(ticket["chip_update_requested"])
    assert abs(datetime.now(UTC) - requested) < timedelta(seconds=10)
    (row,) = table.execute(
        "SELECT * FROM results WHERE chip_x=%s AND chip_y=%s AND algorithm='keys'", (chip.x, chip.y)
    )
    assert (row.x, row.y, row.result_ok, row.inputs_url) == (ticket["x"], ticket["y"], None, ticket["inputs_url"])
    assert row.chip_update_requested == requested.replace(tzinfo=None)


def test_a_repeated_request_gets_the_same_ticket_and_queues_nothing(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    service.post("/sandbox/pause")
    first = ask(service, chip).json()

    answer = ask(service, chip)

    assert answer.status_code == 202
    assert set(answer.json()) == FIRST | RESULT
    assert {key: answer.json()[key] for key in RESULT} == dict.fromkeys(RESULT)
    assert {key: answer.json()[key] for key in FIRST} == first
    assert len(jobs(service, chip)) == 1
    assert counts(table, chip) == (1, 0)


def test_a_worked_chip_answers_with_its_pixels_result_and_lists_its_rows(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    inside = {"x": chip.x + 1500, "y": chip.y - 2999}
    empty = service.get(f"/results/{ALGORITHM}/chip", params=inside)
    assert (empty.status_code, empty.json()) == (200, [])
    assert jobs(service, chip) == []  # listing schedules nothing
    ask(service, chip)
    work(service, chip)

    answer = ask(service, chip)

    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == COLUMNS | {"refresh"}
    assert isinstance(found["result"], str)
    assert json.loads(found["result"])["change_models"] == []
    assert found["result_ok"] is True
    assert found["inputs_md5"] == "not implemented"
    assert ISO.fullmatch(found["result_produced"])
    assert len(jobs(service, chip)) == 1
    assert counts(table, chip) == (PIXELS, PIXELS)
    listed = service.get(f"/results/{ALGORITHM}/chip", params=inside).json()
    assert len(listed) == PIXELS
    assert set(listed[0]) == COLUMNS


def test_an_unknown_and_a_disabled_algorithm_are_unprocessable(service: httpx.Client, chip: Chip) -> None:
    service.put("/algorithm/off:1", json={"enabled": False, "inputs_url_template": "h"})
    for algorithm in ("unknown:1", "off:1"):
        answer = ask(service, chip, algorithm=algorithm)
        assert answer.status_code == 422
        answered = {"algorithm": algorithm, "x": chip.x, "y": chip.y, "refresh": False}
        assert answer.json() == answered | {"algorithm-available": False, "source-data-available": True}
    assert jobs(service, chip) == []
    assert [one["status"] for one in received(service, chip)] == [422, 422]


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", True), ("True", True), ("TRUE", True), ("1", False), ("yes", False), ("", False), ("false", False)],
)
def test_refresh_is_true_only_for_that_word(service: httpx.Client, chip: Chip, text: str, meant: bool) -> None:
    service.post("/sandbox/pause")
    for _ in range(3):
        assert ask(service, chip, text).json()["refresh"] is meant
    assert len(jobs(service, chip)) == (3 if meant else 1)
    assert [one["refresh"] for one in received(service, chip)] == [meant] * 3


def test_refresh_writes_the_chip_again_and_moves_the_time_of_request(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    before = ask(service, chip).json()
    work(service, chip)
    first_pass = rows(table, chip)

    answer = ask(service, chip, "true")
    work(service, chip)

    assert (answer.status_code, set(answer.json())) == (202, FIRST)
    assert answer.json()["chip_update_requested"] > before["chip_update_requested"]
    last_produced = first_pass[PIXELS - 1].result_produced
    assert all(row.result_produced > last_produced for row in rows(table, chip).values())


def test_whatever_is_raised_is_a_500_that_says_what(service: httpx.Client) -> None:
    answer = service.get(f"/results/{ALGORITHM}/1-2/3")
    assert (answer.status_code, set(answer.json())) == (500, {"class", "cause", "message"})
    assert service.get("/sandbox/received").json()[-1]["status"] == 500


def test_every_request_is_noted_in_order_of_arrival(service: httpx.Client, chip: Chip) -> None:
    service.post("/sandbox/pause")
    ask(service, chip)
    ask(service, chip, "true")
    noted = received(service, chip)
    assert [(one["refresh"], one["status"]) for one in noted] == [(False, 202), (True, 202)]
    assert set(noted[0]) == {"algorithm", "chip_x", "chip_y", "refresh", "when", "status"}
    assert noted[0]["algorithm"] == ALGORITHM
    moments = [datetime.fromisoformat(one["when"]) for one in noted]
    assert moments == sorted(moments)


# How the worker writes


def test_the_frontier_only_grows_and_the_last_pixel_comes_last(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    plan(service, pixels_per_s=8000)
    ask(service, chip)
    seen: list[int] = []
    while len(seen) < 2 or seen[-1] < PIXELS:
        written = rows(table, chip)
        assert set(written) == set(range(len(written)))
        seen.append(len(written))
        assert len(seen) < 1000

    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    produced = [written[position].result_produced for position in range(PIXELS)]
    assert produced == sorted(produced)
    assert chip.last_pixel == (written[PIXELS - 1].x, written[PIXELS - 1].y)


def test_the_workers_clock_is_local_time_labelled_utc(service: httpx.Client, table: Session, chip: Chip) -> None:
    plan(service, worker_clock_offset_h=-6)
    requested = ask(service, chip).json()["chip_update_requested"]
    work(service, chip)
    last = rows(table, chip)[PIXELS - 1].result_produced.replace(tzinfo=UTC)
    behind = datetime.fromisoformat(requested) - last
    assert timedelta(hours=5, minutes=58) < behind <= timedelta(hours=6)


def test_a_job_waits_as_long_as_the_queue_is(service: httpx.Client, chip: Chip) -> None:
    other = next(_chips)
    plan(service, queue_delay_s=3600)
    for one in (chip, other):
        ask(service, one)
    service.get("/health")
    assert [job["state"] for one in (chip, other) for job in jobs(service, one)] == ["queued", "queued"]

    plan(service, other, {"never": True}, queue_delay_s=0)

    work(service, chip)
    work(service, other)


def test_several_workers_work_at_once(service: httpx.Client) -> None:
    chips = list(itertools.islice(_chips, 3))
    plan(service, workers=3, pixels_per_s=100)
    for one in chips:
        ask(service, one)
    until(lambda: all(job["state"] == "taken" for one in chips for job in jobs(service, one)))


def test_shipped_results_are_written_unless_short_ones_are_meant(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    plan(service, chip, {"crash_loop": True, "crash_at": 20}, short_results=False)
    ask(service, chip)
    until(lambda: jobs(service, chip)[0]["crashes"] > 0)
    assert {row.result for row in rows(table, chip).values()} == set(seed.shipped_results()[:20])


# What goes wrong


@pytest.mark.parametrize(
    ("trouble", "written", "failed"),
    [
        ({"rows_lost": 23}, PIXELS - 23, 0),
        ({"rows_lost": [0, 5000, 9999], "failed_pixels": [77]}, PIXELS - 3, 1),
        ({"failed_pixels": 37}, PIXELS, 37),
        ({"no_data": True}, PIXELS, PIXELS),
        ({"crash_at": 500}, PIXELS, 0),
        ({"never": True}, 0, 0),
        ({"lost_job": True}, 0, 0),
    ],
    ids=json.dumps,
)
def test_a_trouble_leads_to_its_rows(
    service: httpx.Client, table: Session, chip: Chip, trouble: dict[str, Any], written: int, failed: int
) -> None:
    plan(service, chip, trouble, crash_pause_s=0.05)
    assert ask(service, chip).status_code == 202
    work(service, chip)

    found = rows(table, chip)

    assert len(found) == written
    bad = [row for row in found.values() if not row.result_ok]
    assert len(bad) == failed
    assert all(row.result.startswith("Exception running ccd.detect") for row in bad)
    assert counts(table, chip)[0] == max(written, 1) + (
        0 in trouble.get("rows_lost", ()) if failed < 0 else 0
    ) or (isinstance(trouble.get("rows_lost"), list))
    assert jobs(service, chip)[0]["crashes"] == ("crash_at" in trouble)


def test_lost_rows_are_others_in_each_pass_unless_they_are_the_same() -> None:
    chip = Chip(TILE.x, TILE.y)
    others, same = Trouble(rows_lost=23), Trouble(rows_lost=23, same=True)
    assert len(others.lost(chip, 0) | others.lost(chip, 1) | Trouble(rows_lost=400).lost(chip, 2)) == 446
    assert same.lost(chip, 0) == same.lost(chip, 1)
    assert len(same.lost(chip, 0)) == 23
    assert not {0, PIXELS - 1} & Trouble(rows_lost=9_998).lost(chip, 0)
    assert Trouble(failed_pixels=5).failed(chip) == Trouble(failed_pixels=5).failed(chip)


def test_a_trouble_strikes_as_often_as_it_says_and_the_next_follows(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    plan(service, chip, {"never": True, "times": 2}, {"failed_pixels": [1, 2], "times": 1})
    for expected in (0, 0, 2, 0):
        ask(service, chip, "true")
        work(service, chip)
        assert sum(not row.result_ok for row in rows(table, chip).values()) == expected


def test_a_trouble_of_every_chip_is_counted_for_each(service: httpx.Client) -> None:
    chips = list(itertools.islice(_chips, 2))
    plan(service, None, {"error_before_publish": True, "times": 1}, paused=True)
    assert [ask(service, one).status_code for _ in range(2) for one in chips] == [500, 500, 202, 202]


def test_a_chip_of_a_crash_loop_rewrites_its_first_rows_and_holds_nobody_up(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    other = next(_chips)
    plan(service, chip, {"crash_loop": True}, crash_pause_s=0.05)
    ask(service, chip)
    ask(service, other)
    work(service, other)
    until(lambda: jobs(service, chip)[0]["crashes"] >= 2)
    first = rows(table, chip)[0].result_produced
    until(lambda: rows(table, chip)[0].result_produced > first)

    assert len(rows(table, chip)) == 150
    assert len(rows(table, other)) == PIXELS
    assert jobs(service, chip)[0]["state"] in ("queued", "taken")


def test_a_job_rests_twice_as_long_each_time_that_its_worker_dies_of_it(service: httpx.Client, chip: Chip) -> None:
    plan(service, chip, {"crash_loop": True}, crash_pause_s=0.1)
    begun = time.monotonic()
    ask(service, chip)
    until(lambda: jobs(service, chip)[0]["crashes"] >= 4)
    assert time.monotonic() - begun >= 0.1 + 0.2 + 0.4


def test_a_worker_of_another_version_writes_under_its_own_algorithm(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    plan(service, chip, {"other_version": "lcmap-pyccd:2017.6.8"})
    ask(service, chip)
    work(service, chip)

    assert counts(table, chip) == (1, 0)
    assert len(rows(table, chip, "lcmap-pyccd:2017.6.8")) == PIXELS


@pytest.mark.parametrize(("trouble", "queued"), [("error_before_publish", 0), ("error_after_publish", 1)])
def test_an_error_comes_before_or_after_the_job_is_queued_and_leaves_no_ticket(
    service: httpx.Client, table: Session, chip: Chip, trouble: str, queued: int
) -> None:
    plan(service, chip, {trouble: True, "times": 1}, paused=True)

    answer = ask(service, chip)

    assert (answer.status_code, set(answer.json())) == (500, {"class", "cause", "message"})
    assert (len(jobs(service, chip)), counts(table, chip)) == (queued, (0, 0))
    assert set(ask(service, chip).json()) == FIRST  # no ticket: the next one queues again
    assert len(jobs(service, chip)) == queued + 1
    assert [one["status"] for one in received(service, chip)] == [500, 202]


def test_a_client_that_gave_up_on_a_slow_answer_has_queued_its_job(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    plan(service, chip, {"slow_answer_s": 0.6, "times": 1}, paused=True)

    with pytest.raises(httpx.ReadTimeout):
        service.get(f"/results/{ALGORITHM}/{chip.x}/{chip.y}", timeout=0.3)

    assert (len(jobs(service, chip)), counts(table, chip)) == (1, (1, 0))
    assert [one["status"] for one in received(service, chip)] == [None]
    assert set(ask(service, chip).json()) == FIRST | RESULT


def test_a_slow_answer_reaches_a_patient_client(service: httpx.Client, chip: Chip) -> None:
    plan(service, chip, {"slow_answer_s": 0.3}, paused=True)
    began = time.monotonic()
    assert ask(service, chip).status_code == 202
    assert time.monotonic() - began >= 0.3
    assert [one["status"] for one in received(service, chip)] == [202]


@pytest.mark.parametrize(("status", "queued"), [(200, False), (502, False), (502, True)])
def test_a_proxy_answers_in_html(service: httpx.Client, chip: Chip, status: int, queued: bool) -> None:
    plan(service, chip, {"html": status, "queued": queued}, paused=True)

    answer = service.get(f"/results/{ALGORITHM}/{chip.x}/{chip.y}", headers={"Accept": "application/json"})

    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert answer.text.startswith("<html>")
    assert len(jobs(service, chip)) == queued
    assert [one["status"] for one in received(service, chip)] == [status]


def test_a_dropped_connection_has_queued_its_job(service: httpx.Client, table: Session, chip: Chip) -> None:
    plan(service, chip, {"drop": True, "times": 1}, paused=True)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(service, chip)

    assert (len(jobs(service, chip)), counts(table, chip)) == (1, (1, 0))
    assert [one["status"] for one in received(service, chip)] == [None]


# Jobs behind tickets that were not asked for here


def test_a_job_can_be_published_without_a_request_and_without_a_ticket(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    job = {"algorithm": ALGORITHM, "chip_x": chip.x, "chip_y": chip.y}
    service.post("/sandbox/pause")

    answer = service.post("/sandbox/jobs", json=job)

    assert answer.status_code == 200
    assert answer.json()[-1].items() >= {**job, "state": "queued"}.items()
    assert (len(jobs(service, chip)), received(service, chip), counts(table, chip)) == (1, [], (0, 0))
    service.post("/sandbox/resume")
    work(service, chip)
    assert counts(table, chip) == (PIXELS, PIXELS)


@pytest.mark.parametrize(
    "wrong", [{}, [], {"algorithm": ALGORITHM, "chip_x": "west", "chip_y": 0}], ids=json.dumps
)
def test_a_job_that_names_no_chip_is_refused(service: httpx.Client, wrong: object) -> None:
    before = service.get("/sandbox/jobs").json()
    assert service.post("/sandbox/jobs", json=wrong).status_code == 400
    assert service.get("/sandbox/jobs").json() == before


def test_workers_sleep_until_the_first_request_that_queues_a_job_and_begin_with_the_oldest(
    service: httpx.Client, table: Session, chip: Chip
) -> None:
    other = next(_chips)
    plan(service, wakes_on_request=True)
    service.post("/sandbox/jobs", json={"algorithm": ALGORITHM, "chip_x": chip.x, "chip_y": chip.y})
    ask(service, other, algorithm="unknown:1")  # 422: queues nothing, wakes nobody
    time.sleep(0.3)
    assert jobs(service, chip)[0]["state"] == "queued"
    assert service.get("/sandbox/plan").json()["settings"]["wakes_on_request"] is True

    ask(service, other)
    work(service, other)

    assert service.get("/sandbox/plan").json()["settings"]["wakes_on_request"] is False
    earlier, later = rows(table, chip), rows(table, other)
    assert len(earlier) == len(later) == PIXELS
    assert earlier[PIXELS - 1].result_produced <= later[0].result_produced


# The plan and the process


def test_the_plan_that_was_put_is_the_plan_that_is_got(service: httpx.Client, chip: Chip) -> None:
    key = f"{chip.x},{chip.y}"
    troubles = {key: [{"rows_lost": 3, "same": True, "times": 2}], "*": [{"html": 502}]}
    answer = service.put("/sandbox/plan", json={"settings": {"pixels_per_s": 50}, "troubles": troubles})
    assert answer.json() == service.get("/sandbox/plan").json()
    assert answer.json()["troubles"] == troubles

    service.put("/sandbox/plan", json={"settings": {"workers": 2}})

    kept = service.get("/sandbox/plan").json()
    assert kept["troubles"] == troubles
    assert (kept["settings"]["pixels_per_s"], kept["settings"]["workers"]) == (50, 2)
    assert kept["settings"]["short_results"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": {"speed": 5}},
        {"settings": {"workers": 0}},
        {"settings": 5},
        {"troubles": {"somewhere": []}},
        {"troubles": {"*": [{"times": 1}]}},
        {"troubles": {"*": [{"drop": True, "never": True}]}},
        {"troubles": {"*": [{"rows_lost": [10_000]}]}},
        [],
    ],
    ids=json.dumps,
)
def test_a_plan_that_makes_no_sense_is_refused_and_changes_nothing(service: httpx.Client, wrong: object) -> None:
    before = service.get("/sandbox/plan").json()
    assert service.put("/sandbox/plan", json=wrong).status_code == 400
    assert service.get("/sandbox/plan").json() == before


def test_purging_drops_what_waits_and_what_is_under_way(service: httpx.Client, chip: Chip) -> None:
    other = next(_chips)
    plan(service, pixels_per_s=100)
    ask(service, chip)
    ask(service, other)
    until(lambda: jobs(service, chip)[0]["state"] == "taken")
    assert service.post("/sandbox/purge").json() == {"purged": 2}
    assert [jobs(service, one)[0]["state"] for one in (chip, other)] == ["purged", "purged"]


def test_a_job_under_way_at_a_kill_starts_over_and_nothing_is_forgotten(
    cassandra_node: Node, table: Session, own_folder: Path, chip: Chip
) -> None:
    seed.enable(cassandra_node)
    url = change_results.up(own_folder, cassandra_node, report=print)
    with httpx.Client(base_url=url, trust_env=False) as service:
        plan(service, chip, {"failed_pixels": [7]}, pixels_per_s=4000, short_results=True)
        ask(service, chip)
        ask(service, chip, "true")
        until(lambda: len(rows(table, chip)) > 500)
        before = {path: service.get(f"/sandbox/{path}").json() for path in ("plan", "received", "jobs")}
    found = supervise.running(own_folder)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    until(lambda: change_results.status(own_folder) is None)
    killed = datetime.now(UTC).replace(tzinfo=None)
    assert 500 < len(rows(table, chip)) < PIXELS

    assert change_results.up(own_folder, cassandra_node, report=print) == url

    with httpx.Client(base_url=url, trust_env=False) as service:
        assert service.get("/sandbox/plan").json() == before["plan"]
        assert service.get("/sandbox/received").json() == before["received"]
        plan(service, chip, {"never": True}, pixels_per_s=0)  # for the second job
        work(service, chip)
        again = rows(table, chip)
        assert [job["id"] for job in service.get("/sandbox/jobs").json()] == [job["id"] for job in before["jobs"]]
    assert len(again) == PIXELS
    assert all(row.result_produced > killed for row in again.values())
    assert [position for position, row in again.items() if not row.result_ok] == [7]  # decided when first taken


def test_below_a_prefix_it_answers_there_only(cassandra_node: Node, own_folder: Path, chip: Chip) -> None:
    seed.enable(cassandra_node)
    url = change_results.up(own_folder, cassandra_node, report=print, prefix="/v1/changes/")

    assert url.endswith("/v1/changes")
    assert change_results.status(own_folder) == url
    with httpx.Client(base_url=url, trust_env=False) as service:
        assert service.get("/").json() is None
        service.post("/sandbox/pause")
        assert ask(service, chip).status_code == 202
        assert received(service, chip)[0]["status"] == 202
        astray = httpx.get(url.removesuffix("/v1/changes") + "/health", trust_env=False)
        assert (astray.status_code, astray.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_it_starts_and_stops_quickly_and_twice_is_once(cassandra_node: Node, own_folder: Path) -> None:
    said: list[str] = []
    began = time.monotonic()
    url = change_results.up(own_folder, cassandra_node, report=said.append)
    started_s = time.monotonic() - began
    assert change_results.up(own_folder, cassandra_node, report=said.append) == url
    assert said == ["Starting the change-results service (some 2 s)."]
    assert started_s < 10  # 1.3 s on a machine at rest
    found = supervise.running(own_folder)
    assert found is not None
    process = psutil.Process(found.pid)
    httpx.put(f"{url}/sandbox/plan", json={"troubles": {"*": [{"slow_answer_s": 60}]}}, trust_env=False)
    with httpx.Client(trust_env=False, timeout=0.3) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.get(f"{url}/results/{ALGORITHM}/{TILE.x}/{TILE.y}")

    began = time.monotonic()
    assert change_results.down(own_folder) is True

    assert time.monotonic() - began < 5
    assert not process.is_running()
    assert "Traceback" not in found.log.read_text()
    assert change_results.status(own_folder) is None
    assert change_results.down(own_folder) is False


def test_fresh_forgets_queue_plan_and_requests(cassandra_node: Node, own_folder: Path, chip: Chip) -> None:
    url = change_results.up(own_folder, cassandra_node, report=print)
    with httpx.Client(base_url=url, trust_env=False) as service:
        plan(service, chip, {"never": True}, paused=True)
        ask(service, chip)

    assert change_results.up(own_folder, cassandra_node, report=print, fresh=True) == url

    with httpx.Client(base_url=url, trust_env=False) as service:
        assert service.get("/sandbox/received").json() == service.get("/sandbox/jobs").json() == []
        assert service.get("/sandbox/plan").json()["troubles"] == {}


def test_the_sandboxs_status_names_the_service(change_results: str) -> None:
    assert world.status()["service_url"] == change_results
