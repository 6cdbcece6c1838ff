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
from api.columns import ColumnCache, Columns
from api.heatmap import AGGREGATES, Heatmap, heatmap
from api.plateau import Plateau, plateau
from compute.errors import InvalidRequest
from tests.api.service.columns import numbers, small_grid, write_parts

GRID = small_grid(windows=6, periods=4)
X, Y = "momentum.rsi.window", "ma.sma.window"
PLAIN: dict[str, Any] = {
    "winners": lambda values: 100 * sum(value > 0 for value in values) / len(values),
    "q10": lambda values: np.quantile(values, 0.1),
    "q99": lambda values: np.quantile(values, 0.99),
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
    columns = Columns(column_parts(directory), GRID, ColumnCache())
    return heatmap(columns, wanted(GRID, **q), x=x, y=y, of=metric, aggregate=aggregate)


def test_what_is_sent_is_the_record(directory: Path) -> None:
    found = of(directory, "profit_factor", "mean")
    sent = json.loads(found.encoded(job_id="1"))
    assert sent == {"job_id": "1", **found.record()}


@pytest.mark.parametrize("aggregate", [*AGGREGATES, "q10", "q99"])
@pytest.mark.parametrize("metric", ["total_return_pct", "win_rate_pct", "profit_factor"])
def test_every_cell_is_what_its_variants_give(directory: Path, metric: str, aggregate: str) -> None:
    found = of(directory, metric, aggregate)
    digits = GRID.digits(np.arange(GRID.total))
    metric = "total_return_pct" if aggregate == "winners" else metric
    assert found.metric == metric
    values = numbers(np.arange(GRID.total))[metric]
    at_x, at_y = (digits[:, GRID.axis_names.index(name)] for name in (X, Y))
    assert found.record()["x"] == {"name": X, "values": [14, 15, 16, 17]}
    assert found.record()["y"] == {"name": Y, "values": [5, 6, 7, 8, 9, 10]}
    for row in range(6):
        for column in range(4):
            cell = values[(at_x == column) & (at_y == row)]
            cell = cell[~np.isnan(cell)]
            with np.errstate(invalid="ignore"):
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
        ({"aggregate": "q0"}, "query.aggregate"),
        ({"aggregate": "q100"}, "query.aggregate"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            of(directory, **{"metric": "num_trades", "aggregate": "max", **changes})
        assert caught.value.errors[0]["path"] == place
    monkeypatch.setattr(api.heatmap, "MAX_CELLS", 12)
    with pytest.raises(InvalidRequest, match=r"narrow one with axis=momentum\.rsi\.window"):
        of(directory, "num_trades", "max")
    assert of(directory, "num_trades", "max", axes=[f"{X}:14..15"]).cells


def test_bounds_of_metrics_take_variants_away(directory: Path) -> None:
    least, most = ["num_trades:2", "win_rate_pct:42"], ["win_rate_pct:45"]
    found = of(directory, "total_return_pct", "count", least=least, most=most)
    rows = numbers(np.arange(GRID.total))
    rate = rows["win_rate_pct"]
    assert np.count_nonzero((rows["num_trades"] >= 2) & (rate > 45)) > 0
    kept = (rows["num_trades"] >= 2) & (rate >= 42) & (rate <= 45)
    assert sum(map(sum, found.counts)) == np.count_nonzero(kept) > 0


def test_columns_are_read_once_and_held_within_a_budget(directory: Path) -> None:
    cache = ColumnCache(limit_bytes=GRID.total * 8)
    columns = Columns(column_parts(directory), GRID, cache)
    first = columns.all("total_return_pct")
    assert columns.all("total_return_pct") is first
    assert (
        columns.all("num_trades").tolist() == numbers(np.arange(GRID.total))["num_trades"].tolist()
    )
    assert cache.size_bytes == GRID.total * 4
    assert columns.all("total_return_pct") is not first


def drawn(rows: list[list[float | None]]) -> Heatmap:
    return Heatmap(
        "a", list(range(len(rows[0]))), "b", list(range(10, 10 + len(rows))),
        "total_return_pct", "median", rows, [[1] * len(rows[0]) for _ in rows],
    )  # fmt: skip


def places(found: Plateau) -> set[tuple[int, int]]:
    return {(x, y) for x, y in found.cells}


def test_a_plateau_is_what_one_can_walk_to() -> None:
    found = plateau(
        drawn(
            [
                [0.0, 0.0, 0.0, 9.5, None],
                [9.0, 9.4, 0.0, 0.0, 10.0],
                [9.2, 9.8, 9.1, 0.0, 0.0],
            ]
        ),
        "1", "12",
    )  # fmt: skip
    # 10 % of a span of a little less than 10; across corners one does not walk.
    assert 0.9 < found.reach < 1.0
    assert places(found) == {(0, 1), (1, 1), (0, 2), (1, 2), (2, 2)}
    assert found.median == 9.2
    assert (found.around_count, found.around_median) == (5, 9.1)
    assert found.kind == "plateau"
    assert found.words == (
        "A plateau: settings next to it do about as well."
        " Where a is 1 and b 12, the median of the return of its variants is 9.80 %."
        " 5 connected cells, 36 % of the map, lie within 0.99 percentage points of that"
        " (10 % of the span that 96 % of the map lies in); the median of them is 9.20 %."
        " The median of the 5 cells next to it is 9.10 %."
    )


def test_a_lonely_cell_is_called_so() -> None:
    found = plateau(drawn([[0.0, 0.0, 0.0], [0.0, -8.0, 9.0], [0.0, 0.0, 0.0]]))
    assert (found.x, found.y, found.kind) == (2, 11, "peak")
    assert places(found) == {(2, 1)}
    assert found.words.startswith("A lonely cell")
    assert "Only this cell, 11 % of the map, lies within" in found.words
    for at in (("7", "11"), ("1", None), (None, "11")):
        with pytest.raises(InvalidRequest, match="no cell"):
            plateau(drawn([[0.0, 1.0]]), *at)
    with pytest.raises(InvalidRequest, match="no cell of the map has a value"):
        plateau(drawn([[None]]))


@pytest.mark.soak
def test_five_million_variants_are_drawn(tmp_path: Path) -> None:
    grid = small_grid(windows=1000, periods=833)
    write_parts(tmp_path, grid.total, count=50)
    columns = Columns(column_parts(tmp_path), grid, ColumnCache())
    rows = numbers(np.arange(grid.total))
    cube = np.moveaxis(rows["total_return_pct"].reshape(grid.sizes), (3, 1), (0, 1))
    for aggregate, expected in (("median", np.median), ("min", np.min), ("mean", np.mean)):
        found = heatmap(
            columns, wanted(grid, axes=[f"{Y}:5..204"]), x=Y, y=X,
            of="total_return_pct", aggregate=aggregate,
        )  # fmt: skip
        cells = expected(cube.reshape(833, 1000, -1)[:, :200], axis=-1)
        assert np.allclose(np.array(found.cells, float), cells, rtol=1e-12)
    assert columns.cache.size_bytes <= grid.total * 8
