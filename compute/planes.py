"""Vote tables of one indicator: which comparisons differ, and their bits over the target slice.

LONG and SHORT are separate tables, each keyed by exactly what it depends on: the compute axes that
move the output and the parameters of that side of the rule. A vote row is a pair of table rows.
The output itself lives in a scratch block of rows, becomes bits for all rule settings at once, and
is forgotten.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.bits import words
from compute.grid import IndicatorGrid
from compute.indicators.definition import SOURCE, Indicator
from compute.indicators.registry import module
from compute.indicators.series import BarSeries
from compute.rules import Side, body_words, pack, reference_series, sides, voting_rule

T = TypeVar("T")
Each = Callable[[Callable[[Any], None], Sequence[Any]], None]

# More rows let one EMA or rolling extreme serve more outputs (MACD on 35 000 bars: 1.0, 0.66, 0.57
# ns a value with 8, 16, 32 rows) until the block leaves the cache (SMA on 525 600 bars: 0.7, 0.9).
_ROWS_MIN = 8
_ROWS_MAX = 64
_SCRATCH_BYTES = 4 << 20
_BLOCK_VALUES = 24_000_000  # the slowest kernels take 5 ns a value: a block stays under 0.2 s
_PACK_VALUES = 400_000_000  # comparisons in one packing call, 0.1 ns each


@dataclass(frozen=True, slots=True)
class VoteLayout:
    """Rows of an indicator's vote tables.

    `long_id`, `short_id` i4[V·S] give the table rows of local vote row r = c·S + s; -1 for compute
    variants outside the chosen subset. `digits` i4[n_live, live axes] are the settings computed,
    in table order. `conflicts`: both votes of a row can be true on one bar (NEUTRAL then).
    """

    grid: IndicatorGrid
    long: Side
    short: Side
    live: tuple[int, ...]
    digits: NDArray[np.int32]
    long_id: NDArray[np.int32]
    short_id: NDArray[np.int32]
    conflicts: bool

    @property
    def n_live(self) -> int:
        """Number of output rows that differ."""
        return len(self.digits)

    @property
    def n_long(self) -> int:
        """Rows of the LONG table."""
        return self.n_live * self.long.count

    @property
    def n_short(self) -> int:
        """Rows of the SHORT table."""
        return self.n_live * self.short.count

    def table_bytes(self, bars: int) -> int:
        """Bytes of both tables over a slice of `bars`, and of the row ids."""
        rows = self.n_long + self.n_short
        return rows * words(bars) * 8 + self.long_id.nbytes + self.short_id.nbytes

    def scratch_bytes(self, total_bars: int) -> int:
        """Bytes one thread needs to build them from `total_bars` loaded bars."""
        rows = min(block_rows(total_bars), max(1, self.n_live))
        return rows * total_bars * 4 + _INNER_BYTES_PER_BAR * total_bars + (1 << 20)


# Whole-length float64 rows an indicator may hold beside its output (percent K, VWAP deviations).
_INNER_BYTES_PER_BAR = 64


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Votes of one indicator over a slice of `bars`: read-only words [rows, W] and row ids."""

    long: NDArray[np.uint64]
    short: NDArray[np.uint64]
    long_id: NDArray[np.int32]
    short_id: NDArray[np.int32]
    conflicts: bool
    bars: int


