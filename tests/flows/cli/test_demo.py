"""The demo's own pieces: its troubles, the story it tells, its end. The whole of it runs in `make demo`."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.sandbox import seed, world
from deployments.sandbox.cassandra import Node
from deployments.sandbox.plan import Plan
from flows.cli import demo, options
from tasks.chips.campaign import tile_campaign_of
from tasks.chips.report import Standing
from tasks.report.chips import ChipLine, count_states

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


def test_its_window_holds_at_least_twelve_chips_with_every_pixel_beforehand() -> None:
    work = tile_campaign_of(demo.TILE, window=demo.WINDOW, algorithm=world.ALGORITHM)
    full = {(chip.chip_x, chip.chip_y) for chip in seed.SEEDED if chip.kind in ("complete", "flawed", "no_data")}
    assert len(work.chips) == 20
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
    summary = {"seconds": 1.0, "changed": 0, "exported": 0, "kept": 1, "files": {}}

    demo._show_end(work, summary, tmp_path)

    told = capsys.readouterr().err
    assert "1 chip not home:" in told
    assert "(-1812585,2852805): quarantined, requested twice. The same 40. It is left alone." in told
    assert "Nothing has changed" in told


def test_the_sandboxs_service_and_pace_are_used_with_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["OVERLANDER_SERVICE_URL", *options.SANDBOX_PACE]
    for name in [*names, *(f"OVERLANDER_CASSANDRA_{part}" for part in ("HOSTS", "PORT", "USERNAME", "PASSWORD"))]:
        monkeypatch.setenv(name, "x")  # so that all are restored
        monkeypatch.delenv(name)
    for name in ("CASSANDRA_KEYSPACE", "ALGORITHM", "LEDGER"):
        monkeypatch.setenv(f"OVERLANDER_{name}", "set")
    monkeypatch.setenv("OVERLANDER_STALL_AFTER_S", "77")
    monkeypatch.setattr(world, "service_url", lambda: "http://127.0.0.1:1/here")

    options.use_sandbox(Node(("127.0.0.1",), 1))

    wanted = ["http://127.0.0.1:1/here", "77", "0.5", "2"]
    assert [os.environ[name] for name in names] == wanted


def test_a_real_service_is_never_asked_for_what_the_sandboxs_table_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "node", lambda: Node(("127.0.0.1",), 1))
    monkeypatch.setattr(world, "service_url", lambda: "http://127.0.0.1:1")
    monkeypatch.setenv("OVERLANDER_SERVICE_URL", "http://real.example/v1/changes")
    assert options.settle() is None
