"""Vote tables of one indicator: which comparisons differ, and their bits over the target slice.

LONG and SHORT are separate tables, each keyed by exactly what it depends on: the compute axes that
move the output and the parameters of that side of the rule. A vote row is a pair of table rows.
The output itself lives in a scratch block of rows, becomes bits for all rule settings at once, and
is forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.bits import words
from compute.grid import IndicatorGrid
from compute.indicators.definition import Indicator
from compute.indicators.registry import module
from compute.indicators.series import BarSeries
from compute.output_rows import OutputRows, block_rows, output_rows
from compute.packing import body_words, pack
from compute.rules import Side, reference_series, sides, voting_rule

T = TypeVar("T")
Each = Callable[[Callable[[Any], None], Sequence[Any]], None]

_PACK_VALUES = 400_000_000  # comparisons in one packing call, 0.1 ns each


@dataclass(frozen=True, slots=True)
class VoteLayout:
    """Rows of an indicator's vote tables.

    `long_id`, `short_id` i4[V·S] give the table rows of local vote row r = c·S + s; -1 for compute
    variants outside the chosen subset. `conflicts`: both votes of a row can be true on one bar
    (NEUTRAL then).
    """

    rows: OutputRows
    long: Side
    short: Side
    long_id: NDArray[np.int32]
    short_id: NDArray[np.int32]
    conflicts: bool

    @property
    def n_live(self) -> int:
        """Number of output rows that differ."""
        return len(self.rows)

    @property
    def n_long(self) -> int:
        """Rows of the LONG table."""
        return self.n_live * self.long.count

    @property
    def n_short(self) -> int:
        """Rows of the SHORT table."""
        return self.n_live * self.short.count


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Votes of one indicator over a slice of `bars`: read-only words [rows, W] and row ids."""

    long: NDArray[np.uint64]
    short: NDArray[np.uint64]
    long_id: NDArray[np.int32]
    short_id: NDArray[np.int32]
    conflicts: bool
    bars: int


def vote_layout(grid: IndicatorGrid, compute: NDArray[np.integer[Any]] | None = None) -> VoteLayout:
    """The table rows of `grid`, or of its compute variants `compute` alone.

    Raises InvalidGrid when the output has no rule or a rule parameter is missing or malformed.
    """
    rule = voting_rule(grid.definition, grid.output)
    output = grid.definition.output(grid.output)
    both = sides(
        grid.indicator_id, rule, output.name, {axis.name: axis.values for axis in grid.signals}
    )
    rows = output_rows(grid, compute)
    return VoteLayout(
        rows,
        both.long,
        both.short,
        _row_ids(rows.row, both.long),
        _row_ids(rows.row, both.short),
        both.conflicts,
    )


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
    out: NDArray[np.uint64] | None = None,
) -> VoteTable:
    """The vote tables of `layout` on bars [start, stop) of `series`, written to `out` when given.

    `each(fn, blocks)` runs `fn` over the blocks, on threads if it likes; `control()` is called
    before every block and may raise (Cancelled).
    """
    planes = out
    if planes is None:
        planes = np.empty((layout.n_long + layout.n_short, words(stop - start)), np.uint64)
    worker = _Builder(layout, series, start, stop, planes, control)
    size = block_rows(len(series), layout.rows.grid.definition.slow)
    each(worker, layout.rows.blocks(size))
    planes.flags.writeable = False
    long, short = planes[: layout.n_long], planes[layout.n_long :]
    return VoteTable(long, short, layout.long_id, layout.short_id, layout.conflicts, stop - start)


class _Builder:
    """Callable that packs the votes of one block; holds one scratch block per thread."""

    def __init__(
        self,
        layout: VoteLayout,
        series: BarSeries,
        start: int,
        stop: int,
        planes: NDArray[np.uint64],
        control: Callable[[], None],
    ) -> None:
        self.layout, self.series, self.start, self.stop = layout, series, start, stop
        self.planes, self.control = planes, control
        # Sides that read one output are packed together: its rows are read from memory once.
        both = ((layout.long, 0), (layout.short, layout.n_long))
        alike = layout.long.output == layout.short.output
        self.passes = (both,) if alike else ((both[0],), (both[1],))
        grid = layout.rows.grid
        self.rule = voting_rule(grid.definition, grid.output)
        self.indicator: Indicator = module(grid.indicator_id)
        self.gates = {
            side.body: body_words(series, start, stop, side.body) for side, _ in both if side.body
        }
        self.scratch = threading.local()

    def __call__(self, block: NDArray[np.int64]) -> None:
        self.control()
        params, source = self.layout.rows.settings(block)
        reference = reference_series(self.rule, self.series, source)
        rows = self._rows(block.size)
        for together in self.passes:
            output = together[0][0].output
            self.indicator.rows(self.series, params, source, output, rows)
            self._pack(together, rows, reference, block)

    def _rows(self, count: int) -> NDArray[np.float32]:
        block = getattr(self.scratch, "rows", None)
        if block is None or len(block) < count:
            block = self.scratch.rows = np.empty((count, len(self.series)), np.float32)
        return block[:count]

    def _pack(
        self,
        both: Sequence[tuple[Side, int]],
        rows: NDArray[np.float32],
        reference: NDArray[np.float32],
        block: NDArray[np.int64],
    ) -> None:
        # Rows next to each other in the table go in one call, as many as stay under 0.1 s.
        comparisons = sum(side.count for side, _ in both)
        step = max(1, _PACK_VALUES // (comparisons * max(1, self.stop - self.start)))
        breaks = np.flatnonzero(np.diff(block) != 1) + 1
        at = 0
        for run in np.split(block, breaks):
            for begin in range(0, run.size, step):
                part = rows[at + begin : at + min(begin + step, run.size)]
                placed = [(side, first + int(run[begin]) * side.count) for side, first in both]
                pack(placed, part, reference, self.start, self.stop, self.planes)
                for side, first in placed:
                    if side.body:
                        table = self.planes[first : first + len(part) * side.count]
                        table &= self.gates[side.body]
            at += run.size
