"""How the command tells a person how far a run is."""

import pytest

from flows.cli.console import progress_line
from tasks.chips.campaign import Progress


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(16, surveyed=9), "9 of 16 chips looked at, 0 files written, 0 kept"),
        (
            Progress(2500, surveyed=2500, requested=1, settled=0, exported=1200),
            "2,500 of 2,500 chips looked at, 1 request sent, 0 come home, 1,200 files written, 0 kept",
        ),
        (
            Progress(16, surveyed=16, settled=1, kept=12),
            "16 of 16 chips looked at, 0 requests sent, 1 come home, 0 files written, 12 kept",
        ),
    ],
    ids=["looking", "asking", "somebody else asked"],
)
def test_requested_and_settled_stand_beside_surveyed_and_exported(progress: Progress, line: str) -> None:
    assert progress_line(progress) == line
