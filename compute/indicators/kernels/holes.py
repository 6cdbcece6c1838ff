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


def flat_runs(values: NDArray[Any], least: int, level: float | None = None) -> NDArray[np.int64]:
    """Half-open runs of at least `least` equal values (equal to `level` when given), i8[n, 2]."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    bounds = np.concatenate(([0], edges, [values.size]))
    long = np.flatnonzero(np.diff(bounds) >= max(1, least))
    runs = np.stack((bounds[long], bounds[long + 1]), axis=1)
    if level is not None:
        runs = runs[values[runs[:, 0]] == level]
    return np.ascontiguousarray(runs, dtype=np.int64)
