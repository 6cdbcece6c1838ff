"""Awesome oscillator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.sums import BLOCK, advance, first_block
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("fast_window", "slow_window")
DEFINITION = Definition(
    indicator_id="momentum.ao",
    title="Awesome Oscillator",
    group="momentum",
    inputs=("high", "low"),
    sources=(),
    params=(window("fast_window", 5), window("slow_window", 34)),
    axes=_AXES,
    outputs=(Output("ao", Rule("sign"), _AXES),),
    primary="ao",
    formula="Mean of (h + l) / 2 over fast_window bars minus that over slow_window bars.",
    reference="Bill Williams, Trading Chaos, 1995.",
)


@kernel
def _apart(x, first_bar, fast, slow, out):
    """Row r of `out` f4[R, T]; not blanked. Both sums are exact and are brought to one divisor, so
    that a resting market is exactly 0."""
    bars = x.size
    frame, buffer = np.zeros(2 * BLOCK + 1), np.empty(BLOCK)
    for start in range(first_block(first_bar, BLOCK), bars, BLOCK):
        advance(frame, BLOCK, x, start, buffer)
        begin, stop = max(start, 0), min(start + BLOCK, bars)
        at = BLOCK + 1 + begin - start
        for r in range(out.shape[0]):
            quick, lazy = np.float64(fast[r]), np.float64(slow[r])
            scale, row = 1.0 / (quick * lazy), out[r, begin:stop]
            newest, near, far = frame[at:], frame[at - fast[r] :], frame[at - slow[r] :]
            for k in range(stop - begin):
                now = newest[k]
                row[k] = ((now - near[k]) * lazy - (now - far[k]) * quick) * scale


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    fast, slow = params["fast_window"], params["slow_window"]
    middle = series.derived("middle", lambda: 0.5 * (series.wide("high") + series.wide("low")))
    _apart(middle, series.first_bar, fast, slow, out)
    longest = np.maximum(fast, slow)
    blank(out, series.holes("high", "low"), longest - 1, longest)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    middle = (series["high"] + series["low"]) / 2
    fast, slow = params["fast_window"], params["slow_window"]
    value = np.full(middle.size, np.nan)
    for t in range(max(fast, slow) - 1, middle.size):
        value[t] = np.mean(middle[t - fast + 1 : t + 1]) - np.mean(middle[t - slow + 1 : t + 1])
    return {"ao": value}


def settle(params: Mapping[str, Any]) -> int:
    return max(params["fast_window"], params["slow_window"]) - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return max(params["fast_window"], params["slow_window"]) - 1
