"""Output rows of one indicator: the settings that differ, in blocks that share work.

An axis outside `Output.axes` does not move the output, so the settings along it are one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.grid import IndicatorGrid
from compute.indicators.definition import SOURCE

# More rows let one EMA, prefix sum or rolling extreme serve more outputs (MACD on 35 000 bars: 1.0,
# 0.66, 0.57 ns a value with 8, 16, 32 rows; linear weights on 525 600: 1.0, 0.66, 0.44 with 8, 16,
# 40), as long as rows that are read again stay in cache. A row of many bars does not anyway.
_LANES = 8
_ROWS_MAX = 64
_ROWS_BEYOND_CACHE = 16
_CACHE_BYTES = 4 << 20
_BLOCK_VALUES = 17_000_000  # at 10 ns a value a block stays under 0.2 s
_BLOCK_VALUES_SLOW = 4_500_000


@dataclass(frozen=True, slots=True)
class OutputRows:
    """Rows of one output that differ, and which of them each compute variant reads.

    `live` are the positions of the axes that move the output, `digits` i4[n, live axes] the
    settings in row order, `row` i8[V] the row of each compute variant (-1 outside the chosen ones).
    """

    grid: IndicatorGrid
    live: tuple[int, ...]
    digits: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.digits)

    def settings(self, block: NDArray[np.int64]) -> tuple[dict[str, NDArray[Any]], str]:
        """Parameter values of the rows of a block (a dead axis at its first value), its source."""
        params: dict[str, NDArray[Any]] = {}
        source = ""
        column_of = {axis: column for column, axis in enumerate(self.live)}
        for i, axis in enumerate(self.grid.compute):
            column = column_of.get(i)
            digits = np.zeros(block.size, int) if column is None else self.digits[block, column]
            if axis.name == SOURCE:
                source = str(axis.values[int(digits[0])])
            else:
                kind = self.grid.definition.param(axis.name).kind
                values = np.array(axis.values, np.int64 if kind == "int" else np.float64)
                params[axis.name] = values[digits]
        return params, source

    def blocks(self, size: int) -> list[NDArray[np.int64]]:
        """All rows in blocks of at most `size` of one source.

        A block is a tile over the two innermost parameter axes, so that what rows share (an EMA, a
        rolling extreme, a deviation) is computed once for several of them; along a single axis
        blocks are about equal, for a short one would leave lanes empty.
        """
        names = [self.grid.compute[i].name for i in self.live]
        columns = [self.digits[:, k] for k, name in enumerate(names) if name != SOURCE]
        source = np.zeros(len(self), int)
        if SOURCE in names:
            source = self.digits[:, names.index(SOURCE)]
        keys: list[Any] = [*columns]
        if len(columns) >= 2:
            outer, inner = columns[-2], columns[-1]
            outer_edge = max(1, min(int(outer.max(initial=0)) + 1, math.isqrt(size)))
            inner_edge = max(1, min(int(inner.max(initial=0)) + 1, size // outer_edge))
            outer_edge = max(1, size // inner_edge)
            keys = [*columns[:-2], outer // outer_edge, inner // inner_edge, outer, inner]
        order = np.lexsort([*reversed(keys), source]) if keys or SOURCE in names else np.arange(1)
        cuts = np.flatnonzero(np.diff(source[order])) + 1
        blocks: list[NDArray[np.int64]] = []
        for part in np.split(order[: len(self)], cuts):
            step = size if len(columns) >= 2 else _equal(part.size, size)
            blocks += [part[at : at + step] for at in range(0, part.size, step)]
        return blocks


def _equal(rows: int, size: int) -> int:
    """Rows a block, at most `size`, of as few blocks as there can be, about equal."""
    share = -(-rows // -(-rows // size))
    return min(size, -(-share // _LANES) * _LANES)


def block_rows(total_bars: int, slow: bool = False) -> int:
    """Output rows computed together in a scratch block that is read again at once."""
    cached = _CACHE_BYTES // (4 * max(1, total_bars))
    wanted = cached if cached >= _LANES else _ROWS_BEYOND_CACHE
    return _brief(wanted, total_bars, slow)


def tensor_rows(total_bars: int, slow: bool = False) -> int:
    """Output rows computed together where they stay."""
    return _brief(_ROWS_MAX, total_bars, slow)


def _brief(wanted: int, total_bars: int, slow: bool) -> int:
    """At most `wanted` rows, of which a call stays short; whole lanes where there are some."""
    values = _BLOCK_VALUES_SLOW if slow else _BLOCK_VALUES
    rows = min(wanted, _ROWS_MAX, values // max(1, total_bars))
    return rows // _LANES * _LANES if rows >= _LANES else max(1, rows)


def output_rows(grid: IndicatorGrid, compute: NDArray[np.integer[Any]] | None = None) -> OutputRows:
    """The rows of `grid`, or of its compute variants `compute` alone."""
    output = grid.definition.output(grid.output)
    live = tuple(i for i, axis in enumerate(grid.compute) if axis.name in output.axes)
    index = _live_index([len(axis) for axis in grid.compute], live)
    shape = tuple(len(grid.compute[i]) for i in live)
    if compute is None:
        used = np.arange(math.prod(shape))
        row = index
    else:
        used = np.unique(index[compute])
        row = np.full(index.size, -1, np.int64)
        row[compute] = np.searchsorted(used, index[compute])
    digits = np.empty((used.size, len(live)), np.int32)
    for column, values in enumerate(np.unravel_index(used, shape) if shape else ()):
        digits[:, column] = values
    return OutputRows(grid, live, digits, row)


def _live_index(sizes: Sequence[int], live: Sequence[int]) -> NDArray[np.int64]:
    """Mixed-radix index over the live axes of each compute variant, i8[V]."""
    index = np.zeros(tuple(sizes), np.int64)
    for axis in live:
        shape = [1] * len(sizes)
        shape[axis] = sizes[axis]
        index = index * sizes[axis] + np.arange(sizes[axis]).reshape(shape)
    return index.reshape(-1)
