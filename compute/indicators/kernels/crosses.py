"""Differences of two smoothed rows, their signal line and histogram.

Every distinct window is smoothed once a tile, for the whole fast × slow grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.kernels.smoothing import LANES, ema_weights, lanes
from compute.jit import kernel

LINE, SIGNAL, HISTOGRAM = 0, 1, 2
_TILE = 1024  # bars: a page of a row at once (0.70 ns a value with 256, 0.53 with 1024)


@kernel
def _cross_rows(
    x, spans, weights, fast, slow, signal_weights, percent, form, first, state, line, out
):
    """`fast`, `slow` i8[R] index `weights`; a signal line keeps one state a row; `percent` asks
    for the difference as percent of the slow row. `state` f8[n] and `line` f8[R] are those of the
    smoothed windows and of the signal lines at bar `first`, where `out` begins."""
    rows, bars = out.shape
    keeps, end = 1.0 - weights, first + bars
    tile, apart = np.empty((weights.size, _TILE)), np.empty(_TILE)
    done = 0
    for i in range(spans.shape[0]):
        begin, stop = max(spans[i, 0], first), min(spans[i, 1], end)
        if begin >= stop:
            continue
        out[:, done : begin - first] = np.nan
        done = stop - first
        if begin == spans[i, 0]:
            none = np.nan if percent and x[begin] == 0.0 else 0.0
            out[:, begin - first] = none
            state[:], line[:] = x[begin], none
            begin += 1
        for at in range(begin, stop, _TILE):
            count = min(_TILE, stop - at)
            for group in range(0, weights.size, LANES):
                lanes(x, at, count, weights, keeps, state, tile, 0, group)
            for r in range(rows):
                row = out[r, at - first : at - first + count]
                quick, lazy = tile[fast[r]], tile[slow[r]]
                if form == LINE and not percent:
                    for k in range(count):
                        row[k] = quick[k] - lazy[k]
                    continue
                for k in range(count):
                    apart[k] = quick[k] - lazy[k]
                if percent:
                    for k in range(count):
                        apart[k] = 100.0 * apart[k] / lazy[k] if lazy[k] != 0.0 else np.nan
                if form == LINE:
                    for k in range(count):
                        row[k] = apart[k]
                    continue
                weight, y = signal_weights[r], line[r]
                for k in range(count):
                    cross = apart[k]
                    y = weight * cross + (1.0 - weight) * y if y == y else cross
                    row[k] = y if form == SIGNAL else cross - y
                line[r] = y
    out[:, done:bars] = np.nan


def cross_rows(
    x: NDArray[np.float64],
    spans: NDArray[np.int64],
    params: Mapping[str, NDArray[Any]],
    form: int,
    out: NDArray[np.float32],
    percent: bool = False,
    carry: Carry | None = None,
) -> None:
    """Row r of `out` f4[R, n], the last n bars of `x` f8[T]: ema(x, fast_window) - ema(x,
    slow_window), that line's ema over signal_window, or the difference of the two, as `form` says;
    NaN outside `spans`.

    The bars before `out` left their state in `carry`.
    """
    pairs = np.stack((params["fast_window"], params["slow_window"]))
    windows, at = np.unique(pairs, return_inverse=True)
    fast, slow = at.reshape(pairs.shape)
    signals = params.get("signal_window", pairs[0])
    weights, signal_weights = ema_weights(windows), 2.0 / (signals + 1.0)
    carry, first = carry or Carry(), x.size - out.shape[1]
    state, line = carry.state("windows", weights.size), carry.state("lines", len(out))
    _cross_rows(
        x, spans, weights, fast, slow, signal_weights, percent, form, first, state, line, out
    )
