"""How a metric lies over the grid: cells for every pair of axes, histogram, neighbours of the best.

A lonely peak and a plateau have the same maximum; the median of a cell, the spread of the whole
grid and the variants one step away from the best tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidInput
from compute.quantities import spaced
from compute.report.metrics import Floats, Ints

MAX_BINS = 200
MAX_CELLS = 40_000
HISTOGRAM_BINS = 72

_BLOCK = 1 << 21
"""Variants copied at a time: 8 MiB of float32, whatever the size of the grid."""
_TAIL = 0.002
"""Share of variants a histogram may gather into each of its two open end bins."""

_THIN = "\N{NARROW NO-BREAK SPACE}"

Values: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class SurfaceAxis:
    """A grid axis with more than one value; bin b holds values `edges[b]:edges[b + 1]`."""

    name: str
    values: tuple[Any, ...]
    edges: tuple[int, ...]

    @property
    def bins(self) -> int:
        return len(self.edges) - 1

    def labels(self) -> list[str]:
        """Text of each bin: its value, or its first and last."""
        return [
            str(self.values[a]) if b - a == 1 else f"{self.values[a]}–{self.values[b - 1]}"
            for a, b in pairwise(self.edges)
        ]


@dataclass(frozen=True, slots=True)
class Cells:
    """Aggregates over all other axes, each f8[y bins, x bins]; NaN where a cell has no value.

    `x` and `y` index `Surface.axes`; `y` is None when only one axis varies.
    """

    x: int
    y: int | None
    median: Floats
    mean: Floats
    minimum: Floats
    maximum: Floats
    profitable_pct: Floats


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between `edges`; the end bins also hold what lies beyond them."""

    edges: Floats
    counts: Ints
    open_low: bool
    open_high: bool


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Variants at most one step away from the best on every axis, the best itself left out."""

    count: int
    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Surface:
    """One metric over a whole grid; `best` is the marked variant's flat index."""

    axes: tuple[SurfaceAxis, ...]
    pairs: tuple[Cells, ...]
    histogram: Histogram
    variants: int
    non_finite: int
    median: float
    mean: float
    quartiles: tuple[float, float]
    profitable_pct: float
    best: int
    best_value: float
    best_bins: tuple[int, ...]
    neighbours: Neighbours | None


def surface(
    returns: Values,
    axis_names: Sequence[str],
    axis_values: Sequence[Sequence[Any]],
    *,
    best: int | None = None,
    max_bins: int = MAX_BINS,
    max_cells: int = MAX_CELLS,
) -> Surface:
    """The surface of `returns` [percent, M] in enumeration order (last axis fastest).

    `best` is the flat index to mark, the greatest return when None. Axes are cut into at most
    `max_bins` bins of neighbouring values, fewer when all pairs together would exceed `max_cells`.
    Non-finite returns are counted and left out.

    Raises InvalidInput when the axes do not span M variants.
    """
    sizes = tuple(len(values) for values in axis_values)
    if math.prod(sizes) != len(returns) or not len(returns):
        raise InvalidInput(
            "a surface needs one value per variant: "
            f"the axes span {math.prod(sizes)}, there are {len(returns)}"
        )
    clean, finite = _finite(returns)
    if not len(finite):
        raise InvalidInput(f"a surface needs a finite value, all {len(returns)} are not finite")
    kept = [i for i, size in enumerate(sizes) if size > 1]
    limit = _bin_limit([sizes[i] for i in kept], max_bins, max_cells)
    axes = tuple(
        SurfaceAxis(axis_names[i], tuple(axis_values[i]), _edges(sizes[i], limit)) for i in kept
    )
    grid = clean.reshape([sizes[i] for i in kept] or [1])
    best_flat = int(np.nanargmax(clean)) if best is None else best
    digits = np.unravel_index(best_flat, grid.shape)[: len(axes)]
    low, middle, high = np.quantile(finite, (0.25, 0.5, 0.75))
    return Surface(
        axes=axes,
        pairs=tuple(_pairs(grid, axes)),
        histogram=histogram(finite),
        variants=len(returns),
        non_finite=len(returns) - len(finite),
        median=float(middle),
        mean=float(finite.mean(dtype=np.float64)),
        quartiles=(float(low), float(high)),
        profitable_pct=100.0 * np.count_nonzero(finite > 0.0) / len(finite),
        best=best_flat,
        best_value=float(returns[best_flat]),
        best_bins=tuple(
            int(np.searchsorted(axis.edges, digit, side="right")) - 1
            for axis, digit in zip(axes, digits, strict=True)
        ),
        neighbours=neighbours(grid, tuple(int(d) for d in digits)),
    )


def _finite(returns: Values) -> tuple[Values, Values]:
    """(values with NaN for what is not finite, the finite ones); no copy when all are finite."""
    good = np.isfinite(returns)
    if good.all():
        return returns, returns
    clean = returns.copy()
    clean[~good] = np.nan
    return clean, returns[good]


