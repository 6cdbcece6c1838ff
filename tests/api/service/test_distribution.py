"""Histograms, samples and neighbours, against what plain loops find in the same columns."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.column_parts import METRICS, Wanted, column_parts, wanted
from api.columns import ColumnCache, Columns
from api.distribution import around, distribution, sample
from compute.errors import InvalidRequest
from tests.api.service.columns import numbers, small_grid, write_parts

GRID = small_grid(windows=6, periods=4)
ROWS = numbers(np.arange(GRID.total))
FILTERS: dict[str, Any] = {"axes": ["ma.sma.window:6..9"], "least": ["num_trades:2"]}


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    write_parts(tmp_path, GRID.total, folds=2)
    return Columns(column_parts(tmp_path), GRID, ColumnCache())


def kept(chosen: Wanted) -> list[int]:
    return np.flatnonzero(chosen.chosen(GRID.digits(np.arange(GRID.total)), ROWS)).tolist()


@pytest.mark.parametrize("filters", [{}, FILTERS])
@pytest.mark.parametrize("metric", METRICS)
def test_a_distribution_counts_what_is_wanted(
    columns: Columns, metric: str, filters: dict[str, Any]
) -> None:
    chosen = wanted(GRID, **filters)
    found = distribution(columns, chosen, metric)
    values = ROWS[metric][kept(chosen)].astype(float)
    values = values[np.isfinite(values)]
    assert found["variants"] == len(values) == sum(found["counts"])
    assert found["left_out"] == GRID.total - len(values)
    assert found["median"] == np.median(values)
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["quartiles"] == np.quantile(values, (0.25, 0.75)).tolist()
    assert found["above_zero_pct"] == 100 * sum(values > 0) / len(values)
    edges = found["edges"]
    inside = [sum(low <= v < high for v in values) for low, high in pairwise(edges[1:-1])]
    assert found["counts"][1:-1] == inside


@pytest.mark.parametrize("filters", [{}, FILTERS])
@pytest.mark.parametrize("metric", METRICS)
def test_the_best_are_the_best_and_others_are_others(
    columns: Columns, metric: str, filters: dict[str, Any]
) -> None:
    chosen = wanted(GRID, **filters)
    best, others, count = sample(columns, chosen, metric, best=7, random=9, seed=3)
    there = [i for i in kept(chosen) if not np.isnan(ROWS[metric][i])]
    assert count == len(there)
    assert [row["flat_index"] for row in best] == sorted(
        there, key=lambda i: (-ROWS[metric][i], i)
    )[:7]
    drawn = [row["flat_index"] for row in others]
    assert len(set(drawn)) == 9
    assert set(drawn) <= set(there) - {row["flat_index"] for row in best}
    assert sample(columns, chosen, metric, best=7, random=9, seed=3)[1] == others
    assert sample(columns, chosen, metric, best=7, random=9, seed=4)[1] != others
    row = best[0]
    selection = GRID.selection(row["flat_index"])
    values = {f"{c.indicator_id}.{n}": v for c in selection
              for part in (c.inputs, c.params, c.signals) for n, v in part.items()}  # fmt: skip
    assert dict(zip(GRID.axis_names, row["values"], strict=True)) == values
    for name, value in zip(METRICS, row["metrics"], strict=True):
        expected = float(ROWS[name][row["flat_index"]])
        assert value == (expected if np.isfinite(expected) else None)


def test_a_sample_larger_than_the_grid_is_the_grid(columns: Columns) -> None:
    best, others, count = sample(columns, Wanted(), "num_trades", best=0, random=1000, seed=1)
    assert (best, count) == ([], GRID.total)
    assert [row["flat_index"] for row in others] == list(range(GRID.total))
    best, others, _ = sample(columns, Wanted(), "num_trades", best=1000, random=5, seed=1)
    assert (len(best), others) == (GRID.total, [])


def test_neighbours_are_one_step_away_on_every_axis(columns: Columns) -> None:
    digits = GRID.digits(np.arange(GRID.total))
    for flat in (0, 37, GRID.total - 1):
        near = np.abs(digits - digits[flat]).max(axis=1) == 1
        values = ROWS["total_return_pct"][near]
        bare, found = around(columns, flat, False), around(columns, flat, True)
        assert bare is not None
        assert bare["words"].startswith("The marked variant returned")
        assert found is not None
        assert found["words"].startswith("Without its stops the marked variant returned")
        assert f"Its {near.sum()} neighbours, one step away" in found.pop("words")
        assert found == {
            "own": ROWS["total_return_pct"][flat],
            "count": near.sum(),
            "median": np.median(values),
            "least": values.min(),
            "greatest": values.max(),
        }


def test_nothing_is_drawn_of_nothing(columns: Columns) -> None:
    with pytest.raises(InvalidRequest, match="widen the filters"):
        distribution(columns, wanted(GRID, least=["num_trades:99"]), "total_return_pct")
    with pytest.raises(InvalidRequest, match="no metric"):
        sample(columns, Wanted(), "sharpe", best=1, random=1, seed=1)
