"""Klinger volume oscillator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.crosses import HISTOGRAM, LINE, SIGNAL, cross_rows
from compute.indicators.kernels.running import kept
from compute.indicators.series import BarSeries
from compute.jit import kernel

_ALL = ("fast_window", "slow_window", "signal_window")
_FORMS = {"kvo": LINE, "signal": SIGNAL, "hist": HISTOGRAM}
DEFINITION = Definition(
    indicator_id="volume.klinger",
    title="Klinger Volume Oscillator",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(
        window("fast_window", 34),
        window("slow_window", 55),
        window("signal_window", 13),
    ),
    axes=_ALL,
    outputs=(
        Output("kvo", Rule("sign"), ("fast_window", "slow_window")),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="kvo",
    formula="ema(F, fast) - ema(F, slow); signal is its ema, hist the difference of the two. Volume"
    " force F = 100 T v |2 (d / m - 1)|, 0 where m is 0; d = h - l; T = 1 if h + l + c is above the"
    " previous bar's or there is none, else -1; m = sum of d since the bar before T last turned.",
    reference="Stephen Klinger, Identifying Trends with Volume Analysis, 1997.",
    recursive=True,
)


@kernel
def _fill_force(high, low, close, volume, state, out):
    """Fill `out` f8[n]; `state` f8[4] is what bars before left: level, trend, range, measure."""
    last, trend, reach, measure = -np.inf, 1.0, 0.0, 0.0
    if state[1] == state[1]:
        last, trend, reach, measure = state[0], state[1], state[2], state[3]
    for t in range(out.size):
        top, bottom, price = np.float64(high[t]), np.float64(low[t]), np.float64(close[t])
        amount = np.float64(volume[t])
        level = top + bottom + price
        if level + amount != level + amount:
            last, trend, reach, measure = -np.inf, 1.0, 0.0, 0.0
            out[t] = np.nan
            continue
        side = 1.0 if level > last else -1.0
        # Before the first bar `measure` and `reach` are 0: it measures its own range.
        measure = (measure if side == trend else reach) + (top - bottom)
        last, trend, reach = level, side, top - bottom
        part = reach / measure if measure != 0.0 else 1.0
        out[t] = 100.0 * side * amount * abs(2.0 * (part - 1.0))
    state[0], state[1], state[2], state[3] = last, trend, reach, measure


def _force(series: BarSeries, first: int, carry: Carry) -> NDArray[np.float64]:
    """Volume force f8[T] from bar `first` on."""
    state = carry.state("force", 4)

    def fill(out: NDArray[np.float64]) -> None:
        high, low, close, volume = (series.column(name)[first:] for name in DEFINITION.inputs)
        _fill_force(high, low, close, volume, state, out[first:])

    return kept(series, "volume_force", len(series), state, fill)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    carry = carry or Carry()
    force = _force(series, len(series) - out.shape[1], carry)
    cross_rows(force, series.spans(*DEFINITION.inputs), params, _FORMS[output], out, carry=carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    reach, level = high - low, high + low + close
    force, trend, measure = (np.full(close.size, np.nan) for _ in range(3))
    for t in range(close.size):
        if math.isnan(level[t] + volume[t]):
            continue
        if t == 0 or math.isnan(trend[t - 1]):
            trend[t], measure[t] = 1, reach[t]
        else:
            trend[t] = 1 if level[t] > level[t - 1] else -1
            held = measure[t - 1] if trend[t] == trend[t - 1] else reach[t - 1]
            measure[t] = held + reach[t]
        part = abs(2 * (reach[t] / measure[t] - 1)) if measure[t] != 0 else 0.0
        force[t] = volume[t] * part * trend[t] * 100

    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth = values.copy()
        for t in range(1, values.size):
            if not math.isnan(values[t]) and not math.isnan(smooth[t - 1]):
                smooth[t] = 2 / (w + 1) * values[t] + (1 - 2 / (w + 1)) * smooth[t - 1]
        return smooth

    kvo = ema(force, params["fast_window"]) - ema(force, params["slow_window"])
    signal = ema(kvo, params["signal_window"])
    return {"kvo": kvo, "signal": signal, "hist": kvo - signal}


def settle(params: Mapping[str, Any]) -> int:
    slowest = max(params["fast_window"], params["slow_window"])
    return math.ceil(3.5 * (slowest + 1)) + math.ceil(3.5 * (params["signal_window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
