"""NaN where a window is not full: at the start, across holes, over runs without information."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.jit import kernel


@kernel
def blank(out, holes, leads, widths):
    """Set NaN in row r before bar `leads[r]` and on `widths[r]` bars from each hole."""
    bars = out.shape[1]
    for r in range(out.shape[0]):
        row = out[r]
        done = min(leads[r], bars)
        row[:done] = np.nan
        for h in holes:
            stop = min(h + widths[r], bars)
            row[max(h, done) : max(stop, done)] = np.nan
            done = max(done, stop)


@kernel
def pin(out, runs, levels, windows):
    """Set row r to `levels[i]` where its whole window lies in run i of equal values."""
    for r in range(out.shape[0]):
        row = out[r]
        for i in range(runs.shape[0]):
            row[runs[i, 0] + windows[r] - 1 : runs[i, 1]] = levels[i]


@kernel
def _runs(values, least, only, level, out):
    """Count the runs of `least` equal values (`only`: equal to `level`); list them where `out`
    i8[n, 2] has room."""
    found = begin = 0
    for t in range(1, values.size + 1):
        if t < values.size and values[t] == values[t - 1]:
            continue
        if t - begin >= least and (not only or values[begin] == level):
            if found < out.shape[0]:
                out[found, 0], out[found, 1] = begin, t
            found += 1
        begin = t
    return found


def flat_runs(values: NDArray[Any], least: int, level: float | None = None) -> NDArray[np.int64]:
    """Half-open runs of at least `least` equal values (equal to `level` when given), i8[n, 2]."""
    if values.size == 0:
        return np.empty((0, 2), np.int64)
    runs = np.empty((1024, 2), np.int64)
    wanted = 0.0 if level is None else level
    found = _runs(values, max(1, least), level is not None, wanted, runs)
    if found > len(runs):
        runs = np.empty((found, 2), np.int64)
        _runs(values, max(1, least), level is not None, wanted, runs)
    return runs[:found]
