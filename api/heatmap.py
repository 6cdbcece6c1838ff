"""A metric of Stage A over two axes: one number for all the variants that share two values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from api.column_parts import Part, Slice, Wanted, axis_column, metric, refused, slices
from compute.axes import Scalar
from compute.grid import Grid
from compute.quantities import spaced

MAX_CELLS: Final = 250_000


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
    cells: list[list[float | None]]
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
    parts: Sequence[Part],
    grid: Grid,
    wanted: Wanted,
    *,
    x: str,
    y: str,
    of: str,
    aggregate: str,
) -> Heatmap:
    """The `Heatmap` of the metric `of` over the axes `x` and `y`, of the wanted variants.

    Values of the axes that `wanted` leaves out have no row or column.
    Raises: InvalidRequest for names that there are none of, and for too many cells.
    """
    columns = axis_column(grid, "x", x), axis_column(grid, "y", y)
    if x == y:
        raise refused("y", "invalid_value", f"x and y are both {x}; choose two axes")
    metric("metric", of)
    if aggregate not in AGGREGATES:
        raise refused(
            "aggregate", "invalid_value", f"no aggregate {aggregate!r}; {', '.join(AGGREGATES)}"
        )
    kept = [np.flatnonzero(wanted.axes.get(i, np.ones(grid.sizes[i], bool))) for i in columns]
    width, height = map(len, kept)
    if width * height > MAX_CELLS:
        raise refused(
            "axis",
            "max_value",
            f"{spaced(width)} × {spaced(height)} cells, at most {spaced(MAX_CELLS)} are given; "
            f"narrow one with axis={x}:LOW..HIGH",
        )
    places = [np.full(grid.sizes[i], -1, np.int64) for i in columns]
    for place, digits in zip(places, kept, strict=True):
        place[digits] = np.arange(len(digits))

    def cell(part: Slice) -> NDArray[np.int64]:
        at_x, at_y = (place[part.digits[:, i]] for place, i in zip(places, columns, strict=True))
        return at_y * width + at_x

    counts = np.zeros(width * height, np.int64)
    values = AGGREGATES[aggregate](_values(slices(parts, grid, wanted), cell, of, counts), counts)
    return Heatmap(
        x,
        [grid.axes[columns[0]].values[i] for i in kept[0]],
        y,
        [grid.axes[columns[1]].values[i] for i in kept[1]],
        of,
        aggregate,
        [
            [value if math.isfinite(value) else None for value in row]
            for row in values.reshape(height, width).tolist()
        ],
        counts.reshape(height, width).tolist(),
    )


Block = tuple[NDArray[np.int64], NDArray[np.float64]]


def _values(
    found: Iterable[Slice],
    cell: Callable[[Slice], NDArray[np.int64]],
    name: str,
    counts: NDArray[np.int64],
) -> Iterable[Block]:
    """(cells, values) of the variants that have a value; `counts` is kept along the way."""
    for part in found:
        values = part.columns[name].astype(np.float64)
        there = ~np.isnan(values)
        cells = cell(part)[there]
        counts += np.bincount(cells, minlength=len(counts))
        yield cells, values[there]


def _greatest(blocks: Iterable[Block], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    best = np.full(len(counts), -np.inf)
    for cells, values in blocks:
        np.maximum.at(best, cells, values)
    return best


def _least(blocks: Iterable[Block], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    best = np.full(len(counts), np.inf)
    for cells, values in blocks:
        np.minimum.at(best, cells, values)
    return best


def _mean(blocks: Iterable[Block], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(len(counts))
    for cells, values in blocks:
        total += np.bincount(cells, values, minlength=len(counts))
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _count(blocks: Iterable[Block], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    for _ in blocks:
        pass
    return counts.astype(np.float64)


def _median(blocks: Iterable[Block], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of all values at once: twelve bytes a variant, of which a kept grid has five million."""
    held = [(cells.astype(np.int32), values) for cells, values in blocks]
    median = np.full(len(counts), np.nan)
    if not held:
        return median
    cells = np.concatenate([cell for cell, _ in held])
    values = np.concatenate([value for _, value in held])
    del held
    values = values[np.lexsort((values, cells))]
    ends = np.cumsum(counts)
    some = np.flatnonzero(counts)
    first, size = ends[some] - counts[some], counts[some]
    low, high = values[first + (size - 1) // 2], values[first + size // 2]
    median[some] = np.where(low == high, low, low / 2 + high / 2)  # equal infinities stay one
    return median


AGGREGATES: Final[
    Mapping[str, Callable[[Iterable[Block], NDArray[np.int64]], NDArray[np.float64]]]
] = {"max": _greatest, "mean": _mean, "median": _median, "min": _least, "count": _count}
