"""Connors' relative strength index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.ranks import rank_rows
from compute.indicators.kernels.running import kept
from compute.indicators.kernels.smoothing import rma_weights
from compute.indicators.kernels.strength import changes, moves, strength_rows
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("source", "rsi_window", "streak_window", "rank_window")
DEFINITION = Definition(
    indicator_id="momentum.connors_rsi",
    title="Connors RSI",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window("rsi_window", 3), window("streak_window", 2), window("rank_window", 100)),
    axes=_AXES,
    outputs=(Output("connors_rsi", band_rule("int", Span(5, 30, 5), Span(70, 95, 5)), _AXES),),
    primary="connors_rsi",
    formula="Mean of the RSI of x over rsi_window, the RSI over streak_window of the streak (bars"
    " up counted up, bars down counted down, 0 on no change), and the percentage of the"
    " rank_window returns x / x1 before this one that are not above it.",
    reference="Larry Connors and Cesar Alvarez, An Introduction to ConnorsRSI, 2012.",
    recursive=True,
    slow=True,
)


@kernel
def _streaks(x, first, before, out):
    """Fill `out` f4[T] from bar `first` on with signed counts of consecutive rises or falls, and
    with the one `before` it; 0 at a fresh start."""
    run, last = before, np.nan
    if first > 0:
        last, out[first - 1] = x[first - 1], before
    values, runs = x[first:], out[first:]
    for t in range(values.size):
        v = values[t]
        if v != v or last != last:
            run = 0.0 * v
        elif v > last:
            run = max(run, 0.0) + 1.0
        elif v < last:
            run = min(run, 0.0) - 1.0
        else:
            run = 0.0
        runs[t] = run
        last = v


def _streak_moves(series: BarSeries, source: str, first: int, carry: Carry) -> NDArray[np.float64]:
    """Rises and falls of the streak, f8[2, T], from bar `first` on."""
    state, bars = carry.state("streak", 1), len(series)

    def fill(out: NDArray[np.float64]) -> None:
        streak = np.empty(bars, np.float32)
        _streaks(series.price(source), first, state[0], streak)
        changes(streak, min(1, bars), out[:bars], out[bars:])
        state[:] = streak[-1:]

    return kept(series, f"streaks:{source}", 2 * bars, state, fill).reshape(2, bars)


@kernel
def _mean(strength, streak, rank, out):
    for t in range(out.size):
        out[t] = (np.float64(strength[t]) + np.float64(streak[t]) + np.float64(rank[t])) / 3.0


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    bars, x, carry = out.shape[1], series.wide(source), carry or Carry()
    first = x.size - bars
    gain, loss, spans = moves(series, source, 1)
    up, down = _streak_moves(series, source, first, carry)
    returns = series.derived(
        f"growth:{source}", lambda: x / np.concatenate(([np.nan], x))[: x.size]
    )
    holes = series.derived(f"holes:growth:{source}", lambda: np.flatnonzero(np.isnan(returns)))
    strengths, at = np.unique(params["rsi_window"], return_inverse=True)
    streaks, of = np.unique(params["streak_window"], return_inverse=True)
    strength = np.empty((strengths.size, bars), np.float32)
    streak, rank = np.empty((streaks.size, bars), np.float32), np.empty((1, x.size), np.float32)
    strength_rows(gain, loss, spans, rma_weights(strengths), strength, carry, "price")
    strength_rows(up, down, spans, rma_weights(streaks), streak, carry, "streaks")
    for w in np.unique(params["rank_window"]):
        width = np.array([w])
        rank_rows(returns, width, np.array([0]), 0, width, rank)
        blank(rank, holes, width + 1, width + 1)
        for r in np.flatnonzero(params["rank_window"] == w):
            _mean(strength[at[r]], streak[of[r]], rank[0, first:], out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def strength(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        rsi, gain, loss = np.full(values.size, np.nan), math.nan, math.nan
        for t in range(1, values.size):
            change = values[t] - values[t - 1]
            rise, fall = np.maximum(change, 0), np.maximum(-change, 0)
            gain = rise if math.isnan(gain) else rise / w + (1 - 1 / w) * gain
            loss = fall if math.isnan(loss) else fall / w + (1 - 1 / w) * loss
            if gain + loss > 0:
                rsi[t] = 100 * gain / (gain + loss)
        return rsi

    x, w = series[params["source"]], params["rank_window"]
    streak, rank = np.where(np.isnan(x), np.nan, 0.0), np.full(x.size, np.nan)
    returns = np.full(x.size, np.nan)
    for t in range(1, x.size):
        returns[t] = x[t] / x[t - 1]
        if x[t] > x[t - 1]:
            streak[t] = max(streak[t - 1], 0) + 1
        elif x[t] < x[t - 1]:
            streak[t] = min(streak[t - 1], 0) - 1
    for t in range(w + 1, x.size):
        before = returns[t - w : t]
        if not np.any(np.isnan(returns[t - w : t + 1])):
            rank[t] = 100 * np.count_nonzero(before <= returns[t]) / w
    total = strength(x, params["rsi_window"]) + strength(streak, params["streak_window"]) + rank
    return {"connors_rsi": total / 3}


def settle(params: Mapping[str, Any]) -> int:
    return (
        math.ceil(6.9 * max(params["rsi_window"], params["streak_window"]))
        + params["rank_window"]
        + 1
    )


def first(params: Mapping[str, Any], output: str) -> int:
    return params["rank_window"] + 1
