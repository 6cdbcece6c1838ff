"""Money flow index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import ratio_rows
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="volume.mfi",
    title="Money Flow Index",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("mfi", band_rule("int", Span(10, 40, 5), Span(60, 90, 5)), ("window",)),),
    primary="mfi",
    formula="100 - 100 / (1 + sum(up) / sum(down)) over w bars; TP · v, TP = (h + l + c) / 3, goes"
    " up or down with TP, nowhere if TP stays. 100 where nothing goes down.",
    reference="Gene Quong and Avrum Soudack, 1989.",
)


@kernel
def _fill_flows(high, low, close, volume, ups, flows):
    """Fill `ups` and `flows` f8[T] with the flow of rising bars and of all that move."""
    ups[:1] = np.nan
    flows[:1] = np.nan
    # Without range checks on `t - 1` the loop runs in vectors.
    count = max(high.size - 1, 0)
    h0, l0, c0, v0 = high[:count], low[:count], close[:count], volume[1:]
    h1, l1, c1 = high[1:], low[1:], close[1:]
    up, moving = ups[1:], flows[1:]
    for t in range(count):
        last = (np.float64(h0[t]) + np.float64(l0[t]) + np.float64(c0[t])) / 3.0
        typical = (np.float64(h1[t]) + np.float64(l1[t]) + np.float64(c1[t])) / 3.0
        amount = typical * np.float64(v0[t])
        rise = amount if typical > last else 0.0
        move = amount if typical != last else 0.0
        known = amount + last == amount + last
        up[t] = rise if known else np.nan
        moving[t] = move if known else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    ups, flows = np.empty(len(series)), np.empty(len(series))
    _fill_flows(series.high, series.low, series.close, series.volume, ups, flows)
    ratio_rows(ups * 100.0, flows, series.first_bar, windows, out)
    # One side alone, or none, is told by its zeros: a difference of sums keeps a residue.
    least = int(windows.min())
    for side, level in ((ups, 0.0), (flows - ups, 100.0)):
        runs = flat_runs(side, least, 0.0)
        pin(out, runs, np.full(len(runs), level, np.float32), windows)
    blank(out, np.flatnonzero(np.isnan(flows)), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    w, typical = params["window"], (high + low + close) / 3
    value = np.full(close.size, np.nan)
    for t in range(w, close.size):
        if np.isnan(typical[t - w : t + 1]).any() or np.isnan(volume[t - w + 1 : t + 1]).any():
            continue
        up = down = 0.0
        for i in range(t - w + 1, t + 1):
            up += typical[i] * volume[i] if typical[i] > typical[i - 1] else 0.0
            down += typical[i] * volume[i] if typical[i] < typical[i - 1] else 0.0
        value[t] = 100.0 if down == 0.0 else 100 - 100 / (1 + up / down)
    return {"mfi": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
