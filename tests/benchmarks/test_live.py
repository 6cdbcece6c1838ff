"""Live runs at a tiny size: they go through every minute, and are their back-tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.live_bars import bar_findings, bars
from tests.benchmarks.live_load import Load, Minute, load, load_findings
from tests.benchmarks.live_place import Crowd
from tests.benchmarks.live_runner import STAGES


@pytest.mark.soak  # five processes with a candle store each
def test_a_crowd_goes_through_its_minutes_and_is_taken_up_again(
    database: str, tmp_path: Path
) -> None:
    crowd = Crowd(2, 2, ("1m",), 3)
    found = load(tmp_path, database, crowd)
    assert [one.bars for one in found.minutes] == [crowd.runs] * 3
    for minute in found.minutes:
        assert list(minute.stages) == list(STAGES)
        assert 0 < minute.stages["read"] < minute.stages["committed"]
        assert minute.stages["committed"] <= minute.stages["acknowledged"]
    assert found.checked["runs"] == crowd.runs
    assert found.checked["bars"] >= crowd.runs * 5
    assert found.checked["differing"] == 0


def test_minutes_are_told_by_the_bars_that_close() -> None:
    found = Load(Crowd(100, 10, ("15m", "1h"), 4), bare={False: [0.1], True: [0.2, 0.4]})
    found.checked = {"runs": 40, "bars": 80, "trades": 7, "differing": 0}
    for bars_closed, committed in ((0, 0.3), (500, 1.5), (0, 0.5), (0, 0.4)):
        stages = dict.fromkeys(STAGES, 0.2) | {"committed": committed}
        found.minutes.append(Minute(bars_closed, 3, 0.25, stages))
    (minutes, parts, taken_up), goals = load_findings([found], judged=True)
    assert [row[:3] for row in minutes.rows] == [
        ("15m and 1h, no bar closes", 3, 0.4), ("15m and 1h, 500 bars close", 1, 1.5),
    ]  # fmt: skip
    assert [round(row[-1], 6) for row in minutes.rows] == [4.0, 5.0]
    assert [goal.met for goal in goals] == [True, False]
    assert "80 bars and 7 trades of 40 runs" in minutes.note
    for table in (minutes, parts, taken_up):
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_bar_is_the_back_test_after_any_history() -> None:
    found = bars((1_000, 1_500), timed=10)
    assert found.trades > 0
    assert all(found.more[at] > 0 and found.again[at] > 0 for at in (1_000, 1_500))
    table, goals = bar_findings(found, judged=False)
    assert [row[0] for row in table.rows] == [1_000, 1_500]
    assert [goal.met for goal in goals] == [None]
