"""Lines about the course of a run."""

from __future__ import annotations

import pytest

import cluster.progress
from cluster.pace import Pace, starting_text
from cluster.progress import Bars, Lines, under_way
from compute.control import Progress


def test_time_left_is_told_once_there_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(0.0, 0), (2.0, 10), (10.0, 100), (20.0, 200), (40.0, 1_000)]
    times = iter(seconds for seconds, _ in steps)
    monkeypatch.setattr(cluster.progress.time, "monotonic", lambda: next(times))
    lines: list[str] = []
    tell = Lines(lines.append)
    for _, done in steps:
        tell(Progress("stage_a", done, 1_000))
    assert lines == [
        "Stage A: 10 %, 100 of 1 000, 10/s, about 80 s left",
        "Stage A: 20 %, 200 of 1 000, 10/s, about 76 s left",
        "Stage A: 1 000 done in 40.0 s, 25/s",
    ]


def test_no_guess_from_the_start_of_a_stage() -> None:
    pace = Pace(5.0)
    # Twenty seconds of compiling tell nothing.
    told = [(0, 0.0), (0, 19.0), (10, 20.0), (20, 24.0), (110, 30.0), (1_000, 40.0)]
    left = [pace.left(done, 1_000, now) for done, now in told]
    assert left == [None, None, None, None, 89.0, 0.0]
    assert starting_text("stage_a", 0) == "loading or compiling kernels"
    assert starting_text("stage_a", 1) == starting_text("finalizing", 0) == ""


def test_bars_say_what_lines_say(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        assert "stage_a" not in bars
        bars.show("stage_a", 400, 1_000, "about 33 s left", "", "best so far 1.00 %", rate=", 9/s")
        bars.show("finalizing", 0, 1)
        assert "stage_a" in bars
        bars.say("running")
    said = " ".join(capsys.readouterr().err.split())
    assert "running" in said
    for text in ("Stage A", "40%", "400 of 1 000, 9/s", "about 33 s left, best so far 1.00 %"):
        assert text in said
    assert "Reports" in said
    assert (
        under_way("stage_a", 400, 1_000, "", "best so far 1.00 %", rate=", 9/s")
        == "Stage A: 40 %, 400 of 1 000, 9/s, best so far 1.00 %"
    )
