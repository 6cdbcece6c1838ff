"""Rolling volume-weighted price with deviation bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    Definition,
    Output,
    Rule,
    delta_rule,
    multiplier,
    window,
)
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import block_centre, first_block, load, prefix
from compute.indicators.series import BarSeries
from compute.jit import kernel

_SHORTEST_BLOCK = 256
_PRICE, _STDEV, _BANDS = 0, 1, 2
_BAND = Rule("compare_price_to_output", inverted=True)
DEFINITION = Definition(
    indicator_id="volume.vwap_deviation",
    title="Rolling VWAP Deviation Bands",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(multiplier(), window()),
    axes=("mult", "window"),
    outputs=(
        Output("vwap", Rule("compare_price_to_output"), ("window",)),
        Output("vwap_upper", _BAND, ("mult", "window")),
        Output("vwap_lower", _BAND, ("mult", "window")),
        Output("vwap_stdev", delta_rule(), ("window",)),
    ),
    primary="vwap_upper",
    formula="sum(TP v) / sum(v) over w bars, ± mult · std of TP minus each bar's own value.",
    reference="Volume-weighted price of Berkowitz, Logue and Noser, 1988, over a rolling window.",
)


@kernel
def _centres(values, turnover, volume, at, w, apart, centres):
    """Fill `centres` with the volume-weighted price of each window and `apart` with how far the
    newest price is from it; frame index `at` + k is the newest bar of window k."""
    t_new, t_old = turnover[at + 1 :], turnover[at + 1 - w :]
    v_new, v_old = volume[at + 1 :], volume[at + 1 - w :]
    x = values[at:]
    for k in range(apart.size):
        traded = v_new[k] - v_old[k]
        centre = (t_new[k] - t_old[k]) / traded if traded != 0.0 else np.nan
        centres[k] = centre
        apart[k] = x[k] - centre


@kernel
def _spread(sums, squares, at, w, out):
    """Fill `out` with the standard deviation of the last `w` values."""
    scale = 1.0 / w
    s_new, s_old = sums[at + 1 :], sums[at + 1 - w :]
    q_new, q_old = squares[at + 1 :], squares[at + 1 - w :]
    for k in range(out.size):
        mean = (s_new[k] - s_old[k]) * scale
        spread = (q_new[k] - q_old[k]) * scale - mean * mean
        out[k] = np.sqrt(spread) if spread > 0.0 else 0.0


@kernel
def _exchange(gaps, kept, at, count):
    """Put the block `kept` before that of `gaps` f8[2 n] and keep the latter: its `count` values
    from `at` on, 0 for NaN and elsewhere."""
    block = kept.size
    before, block_gaps = gaps[:block], gaps[block:]
    for k in range(block):
        before[k] = kept[k]
    for k in range(at - block):
        block_gaps[k] = 0.0
    for k in range(at - block + count, block):
        block_gaps[k] = 0.0
    for k in range(block):
        gap = block_gaps[k] if block_gaps[k] == block_gaps[k] else 0.0
        block_gaps[k], kept[k] = gap, gap


@kernel
def _block_rows(typical, volume, first_bar, block, order, windows, factors, form, out):
    """Rows `order` of `out` f4[R, T], equal windows together and up to `block`. Not blanked.

    Prices are measured from one of the block: on flat prices every deviation is exactly 0. A window
    keeps the deviations of its last block, for they are of that window alone.
    """
    bars = typical.size
    values, flow, traded = np.empty(2 * block), np.empty(2 * block), np.empty(2 * block)
    turnover, volumes = np.empty(2 * block + 1), np.empty(2 * block + 1)
    sums, squares = np.empty(2 * block + 1), np.empty(2 * block + 1)
    kept = np.zeros((order.size, block))
    gaps, centres, spread = np.zeros(2 * block), np.empty(block), np.empty(block)
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        count, at = stop - begin, block + begin - start
        centre = block_centre(typical, begin, stop)
        load(typical, start - block, centre, values)
        load(volume, start - block, 0.0, traded)
        for k in range(2 * block):
            flow[k] = values[k] * traded[k]
        prefix(flow, turnover)
        prefix(traded, volumes)
        known = np.int64(0)
        for i in range(order.size):
            r = order[i]
            row, factor = out[r, begin:stop], factors[r]
            if windows[r] != known:
                known = windows[r]
                fresh = gaps[at : at + count]
                _centres(values, turnover, volumes, at, known, fresh, centres)
                if form != _PRICE:
                    _exchange(gaps, kept[i], at, count)
                    prefix(gaps, sums)
                    for k in range(2 * block):
                        gaps[k] *= gaps[k]
                    prefix(gaps, squares)
                    _spread(sums, squares, at, known, spread[:count])
            if form == _PRICE:
                for k in range(count):
                    row[k] = centre + centres[k]
            elif form == _STDEV:
                for k in range(count):
                    row[k] = spread[k]
            else:
                for k in range(count):
                    row[k] = centre + centres[k] + factor * spread[k]


@kernel
def _silence(out, runs, windows, reach):
    """Set NaN where a window without volume is among the last `reach[r]` ones of row r."""
    for r in range(out.shape[0]):
        for i in range(runs.shape[0]):
            if runs[i, 1] - runs[i, 0] >= windows[r]:
                out[r, runs[i, 0] + windows[r] - 1 : runs[i, 1] + reach[r] - 1] = np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, mults = params["window"], params["mult"]
    high, low, close, volume = (series.wide(name) for name in DEFINITION.inputs)
    typical = series.derived("typical", lambda: (high + low + close) / 3.0)
    form = {"vwap": _PRICE, "vwap_stdev": _STDEV}.get(output, _BANDS)
    factors = -mults if output == "vwap_lower" else mults
    order = np.argsort(windows, kind="stable")
    blocks = np.maximum(_SHORTEST_BLOCK, 1 << np.ceil(np.log2(windows[order])).astype(np.int64))
    for block in np.unique(blocks):
        part, size = order[blocks == block], int(block)
        _block_rows(typical, volume, series.first_bar, size, part, windows, factors, form, out)
    reach = np.ones_like(windows) if form == _PRICE else windows
    # Where the price stays there is no deviation at all, not the rounding of two equal sums.
    runs = flat_runs(typical, int(windows.min()))
    levels = np.zeros(len(runs)) if form == _STDEV else typical[runs[:, 0]]
    pin(out, runs, levels.astype(np.float32), windows + reach - 1)
    _silence(out, flat_runs(volume, int(windows.min()), 0.0), windows, reach)
    blank(out, series.holes(*DEFINITION.inputs), windows + reach - 2, windows + reach - 1)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    w, mult = params["window"], params["mult"]
    typical = (high + low + close) / 3
    vwap, std = np.full(close.size, np.nan), np.full(close.size, np.nan)
    for t in range(w - 1, close.size):
        span = slice(t - w + 1, t + 1)
        total = np.sum(volume[span])
        if total != 0:
            vwap[t] = np.sum(typical[span] * volume[span]) / total
    for t in range(w - 1, close.size):
        std[t] = np.std(typical[t - w + 1 : t + 1] - vwap[t - w + 1 : t + 1])
    return {
        "vwap": vwap,
        "vwap_upper": vwap + mult * std,
        "vwap_lower": vwap - mult * std,
        "vwap_stdev": std,
    }


def settle(params: Mapping[str, Any]) -> int:
    return 2 * params["window"] - 2


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1 if output == "vwap" else 2 * params["window"] - 2
