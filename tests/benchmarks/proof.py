"""Proof before measurement: what is about to be timed gives the oracle's trades and returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.exact import REASONS
from compute.indicators.registry import module
from compute.indicators.series import PRICES
from compute.ranking import Scores
from compute.reference.engine import Simulation, profit_factor, simulate
from compute.replay import replay
from tests.benchmarks import baseline
from tests.benchmarks.arena import COLUMNS, MODES, SCORE, Arena, Ballots, Mode, scored

CLOSE = 1e-9
"""Relative distance, to equity, within which a fast score has to lie."""


class Unequal(AssertionError):
    """The engine or the baseline disagrees with the oracle; nothing is worth timing then."""


def prove(
    arena: Arena, *, base: int, pairs: int, modes: tuple[Mode, ...] = MODES
) -> dict[str, int]:
    """How many comparisons held: `base` variants without stops, `pairs` with.

    Raises: Unequal at the first trade, return or drawdown that differs.
    """
    flat = arena.sample(base)
    ballots = arena.ballots(flat)
    compared = {"votes": _votes(arena, flat, ballots), "trades": 0, "scores": 0}
    for mode in modes:
        mine = scored(arena.stage_a(mode), arena.executor.workers)
        mine = mine.take(np.searchsorted(mine.index, flat))
        for i in range(len(flat)):
            oracle = _oracle(arena, mode, ballots, i, None, None)
            _same_scores(arena, mode, mine, i, oracle)
            compared["scores"] += 1
            compared["trades"] += _same_trades(arena, mode, int(flat[i]), None, None, oracle)
        if not mode.columns and arena.job.risk.total > 1:
            found = _pairs(arena, mode, flat, ballots, pairs)
            compared["scores"] += found[0]
            compared["trades"] += found[1]
    return compared


def _pairs(
    arena: Arena, mode: Mode, flat: NDArray[np.int64], ballots: Ballots, count: int
) -> tuple[int, int]:
    """(scores, trades) that agreed under `count` random pairs of stops."""
    random = np.random.default_rng(5)
    total = arena.job.risk.total
    mine = scored(arena.stage_b(flat, mode), arena.executor.workers)
    trades = 0
    chosen = random.choice(len(flat) * total, min(count, len(flat) * total), replace=False)
    for index in chosen.tolist():
        i, risk_index = divmod(index, total)
        sl, tp = arena.job.risk.pair(risk_index)
        oracle = _oracle(arena, mode, ballots, i, sl, tp)
        _same_scores(arena, mode, mine, index, oracle)
        trades += _same_trades(arena, mode, int(flat[i]), sl, tp, oracle)
    return len(chosen), trades


def _oracle(
    arena: Arena, mode: Mode, ballots: Ballots, i: int, sl: float | None, tp: float | None
) -> Simulation:
    return simulate(
        arena.close.tolist(), ballots.signal(i), sl_pct=sl, tp_pct=tp, **arena.oracle_terms(mode)
    )


def _same_scores(arena: Arena, mode: Mode, mine: Scores, row: int, oracle: Simulation) -> None:
    cash = arena.job.execution.init_cash_quote
    _near(mine.equity[row] * cash, oracle.equity_end, "equity", arena, mode)
    if mine.trades[row] != oracle.num_trades:
        raise Unequal(f"{_at(arena, mode)}: {mine.trades[row]} trades, not {oracle.num_trades}")
    if mode is COLUMNS:
        wins = sum(trade.net_pnl_quote > 0 for trade in oracle.trades)
        if mine.wins[row] != wins:
            raise Unequal(f"{_at(arena, mode)}: {mine.wins[row]} wins, not {wins}")
    if mode.sums and mine.lost[row] > 0:
        factor = float(mine.won[row] / mine.lost[row])
        _near(factor, profit_factor(oracle.trades), "profit factor", arena, mode)
    if mode.drawdown:
        fall = 100 * float(mine.drawdown[row])
        _near(100 - fall, 100 - oracle.max_drawdown_pct, "drawdown", arena, mode)


def _same_trades(
    arena: Arena, mode: Mode, flat: int, sl: float | None, tp: float | None, oracle: Simulation
) -> int:
    """Number of trades of the engine's replay, all equal to the oracle's."""
    rows = arena.job.grid.local_rows(np.array([flat]))[0]
    long, short = arena.votes.aggregated(rows)
    times = np.arange(arena.bars, dtype=np.int64)
    walked = replay(arena.close, times, long, short, arena.terms(mode), sl_pct=sl, tp_pct=tp)
    made = walked.trades
    mine = list(
        zip(
            np.where(made.side > 0, "long", "short").tolist(),
            made.entry_bar.tolist(),
            made.exit_bar.tolist(),
            [REASONS[code] for code in made.reason],
            strict=True,
        )
    )
    theirs = [
        (trade.direction, trade.entry_bar_index, trade.exit_bar_index, trade.exit_reason)
        for trade in oracle.trades
    ]
    if mine != theirs:
        raise Unequal(f"{_at(arena, mode)}: variant {flat} under {sl}, {tp}: other trades")
    _near(walked.equity_end, oracle.equity_end, "replayed equity", arena, mode)
    return len(mine)


def _votes(arena: Arena, flat: NDArray[np.int64], ballots: Ballots) -> int:
    """Votes of one row of each indicator that equal those of its plain formula."""
    candles = arena.timeline.candles
    wide = {name: getattr(candles, name).astype(np.float64) for name in PRICES[:4]}
    start, stop = arena.timeline.start, arena.timeline.stop
    compared = 0
    for k, choice in enumerate(arena.job.grid.selection(int(flat[0]))):
        params: dict[str, Any] = {**dict(choice.params), **dict(choice.inputs)}
        made = module(choice.indicator_id).oracle(wide, params)
        definition = module(choice.indicator_id).DEFINITION
        values = made[choice.output or definition.primary].astype(np.float32)
        rule = definition.output(choice.output).rule
        assert rule is not None
        votes = _codes(rule.family, values, candles.close, dict(choice.signals))[start:stop]
        engine = ballots.votes[ballots.rows[0, k]]
        # A plain formula sums in another order: a value may fall on the other side of a level.
        different = int(np.count_nonzero(votes != engine))
        if different > max(2, arena.bars // 10_000):
            raise Unequal(f"{choice.indicator_id}: {different} of {arena.bars} votes differ")
        compared += arena.bars
    return compared


def _codes(
    family: str, out: NDArray[np.float32], close: NDArray[np.float32], signals: dict[str, Any]
) -> NDArray[np.int8]:
    """Votes of the three rules that the workloads use."""
    with np.errstate(invalid="ignore"):
        if family == "compare_price_to_output":
            long, short = close > out, close < out
        elif family == "sign":
            long, short = out > 0, out < 0
        else:
            low, high = (np.float32(signals[f"{side}_threshold"]) for side in ("long", "short"))
            # The order of the thresholds chooses reversion or trend.
            long, short = (out <= low, out >= high) if low <= high else (out >= low, out <= high)
    return long.astype(np.int8) - short.astype(np.int8)


def prove_baseline(
    arena: Arena, mode: Mode, ballots: Ballots, flat: NDArray[np.int64], threads: int
) -> int:
    """Number of base variants on which engine and baseline agree. Raises: Unequal."""
    mine = scored(arena.stage_a(mode), threads)
    mine = mine.take(np.searchsorted(mine.index, flat))
    theirs = baseline.stage_a(
        arena.close, ballots.votes, ballots.rows, arena.account(mode),
        columns=mode.sums, drawdown=mode.drawdown, threads=threads,
    )  # fmt: skip
    cash = arena.job.execution.init_cash_quote
    if not np.array_equal(mine.trades, theirs.trades):
        raise Unequal(f"{_at(arena, mode)}: engine and baseline count other trades")
    if not np.allclose(mine.equity * cash, theirs.equity, rtol=CLOSE, atol=CLOSE * cash * 1e-3):
        raise Unequal(f"{_at(arena, mode)}: engine and baseline end with other equities")
    return len(flat)


def _near(mine: float, theirs: float, what: str, arena: Arena, mode: Mode) -> None:
    if not abs(mine - theirs) <= CLOSE * max(abs(theirs), 1e-6):
        raise Unequal(f"{_at(arena, mode)}: {what} {mine!r}, the oracle has {theirs!r}")


def _at(arena: Arena, mode: Mode = SCORE) -> str:
    return f"{arena.workload.name}, {mode.name}"
