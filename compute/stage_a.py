"""Stage A: base variants (no stops) scored along a route through the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE, PROFIT_LOCK, Terms
from compute.exact import OFF
from compute.falls import fall_scores, touches
from compute.grid import Grid
from compute.keys import KeyTemplate
from compute.names import BaseNames
from compute.products import Walk, product_scores, walk_memory
from compute.ranking import PROFIT_FACTOR, Ranking, Scores, profit_factor, settled
from compute.route import Route
from compute.sequences import exact_scores, fixed_scores
from compute.stops import Levels, levels, tiles
from compute.tags import vote_tags
from compute.votes import Votes

Check = Callable[[], None]
Flat = NDArray[np.int64]
Rows = NDArray[np.int32]
NO_STOPS = levels((None,), (None,))

# Levels of a side whose touches are held at a time: 80 bytes a bar.
TILE = 10
# Longest stretch of one kernel call in model seconds: flags and deadlines are read between calls.
CALL_SECONDS = 0.05
# Model of a reference core, ns per bar of a variant: reused words; trade by trade; with extremes;
# exact; exact with drawdown.
_PRODUCT_NS, _SEQUENCE_NS, _FALLS_NS, _EXACT_NS, _DRAWDOWN_NS = 0.12, 0.6, 1.2, 1.5, 3.0


def unchecked() -> None:
    """A check that lets everything go on."""


@dataclass(frozen=True, slots=True, eq=False)
class StageA:
    """Everything Stage A reads. Positions of `route` are its units; `close` f8[N] is the slice.

    `columns` asks the kernels for wins and profits of every variant, not only return and trades.
    """

    grid: Grid
    votes: Votes
    route: Route
    close: NDArray[np.float64]
    terms: Terms
    ranking: Ranking
    key_template: KeyTemplate
    columns: bool = False

    name = "stage_a"

    @property
    def total(self) -> int:
        return self.route.total

    @property
    def units_per_position(self) -> int:
        return 1

    def nanoseconds(self) -> float:
        """Model cost of one position on a reference core."""
        bars = max(64, len(self.close))
        if self.ranking.searches_drawdown:
            return _FALLS_NS * bars
        if self.terms.sizing == FIXED_QUOTE:
            return _SEQUENCE_NS * bars
        detailed = self.columns or self.terms.sizing == PROFIT_LOCK
        return _PRODUCT_NS * bars * (2 if detailed else 1)

    def scores(self, start: int, stop: int, check: Check = unchecked) -> Iterator[Scores]:
        """Fast scores of positions [start, stop), a kernel call at a time, `check` between them."""
        step = max(1, int(CALL_SECONDS * 1e9 / self.nanoseconds()))
        memory = walk_memory(len(self.grid.indicators), self.votes.planes.shape[1], len(self.close))
        for begin in range(start, stop, step):
            check()
            flat, rows = self.route.visit(begin, min(begin + step, stop))
            yield self._fast(flat, rows, memory)

    def _fast(self, flat: Flat, rows: Rows, memory: Walk) -> Scores:
        lid, sid = self.votes.pairs(rows)
        if self.ranking.searches_drawdown:
            scores = fall_rows(flat, self.votes, lid, sid, self.close, self.terms, NO_STOPS, memory)
        else:
            scores = self._account(flat, lid, sid, memory)
        return settled(
            self.ranking.primary, scores, self.terms.init_cash,
            lambda some: self._exact(flat[some], rows[some], memory),
        )  # fmt: skip

    def _account(self, flat: Flat, lid: Rows, sid: Rows, memory: Walk) -> Scores:
        """Scores without bars: return and trades, and profits where something asks for them."""
        n = len(flat)
        equity, trades = np.empty(n), np.empty(n, np.int32)
        detailed = self.columns or self.ranking.primary == PROFIT_FACTOR or self.terms.sizing in (
            FIXED_QUOTE, PROFIT_LOCK,
        )  # fmt: skip
        wins = np.empty(n, np.int32) if detailed else None
        sums = np.empty((2, n)) if detailed else None
        score = fixed_scores if self.terms.sizing == FIXED_QUOTE else product_scores
        score(
            self.votes.planes, lid, sid, self.votes.conflict, self.close, self.terms, 0, n, memory,
            equity, trades, wins, sums,
        )  # fmt: skip
        missing = np.full(n, np.nan)
        if sums is None or wins is None:
            return Scores(flat, equity, trades, np.zeros(n, np.int32), missing, missing, missing)
        sums *= self.terms.init_cash
        return Scores(flat, equity, trades, wins, sums[0], sums[1], missing)

    def exact(self, index: NDArray[np.int64]) -> Scores:
        """Exact scores of flat indices, in their order."""
        memory = walk_memory(len(self.grid.indicators), self.votes.planes.shape[1], len(self.close))
        return self._exact(index, self.grid.local_rows(index), memory)

    def _exact(self, flat: Flat, rows: Rows, memory: Walk) -> Scores:
        n = len(flat)
        lid, sid = self.votes.pairs(rows)
        off = np.full(n, OFF)
        return exact_rows(
            flat, self.votes, lid, sid, self.close, self.terms, off, off, memory,
            self.ranking.needs_drawdown,
        )  # fmt: skip

    def exact_nanoseconds(self) -> float:
        """Model cost of one exact score."""
        ns = _DRAWDOWN_NS if self.ranking.needs_drawdown else _EXACT_NS
        return ns * max(64, len(self.close))

    def holds(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which flat indices lie in the route's part of the grid."""
        box = self.route.box
        if box is None:
            return np.ones(len(index), np.bool_)
        digits = self.grid.digits(index)[:, box.axis]
        return (digits >= box.low) & (digits < box.high)

    def tags(self, scores: Scores, check: Check = unchecked) -> NDArray[np.uint64]:
        """Tags of the aggregated votes of scored variants: equal for equal votes."""
        lid, sid = self.votes.pairs(self.grid.local_rows(scores.index))
        check()  # one pass over the words of variants that one scoring call held
        tags = np.empty(len(scores), np.uint64)
        memory = walk_memory(lid.shape[1], self.votes.planes.shape[1], 0)
        vote_tags(
            self.votes.planes, lid, sid, self.votes.conflict, self.terms.direction, memory, tags
        )
        return tags

    @property
    def namer(self) -> BaseNames:
        """Names of flat indices."""
        return BaseNames(self.key_template)


