"""Stage B: the shortlist under every pair of stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compute.account import ALL_IN, COMPOUND, PROFIT_LOCK, Terms
from compute.exact import extract_runs
from compute.jit import kernel
from compute.keys import KeyTemplate
from compute.names import VariantNames
from compute.planes import Each
from compute.products import TINY, Walk, and_others, walk_memory
from compute.ranking import PROFIT_FACTOR, Ranking, Scores, joined, settled
from compute.stage_a import CALL_SECONDS, Check, Rows, exact_rows, fall_rows, unchecked
from compute.stops import Levels, calm_bars, cells, product_pairs, sequence_pairs, tiles
from compute.tags import pair_tags
from compute.votes import Votes

# Model of a reference core: ns per bar to find and walk the runs, per bar and pair to walk accounts
# one by one (a run every dozen bars), per pair for a product, per bar and pair exactly.
_RUNS_NS, _SEQUENCE_NS, _PAIR_NS, _FALLS_NS, _EXACT_NS, _DRAWDOWN_NS = 1.3, 0.05, 4.0, 0.6, 2.0, 3.0


@kernel
def pair_scores(
    planes, lid, sid, conflict, close, calm, terms, levels, product, start, stop, walk, cells,
    growth, doubts, equity, trades, sums,
):  # fmt: skip
    """Fills equity f8[n, P], trades i4[n, P] of variants start..stop under the pairs of `levels`.

    `doubts` u1[n] says whose scores rounding may have spoilt; they want the exact engine.

    Equity is in units of initial cash, and so are the profits won and lost that `sums` f8[2, n, P]
    asks for. `growth` f8[S, T] is scratch.
    """
    bars = close.size
    rows, columns = levels.pair.shape
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    pair = levels.pair
    available, won, lost = cells.available, cells.won, cells.lost
    for i in range(start, stop):
        and_others(planes, lid, sid, conflict, i, -1, terms.direction, walk.rest)
        runs, _ = extract_runs(walk.rest[0], walk.rest[1], bars, walk.entry, walk.exit, walk.side)
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
        doubts[i] = doubtful or least < TINY
        for s in range(rows):
            for t in range(columns):
                p = pair[s, t]
                equity[i, p] = growth[s, t]
                trades[i, p] = runs
                if sums is not None:
                    sums[0, i, p] = won[s, t]
                    sums[1, i, p] = lost[s, t]


_UNUSED = np.empty((2, 0), np.int32)
_CALM_BARS = 1 << 14  # a part of the table: 0.3 ms


def _in_turn(work: Callable[[int], None], items: Sequence[int]) -> None:
    for item in items:
        work(item)


def calm_table(
    close: NDArray[np.float64], terms: Terms, levels: Levels, each: Each = _in_turn
) -> NDArray[np.int32]:
    """Read-only table i4[2, N] of `calm_bars` for the nearest levels; `each` runs its parts."""
    bars = len(close)
    calm = np.empty((2, bars), np.int32)

    def fill(start: int) -> None:
        stop = min(start + _CALM_BARS, bars)
        calm_bars(close, terms.slippage, levels.sl[0], levels.tp[0], start, stop, calm)

    each(fill, range(0, bars, _CALM_BARS))
    calm.flags.writeable = False
    return calm


@dataclass(frozen=True, slots=True, eq=False)
class StageB:
    """Everything Stage B reads. Units are pairs; a position is one rank of the shortlist.

    `flat` i8[m] are the base variants of ranks `first_rank`…, `rows` i4[m, K] their vote rows. A
    variant's index is rank · pairs + risk index. `calm` i4[2, N] is the table of `calm_bars`, which
    only fast scores and tags read. `named` are the base variants of all ranks where these are some.
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
    named: NDArray[np.int64] | None = None

    name = "stage_b"

    @property
    def total(self) -> int:
        return len(self.flat)

    @property
    def units_per_position(self) -> int:
        return self.levels.pair.size

    @property
    def product(self) -> bool:
        """Whether accounts are products of factors, so that all pairs are scored at once."""
        return self.terms.sizing in (ALL_IN, COMPOUND) and self.ranking.primary != PROFIT_FACTOR

    def nanoseconds(self) -> float:
        """Model cost of one position on a reference core."""
        bars, pairs = max(64, len(self.close)), self.units_per_position
        if self.ranking.searches_drawdown:
            return (_RUNS_NS + _FALLS_NS * pairs) * bars
        each = _PAIR_NS * pairs if self.product else _SEQUENCE_NS * bars * pairs
        return _RUNS_NS * bars + each

    def scores(self, start: int, stop: int, check: Check = unchecked) -> Iterator[Scores]:
        """Fast scores of the pairs of ranks [start, stop), some ranks at a time.

        `check` is called between kernel calls, which may be several for one rank.
        """
        step = max(1, int(CALL_SECONDS * 1e9 / self.nanoseconds()))
        memory = walk_memory(self.rows.shape[1], self.votes.planes.shape[1], len(self.close))
        for begin in range(start, stop, step):
            check()
            yield self._fast(begin, min(begin + step, stop), memory, check)

    def _fast(self, start: int, stop: int, memory: Walk, check: Check) -> Scores:
        pairs = self.units_per_position
        index = np.arange(start * pairs, stop * pairs) + self.first_rank * pairs
        lid, sid = self.votes.pairs(self.rows[start:stop])
        if self.ranking.searches_drawdown:
            scores = fall_rows(
                index, self.votes, lid, sid, self.close, self.terms, self.levels, memory, check
            )
        else:
            scores = self._account(index, lid, sid, memory, check)
        return settled(
            self.ranking.primary, scores, self.terms.init_cash,
            lambda some: self._stepped(index[some], memory, check),
        )  # fmt: skip

    def _account(
        self, index: NDArray[np.int64], lid: Rows, sid: Rows, memory: Walk, check: Check
    ) -> Scores:
        """Scores without bars: return and trades, and profits where something asks for them."""
        if self.calm.shape[1] != len(self.close):
            raise ValueError("fast scores of stage B need the table of calm_table")
        n, pairs = len(lid), self.units_per_position
        equity, trades = np.empty((n, pairs)), np.empty((n, pairs), np.int32)
        detailed = self.ranking.primary == PROFIT_FACTOR or self.terms.sizing == PROFIT_LOCK
        sums = np.empty((2, n, pairs)) if detailed else None
        spoilt = np.zeros(n, np.bool_)
        for tile in tiles(self.levels, self._side()):
            check()
            doubts = np.empty(n, np.uint8)
            pair_scores(
                self.votes.planes, lid, sid, self.votes.conflict, self.close, self.calm, self.terms,
                tile, self.product, 0, n, memory, cells(tile), np.empty(tile.pair.shape), doubts,
                equity, trades, sums,
            )  # fmt: skip
            spoilt |= doubts != 0
        missing = np.full(n * pairs, np.nan)
        won, lost = (
            (missing, missing) if sums is None else (sums * self.terms.init_cash).reshape(2, -1)
        )
        wins = np.zeros(n * pairs, np.int32)
        scores = Scores(index, equity.ravel(), trades.ravel(), wins, won, lost, missing)
        if spoilt.any():
            rows = np.repeat(spoilt, pairs)
            better = self._stepped(index[rows], memory, check)
            for name in ("equity", "trades", *(("won", "lost") if sums is not None else ())):
                getattr(scores, name)[rows] = getattr(better, name)
        return scores

    def _side(self) -> int:
        """Levels of a side in one kernel call: all, but where accounts are walked one by one."""
        if self.product:
            return max(self.levels.pair.shape)
        most = CALL_SECONDS * 1e9 / (_SEQUENCE_NS * max(64, len(self.close)))
        return max(4, math.isqrt(int(most)))

    def _stepped(self, index: NDArray[np.int64], memory: Walk, check: Check) -> Scores:
        """Exact scores of variant indices, a kernel call at a time."""
        step = max(1, int(CALL_SECONDS * 1e9 / self.exact_nanoseconds()))
        parts = []
        for begin in range(0, len(index), step):
            check()
            parts.append(self._exact(index[begin : begin + step], memory))
        return joined(parts)

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

    def tags(self, scores: Scores, check: Check = unchecked) -> NDArray[np.uint64]:
        """Tags of the trades of scored variants: equal for equal bars and sides of every trade."""
        place, risk = self._places(scores.index)
        ranks, row = np.unique(place, return_inverse=True)
        lid, sid = self.votes.pairs(self.rows[ranks])
        trades = np.zeros((len(ranks), self.units_per_position), np.int32)
        trades[row, risk] = scores.trades
        tags = np.empty(trades.shape, np.uint64)
        memory = walk_memory(lid.shape[1], self.votes.planes.shape[1], len(self.close))
        shape = (len(self.levels.sl) + 1, len(self.levels.tp) + 1)
        by_sl, by_tp, by_end = (np.empty(shape, np.uint64) for _ in range(3))
        each = 2 * (_RUNS_NS * max(64, len(self.close)) + _PAIR_NS * self.units_per_position)
        step = max(1, int(CALL_SECONDS * 1e9 / each))
        for begin in range(0, len(ranks), step):
            check()
            some = slice(begin, begin + step)
            pair_tags(
                self.votes.planes, lid[some], sid[some], self.votes.conflict, self.close, self.calm,
                self.terms, self.levels, memory, by_sl, by_tp, by_end, trades[some],
                tags[some],
            )  # fmt: skip
        return tags[row, risk]

    @property
    def namer(self) -> VariantNames:
        """Names of variant indices, of all ranks."""
        return VariantNames(self.key_template, self.flat if self.named is None else self.named)
