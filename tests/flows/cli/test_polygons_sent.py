"""`overlander polygons run`: what it sends, what it never sends, and how it ends."""

import csv
import json
from pathlib import Path

import pytest
from fiona.transform import transform

from deployments.sandbox.wps_answers import ScriptedWps
from tests.flows.desk import Desk
from tests.flows.polygons_at_desk import (
    own,
    paragraph,
    run,
    sent,
    summary,
    times_sent,
    wetlands,
)
from tests.tasks.polygons.wetlands import X, Y, polygon, square, squares, write, zipped

pytestmark = pytest.mark.campaign

COMPLETED, WRONG, LEFT, NEEDS_PERSON = 0, 2, 3, 4


def test_new_rows_of_the_file_are_added_to_the_campaign(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    run(wps_desk, wetlands(wps_desk, 3))

    ran = run(wps_desk, wetlands(wps_desk, 5))

    assert (ran.status, own(ran), summary(ran)["new"], summary(ran)["sent"]) == (COMPLETED, {"done": 5}, 2, 2)
    assert times_sent(scripted_wps) == [1] * 5


def test_a_polygon_changed_under_an_old_id_is_reported_and_sent_only_when_accepted(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    run(wps_desk, wetlands(wps_desk, 3))
    moved = squares(3)
    moved[1] = (square(X + 1000, Y + 5000), moved[1][1])

    reported = run(wps_desk, wetlands(wps_desk, records=moved))
    assert (reported.status, summary(reported)["changed"], sent(scripted_wps)) == (NEEDS_PERSON, 1, 3)
    assert "1 polygon changed under an old id and not sent (2)" in summary(reported)["next_steps"][0]

    accepted = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--accept-changes")
    assert (accepted.status, own(accepted), sent(scripted_wps)) == (COMPLETED, {"done": 3}, 4)


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (("--limit", "2"), ["1", "2"]),
        (("--where", "Shape_Leng <= 1200"), ["1", "2", "3"]),
        (("--ids", "ids.txt"), ["2", "5"]),
        (("--bbox", "{box}"), ["4", "5"]),
    ],
    ids=lambda given: given[0],
)
def test_only_what_is_selected_is_sent(
    wps_desk: Desk,
    scripted_wps: ScriptedWps,
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    selection: tuple[str, str],
    ids: list[str],
) -> None:
    monkeypatch.chdir(wps_desk.folder)
    Path("ids.txt").write_text("2\n5\n")
    box = east_of_the_third()

    ran = run(wps_desk, wetlands(wps_desk), selection[0], selection[1].format(box=box))

    rows = csv.DictReader(Path(summary(ran)["files"]["csv"]).read_text().splitlines())
    assert (ran.status, [row["id"] for row in rows]) == (COMPLETED, ids)
    assert sent(scripted_wps) == len(ids)


def test_a_later_narrower_run_sends_nothing_outside_of_its_selection(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    run(wps_desk, wetlands(wps_desk), "--max-requests", "1")

    ran = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--where", "OBJECTID = 4")

    assert (ran.status, own(ran), sent(scripted_wps)) == (COMPLETED, {"done": 2, "pending": 3}, 2)


def test_max_requests_bounds_a_run_and_the_next_goes_on(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    first = run(wps_desk, wetlands(wps_desk), "--max-requests", "2")
    assert (first.status, own(first), sent(scripted_wps)) == (LEFT, {"done": 2, "pending": 3}, 2)
    assert "run the same command again" in summary(first)["next_steps"][0]

    second = run(wps_desk, wps_desk.folder / "wetlands.gpkg")
    assert (second.status, own(second), sent(scripted_wps)) == (COMPLETED, {"done": 5}, 5)


def test_more_than_a_handful_needs_consent(wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str) -> None:
    refused = run(wps_desk, wetlands(wps_desk, 101))
    assert (refused.status, refused.out, sent(scripted_wps)) == (WRONG, "", 0)
    assert "101 jobs" in paragraph(refused)
    assert "--yes" in paragraph(refused)

    agreed = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--yes", "--concurrency", "16")
    assert (agreed.status, own(agreed), sent(scripted_wps)) == (COMPLETED, {"done": 101}, 101)


def test_retries_need_consent_too_and_without_it_nothing_is_forgotten(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "fails": "cloudy"}])
    failed = run(wps_desk, wetlands(wps_desk), "--attempts", "1")
    assert (failed.status, own(failed)) == (NEEDS_PERSON, {"failed": 5})
    monkeypatch.setattr("tasks.consent.HANDFUL", 4)

    refused = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--retry", "failed")
    after = wps_desk.run("polygons", "status", "wetlands.gpkg", "--json")
    assert (refused.status, sent(scripted_wps)) == (WRONG, 5)
    assert (after.status, own(after)) == (NEEDS_PERSON, {"failed": 5})

    scripted_wps.plan(troubles=[])
    agreed = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--retry", "failed", "--yes")
    assert (agreed.status, own(agreed), times_sent(scripted_wps)) == (COMPLETED, {"done": 5}, [2] * 5)


