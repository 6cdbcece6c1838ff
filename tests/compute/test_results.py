"""The result document: its numbers against replays, its keys against plain hashing."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import compute.pipeline
from compute.backtest import resolve
from compute.control import Control
from compute.details import replayed
from compute.errors import Cancelled
from compute.executor import LocalExecutor
from compute.grid import Selection
from compute.keys import canonical_json, indicator_variant_key, variant_key
from compute.market.candles import Candles
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from compute.pipeline import Outcome, backtest
from compute.ranking import metric
from compute.report.metrics import metrics
from compute.request import parse_request
from compute.results import canonical_result, metrics_record, result_document, result_text
from compute.settings import RANKING_METRICS, Defaults, Limits

HOUR = TIMEFRAMES["1h"]
FIRST_MS = 1_704_067_200_000
CLOSES = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0.0002, 0.01, 1200)))


def candles(closes: np.ndarray) -> Candles:
    close = closes.astype(np.float32)
    times = FIRST_MS + HOUR.ms * np.arange(len(close), dtype=np.int64)
    return Candles(times, close, close, close, close, np.ones_like(close))


def outcome(closes: np.ndarray, executor: LocalExecutor, **changes: Any) -> Outcome:
    """The best of a small grid over `closes`."""
    body = {
        "time_range": {"start": "2024-01-06T00:00:00Z", "end": "2024-02-15T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 2, "symbol": "abc"},
            "timeframe": "1h",
            "indicator_grids": [
                {
                    "indicator_id": "momentum.rsi",
                    "source": {"mode": "explicit", "values": ["close"]},
                    "params": {"window": {"mode": "explicit", "values": [5, 9]}},
                },
                {
                    "indicator_id": "ma.sma",
                    "source": {"mode": "explicit", "values": ["close"]},
                    "params": {"window": {"mode": "range", "start": 4, "stop_incl": 12, "step": 2}},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {
                    "long_threshold": {"mode": "explicit", "values": [50, 52.5]},
                    "short_threshold": {"mode": "explicit", "values": [45]},
                }
            },
            "risk_grid": {"tp_enabled": True, "tp": {"mode": "explicit", "values": [2, 5]}},
            "sizing_mode": "fixed_quote",
        },
        "preselect": 8,
        "top_k": 6,
        "top_trades_n": 2,
        "warmup_bars": 60,
        **changes,
    }
    job = resolve(parse_request(body), Defaults())
    bars = timeline(
        candles(closes), HOUR, job.instrument, job.timeframe, job.period, job.warmup_bars
    )
    return backtest(job, bars, executor, limits=Limits())


@pytest.fixture(scope="module")
def pool() -> Any:
    with LocalExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def found(pool: LocalExecutor) -> Outcome:
    return outcome(CLOSES, pool, validation={"holdout_fraction": 0.3})


@pytest.mark.parametrize("held_out", [False, True])
def test_replays_have_the_bits_of_the_scores(
    held_out: bool, found: Outcome, pool: LocalExecutor
) -> None:
    scores = found.holdout if held_out else found.top
    assert scores is not None
    cash = found.job.execution.init_cash_quote
    rows = [5, 0, 3, 3]
    made = replayed(
        found, rows, pool,
        lambda row, walked: (row, metrics(walked, walked.trades, init_cash=cash)),
        held_out=held_out,
    )  # fmt: skip
    assert [row for row, _ in made] == rows
    for row, values in made:
        for name in RANKING_METRICS:
            assert getattr(values, name) == metric(name, scores)[row]
        assert values.num_trades == scores.trades[row]
        assert metrics_record(scores, row) == values.record()


def test_batches_do_not_show(
    found: Outcome, pool: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = result_document(found, pool, run={})
    monkeypatch.setattr(compute.pipeline, "GATHERED_BYTES", 1)
    run = compute.pipeline.Run(found.job, found.timeline, pool, Control(), compute.pipeline.Clock())
    assert run.batches(3, run.start, run.stop) == [(0, 1), (1, 2), (2, 3)]
    assert canonical_result(result_document(found, pool, run={})) == canonical_result(whole)


def test_keys_are_those_of_the_payload(found: Outcome, pool: LocalExecutor) -> None:
    for variant in result_document(found, pool, run={})["variants"]:
        payload = variant["payload"]
        choices = [
            Selection(choice["indicator_id"], choice["inputs"], choice["params"])
            for choice in payload["indicator_selections"]
        ]
        indicator_key = indicator_variant_key("2:ABC", "1h", choices)
        assert variant["indicator_variant_key"] == indicator_key
        assert variant["variant_key"] == variant_key(
            indicator_key,
            direction_mode=payload["direction_mode"],
            sizing_mode=payload["sizing_mode"],
            signals=payload["signal_params"],
            execution=payload["execution_params"],
            risk=payload["risk_params"],
        )
        assert [choice.indicator_id for choice in choices] == ["ma.sma", "momentum.rsi"]
        assert set(payload["execution_params"]) == {
            "init_cash_quote", "fee_pct", "slippage_pct", "fixed_quote", "safe_profit_percent",
        }  # fmt: skip


def test_parts_of_the_period_meet(found: Outcome, pool: LocalExecutor) -> None:
    document = result_document(found, pool, run={})
    cut_ms = document["holdout"]["start_ms"]
    ranked_bars = document["plan"]["ranked_bars"]
    first_close_ms = int(found.timeline.close_ts_ms[found.timeline.start])
    assert cut_ms == first_close_ms + ranked_bars * HOUR.ms
    assert ranked_bars == 40 * 24 - int(40 * 24 * 0.3)
    for variant in document["variants"]:
        rows = [{r["metric"]: r["value"] for r in part["report"]["rows"]}
                for part in (variant, variant["holdout"])]  # fmt: skip
        assert rows[0]["End"] == rows[1]["Start"]


def test_trades_for_the_first_rows_alone(found: Outcome, pool: LocalExecutor) -> None:
    for row, variant in enumerate(result_document(found, pool, run={})["variants"]):
        trades = variant["report"]["trades"]
        if row >= 2:
            assert trades is None
            continue
        assert [trade["trade_id"] for trade in trades] == list(range(1, len(trades) + 1))
        assert len(trades) == variant["metrics"]["num_trades"]
        assert all(trade["entry_bar_index"] >= found.timeline.start for trade in trades)
        assert set(trades[0]) == {
            "trade_id", "direction", "entry_bar_index", "exit_bar_index", "entry_fill_price",
            "exit_fill_price", "qty_base", "entry_quote_amount", "exit_quote_amount",
            "entry_fee_quote", "exit_fee_quote", "gross_pnl_quote", "net_pnl_quote",
            "locked_profit_quote", "exit_reason",
        }  # fmt: skip


def test_infinities_are_null_and_the_text_reads_back(pool: LocalExecutor) -> None:
    rising = outcome(100 * 1.001 ** np.arange(1200), pool)
    assert math.isinf(metric("profit_factor", rising.top)[0])
    document = result_document(rising, pool, run={"threads": 2})
    first = document["variants"][0]
    assert first["metrics"]["profit_factor"] is None
    assert (
        first["metrics"]["return_over_max_drawdown"] is None
        or first["metrics"]["max_drawdown_pct"] > 0
    )
    assert json.loads(result_text(document)) == document
    assert result_text(document).count("\n") == len(document) + len(document["variants"]) + 3
    assert canonical_result(document) == canonical_result({**document, "run": {"threads": 1}})
    assert canonical_result(document) == canonical_json(
        {name: value for name, value in document.items() if name != "run"}
    )


def test_no_rows_is_a_result(pool: LocalExecutor) -> None:
    ranking = {"primary_metric": "total_return_pct", "min_trades": 10_000}
    none = outcome(CLOSES, pool, ranking=ranking)
    document = result_document(none, pool, run={})
    assert document["variants"] == []
    assert document["plan"]["stage_a_eligible_total"] == 0
    assert json.loads(result_text(document)) == document


def test_a_stop_is_heard_between_rows(found: Outcome, pool: LocalExecutor) -> None:
    control = Control()
    control.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        result_document(found, pool, run={}, control=control)
