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

from compute.bits import WORD_BITS, words
from compute.grid import IndicatorGrid
from compute.indicators.series import BarSeries
from compute.output_rows import OutputRows, block_rows, output_rows, tensor_rows
from compute.packing import Packer, Packing, body_words
from compute.pieces import Piece, Room, piece_columns, pieces
from compute.rules import Side, reference_series, sides, voting_rule
from compute.settling import longest_lag

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


def _here(sides: Sequence[tuple[Side, int]], values: int, calls: int) -> Packer:
    return Packer(sides)


def build_votes(
    layout: VoteLayout,
    series: BarSeries,
    start: int,
    stop: int,
    each: Each = _plain,
    control: Callable[[], None] = _no_control,
    out: NDArray[np.uint64] | None = None,
    packing: Packing | None = None,
) -> VoteTable:
    """The vote tables of `layout` on bars [start, stop) of `series`, written to `out` when given.

    `each(fn, blocks)` runs `fn` over the blocks, on threads if it likes; `control()` is called
    before every block and may raise (Cancelled). `packing` says what packs, None for this process.
    """
    planes = out
    if planes is None:
        planes = np.empty((layout.n_long + layout.n_short, words(stop - start)), np.uint64)
    worker = _Builder(layout, series, start, stop, planes, control, packing or _here)
    each(worker, layout.rows.blocks(worker.block_rows))
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
        packing: Packing,
    ) -> None:
        self.layout, self.series, self.start, self.stop = layout, series, start, stop
        self.planes, self.control = planes, control
        grid = layout.rows.grid
        self.rule = voting_rule(grid.definition, grid.output)
        # Sides that read one output are packed together: its rows are read from memory once.
        both = ((layout.long, 0), (layout.short, layout.n_long))
        alike = layout.long.output == layout.short.output
        passes = (both,) if alike else ((both[0],), (both[1],))
        self.pieces = pieces(grid, series, start, stop, longest_lag(grid))
        self.block_rows, columns = scratch_shape(grid, len(series), stop - start)
        values = layout.n_live * (stop - start)
        calls = -(-values // max(1, self.block_rows * columns))
        self.passes = [(sides[0][0].output, packing(sides, values, calls)) for sides in passes]
        self.gates = [
            (side, first, body_words(series, start, stop, side.body))
            for side, first in both
            if side.body
        ]
        self.scratch = threading.local()

    def __call__(self, block: NDArray[np.int64]) -> None:
        params, source = self.layout.rows.settings(block)
        reference = reference_series(self.rule, self.series, source)
        runs = np.split(np.arange(block.size), np.flatnonzero(np.diff(block) != 1) + 1)
        for output, packer in self.passes:
            for piece in self.pieces(params, source, output, self._room(block.size)):
                for run in runs:
                    self._pack(packer, piece, run, int(block[run[0]]), reference)
        for side, first, words_of_body in self.gates:
            for run in runs:
                at = first + int(block[run[0]]) * side.count
                table = self.planes[at : at + run.size * side.count]
                table &= words_of_body

    def _room(self, count: int) -> Room:
        """This thread's scratch for `count` rows of as many columns as asked for."""

        def room(columns: int) -> NDArray[np.float32]:
            flat = getattr(self.scratch, "rows", None)
            if flat is None or flat.size < count * columns:
                flat = self.scratch.rows = np.empty(count * columns, np.float32)
            return flat[: count * columns].reshape(count, columns)

        return room

    def _pack(
        self,
        packer: Packer,
        piece: Piece,
        run: NDArray[np.int64],
        row: int,
        reference: NDArray[np.float32],
    ) -> None:
        """The votes of the rows `run` of a piece, in calls that stay under 0.1 s."""
        step = max(1, _PACK_VALUES // (packer.comparisons * max(1, piece.stop - piece.start)))
        word = (piece.bar - self.start) // WORD_BITS
        for at in range(0, run.size, step):
            self.control()
            part = piece.rows[run[at] : run[min(at + step, run.size) - 1] + 1]
            packer.put(
                row + at, part, piece.start, piece.stop, reference, piece.bar, self.planes, word
            )


def scratch_shape(grid: IndicatorGrid, total_bars: int, slice_bars: int) -> tuple[int, int]:
    """Output rows of `grid` that are computed together for their votes, and columns of each."""
    columns, slow = piece_columns(grid, slice_bars, longest_lag(grid)), grid.definition.slow
    if columns is None:
        return block_rows(total_bars, slow), total_bars
    return tensor_rows(columns, slow), columns
