"""W1 and votes: grids of every indicator, and both sections on a few bars."""

from __future__ import annotations

import pytest

from compute.indicators.registry import ids
from compute.output_rows import output_rows
from tests.benchmarks import library
from tests.benchmarks.options import Options
from tests.benchmarks.series import grid


def test_every_indicator_has_a_grid_that_fits() -> None:
    rows = {indicator_id: len(output_rows(grid(indicator_id))) for indicator_id in ids()}
    assert rows["ma.sma"] == rows["momentum.macd"] == 196
    assert rows["volume.obv"] == 1
    assert all(1 <= count <= 256 for count in rows.values())
    assert set(library.SLOW) | set(library.ALONE) | set(library.WANTED) <= set(rows)


def test_both_sections_on_a_few_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "CUT", 2_000)
    monkeypatch.setattr(
        library, "ids", lambda: ("ma.sma", "volume.obv", "ma.alma", "volatility.tr")
    )
    monkeypatch.setattr(library, "VOTERS", ("ma.sma",))
    options = Options((1,), True, lambda line: None)
    series, votes = library.section_w1(options), library.section_votes(options)
    assert [row[0] for row in series.tables[0].rows] == list(library.ids())
    leads = [row[-1] for row in series.tables[0].rows]
    assert all(lead is not None and lead > 0 for lead in (leads[0], leads[1], leads[3]))
    assert leads[2] is None  # TA-Lib has none
    assert next(goal.name for goal in series.goals).startswith("W1 ma.sma, 1 threads")
    assert votes.tables[0].rows[0][-1] == 2  # a LONG and a SHORT plane a row
    assert all(goal.met is None for goal in (*series.goals, *votes.goals))  # cut sizes
