"""Aroon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, delta_rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="trend.aroon",
    title="Aroon",
    group="trend",
    inputs=("high", "low"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(
        Output("aroon_up", delta_rule(), ("window",)),
        Output("aroon_down", delta_rule(), ("window",)),
        Output("aroon_osc", band_rule("int", Span(20, 90, 10), Span(-90, -20, 10)), ("window",)),
    ),
    primary="aroon_osc",
    formula="up = 100 (w - n) / w, n = bars since the highest high of the last w bars (the latest"
    " of equal ones); down mirrored with lows; osc = up - down.",
    reference="Tushar Chande, Stocks & Commodities, 1995.",
)
_TILE = 1024
_FORMS = {"aroon_up": 0, "aroon_down": 1, "aroon_osc": 2}


@kernel
def _load(values, begin, sign, best, ages):
    """Fill a tile: `sign` · value from bar `begin` on, seen 0 bars ago; nothing before bar 0."""
    for k in range(best.size):
        t = begin + k
        best[k] = sign * values[t] if t >= 0 else np.float32(-np.inf)
        ages[k] = 0


@kernel
def _double(best, ages, next_best, next_ages, step):
    """The best of 2·step bars and its age from those of `step`; of equal ones the later."""
    now, old, to = best[step:], best[: best.size - step], next_best[step:]
    now_age, old_age, to_age = ages[step:], ages[: ages.size - step], next_ages[step:]
    span = np.int32(step)
    for k in range(to.size):
        to_age[k] = old_age[k] + span if old[k] > now[k] else now_age[k]
    for k in range(to.size):
        to[k] = old[k] if old[k] > now[k] else now[k]


@kernel
def _age(best, ages, at, back, out):
    """Fill `out` i4[n]: the age of the best of two overlapping windows `back` bars apart."""
    now, old = best[at:], best[at - back :]
    now_age, old_age = ages[at:], ages[at - back :]
    span = np.int32(back)
    for k in range(out.size):
        out[k] = old_age[k] + span if old[k] > now[k] else now_age[k]


@kernel
def _aroon(high, low, windows, order, form, out):
    """Rows of `out` f4[R, T]; `order` sorts `windows`. Not blanked."""
    bars, reach = high.size, windows[order[-1]]
    best, ages = (
        np.empty((2, 2, _TILE + reach), np.float32),
        np.empty((2, 2, _TILE + reach), np.int32),
    )
    up, down = np.empty(_TILE, np.int32), np.empty(_TILE, np.int32)
    for begin in range(0, bars, _TILE):
        n = min(_TILE, bars - begin)
        count, turn, step = n + reach, 0, 1
        _load(high, begin - reach, np.float32(1), best[0, 0, :count], ages[0, 0, :count])
        _load(low, begin - reach, np.float32(-1), best[0, 1, :count], ages[0, 1, :count])
        for r in order:
            w = windows[r]
            while 2 * step <= w:
                for side in range(2):
                    _double(
                        best[turn, side, :count],
                        ages[turn, side, :count],
                        best[1 - turn, side, :count],
                        ages[1 - turn, side, :count],
                        step,
                    )
                turn, step = 1 - turn, 2 * step
            _age(best[turn, 0], ages[turn, 0], reach, w - step, up[:n])
            _age(best[turn, 1], ages[turn, 1], reach, w - step, down[:n])
            row = out[r, begin : begin + n]
            for k in range(n):
                if form == 0:
                    row[k] = 100.0 * (w - up[k]) / w
                elif form == 1:
                    row[k] = 100.0 * (w - down[k]) / w
                else:
                    row[k] = 100.0 * (down[k] - up[k]) / w


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    order = np.argsort(windows, kind="stable")
    _aroon(series.high, series.low, windows, order, _FORMS[output], out)
    blank(out, series.holes("high", "low"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, w = series["high"], series["low"], params["window"]
    up, down = np.full(high.size, np.nan), np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        highs, lows = high[t - w + 1 : t + 1][::-1], low[t - w + 1 : t + 1][::-1]
        if not np.any(np.isnan(highs + lows)):
            up[t] = 100 * (w - np.argmax(highs)) / w
            down[t] = 100 * (w - np.argmin(lows)) / w
    return {"aroon_up": up, "aroon_down": down, "aroon_osc": up - down}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
