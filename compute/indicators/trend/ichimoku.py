"""Ichimoku cloud, drawn without looking ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.extremes import MIDDLE, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

_RULE = Rule("compare_price_to_output")
_AXES = ("conversion_window", "base_window", "span_b_window", "displacement")
DEFINITION = Definition(
    indicator_id="trend.ichimoku",
    title="Ichimoku Cloud",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(
        window("conversion_window", 9),
        window("base_window", 26),
        window("span_b_window", 52),
        window("displacement", 26),
    ),
    axes=_AXES,
    outputs=(
        Output("conversion", _RULE, ("conversion_window",)),
        Output("base", _RULE, ("base_window",)),
        Output("span_a", _RULE, ("conversion_window", "base_window", "displacement")),
        Output("span_b", _RULE, ("span_b_window", "displacement")),
        Output("lagging", _RULE, ("displacement",)),
    ),
    primary="span_a",
    formula="conversion, base: (highest high + lowest low) / 2 over their windows; span_a = their"
    " mean displacement bars ago, span_b = the middle over span_b_window displacement bars ago,"
    " lagging = the close displacement bars ago: at a bar stands what was known then.",
    reference="Goichi Hosoda, 1968.",
)


@kernel
def _delayed(first, second, lag, out):
    """Fill `out` f4[T] with the mean of two series f8[T], `lag` bars late."""
    lag = min(lag, out.size)
    out[:lag] = np.nan
    row = out[lag:]
    for t in range(row.size):
        row[t] = 0.5 * (first[t] + second[t])


def _middles(series: BarSeries, windows: NDArray[np.int64], out: NDArray[np.floating]) -> None:
    """Row r of `out` [R, T]: the middle of the channel over `windows[r]` bars."""
    order = np.argsort(windows, kind="stable")
    channel_rows(series.high, series.low, series.close, windows, order, MIDDLE, out)
    blank(out, series.holes("high", "low"), windows - 1, windows)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    if output in ("conversion", "base"):
        _middles(series, params[f"{output}_window"], out)
        return
    lags, bars = params["displacement"], len(series)
    if output == "lagging":
        for r, lag in enumerate(lags):
            _delayed(series.wide("close"), series.wide("close"), lag, out[r])
        return
    names = ("conversion_window", "base_window") if output == "span_a" else ("span_b_window",) * 2
    pairs, at = np.unique(np.stack([params[name] for name in names]), axis=1, return_inverse=True)
    middle = np.empty((2, bars))
    for i, pair in enumerate(pairs.T):
        _middles(series, np.ascontiguousarray(pair), middle)
        for r in np.flatnonzero(at.reshape(-1) == i):
            _delayed(middle[0], middle[1], lags[r], out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, lag = series["high"], series["low"], series["close"], params["displacement"]

    def middle(w: int) -> NDArray[np.float64]:
        value = np.full(high.size, np.nan)
        for t in range(w - 1, high.size):
            inside = slice(t - w + 1, t + 1)
            value[t] = (np.max(high[inside]) + np.min(low[inside])) / 2
        return value

    def late(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate((np.full(lag, np.nan), values))[: values.size]

    conversion, base = middle(params["conversion_window"]), middle(params["base_window"])
    return {
        "conversion": conversion,
        "base": base,
        "span_a": late((conversion + base) / 2),
        "span_b": late(middle(params["span_b_window"])),
        "lagging": late(close),
    }


def settle(params: Mapping[str, Any]) -> int:
    return (
        max(params["conversion_window"], params["base_window"], params["span_b_window"])
        - 1
        + params["displacement"]
    )


def first(params: Mapping[str, Any], output: str) -> int:
    conversion, base = params["conversion_window"] - 1, params["base_window"] - 1
    return {
        "conversion": conversion,
        "base": base,
        "span_a": max(conversion, base) + params["displacement"],
        "span_b": params["span_b_window"] - 1 + params["displacement"],
        "lagging": params["displacement"],
    }[output]
