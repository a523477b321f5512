"""The demo's own pieces: its troubles, the story it tells, its end. The whole of it runs in `make demo`."""

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.sandbox import seed, world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.plan import Plan
from flows.cli import demo_chips as demo
from tasks.chips.campaign import tile_campaign_of
from tasks.chips.report import Standing
from tasks.report.chips import ChipLine, count_states
from tasks.settings import load_settings
from tests.flows.desk import Desk

QUARANTINED = ChipLine(
    -1812585, 2852805, 4, 1, "quarantined", reason="The same 40.", attempts=2, next_step="is left alone"
)


def standing(*lines: ChipLine) -> Standing:
    return Standing(lines, count_states(lines), waiting=0, needs_person=0, next_steps=())


def test_its_troubles_are_such_as_the_service_knows_and_strike_only_chips_that_will_be_asked_for() -> None:
    Plan.model_validate({"troubles": {f"{row},{column}": [plan] for row, column, _, plan in demo._TROUBLES}})
    kinds = {(chip.row, chip.column): chip.kind for chip in seed.SEEDED}
    struck = {kinds.get((row, column), "unrequested") for row, column, _, _ in demo._TROUBLES}
    assert struck == {"unrequested", "incomplete", "queued"}


def test_it_has_one_of_each_trouble_in_store() -> None:
    told = {name for _, _, _, plan in demo._TROUBLES for name in set(plan) - {"times"}}
    assert told == {
        *("rows_lost", "same", "failed_pixels", "no_data", "crash_at", "crash_loop", "other_version"),
        *("error_after_publish", "drop", "slow_answer_s"),
    }


def test_it_touches_no_service_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "service_url", lambda: "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overlander.toml").write_text('service_url = "http://real.example/v1"\nmax_attempts = 9\n')
    real = {"OVERLANDER_CASSANDRA_HOSTS": "db1.example", "OVERLANDER_CASSANDRA_TLS": "true"}
    with Desk(tmp_path).at_work(**real):
        demo._use_the_sandbox_alone(Node(("127.0.0.1",), 1), tmp_path)
        settings = load_settings()

    assert (settings.service_url, settings.cassandra.hosts) == ("http://127.0.0.1:1", ["127.0.0.1"])
    assert settings.cassandra.tls is False
    assert settings.ledger == str(world.ledger_file())
    assert {name: getattr(settings, name) for name in demo._PACE} == demo._PACE


def test_its_window_holds_at_least_twelve_chips_with_every_pixel_beforehand() -> None:
    work = tile_campaign_of(demo.TILE, window=demo.WINDOW, algorithm=world.ALGORITHM)
    full = {(chip.chip_x, chip.chip_y) for chip in seed.SEEDED if chip.kind in ("complete", "flawed", "no_data")}
    assert len(work.chips) == 24
    assert len(full & {(chip.x, chip.y) for chip in work.chips}) >= 12


def test_each_change_of_a_chip_is_told_once_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    before = replace(QUARANTINED, state="incomplete", attempts=1)
    known = demo._states(standing(before))

    demo._say_changes(standing(QUARANTINED), known)
    demo._say_changes(standing(before), known)

    told = "  row 4, column 1: incomplete -> quarantined, asked for twice: The same 40.\n"
    assert capsys.readouterr().err == told


def test_the_end_names_each_chip_that_is_not_home(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    complete = ChipLine(-1815585, 2864805, 0, 0, "complete")
    monkeypatch.setattr(demo, "_standing", lambda _: standing(complete, QUARANTINED))
    work = tile_campaign_of(demo.TILE, window=demo.WINDOW, algorithm=world.ALGORITHM)
    summary = {"seconds": 1.0, "changed": 0, "requested": 15, "exported": 0, "kept": 1, "files": {}}

    demo._show_end(work, summary, tmp_path)

    told = capsys.readouterr().err
    assert "1 chip not home:" in told
    assert "(-1812585,2852805): quarantined, requested twice. The same 40. It is left alone." in told
    assert "Nothing has changed" in told
