"""The route through a grid: each step moves one axis by one value, the smoothest axis most often.

The fast kernel reuses what two neighbours share, so the order of visits decides its speed, and
nothing else: results are keyed by flat index. The route is a reflected mixed-radix (Gray) walk over
the axes, computed from the position alone; spans of it can start anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.grid import Grid
from compute.jit import kernel
from compute.votes import Votes

_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Box:
    """The part of a grid with digits [low, high) on one axis; None: the whole grid."""

    axis: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Axes fastest first: sizes, and the step of each in the flat index and in the vote rows."""

    sizes: NDArray[np.int64]
    flat_steps: NDArray[np.int64]
    row_steps: NDArray[np.int64]  # [axes, K]
    flat_origin: int
    row_origin: NDArray[np.int64]  # [K]
    total: int
    box: Box | None = None

    def visit(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(flat index i8[n], vote rows i4[n, K]) of positions [start, stop)."""
        flat = np.empty(stop - start, np.int64)
        rows = np.empty((stop - start, len(self.row_origin)), np.int32)
        _visit(
            start,
            self.sizes,
            self.flat_steps,
            self.row_steps,
            self.flat_origin,
            self.row_origin,
            flat,
            rows,
        )
        return flat, rows


@kernel
def _visit(start, sizes, flat_steps, row_steps, flat_origin, row_origin, flat, rows):
    for i in range(flat.size):
        quotient = start + i
        index = flat_origin
        for k in range(row_origin.size):
            rows[i, k] = row_origin[k]
        for a in range(sizes.size):
            size = sizes[a]
            digit = quotient % size
            quotient //= size
            if quotient & 1:  # every other pass runs backwards
                digit = size - 1 - digit
            index += digit * flat_steps[a]
            for k in range(row_origin.size):
                rows[i, k] += digit * row_steps[a, k]
        flat[i] = index


def row_strides(grid: Grid) -> NDArray[np.int64]:
    """Step i8[axes, K] of each axis of `grid.axis_names` in the vote rows of each indicator."""
    steps = np.zeros((len(grid.sizes), len(grid.indicators)), np.int64)
    at = 0
    for signal in (False, True):
        for k, part in enumerate(grid.indicators):
            axes = part.signals if signal else part.compute
            step = 1 if signal else part.signal_total
            for i in range(len(axes) - 1, -1, -1):
                steps[at + i, k] = step
                step *= len(axes[i])
            at += len(axes)
    return steps


def route(grid: Grid, votes: Votes, box: Box | None = None) -> Route:
    """The `Route` through `grid` (or a box of it), smoothest axis fastest."""
    sizes = list(grid.sizes)
    flat_steps = [math.prod(sizes[a + 1 :]) for a in range(len(sizes))]
    steps = row_strides(grid)
    flat_origin = 0
    row_origin = np.zeros(len(grid.indicators), np.int64)
    if box is not None:
        sizes[box.axis] = box.high - box.low
        flat_origin = box.low * flat_steps[box.axis]
        row_origin += box.low * steps[box.axis]
    axes = [a for a in range(len(sizes)) if sizes[a] > 1]
    rough = {a: _roughness(a, sizes, steps, row_origin, votes) for a in axes}
    axes.sort(key=lambda a: (rough[a], -sizes[a], -a))
    return Route(
        np.array([sizes[a] for a in axes], np.int64),
        np.array([flat_steps[a] for a in axes], np.int64),
        np.ascontiguousarray(steps[axes]),
        flat_origin,
        row_origin,
        math.prod(sizes),
        box,
    )


def _roughness(
    axis: int, sizes: list[int], steps: NDArray[np.int64], origin: NDArray[np.int64], votes: Votes
) -> float:
    """Mean number of words that change with one step along `axis`, the others at their middle."""
    k = int(np.flatnonzero(steps[axis])[0])
    middle = origin[k] + sum(
        sizes[a] // 2 * steps[a, k] for a in range(len(sizes)) if a != axis and steps[a, k]
    )
    digits = np.unique(np.linspace(0, sizes[axis] - 2, min(_SAMPLES, sizes[axis] - 1)).astype(int))
    changed = 0
    for digit in digits:
        row = middle + digit * steps[axis, k]
        after = row + steps[axis, k]
        differ = votes.planes[votes.long_id[k][row]] != votes.planes[votes.long_id[k][after]]
        differ |= votes.planes[votes.short_id[k][row]] != votes.planes[votes.short_id[k][after]]
        changed += int(np.count_nonzero(differ))
    return changed / len(digits)
