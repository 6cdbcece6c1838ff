"""A metric of Stage A over two axes: one number for all the variants that share two values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from api.column_parts import Wanted, axis_column, metric, refused
from api.columns import Columns, Floats
from compute.axes import Scalar
from compute.quantities import spaced

MAX_CELLS: Final = 250_000
WINNERS, COUNT = "winners", "count"
RETURN: Final = "total_return_pct"
_QUANTILE: Final = re.compile(r"q([1-9][0-9]?)")

Counts = NDArray[np.int64]
Cells = list[list[float | None]]


@dataclass(frozen=True, slots=True)
class Heatmap:
    """`cells[y][x]`, None where no variant has a finite value; `counts[y][x]` variants that have
    a value at all (a profit factor without a loss is one, and infinite)."""

    x_name: str
    x_values: Sequence[Scalar]
    y_name: str
    y_values: Sequence[Scalar]
    metric: str
    aggregate: str
    cells: Cells
    counts: list[list[int]]

    def record(self) -> dict[str, Any]:
        """The heatmap as JSON."""
        return self._head() | {"cells": self.cells, "counts": self.counts}

    def encoded(self, **first: str) -> bytes:
        """`first` and the record as JSON, made row by row: a cell is a number of many."""
        encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
        cells, counts = (",".join(map(encode, rows)) for rows in (self.cells, self.counts))
        head = encode({**first, **self._head()})[:-1]
        return f'{head},"cells":[{cells}],"counts":[{counts}]}}'.encode()

    def _head(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "aggregate": self.aggregate,
            "x": {"name": self.x_name, "values": list(self.x_values)},
            "y": {"name": self.y_name, "values": list(self.y_values)},
        }


def heatmap(
    columns: Columns, wanted: Wanted, *, x: str, y: str, of: str, aggregate: str
) -> Heatmap:
    """The `Heatmap` of the metric `of` over the axes `x` and `y`, of the wanted variants.

    Values of the axes that `wanted` leaves out have no row or column.
    Raises: InvalidRequest for names that there are none of, and for too many cells.
    """
    grid = columns.grid
    at_x, at_y = axis_column(grid, "x", x), axis_column(grid, "y", y)
    if x == y:
        raise refused("y", "invalid_value", f"x and y are both {x}; choose two axes")
    metric("metric", of)
    aggregated = _aggregate(aggregate)
    if aggregate == WINNERS:
        of = RETURN
    kept = columns.kept(wanted)
    width, height = len(kept[at_x]), len(kept[at_y])
    if width * height > MAX_CELLS:
        raise refused(
            "axis",
            "max_value",
            f"{spaced(width)} × {spaced(height)} cells, at most {spaced(MAX_CELLS)} are given; "
            f"narrow one with axis={x}:LOW..HIGH",
        )
    block = np.moveaxis(columns.block(wanted, of), (at_y, at_x), (0, 1))
    values = block.reshape(height, width, -1)
    counts = np.count_nonzero(~np.isnan(values), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = aggregated(values, counts)
    return Heatmap(
        x,
        [grid.axes[at_x].values[i] for i in kept[at_x]],
        y,
        [grid.axes[at_y].values[i] for i in kept[at_y]],
        of,
        aggregate,
        _finite(cells),
        counts.tolist(),
    )


def _finite(cells: Floats) -> Cells:
    if np.isfinite(cells).all():
        return cells.tolist()
    return [[value if math.isfinite(value) else None for value in row] for row in cells.tolist()]


def _greatest(values: Floats, counts: Counts) -> Floats:
    return np.fmax.reduce(values, axis=-1)


def _least(values: Floats, counts: Counts) -> Floats:
    return np.fmin.reduce(values, axis=-1)


def _mean(values: Floats, counts: Counts) -> Floats:
    return np.nansum(values, axis=-1) / counts


def _count(values: Floats, counts: Counts) -> Floats:
    return counts.astype(np.float64)


def _winners(values: Floats, counts: Counts) -> Floats:
    return 100.0 * np.count_nonzero(values > 0.0, axis=-1) / counts


def _quantile(values: Floats, counts: Counts, share: float) -> Floats:
    """Between the two nearest values, in proportion; sorts `values` in place."""
    values.sort(axis=-1)  # what is no number goes last
    place = np.maximum(counts - 1, 0) * share
    first = np.floor(place).astype(np.int64)
    low, high = (
        np.take_along_axis(values, at[..., None], axis=-1)[..., 0]
        for at in (first, np.ceil(place).astype(np.int64))
    )
    rest = place - first
    # Equal infinities stay one, and an infinity is not touched by a share of nothing.
    return np.where((low == high) | (rest == 0.0), low, low + (high - low) * rest)


Aggregate = Callable[[Floats, Counts], Floats]
AGGREGATES: Final[Mapping[str, Aggregate]] = {
    "median": partial(_quantile, share=0.5),
    "mean": _mean,
    "min": _least,
    "max": _greatest,
    WINNERS: _winners,
    COUNT: _count,
}
"""By name; beside them `q1` to `q99` are quantiles in percent."""


def _aggregate(name: str) -> Aggregate:
    if name in AGGREGATES:
        return AGGREGATES[name]
    if quantile := _QUANTILE.fullmatch(name):
        return partial(_quantile, share=int(quantile[1]) / 100)
    known = f"{', '.join(AGGREGATES)}, or q1 to q99 for a quantile"
    raise refused("aggregate", "invalid_value", f"no aggregate {name!r}; {known}")
