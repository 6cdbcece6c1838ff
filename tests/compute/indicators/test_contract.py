"""Every indicator and every output: golden series, kernel against oracle, warm-up, bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from compute.indicators.definition import FAMILIES, GROUPS, SOURCES_7
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import FIELDS
from tests.compute.indicators.candles import bar_series, candles, part, settings, wide
from tests.compute.indicators.rows import assert_close, computed, row, sources

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "indicators.json").read_text())
CATALOGUED = [name for name in ids() if name in GOLDEN["indicators"]]
# First values that the market decides: a confirmed pivot, a candle with range, a directional bar.
EVENTFUL = ("structure.pivots", "structure.pivot_high", "structure.pivot_low", "trend.adx")


def expression(text: str, params: dict) -> int:
    """A bar count of the catalogue, such as `window + isqrt(window) - 2`."""
    names = {"isqrt": math.isqrt, "max": max, **params}
    return int(eval(text, {"__builtins__": {}}, names))


@pytest.mark.parametrize("name", CATALOGUED)
def test_golden_series(name):
    series = bar_series([GOLDEN["candles"][key] for key in FIELDS], 0)
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


@pytest.mark.parametrize("name", CATALOGUED)
def test_first_bar_and_reach_of_a_hole_are_the_catalogues(name):
    indicator, golden = module(name), GOLDEN["indicators"][name]
    bars, hole = 400, 250
    whole = candles(bars, 21, tick=0.001, doji=False)
    mask = np.where(np.arange(bars) == hole, np.nan, 1.0)
    holed = bar_series([getattr(whole, key) * mask for key in FIELDS])
    for seed in (2, 3):
        params = settings(indicator.DEFINITION, 1, seed, 20)
        plain = row(params, 0, sources(indicator)[0])
        primary = indicator.DEFINITION.primary
        values = computed(indicator, whole, params, sources(indicator)[0], primary)[0]
        first = expression(golden["first"], plain)
        assert indicator.first(plain, primary) == first
        if name not in EVENTFUL:
            np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), np.arange(first))
        if golden["hole"] is None:
            continue
        values = computed(indicator, holed, params, sources(indicator)[0], primary)[0]
        lost = [
            hole + expression(at, plain) + k
            for at, count in golden["hole"]
            for k in range(expression(count, plain))
        ]
        assert list(np.flatnonzero(np.isnan(values[hole:])) + hole) == sorted(set(lost))


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("name", ids())
def test_kernel_equals_oracle_for_every_output(name, holes):
    indicator = module(name)
    for seed, (bars, longest) in enumerate(((430, 40), (700, 300), (23, 30))):
        series = candles(bars, seed + 7 * holes, holes=holes)
        source = sources(indicator)[seed % len(sources(indicator))]
        params = settings(indicator.DEFINITION, 11 if seed == 0 else 3, seed, longest)
        plain = [
            indicator.oracle(wide(series), row(params, r, source))
            for r in range(len(next(iter(params.values()), [0])))
        ]
        for output in indicator.DEFINITION.outputs:
            rows = computed(indicator, series, params, source, output.name)
            for r, values in enumerate(rows):
                label = f"{name}.{output.name} {row(params, r, source)} seed {seed}"
                assert_close(values, plain[r][output.name], label)


@pytest.mark.parametrize("name", ids())
def test_first_finite_bar_of_every_output_and_settling(name):
    indicator, series = module(name), candles(300, 21, tick=0.001, doji=False)
    params = settings(indicator.DEFINITION, 6, 2, 20)
    for output in indicator.DEFINITION.outputs:
        rows = computed(indicator, series, params, sources(indicator)[0], output.name)
        for r, values in enumerate(rows):
            setting = row(params, r, "")
            first, settled = indicator.first(setting, output.name), indicator.settle(setting)
            label = f"{name}.{output.name} {setting}: first says bar {first}"
            assert np.isfinite(values).any(), f"{label}, none of {len(values)} bars is finite"
            found = int(np.argmax(np.isfinite(values)))
            right = found >= first if name in EVENTFUL else found == first
            assert right, f"{label}, the first finite one is {found}"
            assert settled >= first, f"{label}, settle says {settled}"


@pytest.mark.parametrize("name", [name for name in ids() if definition(name).recursive])
def test_after_settling_the_seed_weighs_a_thousandth(name):
    """Begun elsewhere, a recursion agrees after `settle` bars up to 0.1 % of how far it was off."""
    indicator = module(name)
    if indicator.DEFINITION.indicator_id in SUMS_SINCE_THE_START:
        return
    series = candles(6000, 31, tick=0.001, doji=False)
    params = settings(indicator.DEFINITION, 4, 12, 40)
    begin = 1500
    for output in indicator.DEFINITION.outputs:
        whole = computed(indicator, series, params, sources(indicator)[0], output.name)
        late = computed(
            indicator, part(series, begin, 6000), params, sources(indicator)[0], output.name
        )
        for r in range(len(whole)):
            settled = indicator.settle(row(params, r, ""))
            scale = np.nanstd(whole[r]) or 1.0
            apart = np.abs(whole[r, begin + settled :] - late[r, settled:])
            calm = np.nan_to_num(apart) <= 5e-3 * scale
            # A trailing stop may keep its side until both have turned once.
            assert calm.mean() > 0.98, f"{output.name} {row(params, r, '')}"


# What these say depends on where they began, for ever; only their changes are read.
SUMS_SINCE_THE_START = ("volume.obv", "volume.ad_line", "volume.pvt")


@pytest.mark.parametrize("name", ids())
def test_definition_is_sane(name):
    item = definition(name)
    assert item.indicator_id == name
    assert item.group == name.split(".")[0]
    assert item.group in GROUPS
    assert item.title.strip()
    assert item.formula.strip()
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
    assert {n for pair in item.ordered for n in pair} <= {param.name for param in item.params}
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
    known = indicator.DEFINITION
    base = {key: values[:1] for key, values in settings(known, 1, 3, 20).items()}
    base |= {p.name: np.array([p.default]) for p in known.params if p.kind == "float"}
    source = sources(indicator)[0]
    for output in known.outputs:
        before = computed(indicator, series, base, source, output.name)
        for param in known.params:
            step = 3 if param.kind == "int" else 15 * param.step
            values = [base[param.name] + way * step for way in (1, -1)]
            rows = [
                computed(indicator, series, base | {param.name: value}, source, output.name)
                for value in values
                if param.hard_min <= value[0] <= param.hard_max
            ]
            same = all(np.array_equal(before, after, equal_nan=True) for after in rows)
            assert same != (param.name in output.axes), f"{output.name} and {param.name}"


def test_catalogue_is_complete():
    """All 64 ids of the contract; what is not in it was added later."""
    assert len(GOLDEN["indicators"]) == 64
    assert set(GOLDEN["indicators"]) <= set(ids())