def block_rows(total_bars: int) -> int:
    """Output rows computed together in one scratch block."""
    rows = max(_ROWS_MIN, min(_ROWS_MAX, _SCRATCH_BYTES // (32 * max(1, total_bars)) * 8))
    return max(1, min(rows, _BLOCK_VALUES // max(1, total_bars)))


def vote_layout(grid: IndicatorGrid, compute: NDArray[np.integer[Any]] | None = None) -> VoteLayout:
    """The table rows of `grid`, or of its compute variants `compute` alone.

    Raises InvalidGrid when the output has no rule or a rule parameter is missing or malformed.
    """
    rule = voting_rule(grid.definition, grid.output)
    output = grid.definition.output(grid.output)
    both = sides(
        grid.indicator_id, rule, output.name, {axis.name: axis.values for axis in grid.signals}
    )
    live = tuple(i for i, axis in enumerate(grid.compute) if axis.name in output.axes)
    live_of = _live_index([len(axis) for axis in grid.compute], live)
    shape = tuple(len(grid.compute[i]) for i in live)
    if compute is None:
        used = np.arange(math.prod(shape))
        dense = live_of
    else:
        used = np.unique(live_of[compute])
        dense = np.full(live_of.size, -1, np.int64)
        dense[compute] = np.searchsorted(used, live_of[compute])
    digits = np.empty((used.size, len(live)), np.int32)
    for column, values in enumerate(np.unravel_index(used, shape) if shape else ()):
        digits[:, column] = values
    return VoteLayout(
        grid,
        both.long,
        both.short,
        live,
        digits,
        _row_ids(dense, both.long),
        _row_ids(dense, both.short),
        both.conflicts,
    )


def _live_index(sizes: Sequence[int], live: Sequence[int]) -> NDArray[np.int64]:
    """Mixed-radix index over the live axes of each compute variant, i8[V]."""
    index = np.zeros(tuple(sizes), np.int64)
    for axis in live:
        shape = [1] * len(sizes)
        shape[axis] = sizes[axis]
        index = index * sizes[axis] + np.arange(sizes[axis]).reshape(shape)
    return index.reshape(-1)


def _row_ids(dense: NDArray[np.int64], side: Side) -> NDArray[np.int32]:
    ids = (dense[:, None] * side.count + side.key[None, :]).astype(np.int32)
    ids[dense < 0] = -1
    ids = ids.reshape(-1)
    ids.flags.writeable = False
    return ids


def _plain(fn: Callable[[T], None], blocks: Sequence[T]) -> None:
    for block in blocks:
        fn(block)


def _no_control() -> None:
    return None


def build_votes(
    layout: VoteLayout,
    series: BarSeries,
    start: int,
    stop: int,
    each: Each = _plain,
    control: Callable[[], None] = _no_control,
    out: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None,
) -> VoteTable:
    """The vote tables of `layout` on bars [start, stop) of `series`, written to `out` when given.

    `each(fn, blocks)` runs `fn` over the blocks, on threads if it likes; `control()` is called
    before every block and may raise (Cancelled).
    """
    count = words(stop - start)
    long, short = out or (
        np.empty((layout.n_long, count), np.uint64),
        np.empty((layout.n_short, count), np.uint64),
    )
    worker = _Builder(layout, series, start, stop, long, short, control)
    each(worker, _blocks(layout, block_rows(len(series))))
    for table in (long, short):
        table.flags.writeable = False
    return VoteTable(long, short, layout.long_id, layout.short_id, layout.conflicts, stop - start)


def _blocks(layout: VoteLayout, size: int) -> list[NDArray[np.int64]]:
    """Live rows in blocks of at most `size` of one source.

    A block is a tile over the two innermost parameter axes, so that what rows share (an EMA, a
    rolling extreme, a deviation) is computed once for several of them.
    """
    names = [layout.grid.compute[i].name for i in layout.live]
    columns = [layout.digits[:, k] for k, name in enumerate(names) if name != SOURCE]
    source = (
        layout.digits[:, names.index(SOURCE)] if SOURCE in names else np.zeros(layout.n_live, int)
    )
    keys: list[Any] = [*columns]
    if len(columns) >= 2:
        outer, inner = columns[-2], columns[-1]
        outer_edge = max(1, min(int(outer.max(initial=0)) + 1, math.isqrt(size)))
        inner_edge = max(1, min(int(inner.max(initial=0)) + 1, size // outer_edge))
        outer_edge = max(1, size // inner_edge)
        keys = [*columns[:-2], outer // outer_edge, inner // inner_edge, outer, inner]
    order = np.lexsort([*reversed(keys), source]) if keys or SOURCE in names else np.arange(1)
    cuts = np.flatnonzero(np.diff(source[order])) + 1
    return [
        part[at : at + size]
        for part in np.split(order[: layout.n_live], cuts)
        for at in range(0, part.size, size)
    ]


class _Builder:
    """Callable that packs the votes of one block; holds one scratch block per thread."""

    def __init__(
        self,
        layout: VoteLayout,
        series: BarSeries,
        start: int,
        stop: int,
        long: NDArray[np.uint64],
        short: NDArray[np.uint64],
        control: Callable[[], None],
    ) -> None:
        self.layout, self.series, self.start, self.stop = layout, series, start, stop
        self.tables = ((layout.long, long), (layout.short, short))
        self.control = control
        self.rule = voting_rule(layout.grid.definition, layout.grid.output)
        self.indicator: Indicator = module(layout.grid.indicator_id)
        self.gates = {
            side.body: body_words(series, start, stop, side.body)
            for side, _ in self.tables
            if side.body
        }
        self.scratch = threading.local()

    def __call__(self, block: NDArray[np.int64]) -> None:
        self.control()
        params, source = self._settings(block)
        reference = reference_series(self.rule, self.series, source)
        rows = self._rows(block.size)
        filled = ""
        for side, table in self.tables:
            if side.output != filled:
                self.indicator.rows(self.series, params, source, side.output, rows)
                filled = side.output
            self._pack(side, rows, reference, block, table)

    def _rows(self, count: int) -> NDArray[np.float32]:
        block = getattr(self.scratch, "rows", None)
        if block is None or len(block) < count:
            block = self.scratch.rows = np.empty((count, len(self.series)), np.float32)
        return block[:count]

    def _settings(self, block: NDArray[np.int64]) -> tuple[dict[str, NDArray[Any]], str]:
        """Parameter values of the rows of a block (a dead axis at its first value), its source."""
        params: dict[str, NDArray[Any]] = {}
        source = ""
        live = {axis: column for column, axis in enumerate(self.layout.live)}
        for i, axis in enumerate(self.layout.grid.compute):
            column = live.get(i)
            digits = (
                np.zeros(block.size, int) if column is None else self.layout.digits[block, column]
            )
            if axis.name == SOURCE:
                source = str(axis.values[int(digits[0])])
            else:
                kind = self.layout.grid.definition.param(axis.name).kind
                values = np.array(axis.values, np.int64 if kind == "int" else np.float64)
                params[axis.name] = values[digits]
        return params, source

    def _pack(
        self,
        side: Side,
        rows: NDArray[np.float32],
        reference: NDArray[np.float32],
        block: NDArray[np.int64],
        table: NDArray[np.uint64],
    ) -> None:
        # Rows next to each other in the table go in one call, as many as stay under 0.1 s.
        step = max(1, _PACK_VALUES // (side.count * max(1, self.stop - self.start)))
        breaks = np.flatnonzero(np.diff(block) != 1) + 1
        at = 0
        for run in np.split(block, breaks):
            for begin in range(0, run.size, step):
                part = rows[at + begin : at + min(begin + step, run.size)]
                first = int(run[begin]) * side.count
                pack(side, part, reference, self.start, self.stop, table, first)
                if side.body:
                    table[first : first + len(part) * side.count] &= self.gates[side.body]
            at += run.size
