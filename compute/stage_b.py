"""Stage B: the shortlist under every pair of stops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.account import ALL_IN, COMPOUND, PROFIT_LOCK, Terms
from compute.exact import (
    EQUITY,
    LOST,
    SCORES,
    TRADES,
    WON,
    account_runs,
    extract_runs,
    run_extremes,
)
from compute.falls import touches
from compute.jit import kernel
from compute.keys import KeyTemplate
from compute.products import TINY, Walk, and_others, walk_memory
from compute.ranking import PROFIT_FACTOR, Ranking, Scores, settled
from compute.stage_a import CALL_SECONDS, Rows, axis_places, axis_ranges, exact_rows, fall_rows
from compute.stops import Cells, Levels, calm_bars, cells, product_pairs, sequence_pairs
from compute.tags import pair_tags
from compute.votes import Votes

# Model of a reference core: ns per bar to find and walk the runs, per bar and pair to walk accounts
# one by one (a run every dozen bars), per pair for a product, per bar and pair exactly.
_RUNS_NS, _SEQUENCE_NS, _PAIR_NS, _FALLS_NS, _EXACT_NS, _DRAWDOWN_NS = 1.3, 0.05, 4.0, 0.6, 2.0, 3.0


@kernel
def pair_scores(
    planes, lid, sid, conflict, close, calm, terms, levels, product, start, stop, walk, cells,
    growth, equity, trades, sums,
):  # fmt: skip
    """Fills equity f8[n, P] and trades i4[n, P] of variants start..stop under all pairs.

    Equity is in units of initial cash, and so are the profits won and lost that `sums` f8[2, n, P]
    asks for. `growth` f8[S, T] is scratch.
    """
    bars = close.size
    rows, columns = levels.pair.shape
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    out = np.empty(SCORES)
    pair = levels.pair
    available, won, lost = cells.available, cells.won, cells.lost
    for i in range(start, stop):
        and_others(planes, lid, sid, conflict, i, -1, terms.direction, walk.rest)
        runs, unfinished = extract_runs(
            walk.rest[0], walk.rest[1], bars, walk.entry, walk.exit, walk.side
        )
        least = 1.0
        if product:
            doubtful = product_pairs(
                close, calm, walk.entry, walk.exit, walk.side, runs, terms, levels, cells, growth
            )
        else:
            doubtful = sequence_pairs(
                close, calm, walk.entry, walk.exit, walk.side, runs, terms, levels, cells, sums
            )
        for s in range(rows):
            for t in range(columns):
                if not product:
                    growth[s, t] = available[s, t] + (1.0 - keep) * won[s, t]
                least = min(least, growth[s, t])
        doubtful |= least < TINY
        if doubtful:
            run_extremes(close, walk.entry, walk.exit, runs, walk.low, walk.high)
        for s in range(rows):
            for t in range(columns):
                p = pair[s, t]
                if doubtful:
                    account_runs(
                        close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs,
                        unfinished, terms, levels.sl[s], levels.tp[t], False,
                        None, None, None, None, out,
                    )  # fmt: skip
                    equity[i, p] = out[EQUITY] / terms.init_cash
                    trades[i, p] = np.int64(out[TRADES])
                    if sums is not None:
                        sums[0, i, p] = out[WON] / terms.init_cash
                        sums[1, i, p] = out[LOST] / terms.init_cash
                else:
                    equity[i, p] = growth[s, t]
                    trades[i, p] = runs
                    if sums is not None:
                        sums[0, i, p] = won[s, t]
                        sums[1, i, p] = lost[s, t]


_UNUSED = np.empty((2, 0), np.int32)


def calm_table(close: NDArray[np.float64], terms: Terms, levels: Levels) -> NDArray[np.int32]:
    """Read-only table i4[2, N] of `calm_bars` for the nearest levels."""
    calm = np.empty((2, len(close)), np.int32)
    calm_bars(close, terms.slippage, levels.sl[0], levels.tp[0], calm)
    calm.flags.writeable = False
    return calm


@dataclass(frozen=True, slots=True, eq=False)
class StageB:
    """Everything Stage B reads. Units are pairs; a position is one rank of the shortlist.

    `flat` i8[m] are the base variants of ranks `first_rank`…, `rows` i4[m, K] their vote rows. A
    variant's index is rank · pairs + risk index. `calm` i4[2, N] is the table of `calm_bars`, which
    only fast scores read.
    """

    flat: NDArray[np.int64]
    rows: NDArray[np.int32]
    votes: Votes
    close: NDArray[np.float64]
    terms: Terms
    levels: Levels
    ranking: Ranking
    key_template: KeyTemplate
    calm: NDArray[np.int32] = field(default_factory=lambda: _UNUSED)
    first_rank: int = 0

    name = "stage_b"

    @property
    def total(self) -> int:
        return len(self.flat)

    @property
    def units_per_position(self) -> int:
        return self.levels.pair.size

    @property
    def _product(self) -> bool:
        return self.terms.sizing in (ALL_IN, COMPOUND) and self.ranking.primary != PROFIT_FACTOR

    def nanoseconds(self) -> float:
        """Model cost of one position on a reference core."""
        bars, pairs = max(64, len(self.close)), self.units_per_position
        if self.ranking.searches_drawdown:
            return (_RUNS_NS + _FALLS_NS * pairs) * bars
        each = _PAIR_NS * pairs if self._product else _SEQUENCE_NS * bars * pairs
        return _RUNS_NS * bars + each

    def scores(self, start: int, stop: int) -> Iterator[Scores]:
        """Fast scores of the pairs of ranks [start, stop), a kernel call at a time."""
        step = max(1, int(CALL_SECONDS * 1e9 / self.nanoseconds()))
        memory = walk_memory(self.rows.shape[1], self.votes.planes.shape[1], len(self.close))
        scratch = cells(self.levels)
        for begin in range(start, stop, step):
            yield self._fast(begin, min(begin + step, stop), memory, scratch)

    def _fast(self, start: int, stop: int, memory: Walk, scratch: Cells) -> Scores:
        pairs = self.units_per_position
        index = np.arange(start * pairs, stop * pairs) + self.first_rank * pairs
        lid, sid = self.votes.pairs(self.rows[start:stop])
        if self.ranking.searches_drawdown:
            scores = fall_rows(
                index, self.votes, lid, sid, self.close, self.terms, self.levels, memory
            )
        else:
            scores = self._account(index, lid, sid, memory, scratch)
        return settled(
            self.ranking.primary, scores, self.terms.init_cash,
            lambda some: self._exact(index[some], memory),
        )  # fmt: skip

    def _account(
        self, index: NDArray[np.int64], lid: Rows, sid: Rows, memory: Walk, scratch: Cells
    ) -> Scores:
        """Scores without bars: return and trades, and profits where something asks for them."""
        if self.calm.shape[1] != len(self.close):
            raise ValueError("fast scores of stage B need the table of calm_table")
        n, pairs = len(lid), self.units_per_position
        equity, trades = np.empty((n, pairs)), np.empty((n, pairs), np.int32)
        detailed = self.ranking.primary == PROFIT_FACTOR or self.terms.sizing == PROFIT_LOCK
        sums = np.empty((2, n, pairs)) if detailed else None
        pair_scores(
            self.votes.planes, lid, sid, self.votes.conflict, self.close, self.calm, self.terms,
            self.levels, self._product, 0, n, memory, scratch, np.empty(self.levels.pair.shape),
            equity, trades, sums,
        )  # fmt: skip
        missing = np.full(n * pairs, np.nan)
        wins = np.zeros(n * pairs, np.int32)
        if sums is None:
            return Scores(index, equity.ravel(), trades.ravel(), wins, missing, missing, missing)
        won, lost = (sums * self.terms.init_cash).reshape(2, -1)
        return Scores(index, equity.ravel(), trades.ravel(), wins, won, lost, missing)

    def exact(self, index: NDArray[np.int64]) -> Scores:
        """Exact scores of variant indices, in their order."""
        memory = walk_memory(self.rows.shape[1], self.votes.planes.shape[1], len(self.close))
        return self._exact(index, memory)

    def _exact(self, index: NDArray[np.int64], memory: Walk) -> Scores:
        rank, risk = self._places(index)
        lid, sid = self.votes.pairs(self.rows[rank])
        sl, tp = self.rates()
        return exact_rows(
            index, self.votes, lid, sid, self.close, self.terms, sl[risk], tp[risk], memory,
            self.ranking.needs_drawdown,
        )  # fmt: skip

    def rates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(SL, TP) rates f8[P] by risk index."""
        flat = self.levels.pair.ravel()
        sl, tp = np.empty(flat.size), np.empty(flat.size)
        sl[flat] = np.repeat(self.levels.sl, len(self.levels.tp))
        tp[flat] = np.tile(self.levels.tp, len(self.levels.sl))
        return sl, tp

    def _places(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(position, risk index) of variant indices."""
        rank, risk = np.divmod(index, self.units_per_position)
        return rank - self.first_rank, risk

    def holds(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which variant indices belong to these ranks."""
        rank, _ = self._places(index)
        return (rank >= 0) & (rank < len(self.flat))

    def exact_nanoseconds(self) -> float:
        """Model cost of one exact score."""
        ns = _DRAWDOWN_NS if self.ranking.needs_drawdown else _EXACT_NS
        return ns * max(64, len(self.close))

    def tags(self, scores: Scores) -> NDArray[np.uint64]:
        """Tags of the trades of scored variants: equal for equal bars and sides of every trade."""
        place, risk = self._places(scores.index)
        ranks, row = np.unique(place, return_inverse=True)
        lid, sid = self.votes.pairs(self.rows[ranks])
        trades = np.zeros((len(ranks), self.units_per_position), np.int32)
        trades[row, risk] = scores.trades
        tags = np.empty(trades.shape, np.uint64)
        pair_tags(
            self.votes.planes, lid, sid, self.votes.conflict, self.close, self.terms, self.levels,
            walk_memory(lid.shape[1], self.votes.planes.shape[1], len(self.close)),
            touches(len(self.close), len(self.levels.sl), len(self.levels.tp)), trades, tags,
        )  # fmt: skip
        return tags[row, risk]

    def places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places i8[n, axes + 2] of the parameters on their sorted axes, stops last."""
        place, risk = self._places(index)
        sl, tp = self.rates()
        stops = [np.searchsorted(np.unique(rate), rate[risk]) for rate in (sl, tp)]
        return np.column_stack([axis_places(self.key_template.grid, self.flat[place]), *stops])

    def ranges(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> dict[str, list[Any]]:
        """[smallest, largest] value by axis of two rows of places; stops in percent, None: off."""
        ranges: dict[str, list[Any]] = axis_ranges(self.key_template.grid, low, high)
        axes = (("sl_pct", self.key_template.risk.sl), ("tp_pct", self.key_template.risk.tp))
        for column, (name, levels) in enumerate(axes, start=-2):
            values = sorted(set(levels), key=lambda level: np.inf if level is None else level)
            ranges[name] = [values[low[column]], values[high[column]]]
        return ranges

    def keys(self, index: NDArray[np.int64]) -> list[str]:
        """Identity keys of variant indices."""
        rank, risk = self._places(index)
        key = self.key_template.variant_key
        return [
            key(int(self.flat[r]), k) for r, k in zip(rank.tolist(), risk.tolist(), strict=True)
        ]
