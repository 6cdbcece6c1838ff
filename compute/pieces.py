"""Output rows over many bars, piece by piece: a piece is read while it is still in the cache.

A year of minutes of some rows is larger than any cache, and reading it back costs as much as
making it. Rows of a piece are made from a slice of the bars with a lead in front, to the bit:
running sums are anchored to absolute bars, and recursions go on from the state that the piece
before them left. Where the lead is too long or rows are few, all bars are one piece.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from compute.grid import IndicatorGrid
from compute.indicators.carry import Carry
from compute.indicators.definition import Indicator, Resumable
from compute.indicators.kernels.sums import BLOCK
from compute.indicators.registry import module
from compute.indicators.series import BarSeries
from compute.settling import corners, settling

PIECE_BARS = 16_320
"""Bars of a piece: an odd number of words, so that pieces fill whole ones and the rows of a block
do not fall on the same lines of the cache (an EMA of 16 rows: 0.27 ns a value, 0.6 with 16 384)."""
_SLICE = 2  # pieces: of a slice less is lead
_FEWEST = 8
_FEW_ROWS = 8  # of a recursion: up to here pieces cost more than they save
_SEEN = 2  # bars that tell a recursion whether the one before its first was a hole

Room = Callable[[int], NDArray[np.float32]]
"""Scratch f4[rows of the block, columns], C-contiguous; the next call may overwrite it."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows f4[R, n] whose columns [start, stop) are the bars from `bar` on."""

    rows: NDArray[np.float32]
    start: int
    stop: int
    bar: int


Pieces = Callable[[Mapping[str, NDArray[Any]], str, str, Room], Iterator[Piece]]
"""(params, source, output, room) -> the pieces of those rows, in order."""


def lead_bars(grid: IndicatorGrid) -> int:
    """Bars in front of a piece that make its rows independent of where its slice begins.

    A sum over a window is a difference inside a block and the one before it; windows of windows
    need that for the first bar that they reach. A recursion needs what it reads beside its state.
    """
    known = grid.definition
    if known.recursive:
        first = module(known.indicator_id).first
        return known.lead + max(first(corner, grid.output) for corner in corners(grid)) + _SEEN
    windows = settling(grid)
    return 2 * max(BLOCK, 1 << windows.bit_length()) + windows


def piece_columns(grid: IndicatorGrid, bars: int, lag: int) -> int | None:
    """Columns of a piece of the rows of `grid` over that many bars, None where they are not made in
    pieces. `lag` are the columns that a reader wants before a piece."""
    known, lead = grid.definition, lead_bars(grid)
    if bars < _FEWEST * PIECE_BARS:
        return None
    if known.recursive:
        live = known.output(grid.output).axes
        rows = math.prod(len(axis) for axis in grid.compute if axis.name in live)
        short = rows > _FEW_ROWS and max(lead, lag) <= PIECE_BARS // 2
        return PIECE_BARS + lag if short else None
    bars_of_slice = _SLICE * PIECE_BARS
    return bars_of_slice + lead + lag if lead + lag <= bars_of_slice // 2 else None


def pieces(grid: IndicatorGrid, series: BarSeries, start: int, stop: int, lag: int) -> Pieces:
    """How rows of `grid` are made on bars [start, stop) of `series`; threads may share it."""
    indicator, lead = module(grid.indicator_id), lead_bars(grid)
    if piece_columns(grid, stop - start, lag) is None:
        return _whole(indicator, series, start, stop)
    if grid.definition.recursive:
        return _resumed(cast(Resumable, indicator), series, start, stop, lead, lag)
    return _sliced(indicator, series, start, stop, lead + lag)


def _whole(indicator: Indicator, series: BarSeries, start: int, stop: int) -> Pieces:
    def made(
        params: Mapping[str, NDArray[Any]], source: str, output: str, room: Room
    ) -> Iterator[Piece]:
        rows = room(len(series))
        indicator.rows(series, params, source, output, rows)
        yield Piece(rows, start, stop, start)

    return made


def _sliced(indicator: Indicator, series: BarSeries, start: int, stop: int, lead: int) -> Pieces:
    slices: list[tuple[BarSeries, int, int]] = []
    for begin in range(start, stop, _SLICE * PIECE_BARS):
        first, end = max(0, begin - lead), min(begin + _SLICE * PIECE_BARS, stop)
        slices.append((series.slice(first, end), begin, first))

    def made(
        params: Mapping[str, NDArray[Any]], source: str, output: str, room: Room
    ) -> Iterator[Piece]:
        for part, begin, first in slices:
            rows = room(len(part))
            indicator.rows(part, params, source, output, rows)
            yield Piece(rows, begin - first, len(part), begin)

    return made


def _resumed(
    indicator: Resumable, series: BarSeries, start: int, stop: int, lead: int, lag: int
) -> Pieces:
    # Bars before `start` are made too, for what they hand on; pieces then begin at whole words.
    cuts = [*range(start % PIECE_BARS, stop, PIECE_BARS), stop]
    cuts = [0, *cuts] if cuts[0] else cuts
    slices = [
        (series.slice(max(0, begin - lead), end), begin, end)
        for begin, end in itertools.pairwise(cuts)
    ]
    edge = -(-lag // 64) * 64

    def made(
        params: Mapping[str, NDArray[Any]], source: str, output: str, room: Room
    ) -> Iterator[Piece]:
        carry, tail = Carry(), np.empty((0, 0), np.float32)
        for part, begin, end in slices:
            rows = room(end - begin)
            indicator.rows(part, params, source, output, rows, carry)
            if begin == 0:
                tail = rows[:, :0]
            ahead = min(edge, end - begin) if begin else 0
            if begin >= start and ahead:
                joined = np.concatenate((tail, rows[:, :ahead]), axis=1)
                yield Piece(joined, tail.shape[1], joined.shape[1], begin)
            if begin >= start and ahead < end - begin:
                yield Piece(rows, ahead, end - begin, begin + ahead)
            if lag:
                tail = np.concatenate((tail, rows[:, -lag:]), axis=1)[:, -lag:]

    return made
