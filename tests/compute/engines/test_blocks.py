"""Blocks of a grid: one is alive at a time, and the answer does not show them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import compute.pipeline
from compute.backtest import resolve
from compute.executor import LocalExecutor
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from compute.pipeline import backtest
from compute.plan import plan
from compute.request import parse_request
from compute.settings import Defaults, Limits
from ingest.synthetic import walk_candles

FRAME = TIMEFRAMES["1h"]
START_MS = 1_704_067_200_000
BODY = {
    "time_range": {"start": "2024-01-15T00:00:00Z", "end": "2024-02-25T00:00:00Z"},
    "template": {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "timeframe": "1h",
        "indicator_grids": [
            {
                "indicator_id": "ma.sma",
                "source": {"mode": "explicit", "values": ["close"]},
                "params": {"window": {"mode": "range", "start": 2, "stop_incl": 61, "step": 1}},
            },
            {
                "indicator_id": "momentum.rsi",
                "source": {"mode": "explicit", "values": ["close"]},
                "params": {"window": {"mode": "explicit", "values": [7, 14]}},
            },
        ],
        "signal_grids": {
            "momentum.rsi": {
                "long_threshold": {"mode": "explicit", "values": [55]},
                "short_threshold": {"mode": "explicit", "values": [45]},
            }
        },
    },
    "warmup_bars": 100,
    "top_k": 10,
    "preselect": 20,
}


@pytest.mark.parametrize("distinct", [False, True])
def test_one_block_is_alive_at_a_time(distinct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = {"primary_metric": "total_return_pct", "distinct": distinct}
    job = resolve(parse_request({**BODY, "ranking": ranking}), Defaults())
    candles = walk_candles(seed=5, bars=1_400, frame=FRAME, start_ms=START_MS)
    bars = timeline(candles, FRAME, job.instrument, FRAME, job.period, job.warmup_bars)
    traded = bars.stop - bars.start
    whole = plan(job, len(bars.candles), traded, Limits())
    assert whole.boxes == (None,)
    tight = Limits(
        max_compute_bytes_total=whole.total_bytes - whole.memory_bytes["planes"] * 2 // 3
    )
    assert len(plan(job, len(bars.candles), traded, tight).boxes) >= 3

    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    packed = compute.pipeline.grid_votes

    def counted(*args, **options):
        nonlocal most
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        votes = packed(*args, **options)
        alive.append(weakref.ref(votes.planes))
        return votes

    with LocalExecutor(1) as executor:
        expected = backtest(job, bars, executor, limits=Limits())
        monkeypatch.setattr(compute.pipeline, "grid_votes", counted)
        blocked = backtest(job, bars, executor, limits=tight)
    assert len(alive) >= 4
    assert most == 0  # when votes are packed, none of an earlier block are left
    assert blocked.top.index.tolist() == expected.top.index.tolist()
    assert blocked.top.equity.tolist() == expected.top.equity.tolist()
    assert blocked.shortlist.index.tolist() == expected.shortlist.index.tolist()
    assert blocked.equals == expected.equals
