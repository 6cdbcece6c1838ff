"""Yang and Zhang's volatility of gaps, bodies and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.sums import valid_counts, window_sums
from compute.indicators.series import BarSeries
from compute.indicators.volatility.rogers_satchell import drift_free
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="volatility.yang_zhang",
    title="Yang-Zhang Volatility",
    group="volatility",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("yang_zhang", delta_rule(), ("window",)),),
    primary="yang_zhang",
    formula="100 sqrt(var(ln(o / c1)) + k var(ln(c / o)) + (1 - k) mean(ln(h / c) ln(h / o) +"
    " ln(l / c) ln(l / o))) over w bars, sample variances (ddof 1), k = 0.34 / (1.34 + (w + 1) /"
    " (w - 1)), in percent a bar.",
    reference="Dennis Yang and Qiang Zhang, Journal of Business, 2000.",
)


@kernel
def _variance(x, first_bar, w, sums, squares):
    """Fill `squares` f8[T] with the sample variance of the last `w` values."""
    window_sums(x, first_bar, w, sums)
    window_sums(x * x, first_bar, w, squares)
    for t in range(x.size):
        squares[t] = max(squares[t] - sums[t] * sums[t] / w, 0.0) / (w - 1.0)


@kernel
def _join(gaps, bodies, ranges, counts, w, out):
    share = 0.34 / (1.34 + (w + 1.0) / (w - 1.0))
    for t in range(out.size):
        total = gaps[t] + share * bodies[t] + (1.0 - share) * max(ranges[t] / w, 0.0)
        out[t] = 100.0 * np.sqrt(total) if counts[t] >= w else np.nan


def _logs(series: BarSeries) -> NDArray[np.float64]:
    """Log gaps from the previous close and log bodies, f8[2, T]."""
    opened, close = series.wide("open"), series.wide("close")
    gap = np.log(opened / np.concatenate(([np.nan], close))[: close.size])
    return np.stack((gap, np.log(close / opened)))


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    bars, first_bar = len(series), series.first_bar
    gap, body = series.derived("yang_zhang", lambda: _logs(series))
    ranges = drift_free(series)
    sums, gaps, bodies = np.empty(bars), np.empty(bars), np.empty(bars)
    counts = np.empty(bars, np.int64)
    valid_counts(gap + ranges, counts)
    for r, w in enumerate(params["window"]):
        _variance(gap, first_bar, w, sums, gaps)
        _variance(body, first_bar, w, sums, bodies)
        window_sums(ranges, first_bar, w, sums)
        _join(gaps, bodies, sums, counts, w, out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    opened, high, low, close = (series[name] for name in DEFINITION.inputs)
    w, value = params["window"], np.full(high.size, np.nan)
    share = 0.34 / (1.34 + (w + 1) / (w - 1))
    for t in range(w, high.size):
        inside = slice(t - w + 1, t + 1)
        gap = np.log(opened[inside] / close[t - w : t])
        body = np.log(close[inside] / opened[inside])
        top, bottom = np.log(high[inside] / opened[inside]), np.log(low[inside] / opened[inside])
        ranges = np.maximum(np.mean(top * (top - body) + bottom * (bottom - body)), 0.0)
        total = np.var(gap, ddof=1) + share * np.var(body, ddof=1) + (1 - share) * ranges
        value[t] = 100 * np.sqrt(total)
    return {"yang_zhang": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
