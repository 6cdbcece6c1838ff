"""Random candles for indicator tests: holes, flat stretches, zero-range bars, ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compute.indicators.definition import Definition
from compute.indicators.series import FIELDS, PRICES, BarSeries


def candles(
    bars: int,
    seed: int = 0,
    *,
    price: float = 100.0,
    move: float = 0.004,
    tick: float = 0.25,
    holes: bool = False,
    doji: bool = True,
    first_bar: int = 1_234_567,
) -> BarSeries:
    """A tick-quantised walk; `doji`: a fifth of its bars have no range, some stretches are flat."""
    rng = np.random.default_rng(seed)
    close = np.round(price * np.exp(np.cumsum(rng.normal(0, move, bars))) / tick) * tick
    opened = np.concatenate(([close[0]], close[:-1]))
    wick = np.abs(rng.normal(0, move, (2, bars))) * price
    high = np.round((np.maximum(opened, close) + wick[0]) / tick) * tick
    low = np.round((np.minimum(opened, close) - wick[1]) / tick) * tick
    volume = rng.lognormal(1, 1, bars)
    if doji:
        still = rng.random(bars) < 0.2
        opened[still] = high[still] = low[still] = close[still]
        for start in rng.integers(bars // 4, bars, 3):
            flat = slice(start, start + 60)
            for column in (opened, high, low, close):
                column[flat] = close[start - 1]
            volume[flat] = 0.0
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    if holes:
        for start, length in ((bars // 5, 1), (bars // 2, 7), (bars - 2, 1), (bars // 3, 1)):
            for column in columns.values():
                column[start : start + length] = np.nan
        columns["close"][bars // 4] = np.nan
    return BarSeries(**{k: v.astype(np.float32) for k, v in columns.items()}, first_bar=first_bar)


def bar_series(columns: Sequence[ArrayLike], first_bar: int = 1_234_567) -> BarSeries:
    """Bars of open, high, low, close and volume; None and NaN are holes."""
    opened, high, low, close, volume = (np.array(column, np.float32) for column in columns)
    return BarSeries(opened, high, low, close, volume, first_bar)


def part(series: BarSeries, begin: int, stop: int) -> BarSeries:
    """Bars [begin, stop), still at their absolute numbers."""
    columns = {name: getattr(series, name)[begin:stop] for name in FIELDS}
    return replace(series, **columns, first_bar=series.first_bar + begin)


def wide(series: BarSeries) -> dict[str, NDArray[np.float64]]:
    """What an oracle reads: every column as float64."""
    return {name: series.column(name).astype(np.float64) for name in {*FIELDS, *PRICES}}


def settings(
    definition: Definition, count: int, seed: int, longest: int = 40
) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """`count` random parameter rows within the bounds; windows up to `longest`."""
    rng = np.random.default_rng(seed)
    rows = {}
    for param in definition.params:
        if param.kind == "int":
            least = int(param.hard_min)
            rows[param.name] = rng.integers(least, max(longest, least + 1) + 1, count)
        else:
            most = min(param.hard_max, max(4.0, 2 * param.hard_min))
            steps = rng.integers(0, round((most - param.hard_min) / param.step) + 1, count)
            rows[param.name] = np.round(param.hard_min + steps * param.step, 6)
    for small, large in definition.ordered:
        least, most = np.minimum(rows[small], rows[large]), np.maximum(rows[small], rows[large])
        rows[small] = np.maximum(least, definition.param(small).hard_min)
        rows[large] = np.maximum(most, definition.param(large).hard_min)
    return rows
