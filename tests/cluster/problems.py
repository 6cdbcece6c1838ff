"""Small back-tests over made-up candles, and outcomes as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from compute import executor as executors
from compute.backtest import resolve
from compute.control import Control
from compute.executor import Executor, Span
from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from compute.packing import Packing
from compute.pipeline import Clock, Outcome, Run, backtest
from compute.ranking import SCORE_FIELDS, Scores
from compute.request import parse_request
from compute.route import route
from compute.settings import Defaults, Limits
from compute.stage_a import StageA
from compute.votes import Votes
from ingest.synthetic import synthetic_candles

FRAME = TIMEFRAMES["15m"]
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01
DAYS = 30
WARMUP_BARS = 200


def explicit(*values: float | str) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def run_of(start: float, stop: float, step: float = 1) -> dict[str, Any]:
    return {"mode": "range", "start": start, "stop_incl": stop, "step": step}


def request(
    *, windows: int = 20, periods: int = 15, long_thresholds: Sequence[float] = (55,), **limits: Any
) -> dict[str, Any]:
    """A request of windows × periods × thresholds base variants and nine pairs of stops."""
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-31T00:00:00Z"},
        "warmup_bars": WARMUP_BARS,
        "top_k": 20,
        "preselect": 40,
        **limits,
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": FRAME.code,
            "indicator_grids": [
                {
                    "indicator_id": "ma.sma",
                    "source": explicit("close"),
                    "params": {"window": run_of(5, 4 + windows)},
                },
                {
                    "indicator_id": "momentum.rsi",
                    "source": explicit("close"),
                    "params": {"window": run_of(5, 4 + periods)},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {
                    "long_threshold": explicit(*long_thresholds),
                    "short_threshold": explicit(45),
                }
            },
            "risk_grid": {
                "sl_enabled": True,
                "tp_enabled": True,
                "sl": run_of(1, 3),
                "tp": run_of(1, 3),
            },
        },
    }


class Problem:
    """A resolved request and its timeline."""

    def __init__(self, body: dict[str, Any], seed: int = 11) -> None:
        self.job = resolve(parse_request(body), Defaults())
        bars = DAYS * DAY_MS // FRAME.ms + WARMUP_BARS
        start_ms = START_MS - WARMUP_BARS * FRAME.ms
        self.timeline = timeline(
            synthetic_candles(seed=seed, bars=bars, frame=FRAME, start_ms=start_ms),
            FRAME,
            Instrument(1, "BTCUSDT"),
            FRAME,
            self.job.period,
            self.job.warmup_bars,
        )

    def outcome(self, executor: Executor, **options: Any) -> Outcome:
        return backtest(self.job, self.timeline, executor, limits=Limits(10**7, 2**33), **options)

    def votes(self, executor: Executor, packing: Packing | None = None) -> Votes:
        """Votes of all variants over the traded bars."""
        run = Run(self.job, self.timeline, executor, Control(), Clock(), packing)
        return run.votes(run.start, run.stop)

    def stage(self, executor: Executor) -> StageA:
        """Stage A of the whole grid, as the pipeline builds it."""
        run = Run(self.job, self.timeline, executor, Control(), Clock())
        votes = self.votes(executor)
        return StageA(
            self.job.grid, votes, route(self.job.grid, votes), run.close(run.start, run.stop),
            run.terms, run.ranking, run.key_template,
        )  # fmt: skip


fine_lattice = partial(executors.lattice, shortest_ns=1e3)
"""Enough spans for several tasks, even of a stage that takes a millisecond."""


def spans_of(total: int, count: int) -> list[Span]:
    """`count` nearly equal spans of [0, total)."""
    cuts = np.linspace(0, total, count + 1).astype(int).tolist()
    return list(pairwise(cuts))


def score_bytes(scores: Scores | None) -> list[tuple[str, bytes]]:
    if scores is None:
        return []
    columns = [getattr(scores, name) for name in SCORE_FIELDS]
    return [(column.dtype.str, column.tobytes()) for column in columns]


def outcome_bytes(outcome: Outcome) -> list[object]:
    """Everything a back-test found, to the bit."""
    parts = (outcome.shortlist, outcome.top, outcome.holdout)
    return [*map(score_bytes, parts), sorted(outcome.eligible.items())]
