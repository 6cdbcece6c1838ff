"""Parabolic stop and reverse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, real
from compute.indicators.kernels.chains import padded_rows
from compute.indicators.kernels.smoothing import TILE
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES, Matrix, constant, each, put_rows, splat
from compute.indicators.series import BarSeries
from compute.jit import emitted, kernel

_AXES = ("accel_max", "accel_start", "accel_step")
DEFINITION = Definition(
    indicator_id="trend.psar",
    title="Parabolic SAR",
    group="trend",
    inputs=("high", "low"),
    sources=(),
    params=(
        real("accel_start", 0.001, 1.0, 0.001, 0.02),
        real("accel_step", 0.001, 1.0, 0.001, 0.02),
        real("accel_max", 0.01, 5.0, 0.01, 0.2),
    ),
    axes=_AXES,
    outputs=(
        Output("psar", Rule("compare_price_to_output"), _AXES),
        Output("psar_dir", Rule("sign"), _AXES),
    ),
    primary="psar",
    formula="sar = sar + a (ep - sar), kept beyond the previous bar's low while rising; ep is the"
    " extreme since the turn, a grows by accel_step up to accel_max with each new one; a price"
    " through the line turns it and starts again at ep with accel_start. Rises from the low of the"
    " first bar; psar_dir is 1 or -1.",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
    recursive=True,
    ordered=(("accel_start", "accel_max"),),
)


_START, _STEP, _TOP = 0, 1, 2
_SIDE, _SAR, _EXTREME, _RATE = 0, 1, 2, 3


class _Lanes:
    """Eight settings side by side: without a branch, and eight chains of dependent steps at once
    (one row at a time waits for itself: 10 ns a value, 1.2 like this)."""

    def __init__(self, builder: Any, settings: Matrix, state: Matrix, group: Any) -> None:
        self.builder, self.state, self.group = builder, state, group
        self.settings = [settings.load(constant(i), group) for i in range(3)]
        loaded = [state.load(constant(i), group) for i in range(4)]
        self.places = [cgutils.alloca_once_value(builder, vector) for vector in loaded]

    def step(self, bar: Any, before: Any) -> tuple[Any, Any]:
        """Side and line after a bar; `bar` and `before` are (high, low) of it and of the last.

        A falling line is a rising one of the mirrored prices: ahead and behind are high and low, or
        -low and -high.
        """
        b = self.builder
        side, sar, extreme, rate = (b.load(place) for place in self.places)
        up = b.fcmp_ordered(">", side, ir.Constant(side.type, [0.0] * LANES))
        ahead, behind = b.select(up, bar[0], b.fneg(bar[1])), b.select(up, bar[1], b.fneg(bar[0]))
        limit = b.select(up, before[1], b.fneg(before[0]))
        sar = b.fadd(sar, b.fmul(rate, b.fsub(extreme, sar)))
        sar = b.select(b.fcmp_ordered("<", limit, sar), limit, sar)
        turned = b.fcmp_ordered("<", behind, sar)
        further = b.fcmp_ordered(">", ahead, extreme)
        faster = b.fadd(rate, self.settings[_STEP])
        top = self.settings[_TOP]
        faster = b.select(b.fcmp_ordered("<", faster, top), faster, top)
        fresh = (
            b.select(turned, b.fneg(side), side),
            b.select(turned, b.fneg(extreme), sar),
            b.select(turned, b.fneg(behind), b.select(further, ahead, extreme)),
            b.select(turned, self.settings[_START], b.select(further, faster, rate)),
        )
        for value, place in zip(fresh, self.places, strict=True):
            b.store(value, place)
        return fresh[_SIDE], fresh[_SAR]

    def save(self) -> None:
        for i, place in enumerate(self.places):
            self.state.store(self.builder.load(place), constant(i), self.group)


@emitted
def _advance(
    _: Any,
    high: Any,
    low: Any,
    begin: Any,
    count: Any,
    settings: Any,
    state: Any,
    direction: Any,
    out: Any,
    column: Any,
    group: Any,
) -> Any:
    """Move eight rows over bars begin .. begin + count of `high` and `low` f8[T]; `settings`
    f8[3, n] and `state` f8[4, n] are read from `group` on, `out` [.., ..] filled from `column`."""

    def codegen(context: Any, builder: Any, known: Any, values: Any) -> Any:
        tops, bottoms, chosen, last, rows = (
            Matrix(context, builder, known.args[i], values[i]) for i in (0, 1, 4, 5, 7)
        )
        lanes = _Lanes(builder, chosen, last, values[9])

        def prices(at: Any) -> tuple[Any, Any]:
            loaded = (builder.load(column.pointer(constant(0), at)) for column in (tops, bottoms))
            upper, lower = (splat(builder, price) for price in loaded)
            return upper, lower

        def advance(k: Any, whole: bool) -> None:
            results = []
            for bar in range(LANES if whole else 1):
                at = builder.add(builder.add(values[2], k), constant(bar))
                side, sar = lanes.step(prices(at), prices(builder.sub(at, constant(1))))
                line = builder.fmul(side, sar)
                results.append(builder.select(values[6], side, line))
            put_rows(builder, rows, results, values[9], builder.add(values[8], k))

        each(builder, values[3], advance)
        lanes.save()
        return context.get_dummy_value()

    index = types.int64
    signature = types.void(
        high, low, index, index, settings, state, types.boolean, out, index, index
    )
    return signature, codegen


@kernel
def _stop_and_reverse(high, low, spans, settings, direction, before, out):
    """One row of `out` f4[R, n], the last n bars, a column of `settings` f8[3, m], padded to whole
    lanes; `before` f8[4, m] is the state of the rows at its first bar, and then that at its end."""
    rows, bars = out.shape
    first, state = high.size - bars, before.copy()
    tile = np.empty((LANES, TILE), np.float32)
    for row in range(0, rows, LANES):
        group = max(min(row, rows - LANES), 0)  # overlapping rows come out the same
        part = slice(group, group + LANES)
        last, done = min(group + LANES, rows), 0
        state[:, part] = before[:, part]
        for i in range(spans.shape[0]):
            begin, stop = max(spans[i, 0], first), spans[i, 1]
            if begin >= stop:
                continue
            out[group:last, done : begin - first] = np.nan
            done = stop - first
            if begin == spans[i, 0]:
                out[group:last, begin - first] = 1.0 if direction else low[begin]
                state[_SIDE, part], state[_SAR, part] = 1.0, low[begin]
                state[_EXTREME, part], state[_RATE, part] = high[begin], settings[_START, part]
                begin += 1
            for at in range(begin, stop, TILE):
                count, to = min(TILE, stop - at), at - first
                if rows >= LANES:
                    _advance(high, low, at, count, settings, state, direction, out, to, group)
                    continue
                _advance(high, low, at, count, settings, state, direction, tile, 0, 0)
                for r in range(rows):
                    copy(tile[r, :count], out[r, to:])
        out[group:last, done:bars] = np.nan
    before[:] = state


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    names = ("accel_start", "accel_step", "accel_max")
    settings = padded_rows(np.stack([params[name] for name in names]))
    high, low, spans = series.wide("high"), series.wide("low"), series.spans("high", "low")
    state = (carry or Carry()).state("lines", 4, settings.shape[1])
    _stop_and_reverse(high, low, spans, settings, output == "psar_dir", state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low = series["high"], series["low"]
    start, step, top = params["accel_start"], params["accel_step"], params["accel_max"]
    line, way = np.full(high.size, np.nan), np.full(high.size, np.nan)
    sar = ep = af = math.nan
    up = True
    for t in range(high.size):
        if math.isnan(high[t]) or math.isnan(low[t]):
            sar = math.nan
            continue
        if math.isnan(sar):
            up, sar, ep, af = True, low[t], high[t], start
        else:
            sar = sar + af * (ep - sar)
            if up:
                sar = min(sar, low[t - 1])
                if low[t] < sar:
                    up, sar, ep, af = False, ep, low[t], start
                elif high[t] > ep:
                    ep, af = high[t], min(top, af + step)
            else:
                sar = max(sar, high[t - 1])
                if high[t] > sar:
                    up, sar, ep, af = True, ep, high[t], start
                elif low[t] < ep:
                    ep, af = low[t], min(top, af + step)
        line[t], way[t] = sar, 1 if up else -1
    return {"psar": line, "psar_dir": way}


def settle(params: Mapping[str, Any]) -> int:
    return 200


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
