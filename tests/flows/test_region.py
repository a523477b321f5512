"""A region's flow against a real Prefect server: what it starts, what it leaves alone, and never twice."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Completed, Crashed, Failed

from flows import children
from flows.artifacts import key_of
from flows.region import region_campaign
from flows.tile import tile_campaign
from tasks.chips.results import ResultsTable
from tasks.chips.states import State as ChipState
from tasks.ledger.leases import lease
from tasks.ledger.store import Ledger
from tests.flows.desk import Desk
from tests.tasks.region_desk import CORNER, SOURCE, RegionDesk

pytestmark = pytest.mark.campaign

POOL = "nobody-works-here"
DEPLOYMENT = "tile-campaign/unattended"
TILES = ("H05V03", "H05V04", "H06V03")


@pytest.fixture(scope="module")
def api(prefect_api: str) -> Iterator[SyncPrefectClient]:
    """Return a client of a server that knows a deployment of tiles' runs, on a pool without a worker."""
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        client.create_deployment(
            flow_id=client.create_flow(tile_campaign),
            name="unattended",
            work_pool_name=POOL,
            entrypoint="flows.tile.tile_campaign",
        )
        yield client


class Region:
    """A region's desk, and a person who runs its campaign again and again."""

    def __init__(self, desk: RegionDesk, at_work: Desk, api: SyncPrefectClient) -> None:
        self.desk = desk
        self._at_work = at_work
        self._api = api

    def run(self, *names: str, **how: Any) -> State[Any]:
        asked = {"tiles": ",".join(names or TILES), "window": CORNER, "deployment": DEPLOYMENT, "max_requests": 10}
        with self._at_work.at_work(OVERLANDER_ALGORITHM=self.desk.algorithm):
            return region_campaign(**asked | {"at_once": 2} | how, return_state=True)  # type: ignore[no-any-return]

    def runs(self, tile: str | None = None) -> list[FlowRun]:
        """Return the tiles' runs that the server knows, the oldest first."""
        tags = [self.desk.algorithm, *([tile] if tile else [])]
        found = self._api.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tags)))
        tiles = [run for run in found if run.deployment_id is not None]
        return sorted(tiles, key=lambda run: run.created)  # type: ignore[arg-type, return-value]

    def tiles_begun(self) -> list[str]:
        return sorted(run.parameters["tile"] for run in self.runs())

    def end(self, tile: str, state: State[Any]) -> None:
        """Let the last run of a tile end, as a worker would."""
        self._api.set_flow_run_state(self.runs(tile)[-1].id, state, force=True)

    def home(self, tile: str) -> None:
        """Let the last run of a tile bring everything home."""
        self.desk.finish(tile)
        self.end(tile, Completed())


