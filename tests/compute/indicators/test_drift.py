"""A million bars later a value is still the one a fresh computation of its window gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from compute.indicators.kernels.sums import mean_rows, ratio_rows, window_sums
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import BarSeries
from tests.compute.indicators.candles import bar_series, part, wide
from tests.compute.indicators.rows import assert_close, computed, row, sources

BARS = 1_000_000
WINDOWED = [name for name in ids() if not definition(name).recursive]


@cache
def market() -> BarSeries:
    """A million minutes around 60 000."""
    rng = np.random.default_rng(11)
    close = np.round(60_000 * np.exp(np.cumsum(rng.normal(0, 0.0004, BARS)) * 0.3), 2)
    opened = np.concatenate(([close[0]], close[:-1]))
    wicks = np.round(rng.uniform(1, 9, (2, BARS)), 2)
    high, low = np.maximum(opened, close) + wicks[0], np.minimum(opened, close) - wicks[1]
    return bar_series([opened, high, low, close, rng.lognormal(0, 2, BARS)], 27_000_000)


@pytest.mark.parametrize("name", WINDOWED)
def test_windowed_values_do_not_drift(name):
    indicator = module(name)
    params = {
        param.name: np.array([200 if param.kind == "int" else param.default])
        for param in indicator.DEFINITION.params
    }
    tail = part(market(), BARS - 1500, BARS)
    plain = indicator.oracle(wide(tail), row(params, 0, sources(indicator)[0]))
    for output in indicator.DEFINITION.outputs:
        values = computed(indicator, market(), params, sources(indicator)[0], output.name)[0]
        assert_close(values[-700:], plain[output.name][-700:], f"{name}.{output.name}")


def test_sums_are_fresh_to_nine_digits():
    """The shared sums in float64, without the rounding of an output."""
    close, volume, w = market().close, market().wide("volume"), 200
    flow = market().wide("close") * volume
    windows = np.array([w])
    means, ratios = np.empty((1, BARS)), np.empty((1, BARS))
    sums = np.empty(BARS)
    mean_rows(close, market().first_bar, windows, means)
    ratio_rows(flow, volume, market().first_bar, windows, ratios)
    window_sums(flow, market().first_bar, w, sums)
    for t in (BARS - 1, BARS - 777, BARS - 2049):
        inside = slice(t - w + 1, t + 1)
        assert means[0, t] == pytest.approx(np.mean(close[inside].astype(float)), rel=1e-9)
        expected = np.sum(flow[inside]) / np.sum(volume[inside])
        assert ratios[0, t] == pytest.approx(expected, rel=1e-9)
        assert sums[t] == pytest.approx(np.sum(flow[inside]), rel=1e-9)
