"""Moving average convergence divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.smoothing import LANES, TILE, ema_weights, lanes
from compute.indicators.series import BarSeries
from compute.jit import kernel

_ALL = ("fast_window", "signal_window", "slow_window", "source")
DEFINITION = Definition(
    indicator_id="momentum.macd",
    title="MACD",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(
        window("fast_window", 12),
        window("slow_window", 26),
        window("signal_window", 9),
    ),
    axes=_ALL,
    outputs=(
        Output("macd", Rule("sign"), ("fast_window", "slow_window", "source")),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="macd",
    formula="ema(fast) - ema(slow); signal is its ema, hist the difference of the two.",
    reference="Gerald Appel, 1979; histogram by Thomas Aspray, 1986.",
    recursive=True,
)
_MACD, _SIGNAL, _HIST = 0, 1, 2


@kernel
def _crosses(x, spans, weights, fast, slow, signal_weights, form, out):
    """Differences of smoothed rows; every distinct window is smoothed once a tile.

    `fast`, `slow` i8[R] index `weights`; a signal line keeps one state a row.
    """
    rows, bars = out.shape
    keeps = 1.0 - weights
    tile = np.empty((weights.size, TILE))
    state, line = np.empty(weights.size), np.empty(rows)
    done = 0
    for i in range(spans.shape[0]):
        begin, stop = spans[i, 0], spans[i, 1]
        out[:, done:begin] = np.nan
        out[:, begin] = 0.0
        state[:], line[:] = x[begin], 0.0
        for at in range(begin + 1, stop, TILE):
            count = min(TILE, stop - at)
            for group in range(0, weights.size, LANES):
                lanes(x, at, count, weights, keeps, state, tile, 0, group)
            for r in range(rows):
                row = out[r, at : at + count]
                quick, lazy = tile[fast[r]], tile[slow[r]]
                if form == _MACD:
                    for k in range(count):
                        row[k] = quick[k] - lazy[k]
                    continue
                weight = signal_weights[r]
                y = line[r]
                for k in range(count):
                    cross = quick[k] - lazy[k]
                    y = weight * cross + (1.0 - weight) * y
                    row[k] = y if form == _SIGNAL else cross - y
                line[r] = y
        done = stop
    out[:, done:bars] = np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    pairs = np.stack((params["fast_window"], params["slow_window"]))
    windows, at = np.unique(pairs, return_inverse=True)
    fast, slow = at.reshape(pairs.shape)
    form = {"macd": _MACD, "signal": _SIGNAL, "hist": _HIST}[output]
    signal_weights = 2.0 / (params["signal_window"] + 1.0)
    weights = ema_weights(windows)
    _crosses(
        series.wide(source), series.spans(source), weights, fast, slow, signal_weights, form, out
    )


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth = values.copy()
        for t in range(1, values.size):
            if not math.isnan(values[t]) and not math.isnan(smooth[t - 1]):
                smooth[t] = 2 / (w + 1) * values[t] + (1 - 2 / (w + 1)) * smooth[t - 1]
        return smooth

    x = series[params["source"]]
    macd = ema(x, params["fast_window"]) - ema(x, params["slow_window"])
    signal = ema(macd, params["signal_window"])
    return {"macd": macd, "signal": signal, "hist": macd - signal}


def settle(params: Mapping[str, Any]) -> int:
    slowest = max(params["fast_window"], params["slow_window"])
    return math.ceil(3.5 * (slowest + 1)) + math.ceil(3.5 * (params["signal_window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
