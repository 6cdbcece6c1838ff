"""One suite for every indicator: golden series, kernel against oracle, and the properties of §1."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compute.indicators.definition import FAMILIES, GROUPS, SOURCES_7, Indicator
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import FIELDS, BarSeries
from tests.compute.indicators.candles import candles, part, settings, wide

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "indicators.json").read_text())
RECURSIVE = {
    "ma.ema",
    "momentum.macd",
    "momentum.rsi",
    "trend.supertrend",
    "volatility.atr",
    "volume.obv",
}
WINDOWED = [name for name in ids() if name not in RECURSIVE]


def computed(
    indicator: Indicator, series: BarSeries, params: dict, source: str, output: str
) -> NDArray[np.float32]:
    count = max((len(values) for values in params.values()), default=1)
    out = np.full((count, len(series)), 123.0, np.float32)
    indicator.rows(series, params, source, output, out)
    return out


def sources(indicator: Indicator) -> tuple[str, ...]:
    return indicator.DEFINITION.sources or ("",)


def row(params: dict, r: int, source: str) -> dict:
    return {name: values[r].item() for name, values in params.items()} | {"source": source}


def assert_close(kernel: NDArray[np.float32], oracle: NDArray[np.float64], label: str) -> None:
    expected = oracle.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(kernel), np.isnan(expected), err_msg=label)
    scale = np.nanmax(np.abs(expected), initial=0.0)
    error = np.abs(kernel.astype(np.float64) - expected)
    allowed = 2e-6 * np.abs(expected) + 1e-9 * scale
    assert not np.any(error > allowed), f"{label}: {np.nanmax(error - allowed)} at {error.argmax()}"


@pytest.mark.parametrize("name", ids())
def test_golden_series(name):
    columns = {key: np.array(values, np.float32) for key, values in GOLDEN["candles"].items()}
    series = BarSeries(
        columns["open"], columns["high"], columns["low"], columns["close"], columns["volume"]
    )
    golden, indicator = GOLDEN["indicators"][name], module(name)
    expected = np.array(golden["series"], np.float64)
    params = {key: np.array([value]) for key, value in golden["params"].items()}
    source = "close" if indicator.DEFINITION.sources else ""
    assert indicator.DEFINITION.primary == golden["primary"]
    kernel = computed(indicator, series, params, source, golden["primary"])[0]
    oracle = indicator.oracle(wide(series), golden["params"] | {"source": source})
    for values in (kernel, oracle[golden["primary"]]):
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("name", ids())
def test_kernel_equals_oracle_for_every_output(name, holes):
    indicator = module(name)
    outputs = indicator.DEFINITION.outputs
    for seed, (bars, longest) in enumerate(((430, 40), (700, 300), (23, 30))):
        series = candles(bars, seed + 7 * holes, holes=holes)
        source = sources(indicator)[seed % len(sources(indicator))]
        params = settings(indicator.DEFINITION, 11 if seed == 0 else 3, seed, longest)
        plain = [
            indicator.oracle(wide(series), row(params, r, source))
            for r in range(len(next(iter(params.values()), [0])))
        ]
        for output in outputs:
            rows = computed(indicator, series, params, source, output.name)
            for r, values in enumerate(rows):
                label = f"{name}.{output.name} {row(params, r, source)} seed {seed}"
                assert_close(values, plain[r][output.name], label)


@pytest.mark.parametrize("name", ids())
def test_no_value_changes_when_later_bars_are_cut_off(name):
    indicator, series = module(name), candles(3000, 3, holes=True)
    params = settings(indicator.DEFINITION, 9, 5)
    for output in indicator.DEFINITION.outputs:
        whole = computed(indicator, series, params, sources(indicator)[0], output.name)
        for stop in (1, 64, 777, 2999):
            early = computed(
                indicator, part(series, 0, stop), params, sources(indicator)[0], output.name
            )
            np.testing.assert_array_equal(early, whole[:, :stop], err_msg=f"{output.name} {stop}")


@pytest.mark.parametrize("name", ids())
def test_a_row_does_not_depend_on_its_neighbours(name):
    indicator, series = module(name), candles(900, 4)
    params = settings(indicator.DEFINITION, 13, 6, 90)
    together = computed(
        indicator, series, params, sources(indicator)[0], indicator.DEFINITION.primary
    )
    for r in range(len(together)):
        alone = {key: values[r : r + 1] for key, values in params.items()}
        single = computed(
            indicator, series, alone, sources(indicator)[0], indicator.DEFINITION.primary
        )
        np.testing.assert_array_equal(single[0], together[r])


@pytest.mark.parametrize("name", WINDOWED)
def test_windowed_values_do_not_depend_on_where_the_bars_begin(name):
    indicator, series = module(name), candles(9000, 8)
    params = settings(indicator.DEFINITION, 5, 9, 60)
    whole = computed(indicator, series, params, sources(indicator)[0], indicator.DEFINITION.primary)
    for begin in (1, 700, 2111):
        late = computed(
            indicator,
            part(series, begin, 9000),
            params,
            sources(indicator)[0],
            indicator.DEFINITION.primary,
        )
        # Two blocks later every sum is made of the same bars in the same order.
        np.testing.assert_array_equal(late[:, 4300:], whole[:, begin + 4300 :])
        settled = max(indicator.settle(row(params, r, "")) for r in range(5)) if params else 0
        np.testing.assert_allclose(
            late[:, settled:], whole[:, begin + settled :], rtol=2e-7, atol=1e-9
        )


@pytest.mark.parametrize("name", WINDOWED)
def test_running_sums_do_not_drift(name):
    """450 000 bars around 60 000: the last bars equal the oracle on the last bars alone."""
    indicator, bars = module(name), 450_000
    rng = np.random.default_rng(11)
    close = np.round(60_000 * np.exp(np.cumsum(rng.normal(0, 0.0004, bars)) * 0.3), 2)
    opened = np.concatenate(([close[0]], close[:-1]))
    high, low = np.maximum(opened, close) + 5, np.minimum(opened, close) - 5
    columns = (opened, high, low, close, rng.lognormal(0, 2, bars))
    series = BarSeries(*(column.astype(np.float32) for column in columns), first_bar=27_000_000)
    params = {
        param.name: np.array([200 if param.kind == "int" else 2.0])
        for param in indicator.DEFINITION.params
    }
    tail = part(series, bars - 1500, bars)
    for output in indicator.DEFINITION.outputs:
        values = computed(indicator, series, params, sources(indicator)[0], output.name)[0]
        plain = indicator.oracle(wide(tail), row(params, 0, sources(indicator)[0]))[output.name]
        assert_close(values[-800:], plain[-800:], f"{name}.{output.name}")


def test_percent_b_survives_a_quiet_market_after_a_wild_one():
    indicator = module("volatility.bbands_percent_b")
    rng = np.random.default_rng(2)
    wild = 60_000 + np.cumsum(rng.normal(0, 40, 2000))
    quiet = wild[-1] + rng.integers(0, 2, 3000) * 0.0625
    price = np.concatenate((wild, quiet)).astype(np.float32)
    series = BarSeries(price, price, price, price, price, first_bar=999)
    params = {"window": np.array([20]), "mult": np.array([2.0])}
    kernel = computed(indicator, series, params, "close", "percent_b")[0]
    oracle = indicator.oracle(wide(series), {"window": 20, "mult": 2.0, "source": "close"})
    assert_close(kernel[2600:], oracle["percent_b"][2600:], "quiet")
    np.testing.assert_allclose(kernel[2000:2600], oracle["percent_b"][2000:2600], atol=1e-4)


@pytest.mark.parametrize("name", ids())
def test_first_finite_bar_and_settling(name):
    indicator, series = module(name), candles(300, 21, tick=0.001)
    params = settings(indicator.DEFINITION, 6, 2, 20)
    primary = computed(
        indicator, series, params, sources(indicator)[0], indicator.DEFINITION.primary
    )
    for r, values in enumerate(primary):
        first = indicator.first(row(params, r, ""))
        finite = np.flatnonzero(np.isfinite(values))
        if name == "structure.pivots":
            assert finite[0] >= first
        elif name != "structure.candle_stats":  # a candle without range has no percentages
            assert finite[0] == first
        assert indicator.settle(row(params, r, "")) >= first


@pytest.mark.parametrize("name", ids())
def test_definition_is_sane(name):
    item = definition(name)
    assert item.indicator_id == name
    assert item.group == name.split(".")[0]
    assert item.group in GROUPS
    assert item.title.strip()
    assert item.reference.strip()
    assert set(item.inputs) <= set(FIELDS)
    assert set(item.sources) <= set(SOURCES_7)
    assert bool(item.inputs) or bool(item.sources)
    assert ("source" in item.axes) == bool(item.sources)
    assert sorted(a for a in item.axes if a != "source") == sorted(p.name for p in item.params)
    assert len(set(item.axes)) == len(item.axes)
    for param in item.params:
        assert param.kind in ("int", "float")
        assert param.step > 0
        assert param.hard_min <= param.default <= param.hard_max
        steps = (param.default - param.hard_min) / param.step
        assert math.isclose(steps, round(steps), abs_tol=1e-9)
    names = [output.name for output in item.outputs]
    assert len(set(names)) == len(names)
    assert item.primary in names
    assert item.output().rule is not None
    for output in item.outputs:
        assert [axis for axis in item.axes if axis in output.axes] == list(output.axes)
        if output.rule is not None:
            assert output.rule.family in FAMILIES
            assert output.rule.long_output in (None, *names)
            assert (output.rule.price == "source") <= bool(item.sources)


@pytest.mark.parametrize("name", ids())
def test_declared_axes_are_the_ones_that_matter(name):
    """An axis outside `Output.axes` must not move the output: its rows would be shared."""
    indicator, series = module(name), candles(2000, 5, tick=0.001)
    base = {key: values[:1] for key, values in settings(indicator.DEFINITION, 1, 3, 20).items()}
    for output in indicator.DEFINITION.outputs:
        before = computed(indicator, series, base, sources(indicator)[0], output.name)
        for param in indicator.DEFINITION.params:
            moved = base | {param.name: base[param.name] + 3}
            after = computed(indicator, series, moved, sources(indicator)[0], output.name)
            same = np.array_equal(before, after, equal_nan=True)
            assert same != (param.name in output.axes), f"{output.name} and {param.name}"