def _edges(size: int, limit: int) -> tuple[int, ...]:
    width = -(-size // limit)
    return (*range(0, size, width), size)


def _bin_limit(sizes: Sequence[int], max_bins: int, max_cells: int) -> int:
    """The largest bin count per axis whose pairs stay within `max_cells` cells."""
    limit = max_bins
    while limit > 8:
        bins = [len(_edges(size, limit)) - 1 for size in sizes]
        if sum(a * b for a, b in combinations(bins, 2)) <= max_cells:
            break
        limit = limit * 9 // 10
    return limit


def _pairs(grid: Values, axes: tuple[SurfaceAxis, ...]) -> Iterator[Cells]:
    if len(axes) == 1:
        yield _cells(grid[:, None], axes[0], None, x=0, y=None)
    for i, j in combinations(range(len(axes)), 2):
        yield _cells(np.moveaxis(grid, (i, j), (0, 1)), axes[i], axes[j], x=i, y=j)


def _cells(
    values: Values, x_axis: SurfaceAxis, y_axis: SurfaceAxis | None, *, x: int, y: int | None
) -> Cells:
    """Aggregates of `values` [x, y, others...], a block of x bins at a time."""
    y_edges = (0, 1) if y_axis is None else y_axis.edges
    shape = (len(y_edges) - 1, x_axis.bins)
    median, mean, low, high, share = (np.empty(shape) for _ in range(5))
    step = max(1, _BLOCK * x_axis.bins // values.size)
    for b in range(0, x_axis.bins, step):
        e = min(b + step, x_axis.bins)
        cut = slice(b, e)
        block = _block(values, x_axis.edges[b : e + 1], y_edges)
        results = _aggregates(block)
        for target, result in zip((median, mean, low, high, share), results, strict=True):
            target[:, cut] = result.T
    return Cells(x, y, median, mean, low, high, share)


def _block(values: Values, x_edges: Sequence[int], y_edges: Sequence[int]) -> Values:
    """Copy [x bins, y bins, variants of a cell]; short last bins are filled up with NaN."""
    x_bins, y_bins = len(x_edges) - 1, len(y_edges) - 1
    x_width = max(b - a for a, b in pairwise(x_edges))
    y_width = max(b - a for a, b in pairwise(y_edges))
    part = values[x_edges[0] : x_edges[-1]]
    rows, columns = part.shape[:2]
    others = part.size // (rows * columns)
    if x_width == 1 and y_width == 1:
        return part.reshape(rows, columns, others).copy()
    padded = np.full((x_bins * x_width, y_bins * y_width, others), np.nan, dtype=values.dtype)
    padded[:rows, :columns] = part.reshape(rows, columns, others)
    split = padded.reshape(x_bins, x_width, y_bins, y_width, others)
    return split.transpose(0, 2, 1, 3, 4).reshape(x_bins, y_bins, -1)


def _aggregates(block: Values) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """(median, mean, min, max, profitable %) over the last axis; sorts `block` in place."""
    block.sort(axis=-1)  # NaN goes last, so a count per cell is all the care NaN needs
    count = np.count_nonzero(~np.isnan(block), axis=-1)
    safe = np.maximum(count, 1)

    def nth(index: Ints) -> Floats:
        picked = np.take_along_axis(block, index[..., None], axis=-1)
        return picked[..., 0].astype(np.float64)

    zero = np.zeros_like(count)
    median = 0.5 * (nth((safe - 1) // 2) + nth(safe // 2))
    mean = np.nansum(block, axis=-1, dtype=np.float64) / safe
    share = 100.0 * np.count_nonzero(block > 0.0, axis=-1) / safe
    empty = count == 0
    mean[empty] = np.nan
    share[empty] = np.nan
    return median, mean, nth(zero), nth(safe - 1), share


def histogram(finite: Values) -> Histogram:
    """Equal bins over the whole range, or over its body when a far tail would flatten it."""
    low, high = float(finite.min()), float(finite.max())
    body_low, body_high = (float(q) for q in np.quantile(finite, (_TAIL, 1.0 - _TAIL)))
    reach = 2.0 * (body_high - body_low)
    open_low = body_low - low > reach > 0.0
    open_high = high - body_high > reach > 0.0
    if open_low:
        low = body_low - 0.25 * reach
    if open_high:
        high = body_high + 0.25 * reach
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(finite, bins=HISTOGRAM_BINS, range=(low, high))
    counts[0] += np.count_nonzero(finite < low)
    counts[-1] += np.count_nonzero(finite > high)
    return Histogram(edges, counts.astype(np.int64), open_low, open_high)


def verdict(own: float, near: Neighbours, *, has_stops: bool = True) -> str:
    """How the variants around one did, as two sentences; `has_stops` of the one itself."""
    others = "1 neighbour" if near.count == 1 else f"{spaced(near.count)} neighbours"
    which = "Without its stops the" if has_stops else "The"
    return (
        f"{which} marked variant returned {_percent(own)}. Its {others}, one step "
        f"away on any axis, returned {_percent(near.median)} in the median, from "
        f"{_percent(near.minimum)} to {_percent(near.maximum)}."
    )


def _percent(value: float) -> str:
    size = abs(value)
    places = 0 if size >= 1000 else 1 if size >= 100 else 2
    text = f"{size:,.{places}f}".replace(",", _THIN)
    sign = (
        "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 and float(f"{size:.{places}f}") else ""
    )
    return f"{sign}{text}{_THIN}%"


def neighbours(grid: Values, digits: tuple[int, ...]) -> Neighbours | None:
    """The variants around the one at `digits` of `grid`, an axis of the array for each axis."""
    if not digits:
        return None
    window = tuple(slice(max(digit - 1, 0), digit + 2) for digit in digits)
    near = grid[window]
    own = np.ravel_multi_index(tuple(min(digit, 1) for digit in digits), near.shape)
    around = np.delete(near.astype(np.float64).ravel(), own)
    around = around[np.isfinite(around)]
    if not len(around):
        return None
    return Neighbours(
        len(around), float(np.median(around)), float(around.min()), float(around.max())
    )
