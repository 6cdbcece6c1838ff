"""Runs and report documents made by hand: a plain account, bar by bar, without product code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.report.curves import market_curve, variant_curve
from compute.report.document import Document, surface_record
from compute.report.metrics import metrics
from compute.report.rows import report_rows, rows_record
from compute.report.surface import surface

DAY_MS = 86_400_000
REASONS = {"sl": 0, "tp": 1, "signal_exit": 2, "forced_close": 3}
INIT_CASH = 10_000.0
FEE, SLIP = 0.00075, 0.0001


@dataclass
class Trades:
    side: NDArray[np.int8]
    entry_bar: NDArray[np.int64]
    exit_bar: NDArray[np.int64]
    reason: NDArray[np.int8]
    entry_fill: NDArray[np.float64]
    exit_fill: NDArray[np.float64]
    entry_quote: NDArray[np.float64]
    net: NDArray[np.float64]


@dataclass
class Run:
    start: int
    close_ts_ms: NDArray[np.int64]
    close: NDArray[np.float64]
    equity: NDArray[np.float64]
    have_position: NDArray[np.bool_]
    exposure: NDArray[np.float64]
    trades: Trades


def run(
    closes: Sequence[float],
    signals: str,
    *,
    init: float = INIT_CASH,
    fee: float = 0.0,
    slip: float = 0.0,
    sl: float | None = None,
    tp: float | None = None,
    start: int = 0,
    first_close_ms: int = 0,
    bar_ms: int = DAY_MS,
) -> Run:
    """The run of `signals` (L, S or N a bar), all-in, long-short, after `start` bars of warm-up."""
    cash, place, rows, before = init, None, [], "N"
    count = len(closes)
    equity, have, exposure = np.zeros(count), np.zeros(count, bool), np.zeros(count)
    last = count - 1

    def leave(t: int, reason: str) -> None:
        nonlocal cash, place
        assert place is not None
        side, entry_bar, entry, quote, quantity, paid = place
        price = closes[t] * (1 - slip) if side > 0 else closes[t] * (1 + slip)
        worth = quantity * price
        gross = worth - quote if side > 0 else quote - worth
        cash = cash + quote + gross - worth * fee
        net = gross - paid - worth * fee
        rows.append((side, entry_bar, t, REASONS[reason], entry, price, quote, net))
        place = None

    for t, (close, signal) in enumerate(zip(closes, signals, strict=True)):
        amount = place[3] if place else 0.0
        have[t] = place is not None
        if place is not None:
            side, _, entry, *_ = place
            move = side * (close / entry - 1) * 100
            if sl is not None and move <= -sl:
                leave(t, "sl")
            elif tp is not None and move >= tp:
                leave(t, "tp")
        if place is not None and signal != ("L" if place[0] > 0 else "S"):
            leave(t, "signal_exit")
        if place is None and signal != before and signal in "LS" and cash > 0:
            side = 1 if signal == "L" else -1
            entry = close * (1 + side * slip)
            place = (side, t, entry, cash, cash / entry, cash * fee)
            amount, have[t] = cash, True
            cash = cash - amount - place[5]
        if t == last and place is not None:
            leave(t, "forced_close")
        before = signal
        equity[t] = cash
        if place is not None:
            side, _, _, quote, quantity, _ = place
            worth = quantity * close
            equity[t] += worth if side > 0 else quote + (quote - worth)
        if have[t]:
            exposure[t] = amount / equity[t] if equity[t] != 0 else np.nan
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 8
    kinds = (np.int8, np.int64, np.int64, np.int8, float, float, float, float)
    side, entry_bar, exit_bar, reason, fill, out, quote, net = (
        np.array(c, dtype=k) for c, k in zip(columns, kinds, strict=True)
    )
    trades = Trades(side, entry_bar + start, exit_bar + start, reason, fill, out, quote, net)
    times = first_close_ms + bar_ms * np.arange(count, dtype=np.int64)
    return Run(start, times, np.array(closes, float), equity, have, exposure, trades)


def crossing(closes: NDArray[np.float64], fast: int, slow: int) -> str:
    """Signals of a moving-average cross, neutral until both averages exist."""
    total = np.concatenate(([0.0], np.cumsum(closes)))
    mean = [(total[n:] - total[:-n]) / n for n in (fast, slow)]
    text = np.full(len(closes), "N")
    both = mean[0][slow - fast :]
    text[slow - 1 :] = np.where(both > mean[1], "L", "S")
    return "".join(text.tolist())


def prices(bars: int, seed: int = 7) -> NDArray[np.float64]:
    """A wandering price with slow swings, so that some averages do better than others."""
    random = np.random.default_rng(seed)
    swing = 0.00035 * np.sin(np.arange(bars) / 170.0) + 0.00025 * np.sin(np.arange(bars) / 61.0)
    return np.round(30_000.0 * np.exp(np.cumsum(random.normal(0, 0.004, bars) + swing)), 2)


def document(
    *,
    bars: int = 3_000,
    fast: Sequence[int] = tuple(range(4, 40, 2)),
    slow: Sequence[int] = tuple(range(40, 120, 5)),
    sources: Sequence[str] = ("close", "hlc3"),
    stops: Sequence[float | None] = (None, 2.0, 4.0),
    top: int = 40,
    detailed: int = 3,
    holdout: bool = False,
    generated: bool = True,
    symbol: str = "BTCUSDT",
) -> Document:
    """A consistent document: every number on it comes from one small grid over one price."""
    closes = prices(bars)
    before = np.concatenate((closes[:1], closes[:-1]))
    bar_ms = 900_000
    first = 1_735_690_500_000
    returns = np.empty((len(sources), len(fast), len(slow)), np.float32)
    runs: list[tuple[dict[str, Any], Run]] = []
    names = ["ma.fast.source", "ma.fast.window", "ma.slow.window"]
    for i, source in enumerate(sources):
        series = closes if source == "close" else np.round((closes + before) / 2, 2)
        for j, a in enumerate(fast):
            for k, b in enumerate(slow):
                signals = crossing(series, a, b)
                made = run(
                    closes.tolist(),
                    signals,
                    first_close_ms=first,
                    bar_ms=bar_ms,
                    fee=FEE,
                    slip=SLIP,
                )
                returns[i, j, k] = (made.equity[-1] / INIT_CASH - 1) * 100
                runs.append((_payload(source, a, b, None), made))
    flat = returns.ravel()
    shortlist = np.argsort(-flat, kind="stable")[: top // 2]
    expanded: list[tuple[int, dict[str, Any], Run]] = []
    for index in shortlist.tolist():
        payload, _ = runs[index]
        chosen = {s["indicator_id"]: s for s in payload["indicator_selections"]}
        windows = (chosen["ma.fast"]["params"]["window"], chosen["ma.slow"]["params"]["window"])
        source = chosen["ma.fast"]["inputs"]["source"]
        series = closes if source == "close" else np.round((closes + before) / 2, 2)
        for stop in stops:
            made = run(
                closes.tolist(), crossing(series, *windows),
                first_close_ms=first, bar_ms=bar_ms, sl=stop, fee=FEE, slip=SLIP,
            )  # fmt: skip
            expanded.append((index, _payload(source, *windows, stop), made))
    expanded.sort(key=lambda item: -item[2].equity[-1])
    ranked = expanded[:top]
    start_ms, end_ms = first, first + bars * bar_ms
    variants = [
        _variant(rank, payload, made, start_ms, end_ms, holdout)
        for rank, (_, payload, made) in enumerate(ranked)
    ]
    over = surface(flat, names, [tuple(sources), tuple(fast), tuple(slow)], best=ranked[0][0])
    result: dict[str, Any] = {
        "schema_version": 1,
        "instrument_id": {"market_id": 1, "symbol": symbol},
        "timeframe": "15m",
        "warmup_bars": 200,
        "top_k": top,
        "preselect": len(shortlist),
        "candles": {
            "fingerprint": "5f2b0d6c8a0e4f0f9d7a3c1be27d9a64f31c05be8f2f8f4bb1d0a7c2e6f19a3d",
            "rows": bars * 15 - 37,
            "missing": 37,
            "synthetic": 1,
            "first": first - bar_ms,
            "last": end_ms - bar_ms,
        },
        "plan": {
            "stage_a_variants_total": len(flat),
            "risk_variants_total": len(stops),
            "stage_b_variants_total": len(shortlist) * len(stops),
            "estimated_memory_bytes": 67_122_736,
        },
        "run": {
            "executor": "local",
            "device": "cpu",
            "threads": 2,
            "peak_rss_bytes": 312_000_000,
            "timings": {"timeline": 0.021, "planes": 0.34, "stage_a": 1.24, "stage_b": 0.61},
        },
        "engine_version": "0.1.0",
        "variants": variants,
    }
    if holdout:
        result["holdout"] = {"fraction": 0.3, "start_ms": first + int(bars * 0.7) * bar_ms}
    return Document(
        result=result,
        period_start_ms=start_ms,
        period_end_ms=end_ms,
        generated=generated,
        source="a candle file",
        direction_mode="long-short",
        sizing_mode="all_in",
        ranking={"primary_metric": "total_return_pct", "min_trades": 0, "distinct": False},
        execution={"init_cash_quote": INIT_CASH, "fee_pct": 0.075, "slippage_pct": 0.01},
        market=market_curve(ranked[0][2]),
        curves=[
            variant_curve(made, variant=rank, init_cash=INIT_CASH)
            for rank, (_, _, made) in enumerate(ranked[:detailed])
        ],
        idle_axes=[],
        surface=surface_record(over),
        surface_note=None,
    )


def _payload(source: str, fast: int, slow: int, stop: float | None) -> dict[str, Any]:
    return {
        "indicator_selections": [
            {"indicator_id": "ma.fast", "inputs": {"source": source}, "params": {"window": fast}},
            {"indicator_id": "ma.slow", "inputs": {}, "params": {"window": slow}},
        ],
        "signal_params": {"ma.fast": {"cross_pct": 0.0}},
        "risk_params": {
            "sl_enabled": stop is not None, "sl_pct": stop, "tp_enabled": False, "tp_pct": None,
        },
    }  # fmt: skip


def _variant(
    rank: int, payload: dict[str, Any], made: Run, start_ms: int, end_ms: int, holdout: bool
) -> dict[str, Any]:
    rows = report_rows(
        made, made.trades, period_start_ms=start_ms, period_end_ms=end_ms, init_cash=INIT_CASH
    )
    part = {
        "metrics": metrics(made, made.trades, init_cash=INIT_CASH).record(),
        "report": {"rows": rows_record(rows)},
    }
    return {
        "variant_index": rank,
        "variant_key": f"{rank:064x}",
        "payload": payload,
        **part,
        **({"holdout": part} if holdout else {}),
    }
