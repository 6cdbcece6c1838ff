"""Kaufman's adaptive moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.recursions import follow_own
from compute.indicators.kernels.sums import BLOCK, advance, first_block, valid_counts
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("source", "window", "fast_window", "slow_window")
DEFINITION = Definition(
    indicator_id="ma.kama",
    title="Kaufman Adaptive Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(default=10), window("fast_window", 2), window("slow_window", 30)),
    axes=_AXES,
    outputs=(Output("value", Rule("compare_price_to_output", price="source"), _AXES),),
    primary="value",
    formula="y = y + a (x - y), a = (E (2 / (fast + 1) - 2 / (slow + 1)) + 2 / (slow + 1))^2, E ="
    " |x - x[w bars ago]| / sum(|x - x1|, w), 0 where nothing moved; starts from the value before"
    " the first full window.",
    reference="Perry Kaufman, Smarter Trading, 1995.",
    recursive=True,
    lead=2 * BLOCK,
)


@kernel
def _efficiency(x, frame, counts, begin, at, w, out):
    """Fill `out` [n] from bar `begin` on; `frame` holds sums of steps, `at` is its index."""
    count = out.size
    skip = min(max(w - begin, 0), count)
    out[:skip] = np.nan
    newest, oldest = frame[at + skip :], frame[at + skip - w :]
    now, then = x[begin + skip :], x[begin + skip - w :]
    inside, part = counts[begin + skip :], out[skip:]
    for k in range(count - skip):
        path = newest[k] - oldest[k]
        share = abs(now[k] - then[k]) / path if path > 0.0 else 0.0
        part[k] = share if inside[k] > w else np.nan


@kernel
def _adapt(x, before, steps, counts, first_bar, windows, quick, lazy, state, out):
    """Row r of `out` f4[R, n], the last n bars of `x` f8[T]; `before` is x one bar ago, `steps` its
    absolute change, `counts` the values since the last hole, `quick` and `lazy` the two ends of the
    weight, `state` f8[groups, 8] the values before."""
    rows, bars = out.shape[0], x.size
    first = bars - out.shape[1]
    frame, buffer, shares = np.zeros(2 * BLOCK + 1), np.empty(BLOCK), np.empty(BLOCK)
    rates, spare = np.empty((LANES, BLOCK)), np.empty((LANES, BLOCK), np.float32)
    for start in range(first_block(first_bar, BLOCK), bars, BLOCK):
        advance(frame, BLOCK, steps, start, buffer)
        begin, stop = max(start, first), min(start + BLOCK, bars)
        if begin >= stop:
            continue
        count, at, held = stop - begin, BLOCK + 1 + begin - start, 0
        for group in range(0, rows, LANES):
            for g in range(min(LANES, rows - group)):
                if windows[group + g] != held:  # rows of one window stand together
                    held = windows[group + g]
                    _efficiency(x, frame, counts, begin, at, held, shares[:count])
                low, rate = lazy[group + g], rates[g]
                span = quick[group + g] - low
                for k in range(count):
                    weight = shares[k] * span + low
                    rate[k] = weight * weight
            last = state[group // LANES]
            if rows - group >= LANES:
                follow_own(x, before, begin, count, rates, last, out, begin - first, group)
                continue
            follow_own(x, before, begin, count, rates, last, spare, 0, 0)
            out[group:, begin - first : stop - first] = spare[: rows - group, :count]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    x = series.wide(source)
    before = series.derived(f"before:{source}", lambda: np.concatenate(([np.nan], x))[: x.size])
    steps = series.derived(f"steps:{source}", lambda: np.abs(x - before))
    counts = np.empty(x.size, np.int64)
    valid_counts(x, counts)
    quick, lazy = 2.0 / (params["fast_window"] + 1.0), 2.0 / (params["slow_window"] + 1.0)
    state = (carry or Carry()).state("lines", len(out) // LANES + 1, LANES)
    _adapt(x, before, steps, counts, series.first_bar, params["window"], quick, lazy, state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    quick, lazy = 2 / (params["fast_window"] + 1), 2 / (params["slow_window"] + 1)
    value = np.full(x.size, np.nan)
    for t in range(w, x.size):
        inside = x[t - w : t + 1]
        if np.any(np.isnan(inside)):
            continue
        path = np.sum(np.abs(np.diff(inside)))
        efficiency = abs(x[t] - x[t - w]) / path if path > 0 else 0.0
        last = x[t - 1] if math.isnan(value[t - 1]) else value[t - 1]
        value[t] = last + (efficiency * (quick - lazy) + lazy) ** 2 * (x[t] - last)
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] + math.ceil(
        6.9 * ((max(params["fast_window"], params["slow_window"]) + 1) / 2) ** 2
    )


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