@pytest.fixture
def region(api: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    """Return a region of the test's own; of Cassandra only the name is asked for, and that is given."""
    monkeypatch.setattr(ResultsTable, "open", lambda _settings: nullcontext(SimpleNamespace(source=SOURCE)))
    person = Desk(tmp_path)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Region(RegionDesk(ledger, person.out, f"test:{uuid4().hex}"), person, api)


def test_so_many_tiles_are_begun_and_the_run_ends_without_waiting_for_them(region: Region) -> None:
    ended = region.run()

    assert ended.name == "Waiting"
    assert region.tiles_begun() == ["H05V03", "H05V04"]
    asked = region.runs("H05V03")[0].parameters
    assert (asked["window"], asked["max_requests"], asked["out"]) == (CORNER, 10, str(region.desk.out))
    assert "2 under way, 2 of them asked for now" in str(ended.message)


def test_runs_that_no_worker_takes_are_told_of_with_what_they_wait_for(region: Region) -> None:
    ended = region.run()

    assert f"No worker is on the work pool {POOL!r}" in str(ended.message)
    assert ended.result()["next_steps"][0].startswith("No worker")


def test_a_region_under_way_is_left_alone(region: Region) -> None:
    region.run()
    again = region.run()

    assert again.name == "Waiting"
    assert len(region.runs()) == 2


def test_without_tiles_a_region_goes_on_with_those_of_its_last_run_as_its_schedule_does(region: Region) -> None:
    region.run(at_once=1)

    ended = region.run(tiles=None, at_once=3)

    assert str(ended.message).startswith("3 tiles: ")
    assert [tag for run in region.runs() for tag in run.tags if tag in TILES] == list(TILES)


def test_a_finished_tile_makes_room_for_the_next_and_is_never_begun_again(region: Region) -> None:
    region.run()
    region.home("H05V03")
    region.run()
    assert region.tiles_begun() == ["H05V03", "H05V04", "H06V03"]

    region.home("H05V04")
    region.home("H06V03")
    last = region.run()

    assert (last.name, last.result()["conditions"]["finished"]) == ("Completed", 3)
    assert len(region.runs()) == 3


@pytest.mark.parametrize("end", [Crashed(message="The worker died."), Failed(), Completed(name="Waiting")])
def test_a_tile_whose_run_ended_unfinished_gets_another_pass(region: Region, end: State[Any]) -> None:
    region.run("H05V03")
    region.end("H05V03", end)
    region.run("H05V03")

    first, second = region.runs("H05V03")
    assert first.idempotency_key != second.idempotency_key
    assert [" pass 1 " in str(first.idempotency_key), " pass 2 " in str(second.idempotency_key)] == [True, True]


class _Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("sent", [True, False])
def test_a_region_killed_while_it_asks_for_a_run_does_not_ask_for_a_second_one(
    region: Region, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_start: Callable[..., children.Child] = children.start

    def start_and_die(*asked: Any) -> children.Child:
        if sent:
            really_start(*asked)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(children, "start", start_and_die)
        with pytest.raises(_Killed):
            region.run()
    assert len(region.runs()) == sent

    region.run()
    region.run()

    assert region.tiles_begun() == ["H05V03", "H05V04"]
    assert all(" pass 1 " in str(run.idempotency_key) for run in region.runs())


def test_a_tile_that_needs_a_person_is_left_alone_until_somebody_says_otherwise(region: Region) -> None:
    region.desk.note("H05V03", [ChipState.QUARANTINED] * 4)

    ended = region.run("H05V03")
    assert (ended.name, region.runs()) == ("NeedsAttention", [])

    assert region.run("H05V03", again=True).name == "Waiting"
    assert region.tiles_begun() == ["H05V03"]


def test_a_released_tile_is_begun_again(region: Region) -> None:
    region.desk.note("H05V03", [ChipState.QUARANTINED] * 4)
    region.run("H05V03")
    region.desk.note("H05V03", [ChipState.UNREQUESTED] * 4)
    region.run("H05V03")

    assert region.tiles_begun() == ["H05V03"]


def test_a_run_that_somebody_else_started_of_a_tile_counts_and_is_not_doubled(region: Region) -> None:
    tags = ["H05V03", "conus", region.desk.algorithm]
    children.start(DEPLOYMENT, {"tile": "H05V03"}, tags, uuid4().hex)

    region.run(at_once=2)

    assert region.tiles_begun() == ["H05V03", "H05V04"]


def test_a_second_run_of_the_same_campaign_ends_at_once_as_skipped(region: Region) -> None:
    name = f"region {SOURCE} {region.desk.algorithm} conus the west"
    with lease(region.desk.ledger, name, "the other run"):
        ended = region.run(campaign="the west")

    assert (ended.name, region.runs()) == ("Skipped", [])
    assert "'the other run' (process" in str(ended.message)


def test_more_requests_than_a_handful_need_consent_before_any_tile_is_begun(region: Region) -> None:
    ended = region.run(max_requests=None, window="0:50,0:50")

    assert ended.is_failed()
    assert "up to 5,000 chips of 2 tiles" in str(ended.message)
    assert region.runs() == []
    assert region.run(max_requests=None, window="0:50,0:50", yes=True).name == "Waiting"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tiles": "H05V03,H40V03"}, "H40V03"),
        ({"tiles": None}, "some 420 of them hold land"),
        ({"deployment": "tile-campaign/nowhere"}, "`overlander deploy` registers it"),
    ],
)
def test_what_cannot_be_meant_is_one_paragraph(region: Region, wrong: dict[str, Any], words: str) -> None:
    ended = region.run(**wrong)

    assert ended.is_failed()
    assert words in str(ended.message)
    assert "Traceback" not in str(ended.message)
    assert region.runs() == []


def test_a_region_shows_its_tiles_its_map_and_its_files(region: Region, api: SyncPrefectClient) -> None:
    region.desk.finish("H05V03")
    summary = region.run().result()

    key = key_of(f"region conus {region.desk.algorithm}")
    shown = {
        artifact.key: str(artifact.data)
        for artifact in api.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key, f"{key}-tiles"]))
        )
    }
    assert "![Map of conus](data:image/png;base64," in shown[key]
    assert summary["files"]["page"] in shown[key]
    assert all(tile in shown[f"{key}-tiles"] for tile in TILES)
    assert Path(summary["files"]["map"]).read_bytes().startswith(b"\x89PNG")
    assert b"H06V03" in Path(summary["files"]["page"]).read_bytes()
