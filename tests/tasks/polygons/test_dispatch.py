"""Dispatch: every polygon comes to an end that the ledger tells, and none is sent that may be there already."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import (
    BadInput,
    CredentialsRefused,
    JobsFail,
    LeaseLost,
    LocationRefused,
    RefusedForNow,
    RequestRefused,
    ServiceAway,
    ThrottledError,
    UncertainError,
    UnreadableStatus,
)
from tasks.ledger.claims import Claimed, run_on
from tasks.ledger.schema import leases
from tasks.ledger.store import Ledger
from tasks.ledger.units import Own
from tasks.polygons.dispatch import Dispatcher
from tasks.polygons.jobs import JobStatus, Order, Output, Remote
from tasks.polygons.rules import Rules, rules_of
from tasks.settings import Settings
from tests.polygon_desk import (
    CAMPAIGN,
    LIMIT_S,
    QUICK,
    URL,
    FakeService,
    accepted,
    by_id,
    dispatching,
    failed,
    feature,
    load,
    outputs_of,
    rows,
    running,
    succeeded,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def at(name: str, number: int = 1) -> str:
    return f"{URL}/{name}/{number}"


def run(
    ledger: Ledger,
    service: FakeService,
    folder: Path,
    polygons: int = 1,
    rules: Rules = QUICK,
    box_s: float = LIMIT_S,
) -> dict[Own, int]:
    """Run on some polygons, p0, p1, ..., from the first to the last, in one batch."""
    of_series, units = load(ledger, [feature(number) for number in range(polygons)])
    with dispatching(ledger, of_series, service, folder, rules, by_id) as dispatcher:
        found = dispatcher.dispatch(units, box_s)
    return {own: number for own, number in found.items() if number}


def in_flight_after_a_round(dispatcher: Dispatcher, units: list[int]) -> None:
    """Work in short rounds until the first of some units is in flight at the end of one."""
    until(lambda: dispatcher.dispatch(units, 0.1)[Own.IN_FLIGHT] == 1)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_polygon_is_sent_once_and_its_result_is_known(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    assert run(ledger, service, tmp_path, polygons=40) == {Own.DONE: 40}
    assert sorted(service.received) == sorted(f"p{number}" for number in range(40))
    row = rows(ledger)["p7"]
    assert (row.own, row.remote, row.attempts) == ("done", "successful", 1)
    assert row.submitted_at <= row.accepted_at <= row.ended_at
    assert [one.value for one in outputs_of(ledger, row.unit)] == ["s3://bucket/p7/1.parquet"]


def test_a_second_run_of_a_finished_campaign_sends_nothing_and_asks_nothing(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    run(ledger, service, tmp_path, polygons=3)
    looks = dict(service.looks)
    assert run(ledger, service, tmp_path, polygons=3) == {Own.DONE: 3}
    assert len(service.received) == 3
    assert dict(service.looks) == looks


def test_a_unit_is_on_disk_as_submitting_before_it_is_sent(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    seen = []

    def order(claimed: Claimed) -> Order:
        seen.append(rows(ledger)[claimed.id].own)
        return by_id(claimed)

    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, order) as dispatcher:
        dispatcher.dispatch(units, LIMIT_S)
    assert seen == ["submitting"]


def test_several_threads_feed_one_dispatcher(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    of_series, units = load(ledger, [feature(number) for number in range(60)])
    with (
        dispatching(ledger, of_series, service, tmp_path, replace(QUICK, concurrency=5), by_id) as dispatcher,
        ThreadPoolExecutor(4) as threads,
    ):
        batches = [units[start : start + 15] for start in range(0, 60, 15)]
        done = list(threads.map(lambda batch: dispatcher.dispatch(batch, LIMIT_S)[Own.DONE], batches))
    assert done == [15, 15, 15, 15]
    assert len(service.received) == 60
    assert service.most_outstanding <= 5


def test_the_first_unit_of_a_campaign_goes_alone_until_its_job_is_seen(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    of_series, units = load(ledger, [feature(number) for number in range(6)])
    service.says[at("p0")] = [UnreadableStatus("Empty.")]
    rules = replace(QUICK, concurrency=4)
    with dispatching(ledger, of_series, service, tmp_path, rules, by_id) as dispatcher:
        in_flight_after_a_round(dispatcher, units)
        assert service.received == ["p0"]
        service.says[at("p0")] = [running()]
        dispatcher.dispatch(units[1:], LIMIT_S)
    assert len(service.received) == 6


def test_a_first_answer_may_be_the_last(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.script["p0"] = [succeeded("sync")]
    service.script["p1"] = [failed("No data.")]
    service.script["p2"] = [JobStatus(Remote.RUNNING, at("p2"))]
    assert run(ledger, service, tmp_path, polygons=3) == {Own.DONE: 2, Own.FAILED: 1}
    found = rows(ledger)
    assert found["p1"].error_text == "No data."
    assert found["p1"].error_class == "NoApplicableCode"


def test_an_answer_that_is_the_result_took_as_long_as_the_request(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always, service.takes_s = succeeded("sync"), 0.3
    run(ledger, service, tmp_path)
    row = rows(ledger)["p0"]
    assert (row.ended_at - row.accepted_at).total_seconds() >= 0.3


def test_the_pacer_learns_from_answers_that_are_results(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always, service.takes_s = succeeded("sync"), 0.05
    of_series, units = load(ledger, [feature(number) for number in range(40)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        dispatcher.dispatch(units, LIMIT_S)
        assert dispatcher.progress.limit > 2


def test_synchronous_requests_are_on_their_way_as_many_at_a_time_as_was_said(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always, service.takes_s = succeeded("sync"), 0.5
    run(ledger, service, tmp_path, 80, rules_of(Settings(), concurrency=30, sync=True))
    assert service.most_on_their_way == 30


def test_a_first_job_without_a_place_to_ask_stops_the_run_and_is_not_sent_again(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p0"] = [accepted(None)]
    with pytest.raises(JobsFail, match="--sync"):
        run(ledger, service, tmp_path, polygons=5)
    assert service.received == ["p0"]
    assert rows(ledger)["p0"].error_class == "NoStatusLocation"
    assert run(ledger, service, tmp_path, polygons=5) == {Own.GIVEN_UP: 1, Own.DONE: 4}
    assert service.received.count("p0") == 1


def test_a_later_job_without_a_place_to_ask_is_given_up_alone(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p1"] = [accepted(None)]
    assert run(ledger, service, tmp_path, polygons=4) == {Own.DONE: 3, Own.GIVEN_UP: 1}


def test_what_cannot_be_read_is_asked_again_and_is_no_verdict(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [UnreadableStatus("Empty."), running(), UnreadableStatus("404."), succeeded()]
    assert run(ledger, service, tmp_path) == {Own.DONE: 1}
    row = rows(ledger)["p0"]
    assert row.started_at is not None
    assert service.looks[at("p0")] == 4


def test_a_later_status_location_does_not_lead_away_from_the_first(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [JobStatus(Remote.RUNNING, f"{URL}/elsewhere"), succeeded()]
    assert run(ledger, service, tmp_path) == {Own.DONE: 1}
    assert set(service.looks) == {at("p0")}


def test_a_job_that_fails_is_sent_again_as_often_as_attempts_say(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = service.says[at("p1")] = [failed("Out of memory.")]
    service.says[at("p1", 2)] = [failed("Out of memory.")]
    assert run(ledger, service, tmp_path, polygons=2) == {Own.DONE: 1, Own.FAILED: 1}
    found = rows(ledger)
    assert (found["p0"].own, found["p0"].attempts, found["p0"].error_text) == ("done", 2, "")
    assert (found["p1"].own, found["p1"].attempts) == ("failed", 2)
    assert found["p1"].error_text == "Out of memory."


def test_a_dismissed_job_has_failed_and_is_not_sent_again(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [JobStatus(Remote.DISMISSED)]
    assert run(ledger, service, tmp_path) == {Own.FAILED: 1}
    assert (rows(ledger)["p0"].remote, rows(ledger)["p0"].error_class) == ("dismissed", "Dismissed")
    assert service.received == ["p0"]


def test_a_busy_service_costs_no_attempt(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.script["p0"] = [ThrottledError("Busy.", 0.01), ThrottledError("Busy."), accepted(at("p0"))]
    assert run(ledger, service, tmp_path) == {Own.DONE: 1}
    assert rows(ledger)["p0"].attempts == 1
    assert len(service.received) == 3


def test_a_service_that_refuses_for_a_while_costs_no_attempt(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = RefusedForNow("404, and no XML.")
    of_series, units = load(ledger, [feature(number) for number in range(6)])
    rules = replace(QUICK, attempts=1)
    with dispatching(ledger, of_series, service, tmp_path, rules, by_id) as dispatcher:
        waiting = threading.Thread(target=dispatcher.dispatch, args=(units, LIMIT_S))
        waiting.start()
        until(lambda: len(service.received) >= 3)
        service.always = None
        waiting.join(LIMIT_S)
    assert {(row.own, row.attempts) for row in rows(ledger).values()} == {("done", 1)}


def test_a_service_that_refuses_for_longer_ends_the_run_with_its_words(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = RefusedForNow("404, and no XML.")
    with pytest.raises(RefusedForNow, match="no XML"):
        run(ledger, service, tmp_path, 30, replace(QUICK, away_limit_s=0.5))
    assert {row.own for row in rows(ledger).values()} == {"pending"}


def test_a_polygon_that_is_refused_while_others_are_taken_fails_alone(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p1"] = [RefusedForNow("Exception 500.")]
    assert run(ledger, service, tmp_path, polygons=6) == {Own.DONE: 5, Own.FAILED: 1}
    assert rows(ledger)["p1"].error_text == "Exception 500."


def test_a_request_without_an_answer_is_left_to_a_person(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p1"] = [UncertainError("No answer came."), accepted(at("p1"))]
    assert run(ledger, service, tmp_path, polygons=3) == {Own.DONE: 2, Own.UNCERTAIN: 1}
    assert run(ledger, service, tmp_path, polygons=3) == {Own.DONE: 2, Own.UNCERTAIN: 1}
    assert service.received.count("p1") == 1
    assert "No answer came." in rows(ledger)["p1"].error_text


def test_a_request_without_an_answer_is_sent_again_at_once_where_a_person_said_so(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p1"] = [UncertainError("No answer came.")]
    rules = replace(QUICK, on_uncertain="resend")
    assert run(ledger, service, tmp_path, 3, rules) == {Own.DONE: 2, Own.UNCERTAIN: 1}
    assert service.received.count("p1") == rules.attempts
    assert run(ledger, service, tmp_path, 3, rules) == {Own.DONE: 2, Own.UNCERTAIN: 1}
    assert service.received.count("p1") == rules.attempts


def test_a_request_without_an_answer_waits_for_the_total_limit_before_it_is_sent_again(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p0"] = [UncertainError("No answer came."), accepted(at("p0"))]
    patient = replace(QUICK, on_uncertain="wait", total_limit_s=3600)
    for _ in range(2):
        assert run(ledger, service, tmp_path, 1, patient) == {Own.UNCERTAIN: 1}
    assert service.received == ["p0"]
    assert run(ledger, service, tmp_path, 1, replace(patient, total_limit_s=0.0)) == {Own.DONE: 1}


def test_a_service_that_answers_no_request_any_more_is_sent_few(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = UncertainError("No answer came.")
    with pytest.raises(UncertainError, match="in a row got no answer"):
        run(ledger, service, tmp_path, polygons=50)
    assert len(service.received) == QUICK.same_refusals


def test_one_polygon_that_is_refused_fails_alone(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.script["p1"] = [RequestRefused("It is too large.", "FileSizeExceeded", of_unit=True)]
    service.script["p2"] = [RequestRefused("Bad value.", "InvalidParameterValue")]
    assert run(ledger, service, tmp_path, polygons=9) == {Own.DONE: 7, Own.FAILED: 2}
    assert rows(ledger)["p1"].error_class == "FileSizeExceeded"
    assert service.received.count("p1") == 1


def test_when_the_first_answers_are_all_the_same_refusal_the_run_stops_and_nothing_counts_as_sent(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = RequestRefused("No such process.", "InvalidParameterValue")
    with pytest.raises(RequestRefused, match=r"first 5 requests.*No such process.*not the polygons"):
        run(ledger, service, tmp_path, polygons=30)
    assert len(service.received) == 5
    assert {(row.own, row.attempts) for row in rows(ledger).values()} == {("pending", 0)}
    service.always = None
    assert run(ledger, service, tmp_path, polygons=30) == {Own.DONE: 30}


def test_refusals_that_were_on_their_way_when_the_run_stopped_count_as_not_sent_too(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    assert run(ledger, service, tmp_path) == {Own.DONE: 1}
    service.always, service.takes_s = RequestRefused("No such process.", "InvalidParameterValue"), 0.2
    with pytest.raises(RequestRefused, match="not the polygons"):
        run(ledger, service, tmp_path, 30, replace(QUICK, concurrency=8))
    assert len(service.received) > 6
    assert {(row.own, row.attempts) for row in rows(ledger).values()} == {("done", 1), ("pending", 0)}


def test_a_polygon_refused_for_its_size_does_not_hide_that_all_others_are_refused(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script["p1"] = [RequestRefused("It is too large.", "FileSizeExceeded", of_unit=True)]
    service.always = RequestRefused("No such process.", "InvalidParameterValue")
    with pytest.raises(RequestRefused, match="No such process"):
        run(ledger, service, tmp_path, polygons=30)
    assert Counter(row.own for row in rows(ledger).values()) == {"failed": 1, "pending": 29}


def test_a_service_that_begins_to_fail_whatever_it_is_sent_is_not_sent_everything(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.script = {f"p{number}": [accepted(at(f"p{number}"))] for number in range(5)}
    service.always = failed("No disk.")
    with pytest.raises(JobsFail, match=r"Of the last 30 polygons .* 2[7-9] failed or were given up"):
        run(ledger, service, tmp_path, 120, replace(QUICK, outcomes_judged=30))
    states = Counter(row.own for row in rows(ledger).values())
    assert states["done"] == 5
    assert states["pending"] > 60


def test_polygons_that_fail_by_themselves_now_and_then_stop_nothing(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    for number in range(0, 60, 2):
        service.script[f"p{number}"] = [failed("No data.")]
    found = run(ledger, service, tmp_path, 60, replace(QUICK, outcomes_judged=20))
    assert found == {Own.DONE: 30, Own.FAILED: 30}


def test_a_service_whose_jobs_never_end_is_not_sent_everything(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says = {at(f"p{number}"): [running()] for number in range(60)}
    with pytest.raises(JobsFail, match=r"first 2\d polygons all failed or were given up"):
        run(ledger, service, tmp_path, 60, replace(QUICK, running_limit_s=0.05))


def test_a_service_that_fails_whatever_it_is_sent_is_not_sent_everything(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = failed("No disk.")
    with pytest.raises(JobsFail, match=r"first 2\d polygons all failed"):
        run(ledger, service, tmp_path, polygons=60)
    states = Counter(row.own for row in rows(ledger).values())
    assert 20 <= states["failed"] < 30
    assert states["pending"] > 30
    service.always = None
    assert run(ledger, service, tmp_path, polygons=60)[Own.DONE] == states["pending"]


def test_refused_credentials_stop_the_run_at_once(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.always = CredentialsRefused("Wrong password.")
    with pytest.raises(CredentialsRefused):
        run(ledger, service, tmp_path, polygons=30)
    assert len(service.received) == 1
    assert rows(ledger)["p0"].own == "pending"


def test_a_service_away_ends_the_run_after_its_limit_and_nothing_was_sent(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.always = ServiceAway("Nothing answers.")
    with pytest.raises(ServiceAway):
        run(ledger, service, tmp_path, 3, replace(QUICK, away_limit_s=0.5))
    assert {(row.own, row.attempts) for row in rows(ledger).values()} == {("pending", 0)}


def test_a_service_away_for_a_moment_is_waited_for(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.script["p0"] = [ServiceAway("Nothing answers."), accepted(at("p0"))]
    service.says[at("p0")] = [ServiceAway("Nothing answers."), succeeded()]
    assert run(ledger, service, tmp_path, polygons=2) == {Own.DONE: 2}


def test_a_place_that_the_policy_forbids_stops_a_run_that_has_read_nothing_yet(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [LocationRefused("Not that host.")]
    with pytest.raises(LocationRefused):
        run(ledger, service, tmp_path, polygons=5)
    assert service.received == ["p0"]
    service.says[at("p0")] = [succeeded()]  # a person has allowed the host
    assert run(ledger, service, tmp_path, polygons=5) == {Own.DONE: 5}
    assert service.received.count("p0") == 1


def test_what_cannot_be_ordered_fails_with_the_reason(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    def order(claimed: Claimed) -> Order:
        raise BadInput("This process takes points.")

    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, order) as dispatcher:
        assert dispatcher.dispatch(units, LIMIT_S)[Own.FAILED] == 1
    assert rows(ledger)["p0"].error_text == "This process takes points."


def test_a_polygon_that_cannot_be_sent_is_a_failed_unit_and_not_the_end(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    of_series, units = load(ledger, [feature(0, geometry=None, problem="It is empty."), feature(1)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        found = dispatcher.dispatch(units, LIMIT_S)
    assert (found[Own.FAILED], found[Own.DONE]) == (1, 1)
    assert rows(ledger)["p0"].error_text == "It is empty."
    assert service.received == ["p1"]


@pytest.mark.parametrize(
    ("said", "limit", "error_class"),
    [
        (accepted(None), {"accepted_limit_s": 0.1}, "AcceptedLimit"),
        (running(), {"running_limit_s": 0.1}, "RunningLimit"),
        (running(), {"total_limit_s": 0.1}, "TotalLimit"),
        (running(3), {"no_progress_s": 0.1}, "NoProgress"),
        (UnreadableStatus("Gone."), {"total_limit_s": 0.1}, "TotalLimit"),
    ],
)
def test_each_limit_is_an_outcome_of_its_own(
    said: JobStatus,
    limit: dict[str, float],
    error_class: str,
    ledger: Ledger,
    service: FakeService,
    tmp_path: Path,
) -> None:
    service.says[at("p0")] = [said]
    assert run(ledger, service, tmp_path, 1, replace(QUICK, **limit)) == {Own.GIVEN_UP: 1}
    assert rows(ledger)["p0"].error_class == error_class


def test_a_job_that_was_given_up_is_looked_at_once_more_by_the_next_run(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = service.says[at("p1")] = [running()]
    impatient = replace(QUICK, running_limit_s=0.1)
    assert run(ledger, service, tmp_path, 2, impatient) == {Own.GIVEN_UP: 2}
    service.says[at("p0")] = [UnreadableStatus("Empty."), succeeded()]
    assert run(ledger, service, tmp_path, 2, impatient) == {Own.DONE: 1, Own.GIVEN_UP: 1}
    looks = service.looks[at("p1")]
    assert run(ledger, service, tmp_path, 2, impatient) == {Own.DONE: 1, Own.GIVEN_UP: 1}
    assert service.looks[at("p1")] == looks
    assert service.received == ["p0", "p1"]


def test_a_service_away_at_the_one_more_look_leaves_that_to_the_next_run(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [running()]
    impatient = replace(QUICK, running_limit_s=0.1)
    assert run(ledger, service, tmp_path, 1, impatient) == {Own.GIVEN_UP: 1}
    service.says[at("p0")] = [ServiceAway("Nothing answers.")]
    assert run(ledger, service, tmp_path, 1, impatient) == {Own.GIVEN_UP: 1}
    service.says[at("p0")] = [succeeded()]
    assert run(ledger, service, tmp_path, 1, impatient) == {Own.DONE: 1}


def test_a_job_that_cannot_be_read_is_asked_more_seldom_with_its_age(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [UnreadableStatus("Gone.")]
    rules = replace(QUICK, total_limit_s=3.0, poll_longest_s=60.0)
    assert run(ledger, service, tmp_path, 1, rules) == {Own.GIVEN_UP: 1}
    assert service.looks[at("p0")] < 50


def test_when_the_time_is_over_jobs_stay_in_flight_and_the_next_round_waits_for_them(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [running()]
    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        in_flight_after_a_round(dispatcher, units)
        service.says[at("p0")] = [succeeded()]
        assert dispatcher.dispatch(units, LIMIT_S)[Own.DONE] == 1
    assert service.received == ["p0"]


def test_a_job_that_hangs_does_not_hold_up_a_round_when_others_wait(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [running()]
    of_series, units = load(ledger, [feature(number) for number in range(5)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        found = dispatcher.dispatch(units, time_box_s=LIMIT_S * 10, linger_s=0.2)
        assert (found[Own.IN_FLIGHT], found[Own.DONE]) == (1, 4)


def test_a_stopped_run_leaves_its_jobs_to_the_next_by_their_status_location(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says = {at(f"p{number}"): [running()] for number in range(4)}
    of_series, units = load(ledger, [feature(number) for number in range(4)])
    with dispatching(ledger, of_series, service, tmp_path, replace(QUICK, concurrency=4), by_id) as dispatcher:
        waiting = threading.Thread(target=dispatcher.dispatch, args=(units, LIMIT_S))
        waiting.start()
        until(lambda: len(service.looks) == 4)
        dispatcher.stop()
        waiting.join(LIMIT_S)
        assert not waiting.is_alive()
    assert {row.own for row in rows(ledger).values()} == {"in_flight"}
    service.says.clear()
    assert run(ledger, service, tmp_path, polygons=4) == {Own.DONE: 4}
    assert len(service.received) == 4


def test_a_stopped_run_does_not_wait_for_ever_for_an_answer(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.silent = {"p0"}
    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, replace(QUICK, stop_s=0.1), by_id) as dispatcher:
        waiting = threading.Thread(target=dispatcher.dispatch, args=(units, LIMIT_S))
        waiting.start()
        until(lambda: service.received == ["p0"])
        dispatcher.stop()
        waiting.join(LIMIT_S)
    row = rows(ledger)["p0"]
    assert (row.own, row.error_class) == ("uncertain", "Interrupted")


def test_requests_that_hang_do_not_hold_back_those_that_have_room_beside_them(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.silent = {f"p{number}" for number in range(1, 13)}
    of_series, units = load(ledger, [feature(number) for number in range(30)])
    rules = replace(QUICK, concurrency=64, submits_at_once=16, stop_s=0.1)
    with dispatching(ledger, of_series, service, tmp_path, rules, by_id) as dispatcher:
        until(lambda: dispatcher.dispatch(units, 0.2)[Own.DONE] == 18)


def test_no_more_is_sent_than_a_person_has_agreed_to(ledger: Ledger, service: FakeService, tmp_path: Path) -> None:
    service.script["p1"] = [ThrottledError("Busy.", 0.01), accepted(at("p1"))]
    assert run(ledger, service, tmp_path, 9, replace(QUICK, most_requests=4)) == {Own.DONE: 4, Own.PENDING: 5}
    assert sum(row.attempts for row in rows(ledger).values()) == 4


def test_a_cancelled_run_asks_the_service_to_dismiss_and_what_it_dismissed_can_be_sent_again(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    service.says[at("p0")] = [running()]
    of_series, units = load(ledger, [feature(0)])
    with dispatching(ledger, of_series, service, tmp_path, QUICK, by_id) as dispatcher:
        in_flight_after_a_round(dispatcher, units)
        dispatcher.stop(cancel_remote=True)
    assert service.cancelled == [at("p0")]
    assert rows(ledger)["p0"].own == "pending"


def test_two_runs_at_once_share_a_campaign_and_send_nothing_twice(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    of_series, units = load(ledger, [feature(number) for number in range(60)])
    rules = replace(QUICK, concurrency=4)
    with (
        Ledger.open(tmp_path / "ledger.sqlite") as another,
        dispatching(ledger, of_series, service, tmp_path, rules, by_id) as one,
        dispatching(another, of_series, service, tmp_path, rules, by_id) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        runs = [threads.submit(each.dispatch, units, LIMIT_S) for each in (one, other)]
        found = [each.result() for each in runs]
        shares = [one.progress.sent, other.progress.sent]
    assert [each[Own.DONE] for each in found] == [60, 60]
    assert sorted(service.received) == sorted(set(service.received))
    assert sum(shares) == 60
    assert service.most_outstanding <= 4


def test_a_run_that_comes_when_another_has_all_that_the_service_takes_gets_its_part(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    of_series, units = load(ledger, [feature(number) for number in range(200)])
    rules = replace(QUICK, concurrency=2, recheck_s=0.3)
    with (
        Ledger.open(tmp_path / "ledger.sqlite") as another,
        dispatching(ledger, of_series, service, tmp_path, rules, by_id) as one,
        dispatching(another, of_series, service, tmp_path, rules, by_id) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(one.dispatch, units, LIMIT_S)
        until(lambda: len(service.received) > 8)
        second = threads.submit(other.dispatch, units, LIMIT_S)
        until(lambda: other.progress.sent > 0)
        sent_before = one.progress.sent
        assert (first.result()[Own.DONE], second.result()[Own.DONE]) == (200, 200)
        sent_since = one.progress.sent - sent_before
    assert other.progress.sent > sent_since / 2


def test_a_long_value_goes_to_a_file_and_a_short_one_into_the_ledger(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    outputs = (
        Output("url", "literal", "s3://bucket/a.parquet"),
        Output("time/series", "complex", "x" * 100, "application/vnd.terriajs.catalog-member+json"),
    )
    service.says[at("p0")] = [JobStatus(Remote.SUCCESSFUL, outputs=outputs)]
    run(ledger, service, tmp_path, 1, replace(QUICK, longest_value=50))
    short, long = outputs_of(ledger, rows(ledger)["p0"].unit)
    assert (short.value, short.file) == ("s3://bucket/a.parquet", None)
    assert long.value is None
    assert Path(long.file).read_text() == "x" * 100
    assert Path(long.file).parent == tmp_path / "outputs"
    assert long.file.endswith("-time_series.json")


def test_a_run_whose_lease_was_taken_writes_nothing_more(
    ledger: Ledger, service: FakeService, tmp_path: Path
) -> None:
    of_series, units = load(ledger, [feature(0)])
    with run_on(ledger, CAMPAIGN, "a test") as lease:
        ledger.write(lambda connection: connection.execute(leases.update().values(holder="", expires_at=0)))
        numbers = [one.number for one in of_series]
        with (
            Dispatcher(ledger, lease, numbers, service, by_id, QUICK, tmp_path) as dispatcher,
            pytest.raises(LeaseLost),
        ):
            dispatcher.dispatch(units, LIMIT_S)
    assert service.received == []