def exact_rows(
    index: NDArray[np.int64],
    votes: Votes,
    lid: NDArray[np.int32],
    sid: NDArray[np.int32],
    close: NDArray[np.float64],
    terms: Terms,
    sl: NDArray[np.float64],
    tp: NDArray[np.float64],
    memory: Walk,
    drawdown: bool,
) -> Scores:
    """Exact `Scores` of variants given by plane ids i4[n, K] and stop rates f8[n]."""
    n = len(index)
    equity, won_lost, falls = np.empty(n), np.empty((2, n)), np.empty(n)
    trades, wins = np.empty(n, np.int32), np.empty(n, np.int32)
    exact_scores(
        votes.planes, lid, sid, votes.conflict, close, terms, sl, tp, 0, n, memory,
        True if drawdown else None, equity, trades, wins, won_lost, falls,
    )  # fmt: skip
    return Scores(index, equity, trades, wins, won_lost[0], won_lost[1], falls)


def fall_rows(
    index: NDArray[np.int64],
    votes: Votes,
    lid: Rows,
    sid: Rows,
    close: NDArray[np.float64],
    terms: Terms,
    levels: Levels,
    memory: Walk,
    check: Check = unchecked,
) -> Scores:
    """Fast `Scores` with drawdown of variants under every pair of `levels`, index i8[n · P]."""
    shape = (len(lid), levels.pair.size)
    equity, falls, sums = np.empty(shape), np.empty(shape), np.empty((2, *shape))
    trades, wins = np.empty(shape, np.int32), np.empty(shape, np.int32)
    for tile in tiles(levels, TILE):
        touched = touches(len(close), len(tile.sl), len(tile.tp))
        each = _FALLS_NS * 1e-9 * max(64, len(close)) * tile.pair.size
        step = max(1, int(CALL_SECONDS / each))
        for begin in range(0, len(lid), step):
            check()
            fall_scores(
                votes.planes, lid, sid, votes.conflict, close, terms, tile,
                begin, min(begin + step, len(lid)), memory, touched,
                equity, trades, wins, sums, falls,
            )  # fmt: skip
    won, lost = (sums * terms.init_cash).reshape(2, -1)
    return Scores(index, equity.ravel(), trades.ravel(), wins.ravel(), won, lost, falls.ravel())


def columns(scores: Scores) -> dict[str, NDArray[np.generic]]:
    """The bulk columns of Stage A: fast scores, one entry a base variant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(scores.trades > 0, 100.0 * scores.wins / scores.trades, np.nan)
    return {
        "index": scores.index,
        "total_return_pct": (scores.equity - 1) * 100,
        "num_trades": scores.trades,
        "win_rate_pct": rate,
        "profit_factor": profit_factor(scores.won, scores.lost),
    }
