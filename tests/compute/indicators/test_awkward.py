"""Markets and parameters at the edge: the kernel still says what the oracle says."""

from __future__ import annotations

import numpy as np
import pytest

from compute.indicators.definition import Indicator
from compute.indicators.registry import ids, module
from compute.indicators.series import FIELDS, BarSeries
from tests.compute.indicators.candles import bar_series, candles, part, settings, wide
from tests.compute.indicators.rows import assert_close, computed, row, sources


def scaled(series: BarSeries, factor: float) -> BarSeries:
    factors = [factor] * 4 + [1.0]
    return bar_series(
        [getattr(series, k) * np.float32(f) for k, f in zip(FIELDS, factors, strict=True)]
    )


def quiet(bars: int) -> BarSeries:
    """One price, no volume."""
    price = np.full(bars, 97.3, np.float32)
    return bar_series([price] * 4 + [price * 0])


def without_volume(series: BarSeries) -> BarSeries:
    return bar_series([getattr(series, name) for name in FIELDS[:4]] + [series.volume * 0])


MARKETS = {
    "flat": quiet(260),
    "flat then moving": bar_series(
        [np.concatenate((getattr(quiet(300), k), getattr(candles(300, 5), k))) for k in FIELDS]
    ),
    "tiny": scaled(candles(300, 13), 1e-10),
    "huge": scaled(candles(300, 14), 1e7),
    "no volume": without_volume(candles(300, 15)),
    "one bar": part(candles(300, 16), 0, 1),
    "two bars": part(candles(300, 16), 0, 2),
    "shorter than the windows": part(candles(300, 17), 0, 4),
    "nothing but holes": bar_series([np.full(50, np.nan)] * 5),
}


def assert_rows(indicator: Indicator, series: BarSeries, params: dict, label: str) -> None:
    source = sources(indicator)[-1]
    price = float(np.nanmax(series.high, initial=0.0))
    count = len(next(iter(params.values()), [0]))
    plain = [indicator.oracle(wide(series), row(params, r, source)) for r in range(count)]
    for output in indicator.DEFINITION.outputs:
        rows = computed(indicator, series, params, source, output.name)
        for r, values in enumerate(rows):
            where = f"{output.name} {label} {row(params, r, source)}"
            # On flat prices a difference of equal averages is the rounding of the price.
            rounding = 1e-13 * price if "flat" in label else 0.0
            assert_close(values, plain[r][output.name], where, rounding)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("name", ids())
def test_kernel_equals_oracle_on_awkward_markets(name, market):
    indicator = module(name)
    assert_rows(indicator, MARKETS[market], settings(indicator.DEFINITION, 2, 9, 25), market)


@pytest.mark.parametrize("name", ids())
def test_kernel_equals_oracle_at_the_bounds(name):
    """Every parameter at its smallest and at its largest, together and one by one."""
    indicator, series = module(name), candles(2100, 23)
    known = indicator.DEFINITION
    corners = [
        {
            p.name: p.hard_max if p.name == tall or tall == "all" else p.hard_min
            for p in known.params
        }
        for tall in ("none", "all", *(param.name for param in known.params))
    ]
    kept = [c for c in corners if all(c[small] <= c[large] for small, large in known.ordered)]
    params = {
        p.name: np.array([c[p.name] for c in kept], np.int64 if p.kind == "int" else np.float64)
        for p in known.params
    }
    assert_rows(indicator, series, params, "bounds")
