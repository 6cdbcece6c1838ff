"""What the tests of the command line share: a small market, a small request, a way to call."""

from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from api.cli import app
from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from ingest.synthetic import synthetic_candles, write_candles

ROOT = Path(__file__).resolve().parents[2]
START_MS = 1_704_067_200_000  # 2024-01-01
HOURS = 2_400
INSTRUMENT = Instrument(1, "TESTUSDT")


def axis(*values: object) -> dict[str, Any]:
    """An explicit axis."""
    return {"mode": "explicit", "values": list(values)}


def span(start: float, stop_incl: float, step: float) -> dict[str, Any]:
    """A range axis."""
    return {"mode": "range", "start": start, "stop_incl": stop_incl, "step": step}


REQUEST: dict[str, Any] = {
    "time_range": {"start": "2024-01-20T00:00:00Z", "end": "2024-04-01T00:00:00Z"},
    "template": {
        "instrument_id": {"market_id": 1, "symbol": "TESTUSDT"},
        "timeframe": "1h",
        "indicator_grids": [
            {
                "indicator_id": "ma.sma",
                "source": axis("close", "hlc3"),
                "params": {"window": span(5, 24, 1)},
            },
            {
                "indicator_id": "momentum.rsi",
                "source": axis("close"),
                "params": {"window": axis(7, 14)},
            },
        ],
        "signal_grids": {
            "momentum.rsi": {"long_threshold": axis(50, 55), "short_threshold": axis(45, 50)}
        },
        "execution": {"fee_pct": 0.075, "slippage_pct": 0.01},
        "risk_grid": {
            "sl_enabled": True,
            "sl": axis(1, 2, 4),
            "tp_enabled": True,
            "tp": axis(3, 6),
        },
    },
    "preselect": 30,
    "top_k": 12,
    "top_trades_n": 2,
    "warmup_bars": 120,
}
VARIANTS = 2 * 20 * 2 * 2 * 2


def request(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`REQUEST` with values replaced by dotted path; `...` removes a key."""
    body = copy.deepcopy(REQUEST)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node: Any = body
        for name in parents:
            node = node[int(name)] if name.isdigit() else node[name]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return body


@dataclass(frozen=True)
class Called:
    """What came of a command."""

    status: int
    stdout: str
    stderr: str


def call(*arguments: object) -> Called:
    """Runs `roehub` in this process, whose log goes afterwards where it went before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Called(done.exit_code, done.stdout, done.stderr)


def started(
    *arguments: object, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Starts `roehub` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "api.cli", *(str(argument) for argument in arguments)],
        cwd=ROOT, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip


def write_market(path: Path, bars: int = HOURS) -> Path:
    """A candle file of one-hour candles."""
    frame = TIMEFRAMES["1h"]
    made = synthetic_candles(seed=5, bars=bars, frame=frame, start_ms=START_MS)
    write_candles(path, made, frame=frame, instrument=INSTRUMENT, synthetic=True)
    return path


def write_json(path: Path, value: object) -> Path:
    """A request file; NaN and infinities are written as Python writes them."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
