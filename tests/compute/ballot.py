"""Votes by the words of the rule table: NumPy codes 1 LONG, -1 SHORT, 0 NEUTRAL, bar by bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def codes(
    family: str,
    out: NDArray[np.float32],
    params: dict[str, Any] | None = None,
    *,
    reference: NDArray[np.float32] | None = None,
    opened: NDArray[np.float32] | None = None,
    closed: NDArray[np.float32] | None = None,
    low_output: NDArray[np.float32] | None = None,
    inverted: bool = False,
) -> NDArray[np.int8]:
    """Codes i1[T] of one rule setting on one output row."""
    params = params or {}
    single = np.float32
    absent = np.full(out.size, np.nan, np.float32)
    reference = absent if reference is None else reference
    opened = absent if opened is None else opened
    closed = absent if closed is None else closed
    low_output = absent if low_output is None else low_output
    votes = np.zeros(out.size, np.int8)
    for t in range(out.size):
        x = out[t]
        if family == "pivot_events":
            long, short = bool(np.isfinite(low_output[t])), bool(np.isfinite(x))
        elif not np.isfinite(x):
            continue
        elif family in ("compare_price_to_output", "compare_volume_to_output"):
            long, short = reference[t] > x, reference[t] < x
            if not np.isfinite(reference[t]):
                continue
        elif family == "sign":
            long, short = x > 0, x < 0
        elif family == "threshold_centered":
            width = params["abs_threshold"]
            long, short = x > single(1.0 + width), x < single(1.0 - width)
        elif family == "threshold_band":
            least, most = single(params["long_threshold"]), single(params["short_threshold"])
            if least <= most:
                long, short = x <= least, x >= most
            else:
                long, short = x >= least, x <= most
        elif family == "candle_body_direction":
            enough = x >= single(next(iter(params.values())))
            long = enough and closed[t] > opened[t]
            short = enough and closed[t] < opened[t]
        else:
            long, short = _delta(out, t, params)
        if inverted:
            long, short = short, long
        votes[t] = 0 if long and short else int(long) - int(short)
    return votes


def _delta(out: NDArray[np.float32], t: int, params: dict[str, Any]) -> tuple[bool, bool]:
    long_lag, short_lag = abs(params["long_delta_periods"]), abs(params["short_delta_periods"])
    long = t >= long_lag and np.isfinite(out[t - long_lag]) and out[t] - out[t - long_lag] > 0
    short = t >= short_lag and np.isfinite(out[t - short_lag]) and out[t] - out[t - short_lag] < 0
    return bool(long), bool(short)