def test_without_retry_what_failed_is_left_alone(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "jobs": [1], "fails": "cloudy"}])

    first = run(wps_desk, wetlands(wps_desk, 3))
    again = run(wps_desk, wps_desk.folder / "wetlands.gpkg")

    assert (first.status, again.status) == (NEEDS_PERSON, NEEDS_PERSON)
    assert own(first) == own(again) == {"done": 2, "failed": 1}
    assert times_sent(scripted_wps) == [2, 1, 1]
    shown = wps_desk.run("polygons", "results", "wetlands.gpkg", "--where", "own = 'failed'")
    assert "cloudy" in shown.out


def test_an_interval_is_split_into_jobs_of_their_own(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    source = str(wetlands(wps_desk, 2))

    ran = wps_desk.run("polygons", "run", source, "--interval", "2010-01-01/2013-01-01", "--split", "1Y", "--json")

    assert (ran.status, own(ran), times_sent(scripted_wps)) == (COMPLETED, {"done": 6}, [1] * 6)
    assert sorted({one["start"][:10] for one in scripted_wps.received()}) == [
        "2010-01-01",
        "2011-01-01",
        "2012-01-01",
    ]


def test_sync_takes_each_answer_as_the_result(wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str) -> None:
    ran = run(wps_desk, wetlands(wps_desk, 3), "--sync")

    assert (ran.status, own(ran)) == (COMPLETED, {"done": 3})
    assert scripted_wps.summary()["polls"] == 0


def test_a_service_that_stores_no_answers_is_sent_nothing_unless_synchronously(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(stored=False)
    source = wetlands(wps_desk, 3)
    ran = run(wps_desk, source)
    assert (ran.status, sent(scripted_wps)) == (WRONG, 0)
    assert "Run with --sync" in paragraph(ran)

    assert own(run(wps_desk, source, "--sync")) == {"done": 3}


@pytest.mark.parametrize(
    ("policy", "status", "states", "requests"),
    [
        ("leave", NEEDS_PERSON, {"done": 2, "uncertain": 1}, 3),
        ("wait", LEFT, {"done": 2, "uncertain": 1}, 3),
        ("resend", COMPLETED, {"done": 3}, 4),
    ],
)
def test_what_was_perhaps_sent_is_treated_as_the_policy_says(
    wps_desk: Desk,
    scripted_wps: ScriptedWps,
    prefect_api: str,
    policy: str,
    status: int,
    states: dict[str, int],
    requests: int,
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "jobs": [1], "reset": "after", "times": 1}])

    ran = run(wps_desk, wetlands(wps_desk, 3), "--on-uncertain", policy)

    assert (ran.status, own(ran), sent(scripted_wps)) == (status, states, requests)


def test_with_resend_a_request_that_is_never_answered_ends_with_its_attempts(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "jobs": [1], "reset": "after"}])

    ran = run(wps_desk, wetlands(wps_desk, 3), "--on-uncertain", "resend")

    assert (ran.status, own(ran)) == (NEEDS_PERSON, {"done": 2, "uncertain": 1})
    assert times_sent(scripted_wps) == [2, 1, 1]
    assert "--retry uncertain" in summary(ran)["next_steps"][0]


