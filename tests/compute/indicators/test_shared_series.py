"""Indicators of one run share a series, and what they derive from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from compute.indicators.registry import ids, module
from compute.indicators.series import BarSeries
from compute.plan import _DERIVED_BYTES
from tests.compute.indicators.candles import candles
from tests.compute.indicators.rows import sources

BARS = 600


@pytest.fixture(scope="module")
def fresh() -> BarSeries:
    return candles(BARS, 3, holes=True)


def values(name: str, series: BarSeries, source: str, output: str) -> NDArray[np.float32]:
    indicator = module(name)
    params = {param.name: np.array([param.default]) for param in indicator.DEFINITION.params}
    out = np.empty((1, len(series)), np.float32)
    indicator.rows(series, params, source, output, out)
    return out[0]


def every_output() -> list[tuple[str, str, str]]:
    return [
        (name, source, output.name)
        for name in ids()
        for source in sources(module(name))
        for output in module(name).DEFINITION.outputs
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_what_one_derives_is_not_taken_for_what_another_wants(fresh, backwards):
    shared, asked = replace(fresh), every_output()
    for name, source, output in reversed(asked) if backwards else asked:
        found = values(name, shared, source, output)
        alone = values(name, replace(fresh), source, output)
        np.testing.assert_array_equal(found, alone, err_msg=f"{name} {source} {output}")


@pytest.mark.parametrize("name", ids())
def test_a_plan_counts_what_is_derived(name):
    series, used = candles(BARS, 3), sources(module(name))
    for source in used:
        for output in module(name).DEFINITION.outputs:
            values(name, series, source, output.name)
    overhead = 64 * len(used)  # spans and holes of a series without any
    assert series.derived_bytes <= _DERIVED_BYTES * BARS * len(used) * 8 // 9 + overhead


def test_lags_leave_nothing_behind(fresh):
    series = replace(fresh)
    for lag in range(2, 40):
        out, params = np.empty((1, BARS), np.float32), {"momentum": np.array([lag])}
        module("momentum.rmi").rows(series, params | {"window": np.array([5])}, "close", "rmi", out)
    assert series.derived_bytes == 0
