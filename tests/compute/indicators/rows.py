"""Rows of an indicator for one source and output, and how near to the oracle they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Indicator
from compute.indicators.series import BarSeries

RELATIVE = 2e-6  # of a float32 value


def computed(
    indicator: Indicator, series: BarSeries, params: dict, source: str, output: str
) -> NDArray[np.float32]:
    """Rows f4[R, T] of `output`; what the kernel leaves unwritten shows as 123."""
    count = max((len(values) for values in params.values()), default=1)
    out = np.full((count, len(series)), 123.0, np.float32)
    indicator.rows(series, params, source, output, out)
    return out


def sources(indicator: Indicator) -> tuple[str, ...]:
    """The sources to choose from, '' where there is no choice."""
    return indicator.DEFINITION.sources or ("",)


def row(params: dict, r: int, source: str) -> dict[str, Any]:
    """The parameters of row `r` as an oracle takes them."""
    return {name: values[r].item() for name, values in params.items()} | {"source": source}


def assert_close(
    kernel: NDArray[np.float32], oracle: NDArray[np.float64], label: str, absolute: float = 0.0
) -> None:
    """The same NaN pattern, finite values within `RELATIVE` (and what a zero crossing loses)."""
    expected = oracle.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(kernel), np.isnan(expected), err_msg=label)
    scale = np.nanmax(np.abs(expected), initial=0.0)
    error = np.abs(kernel.astype(np.float64) - expected)
    allowed = RELATIVE * np.abs(expected) + 1e-9 * scale + absolute
    worst = np.nan_to_num(error - allowed)
    assert not np.any(error > allowed), f"{label}: {worst.max()} beyond at bar {worst.argmax()}"