def test_uncertain_polygons_are_sent_again_when_a_person_says_so(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(troubles=[{"when": "execute", "jobs": [1], "reset": "after", "times": 1}])
    run(wps_desk, wetlands(wps_desk, 3))

    ran = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--retry", "uncertain")

    assert (ran.status, own(ran), times_sent(scripted_wps)) == (COMPLETED, {"done": 3}, [2, 1, 1])


def test_a_job_given_up_is_looked_at_once_more_and_then_a_persons(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    limits = {"OVERLANDER_WPS_ACCEPTED_LIMIT_S": "0.5"}
    scripted_wps.plan(troubles=[{"when": "job", "jobs": [2], "stays": "accepted"}])

    first = run(wps_desk, wetlands(wps_desk, 3), **limits)
    second = run(wps_desk, wps_desk.folder / "wetlands.gpkg", **limits)

    assert (first.status, own(first)) == (LEFT, {"done": 2, "given_up": 1})
    assert (second.status, own(second)) == (NEEDS_PERSON, {"done": 2, "given_up": 1})
    assert "--retry given_up" in summary(second)["next_steps"][0]
    assert sent(scripted_wps) == 3


def test_concurrency_bounds_the_jobs_outstanding(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(duration_s=0.3)

    ran = run(wps_desk, wetlands(wps_desk, 8), "--concurrency", "2")

    assert (own(ran), scripted_wps.summary()["most_outstanding"]) == ({"done": 8}, 2)


def test_flood_starts_everything_at_once_and_says_how_much_that_may_be(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    scripted_wps.plan(troubles=[{"when": "job", "jobs": list(range(1, 31)), "duration_s": 3}])

    ran = run(wps_desk, wetlands(wps_desk, 31), "--concurrency", "flood")

    assert own(ran) == {"done": 31}
    assert scripted_wps.summary()["most_outstanding"] > 16
    assert "at most" in paragraph(ran)


def test_what_cannot_be_sent_fails_with_its_reason_or_is_repaired(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    bow_tie = polygon([(X, Y), (X + 300, Y + 200), (X + 300, Y), (X, Y + 200), (X, Y)])
    records = [*squares(2), (bow_tie, {"OBJECTID": 3}), (None, {"OBJECTID": 4})]

    first = run(wps_desk, wetlands(wps_desk, records=records))
    assert (first.status, own(first), sent(scripted_wps)) == (NEEDS_PERSON, {"done": 2, "failed": 2}, 2)
    assert "BadGeometry" in Path(summary(first)["files"]["csv"]).read_text()

    repaired = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--repair")
    assert (own(repaired), sent(scripted_wps)) == ({"done": 3, "failed": 1}, 3)


def test_a_polygon_too_large_for_the_new_limit_is_not_sent(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    records = [*squares(2), (square(X + 9000, size=20_000), {"OBJECTID": 3})]
    run(wps_desk, wetlands(wps_desk, records=records), "--max-requests", "1")

    ran = run(wps_desk, wps_desk.folder / "wetlands.gpkg", "--max-area", "10")

    assert (ran.status, own(ran), sent(scripted_wps)) == (NEEDS_PERSON, {"done": 2, "failed": 1}, 2)


def test_a_file_in_a_zip_can_be_named(wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str) -> None:
    shapefile = wetlands(wps_desk, 2).with_suffix(".shp")
    write(shapefile, squares(2))
    zipped(wps_desk.folder / "all.zip", shapefile)

    ran = run(wps_desk, f"zip://{wps_desk.folder}/all.zip!wetlands.shp")  # type: ignore[arg-type]

    assert (ran.status, summary(ran)["campaign"], own(ran)) == (COMPLETED, "all", {"done": 2})


def test_a_process_of_ones_own_and_one_with_several_outputs(
    wps_desk: Desk, scripted_wps: ScriptedWps, prefect_api: str
) -> None:
    profile = wps_desk.folder / "cover.toml"
    profile.write_text(
        'identifier = "FractionalCoverDrill"\noutputs = ["url", "timeseries"]\n'
        '[geometry]\nidentifier = "geometry"\n[start]\nidentifier = "start"\n[end]\nidentifier = "end"\n'
    )
    source = wetlands(wps_desk, 2)

    own_one = run(wps_desk, source, "--process", str(profile))
    built_in = run(wps_desk, source, "--process", "fractional-cover-drill", "--campaign", "cover")

    for ran in (own_one, built_in):
        assert (ran.status, own(ran)) == (COMPLETED, {"done": 2})
        rows = list(csv.DictReader(Path(summary(ran)["files"]["csv"]).read_text().splitlines()))
        assert set(json.loads(rows[0]["outputs"])) == {"image", "url", "timeseries"}
        assert len(Path(summary(ran)["files"]["urls"]).read_text().splitlines()) == 4


def east_of_the_third() -> str:
    """Return a box in degrees that the fourth and the fifth square touch."""
    easts, norths = [X + 2600, X + 4600], [Y - 500, Y + 500]
    (west, east), (south, north) = transform("EPSG:3577", "OGC:CRS84", easts, norths)
    return f"{west},{south},{east},{north}"
