"""Heatmaps: each cell is the aggregate of the variants that share its two values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import api.heatmap
from api.column_parts import column_parts, wanted
from api.heatmap import AGGREGATES, Heatmap, heatmap
from compute.errors import InvalidRequest
from tests.api.service.columns import numbers, small_grid, write_parts

GRID = small_grid(windows=6, periods=4)
X, Y = "momentum.rsi.window", "ma.sma.window"
PLAIN: dict[str, Any] = {
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
    "median": np.median,
    "count": len,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_parts(tmp_path, GRID.total, folds=2)
    return tmp_path


def of(directory: Path, metric: str, aggregate: str, x: str = X, y: str = Y, **q: Any) -> Heatmap:
    parts = column_parts(directory)
    return heatmap(parts, GRID, wanted(GRID, **q), x=x, y=y, of=metric, aggregate=aggregate)


def test_what_is_sent_is_the_record(directory: Path) -> None:
    found = of(directory, "profit_factor", "mean")
    sent = json.loads(found.encoded(job_id="1"))
    assert sent == {"job_id": "1", **found.record()}


@pytest.mark.parametrize("aggregate", list(AGGREGATES))
@pytest.mark.parametrize("metric", ["total_return_pct", "win_rate_pct", "profit_factor"])
def test_every_cell_is_what_its_variants_give(directory: Path, metric: str, aggregate: str) -> None:
    found = of(directory, metric, aggregate)
    digits = GRID.digits(np.arange(GRID.total))
    values = numbers(np.arange(GRID.total))[metric]
    at_x, at_y = (digits[:, GRID.axis_names.index(name)] for name in (X, Y))
    assert found.record()["x"] == {"name": X, "values": [14, 15, 16, 17]}
    assert found.record()["y"] == {"name": Y, "values": [5, 6, 7, 8, 9, 10]}
    for row in range(6):
        for column in range(4):
            cell = values[(at_x == column) & (at_y == row)]
            cell = cell[~np.isnan(cell)]
            expected = (
                PLAIN[aggregate](cell) if len(cell) else (0 if aggregate == "count" else None)
            )
            if expected is not None and not math.isfinite(expected):
                expected = None
            assert found.counts[row][column] == len(cell)
            if expected is not None:
                expected = pytest.approx(expected, rel=1e-12)
            assert found.cells[row][column] == expected


def test_filters_take_rows_of_the_map_away(directory: Path) -> None:
    found = of(directory, "num_trades", "count", axes=[f"{Y}:7..8", "ma.sma.source:close"])
    assert list(found.y_values) == [7, 8]
    assert found.cells == [[3.0] * 4] * 2


def test_what_cannot_be_drawn_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, place in (
        ({"x": "ma.ema.window"}, "query.x"),
        ({"y": X}, "query.y"),
        ({"metric": "sharpe"}, "query.metric"),
        ({"aggregate": "mode"}, "query.aggregate"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            of(directory, **{"metric": "num_trades", "aggregate": "max", **changes})
        assert caught.value.errors[0]["path"] == place
    monkeypatch.setattr(api.heatmap, "MAX_CELLS", 12)
    with pytest.raises(InvalidRequest, match=r"narrow one with axis=momentum\.rsi\.window"):
        of(directory, "num_trades", "max")
    assert of(directory, "num_trades", "max", axes=[f"{X}:14..15"]).cells
