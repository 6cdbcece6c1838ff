"""The whole back-test, candles to top-K, against the oracle search on the same votes.

The votes themselves are judged elsewhere; here they are read bit by bit and joined by a plain AND.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from compute.backtest import resolve
from compute.executor import LocalExecutor
from compute.indicators.series import BarSeries
from compute.market.candles import Candles
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, timeline
from compute.pipeline import Outcome, backtest
from compute.reference.engine import simulate
from compute.reference.search import RiskPair, Search, search
from compute.request import parse_request
from compute.settings import Defaults, Limits
from compute.votes import Votes, grid_layouts, grid_votes
from tests.compute.engines.judge import assert_exact

FRAME = TIMEFRAMES["1h"]
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01
WARMUP_BARS = 60
DAYS = 14
TOP_K, PRESELECT = 25, 30
# Two thresholds that no RSI reaches: a quarter of the grid never trades, and ties.
THRESHOLDS = [52, 57, 100.5, 101]


def explicit(*values: float | str) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def body(**changed: Any) -> dict[str, Any]:
    template = changed.pop("template", {})
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-15T00:00:00Z"},
        "warmup_bars": WARMUP_BARS,
        "top_k": TOP_K,
        "preselect": PRESELECT,
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": FRAME.code,
            "indicator_grids": [
                {
                    "indicator_id": "momentum.rsi",
                    "source": explicit("close", "hlc3"),
                    "params": {"window": explicit(3, 5, 8)},
                },
                {
                    "indicator_id": "ma.sma",
                    "source": explicit("close"),
                    "params": {"window": explicit(3, 4, 5, 9)},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {
                    "long_threshold": explicit(*THRESHOLDS),
                    "short_threshold": explicit(45),
                }
            },
            "risk_grid": {
                "sl_enabled": True,
                "tp_enabled": True,
                "sl": explicit(0.5, 1.5, 80),
                "tp": explicit(90, 1),
            },
            **template,
        },
        **changed,
    }


@cache
def bars() -> Candles:
    random = np.random.default_rng(4)
    count = DAYS * DAY_MS // FRAME.ms + WARMUP_BARS
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.006, count)))
    spread = np.abs(random.normal(0, 0.003, (2, count)))
    opens = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + spread[0])
    low = np.minimum(opens, close) * (1 - spread[1])
    times = START_MS + (np.arange(count) - WARMUP_BARS) * FRAME.ms
    volume = random.uniform(1, 9, count)
    o, h, low, c, v = (np.round(x, 2).astype(np.float32) for x in (opens, high, low, close, volume))
    return Candles(times.astype(np.int64), o, h, low, c, v)


def run(sent: dict[str, Any], threads: int = 1, limits: Limits | None = None) -> Outcome:
    job = resolve(parse_request(sent), Defaults())
    line = timeline(bars(), FRAME, job.instrument, job.timeframe, job.period, job.warmup_bars)
    with LocalExecutor(threads) as executor:
        return backtest(job, line, executor, limits=limits or Limits())


def grid_signals(outcome: Outcome) -> list[list[int]]:
    """Signal codes of every base variant over all loaded bars, zero outside the slice."""
    line: Timeline = outcome.timeline
    c = line.candles
    series = BarSeries(c.open, c.high, c.low, c.close, c.volume, line.first_bar)

    def each(work: Any, items: Any) -> None:
        for item in items:
            work(item)

    votes: Votes = grid_votes(
        grid_layouts(outcome.job.grid), series, line.start, line.stop, each, lambda: None
    )
    grid = outcome.job.grid
    rows = grid.local_rows(np.arange(grid.total))
    count = line.stop - line.start
    found = []
    for row in rows:
        lid, sid = votes.pairs(row[None, :])
        signal = [0] * len(c)
        for bar in range(count):
            word, bit = divmod(bar, 64)
            codes = set()
            for k in range(len(row)):
                long = int(votes.planes[lid[0, k], word]) >> bit & 1
                short = int(votes.planes[sid[0, k], word]) >> bit & 1
                codes.add(long - short)
            signal[line.start + bar] = codes.pop() if len(codes) == 1 else 0
        found.append(signal)
    return found


def expected(outcome: Outcome, signals: list[list[int]]) -> tuple[Search, dict[str, Any], int]:
    """(what the oracle finds, account terms, end of the ranked part of the slice)."""
    job, line = outcome.job, outcome.timeline
    keys = job.key_template()
    pairs: list[RiskPair] = [(sl, tp) for sl in job.risk.sl for tp in job.risk.tp]

    def key(base: int, pair: RiskPair) -> str:
        if pair == (None, None):
            return keys.base_key(base)
        return keys.variant_key(base, pairs.index(pair))

    terms = {
        "direction_mode": job.direction_mode,
        "sizing_mode": job.sizing_mode,
        **job.execution.params(),
    }
    stop = line.stop - int((line.stop - line.start) * job.holdout_fraction)
    found = search(
        line.candles.close.tolist(), signals, pairs, terms, preselect=job.preselect,
        top_k=job.top_k, key=key, primary=job.primary_metric, secondary=job.secondary_metric,
        min_trades=job.min_trades, distinct=job.distinct, start=line.start, stop=stop,
    )  # fmt: skip
    return found, terms, stop


def assert_same(outcome: Outcome, signals: list[list[int]]) -> None:
    found, terms, stop = expected(outcome, signals)
    assert outcome.shortlist.index.tolist() == [row.base for row in found.shortlist]
    assert outcome.top.index.tolist() == [row.variant_index for row in found.top]
    line = outcome.timeline
    for i, row in enumerate(found.top):
        assert (outcome.flat(i), outcome.risk_index(i)) == (row.base, row.risk_index)
        assert_exact(outcome.top, i, row.simulation, drawdown=True)
        if outcome.holdout is not None:
            sl_pct, tp_pct = outcome.job.risk.pair(row.risk_index)
            held = simulate(
                line.candles.close.tolist(), signals[row.base], **terms, sl_pct=sl_pct,
                tp_pct=tp_pct, start=stop, stop=line.stop,
            )  # fmt: skip
            assert_exact(outcome.holdout, i, held, drawdown=True)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"template": {"sizing_mode": "fixed_quote", "direction_mode": "long-only"}},
        {"template": {"sizing_mode": "strategy_compound_profit_lock"}},
        {"template": {"direction_mode": "short-only"}, "validation": {"holdout_fraction": 0.3}},
        {"template": {"risk_grid": {}}},
        {"ranking": {"primary_metric": "total_return_pct", "distinct": True}},
        {
            "ranking": {
                "primary_metric": "profit_factor",
                "secondary_metric": "max_drawdown_pct",
                "min_trades": 5,
                "distinct": True,
            }
        },
        {"ranking": {"primary_metric": "return_over_max_drawdown", "min_trades": 1}},
        {"ranking": {"primary_metric": "max_drawdown_pct"}, "top_k": 200},
    ],
    ids=str,
)
def test_equals_the_oracle(changed: dict[str, Any]) -> None:
    outcome = run(body(**changed), threads=2)
    assert_same(outcome, grid_signals(outcome))


@pytest.mark.parametrize("distinct", [False, True])
def test_blocks_of_the_grid_do_not_show(distinct: bool) -> None:
    """Little memory cuts the grid into parts that are walked one after the other."""
    sent = body(ranking={"primary_metric": "total_return_pct", "distinct": distinct})
    whole = run(sent, threads=2)
    assert whole.plan.boxes == (None,)
    planes = whole.plan.memory_bytes["planes"]
    tight = Limits(max_compute_bytes_total=whole.plan.total_bytes - planes // 3)
    cut = run(sent, threads=2, limits=tight)
    assert len(cut.plan.boxes) > 1
    assert cut.shortlist.index.tolist() == whole.shortlist.index.tolist()
    assert cut.top.index.tolist() == whole.top.index.tolist()
    assert cut.equals == whole.equals
    assert_same(cut, grid_signals(cut))
