"""Votes of a whole grid: one table of packed planes, and which two planes a vote row means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.bits import words
from compute.grid import Grid
from compute.indicators.series import BarSeries
from compute.packing import Packing
from compute.planes import VoteLayout, build_votes, vote_layout

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Planes u8[P, W] of the target slice and, per indicator, plane ids i4[rows] of its vote rows.

    `conflict` u8[K] is all ones where both votes of a row can be true on one bar (NEUTRAL then).
    """

    planes: NDArray[np.uint64]
    long_id: tuple[NDArray[np.int32], ...]
    short_id: tuple[NDArray[np.int32], ...]
    conflict: NDArray[np.uint64]
    bars: int

    def pairs(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(LONG, SHORT) plane ids i4[n, K] of vote rows i4[n, K]."""
        lid = np.empty(rows.shape, np.int32)
        sid = np.empty(rows.shape, np.int32)
        for k in range(rows.shape[1]):
            lid[:, k] = self.long_id[k][rows[:, k]]
            sid[:, k] = self.short_id[k][rows[:, k]]
        return lid, sid

    def aggregated(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """(LONG, SHORT) words [W] of one variant's vote rows i4[K], joined by AND."""
        lid, sid = self.pairs(rows[None, :])
        long = np.full(self.planes.shape[1], _ALL)
        short = long.copy()
        for k in range(len(rows)):
            lw, sw = self.planes[lid[0, k]], self.planes[sid[0, k]]
            clash = lw & sw & self.conflict[k]
            long &= lw & ~clash
            short &= sw & ~clash
        return long, short


def grid_layouts(
    grid: Grid, chosen: dict[int, NDArray[np.int64]] | None = None
) -> list[VoteLayout]:
    """Table layouts per indicator; `chosen` narrows indicator k to some of its compute variants."""
    chosen = chosen or {}
    return [vote_layout(part, chosen.get(k)) for k, part in enumerate(grid.indicators)]


def grid_votes(
    layouts: Sequence[VoteLayout],
    series: BarSeries,
    start: int,
    stop: int,
    each: Callable[[Callable[[Any], None], Sequence[Any]], None],
    control: Callable[[], None],
    packing: Packing | None = None,
) -> Votes:
    """`Votes` of `layouts` on bars [start, stop); `each` runs row blocks on executor threads."""
    count = sum(layout.n_long + layout.n_short for layout in layouts)
    planes = np.empty((count, words(stop - start)), np.uint64)
    long_id: list[NDArray[np.int32]] = []
    short_id: list[NDArray[np.int32]] = []
    at = 0
    for layout in layouts:
        middle = at + layout.n_long
        end = middle + layout.n_short
        build_votes(layout, series, start, stop, each, control, planes[at:end], packing)
        # A row outside the layout's subset keeps an id that is never asked for.
        long_id.append(_frozen(layout.long_id + np.int32(at)))
        short_id.append(_frozen(layout.short_id + np.int32(middle)))
        at = end
    conflict = np.array([_ALL if layout.conflicts else 0 for layout in layouts], np.uint64)
    return Votes(_frozen(planes), tuple(long_id), tuple(short_id), _frozen(conflict), stop - start)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
