"""The demonstration: a made-up market and a request that searches over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cluster.outputs import outputs

REQUEST: Final[dict[str, Any]] = {
    "time_range": {"start": "2024-01-15T00:00:00Z", "end": "2025-01-01T00:00:00Z"},
    "template": {
        "instrument_id": {"market_id": 1, "symbol": "SYNTHUSDT"},
        "timeframe": "15m",
        "indicator_grids": [
            {
                "indicator_id": "ma.sma",
                "source": {"mode": "explicit", "values": ["close", "hlc3"]},
                "params": {"window": {"mode": "range", "start": 10, "stop_incl": 209, "step": 1}},
            },
            {
                "indicator_id": "momentum.rsi",
                "source": {"mode": "explicit", "values": ["close"]},
                "params": {"window": {"mode": "range", "start": 6, "stop_incl": 54, "step": 3}},
            },
        ],
        "signal_grids": {
            "momentum.rsi": {
                "long_threshold": {"mode": "range", "start": 50, "stop_incl": 60, "step": 2},
                "short_threshold": {"mode": "range", "start": 38, "stop_incl": 48, "step": 2},
            }
        },
        "direction_mode": "long-short",
        "sizing_mode": "all_in",
        "execution": {"init_cash_quote": 10000, "fee_pct": 0.075, "slippage_pct": 0.01},
        "risk_grid": {
            "sl_enabled": True,
            "sl": {"mode": "explicit", "values": [1, 2, 3, 5, 8]},
            "tp_enabled": True,
            "tp": {"mode": "explicit", "values": [3, 5, 8, 13, 21]},
        },
    },
    "ranking": {"primary_metric": "total_return_pct", "min_trades": 30},
    "validation": {"holdout_fraction": 0.25},
    "preselect": 2000,
    "top_k": 50,
}


def write_inputs(directory: Path, say: Callable[[str], None]) -> tuple[dict[str, Any], Path]:
    """(request body, candle file), both also left in `directory` to be played with.

    Raises: InvalidInput when it cannot be written.
    """
    from compute.market.timeframe import TIMEFRAMES
    from ingest.sample import INSTRUMENT, sample_candles
    from ingest.synthetic import write_candles

    out = outputs(directory)
    path = directory / "candles.parquet"
    write_candles(
        path, sample_candles(), frame=TIMEFRAMES["1m"], instrument=INSTRUMENT, synthetic=True
    )
    request = out.write("request.json", json.dumps(REQUEST, indent=2) + "\n")
    say(f"made {path} (SYNTHETIC) and {request}")
    return REQUEST, path
