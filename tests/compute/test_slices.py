"""Slices of candles and bars are what their constructors would make of the same columns."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from compute.indicators.series import FIELDS, BarSeries
from compute.market.candles import COLUMNS, Candles


def columns(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).random((5, count), np.float32))


def bars_of(parts: list[np.ndarray], first_bar: int = 0) -> BarSeries:
    open_, high, low, close, volume = parts
    return BarSeries(open_, high, low, close, volume, first_bar)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (2, 5), (7, 7), (5, 99)])
def test_slices_are_read_only_views(start: int, stop: int) -> None:
    candles = Candles(np.arange(7), *columns(7))
    bars = bars_of(columns(7), first_bar=40)
    bars.derived("kept", lambda: np.arange(7))
    cases: list[tuple[Any, Any, Any, tuple[str, ...]]] = [
        (candles, candles.slice(start, stop), candles.take(np.arange(7)[start:stop]), COLUMNS),
        (bars, bars.slice(start, stop), bars_of([c[start:stop] for c in columns(7)]), FIELDS),
    ]
    for whole, part, made, names in cases:
        assert len(part) == len(made)
        for name in names:
            column, expected = getattr(part, name), getattr(made, name)
            np.testing.assert_array_equal(column, expected)
            assert column.dtype == expected.dtype
            assert column.flags.c_contiguous
            assert not column.flags.writeable
            assert not len(part) or np.shares_memory(column, getattr(whole, name))
            np.testing.assert_array_equal(getattr(pickle.loads(pickle.dumps(part)), name), expected)
    part = bars.slice(start, stop)
    assert part.first_bar == 40 + start
    assert part.derived_bytes == 0
