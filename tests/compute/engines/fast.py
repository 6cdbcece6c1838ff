"""The fast engine behind the oracle's arguments: signal vectors and mode names in, scores out.

Signal vectors become packed vote tables by a slow path of their own, so that a mistake in the
engine's packing cannot hide itself; everything after that is the engine as the pipeline drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compute.account import Terms
from compute.account import terms as account_terms
from compute.control import Control, Meter
from compute.executor import Executor, LocalExecutor
from compute.grid import Axis
from compute.ranking import Ranking, Scores, joined
from compute.reference.search import RiskPair
from compute.replay import Replay
from compute.replay import replay as replayed
from compute.risk import RiskGrid
from compute.selection import Ranked, ranked
from compute.stage_a import StageA
from compute.stage_b import StageB, calm_table
from compute.stops import levels
from compute.votes import Votes

# What a search asks of a stage. Fast: return and trades; wins and profits too; drawdown too.
# Exact: in the account's own arithmetic, without and with the drawdown.
Level = Literal["score", "columns", "fall", "exact", "exact_fall"]
Indicators = Sequence[Sequence[Sequence[int]]]
BOTH = 2  # a vote whose LONG and SHORT masks are both true: NEUTRAL by the rule conflict


def packed(flags: Sequence[bool]) -> NDArray[np.uint64]:
    """Words u8[W] of `flags`, bit by bit."""
    words = [0] * ((len(flags) + 63) // 64)
    for bar, flag in enumerate(flags):
        words[bar // 64] |= int(flag) << (bar % 64)
    return np.array(words, np.uint64)


def frozen(values: Any, dtype: Any) -> NDArray[Any]:
    """A read-only array, as the pipeline hands them to kernels."""
    array = np.ascontiguousarray(values, dtype=dtype)
    array.flags.writeable = False
    return array


def slice_closes(closes: Sequence[float], start: int, stop: int | None) -> NDArray[np.float64]:
    """Closes f8 of the target slice."""
    return frozen(np.asarray(closes, np.float64)[start:stop], np.float64)


def replay(
    closes: Sequence[float],
    signals: Sequence[int],
    *,
    sl_pct: float | None = None,
    tp_pct: float | None = None,
    start: int = 0,
    stop: int | None = None,
    end: Literal["close", "open"] = "close",
    **terms: Any,
) -> Replay:
    """The engine's replay of one signal vector, with the arguments of the oracle's `simulate`."""
    inside = list(signals)[start:stop]
    return replayed(
        slice_closes(closes, start, stop),
        np.arange(len(inside), dtype=np.int64),
        packed([code == 1 for code in inside]),
        packed([code == -1 for code in inside]),
        account_terms(**terms),
        sl_pct=sl_pct,
        tp_pct=tp_pct,
        start=start,
        end=end,
    )


def votes_of(indicators: Indicators, start: int = 0, stop: int | None = None) -> Votes:
    """`Votes` over a slice: `indicators[k][row]` is a vote per loaded bar (1, -1, 0 or `BOTH`)."""
    planes: list[NDArray[np.uint64]] = []
    long_id, short_id = [], []
    for rows in indicators:
        longs = [packed([vote in (1, BOTH) for vote in row[start:stop]]) for row in rows]
        shorts = [packed([vote in (-1, BOTH) for vote in row[start:stop]]) for row in rows]
        long_id.append(frozen(np.arange(len(rows)) + len(planes), np.int32))
        planes += longs
        short_id.append(frozen(np.arange(len(rows)) + len(planes), np.int32))
        planes += shorts
    conflict = frozen([np.uint64(0xFFFFFFFFFFFFFFFF)] * len(indicators), np.uint64)
    bars = len(indicators[0][0][start:stop])
    table = np.array(planes, np.uint64).reshape(len(planes), -1)
    return Votes(frozen(table, np.uint64), tuple(long_id), tuple(short_id), conflict, bars)


@dataclass(frozen=True)
class Walk:
    """A route that visits given variants in a given order; stands for `compute.route.Route`."""

    flat: NDArray[np.int64]
    rows: NDArray[np.int32]
    box: Any = None

    @property
    def total(self) -> int:
        return len(self.flat)

    def visit(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        return self.flat[start:stop], self.rows[start:stop]


@dataclass(frozen=True)
class Market:
    """A slice, the votes of its indicators and the variants made of them.

    `rows` [n][K] is the vote row each variant takes of each indicator; `order` the order of the
    walk (default: as given); `key(base, pair)` breaks ties.
    """

    closes: Sequence[float]
    indicators: Indicators
    rows: Sequence[Sequence[int]]
    terms: dict[str, Any]
    start: int = 0
    stop: int | None = None
    order: Sequence[int] | None = None
    key: Callable[[int, RiskPair], str] | None = None
    pairs: Sequence[RiskPair] = ((None, None),)

    @property
    def account(self) -> Terms:
        return account_terms(**self.terms)

    def signals(self, variant: int) -> list[int]:
        """The aggregated signal of one variant, for the oracle."""
        rows = [
            indicator[row]
            for indicator, row in zip(self.indicators, self.rows[variant], strict=True)
        ]
        return [
            votes[0] if len(set(votes)) == 1 and votes[0] in (1, -1) else 0
            for votes in zip(*rows, strict=True)
        ]

    @property
    def table(self) -> NDArray[np.int32]:
        """Vote rows i4[n, K]."""
        return np.asarray(self.rows, np.int32).reshape(len(self.rows), -1)

    def grid(self) -> Any:
        """Stands for `compute.grid.Grid`: one axis, the number of the variant."""
        axis = Axis("variant", tuple(range(len(self.rows))))
        return SimpleNamespace(
            indicators=self.indicators,
            axes=(axis,),
            axis_names=(axis.name,),
            digits=lambda flat: np.array(flat, np.int64)[:, None],
            local_rows=lambda flat: np.ascontiguousarray(self.table[np.asarray(flat)]),
        )

    def key_template(self) -> Any:
        """Stands for `compute.keys.KeyTemplate`."""
        key = self.key or (lambda base, pair: f"{base:08d} {pair}")
        sl, tp = (tuple(dict.fromkeys(pair[i] for pair in self.pairs)) for i in range(2))
        return SimpleNamespace(
            grid=self.grid(),
            risk=RiskGrid(sl, tp),
            base_key=lambda base: key(base, (None, None)),
            variant_key=lambda base, risk_index: key(base, self.pairs[risk_index]),
        )

    def stage_a(self, ranking: Ranking, columns: bool = False) -> StageA:
        order = np.arange(len(self.rows)) if self.order is None else np.asarray(self.order)
        walk: Any = Walk(order.astype(np.int64), np.ascontiguousarray(self.table[order]))
        return StageA(
            self.grid(),
            votes_of(self.indicators, self.start, self.stop),
            walk,
            slice_closes(self.closes, self.start, self.stop),
            self.account,
            ranking,
            self.key_template(),
            columns,
        )

    def stage_b(
        self,
        shortlist: Sequence[int],
        sl: Sequence[float | None],
        tp: Sequence[float | None],
        ranking: Ranking,
    ) -> StageB:
        flat = np.asarray(shortlist, np.int64)
        close = slice_closes(self.closes, self.start, self.stop)
        rates = levels(tuple(sl), tuple(tp))
        return StageB(
            flat,
            np.ascontiguousarray(self.table[flat]),
            votes_of(self.indicators, self.start, self.stop),
            close,
            self.account,
            rates,
            ranking,
            self.key_template(),
            calm=calm_table(close, self.account, rates),
        )


def ranking_of(level: Level) -> Ranking:
    """The ranking that makes a stage compute at `level`."""
    return Ranking("max_drawdown_pct") if level.endswith("fall") else Ranking()


def stage_a_scores(
    market: Market, *, level: Level = "score", spans: Sequence[tuple[int, int]] | None = None
) -> Scores:
    """Scores of all variants of `market` in ascending order, walked in `spans` of its order."""
    stage = market.stage_a(ranking_of(level), level == "columns")
    if level.startswith("exact"):
        return stage.exact(np.arange(len(market.rows), dtype=np.int64))
    spans = [(0, stage.total)] if spans is None else spans
    scores = joined([part for span in spans for part in stage.scores(*span)])
    return scores.take(np.argsort(scores.index))


def stage_b_scores(
    market: Market,
    sl: Sequence[float | None],
    tp: Sequence[float | None],
    *,
    level: Level = "score",
    spans: Sequence[tuple[int, int]] | None = None,
) -> Scores:
    """Scores of every variant under every (SL, TP), in the order variant, SL, TP."""
    ranking = Ranking("profit_factor") if level == "columns" else ranking_of(level)
    stage = market.stage_b(range(len(market.rows)), sl, tp, ranking)
    if level.startswith("exact"):
        return stage.exact(np.arange(stage.total * len(sl) * len(tp), dtype=np.int64))
    spans = [(0, stage.total)] if spans is None else spans
    return joined([part for span in spans for part in stage.scores(*span)])


@dataclass(frozen=True)
class Found:
    """Both cuts: base indices of the shortlist, variant indices of the top, scores, equals."""

    shortlist: Ranked
    top: Ranked


def search(
    market: Market,
    sl: Sequence[float | None],
    tp: Sequence[float | None],
    *,
    preselect: int,
    top_k: int,
    ranking: Ranking,
    threads: int = 1,
    over: Callable[[Executor], Executor] = lambda inner: inner,
) -> Found:
    """Shortlist and top-K of `market` as the pipeline selects them, on `over` some threads."""
    control = Control()
    with LocalExecutor(threads) as inner:
        executor = over(inner)
        a = ranked(
            [lambda: market.stage_a(ranking)], preselect, ranking, executor,
            Meter("stage_a", 0), control,
        )  # fmt: skip
        if len(a.scores) == 0:
            return Found(a, a)
        b = ranked(
            [lambda: market.stage_b(a.scores.index.tolist(), sl, tp, ranking)], top_k, ranking,
            executor, Meter("stage_b", 0), control,
        )  # fmt: skip
    return Found(a, b)
