"""Example bodies, each of which works where one-minute candles of 1:BTCUSDT of 2026-01 are."""

from __future__ import annotations

from typing import Any, Final

_CLOSE: Final = {"mode": "explicit", "values": ["close"]}
_RANGE: Final = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"}
_TEMPLATE: Final[dict[str, Any]] = {
    "instrument_id": {"market_id": 1, "symbol": "btcusdt"},
    "timeframe": "1h",
    "indicator_grids": [
        {
            "indicator_id": "momentum.rsi",
            "source": _CLOSE,
            "params": {"window": {"mode": "explicit", "values": [7, 14]}},
        },
        {
            "indicator_id": "ma.sma",
            "source": _CLOSE,
            "params": {"window": {"mode": "range", "start": 5, "stop_incl": 15, "step": 5}},
        },
    ],
    "signal_grids": {
        "momentum.rsi": {
            "long_threshold": {"mode": "explicit", "values": [50]},
            "short_threshold": {"mode": "explicit", "values": [40, 45]},
        }
    },
    "execution": {"fee_pct": 0.075},
    "risk_grid": {
        "sl_enabled": True,
        "tp_enabled": True,
        "sl": {"mode": "range", "start": 1.0, "stop_incl": 2.0, "step": 0.5},
        "tp": {"mode": "explicit", "values": [3, 6]},
    },
}

BACKTESTS: Final[dict[str, Any]] = {
    "two indicators with stops": {
        "time_range": _RANGE,
        "template": _TEMPLATE,
        "warmup_bars": 50,
        "top_k": 3,
        "preselect": 5,
        "top_trades_n": 1,
    },
    "one indicator, the last fifth held out": {
        "time_range": _RANGE,
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "15m",
            "indicator_grids": [
                {
                    "indicator_id": "trend.adx",
                    "params": {
                        "window": {"mode": "range", "start": 10, "stop_incl": 20, "step": 2},
                        "smoothing": {"mode": "explicit", "values": [14]},
                    },
                }
            ],
            "signal_grids": {
                "trend.adx": {
                    "long_delta_periods": {"mode": "explicit", "values": [-1, -3]},
                    "short_delta_periods": {"mode": "explicit", "values": [-1, -3]},
                }
            },
            "direction_mode": "long-only",
        },
        "top_k": 5,
        "ranking": {"primary_metric": "profit_factor", "min_trades": 3},
        "validation": {"holdout_fraction": 0.2},
    },
}

REPORTS: Final[dict[str, Any]] = {
    "one variant with its trades": {
        "time_range": _RANGE,
        "template": _TEMPLATE,
        "warmup_bars": 50,
        "variant": {
            "indicator_selections": [
                {
                    "indicator_id": "ma.sma",
                    "inputs": {"source": "close"},
                    "params": {"window": 5},
                },
                {
                    "indicator_id": "momentum.rsi",
                    "inputs": {"source": "close"},
                    "params": {"window": 7},
                },
            ],
            "signal_params": {"momentum.rsi": {"long_threshold": 50, "short_threshold": 40}},
            "risk_params": {
                "sl_enabled": True,
                "sl_pct": 1.0,
                "tp_enabled": True,
                "tp_pct": 3.0,
            },
            "execution_params": {"fee_pct": 0.075},
            "direction_mode": "long-short",
            "sizing_mode": "all_in",
        },
        "include_trades": True,
    }
}

ESTIMATES: Final[dict[str, Any]] = {
    "a moving average on two sources": {
        "timeframe": "1m",
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "indicators": [
            {
                "indicator_id": "ma.sma",
                "source": {"mode": "explicit", "values": ["close", "hlc3"]},
                "params": {"window": {"mode": "range", "start": 5, "stop_incl": 200, "step": 1}},
            }
        ],
        "risk": {
            "sl": {"mode": "explicit", "values": [1.0, 2.0]},
            "tp": {"mode": "explicit", "values": [2.0, 4.0, 6.0]},
        },
    }
}

PREVIEWS: Final[dict[str, Any]] = {
    "an average in the middle of a range": {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "timeframe": "1h",
        "time_range": {"start": "2026-01-03T00:00:00Z", "end": "2026-01-08T00:00:00Z"},
        "indicator": {
            "indicator_id": "ma.sma",
            "source": _CLOSE,
            "params": {"window": {"mode": "range", "start": 5, "stop_incl": 15, "step": 5}},
        },
        "points": 60,
    },
    "a band and its thresholds": {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "timeframe": "15m",
        "time_range": {"start": "2026-01-05T00:00:00Z", "end": "2026-01-06T00:00:00Z"},
        "indicator": {
            "indicator_id": "momentum.rsi",
            "source": _CLOSE,
            "params": {"window": {"mode": "explicit", "values": [14]}},
        },
        "signals": {
            "long_threshold": {"mode": "explicit", "values": [50]},
            "short_threshold": {"mode": "explicit", "values": [40]},
        },
    },
}

TENSORS: Final[dict[str, Any]] = {
    "bands over a day": {
        "market_id": 1,
        "symbol": "BTCUSDT",
        "timeframe": "1m",
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "indicator": {
            "indicator_id": "volatility.bbands",
            "source": _CLOSE,
            "params": {
                "window": {"mode": "explicit", "values": [20, 50]},
                "mult": {"mode": "explicit", "values": [2.0]},
            },
        },
        "layout": "variant_major",
        "max_variants_guard": 1000,
    }
}
