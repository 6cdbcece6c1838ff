"""No look-ahead: what came before a bar never depends on it, nor on where it stands in a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compute.axes import materialised
from compute.grid import Axis, IndicatorGrid
from compute.indicator_grids import proposed_axis
from compute.indicators.definition import SOURCE, Indicator, Output
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import FIELDS, BarSeries
from compute.planes import build_votes, vote_layout
from tests.compute.indicators.candles import candles, part, settings
from tests.compute.indicators.rows import computed, row, sources

WINDOWED = [name for name in ids() if not definition(name).recursive]


def changed(series: BarSeries, stop: int) -> BarSeries:
    """The same bars before `stop`, others from there on."""
    columns = {}
    for name in FIELDS:
        values = getattr(series, name).copy()
        values[stop:] = values[stop:][::-1] * np.float32(1.7)
        columns[name] = values
    return replace(series, **columns)


@pytest.mark.parametrize("name", ids())
def test_no_value_changes_with_later_bars(name):
    indicator, series = module(name), candles(3000, 3, holes=True)
    params = settings(indicator.DEFINITION, 9, 5)
    source = sources(indicator)[0]
    for output in indicator.DEFINITION.outputs:
        whole = computed(indicator, series, params, source, output.name)
        for stop in (1, 64, 777, 2999):
            for early in (part(series, 0, stop), changed(series, stop)):
                rows = computed(indicator, early, params, source, output.name)[:, :stop]
                np.testing.assert_array_equal(rows, whole[:, :stop], f"{output.name} {stop}")


def grid(indicator: Indicator, output: Output) -> IndicatorGrid:
    """One compute setting with the rule's proposed axes."""
    known = indicator.DEFINITION
    chosen = settings(known, 1, 8, 20)
    axes = [
        Axis(name, (sources(indicator)[0],) if name == SOURCE else (chosen[name][0].item(),))
        for name in known.axes
    ]
    assert output.rule is not None
    rule = sorted(output.rule.params, key=lambda param: param.name)
    signals = [Axis(param.name, materialised(proposed_axis(param))) for param in rule]
    return IndicatorGrid(known, output.name, tuple(axes), tuple(signals))


@pytest.mark.parametrize("name", ids())
def test_no_vote_changes_with_later_bars(name):
    indicator, series = module(name), candles(900, 6, holes=True)
    for output in indicator.DEFINITION.outputs:
        if output.rule is None:
            continue
        layout = vote_layout(grid(indicator, output))
        whole = build_votes(layout, series, 0, 900)
        cut = build_votes(layout, part(series, 0, 640), 0, 640)
        other = build_votes(layout, changed(series, 640), 0, 900)
        for table in (cut, other):
            np.testing.assert_array_equal(table.long[:, :10], whole.long[:, :10], output.name)
            np.testing.assert_array_equal(table.short[:, :10], whole.short[:, :10], output.name)


@pytest.mark.parametrize("name", ids())
def test_a_row_does_not_depend_on_its_neighbours(name):
    indicator, series = module(name), candles(900, 4)
    params = settings(indicator.DEFINITION, 13, 6, 90)
    source = sources(indicator)[0]
    for output in indicator.DEFINITION.outputs:
        together = computed(indicator, series, params, source, output.name)
        for r in (0, 7, 12)[: len(together)]:
            alone = {key: values[r : r + 1] for key, values in params.items()}
            single = computed(indicator, series, alone, source, output.name)
            np.testing.assert_array_equal(single[0], together[r], output.name)


@pytest.mark.parametrize("name", WINDOWED)
def test_windowed_values_do_not_depend_on_where_the_bars_begin(name):
    indicator, series = module(name), candles(9000, 8)
    params = settings(indicator.DEFINITION, 5, 9, 60)
    source = sources(indicator)[0]
    for output in indicator.DEFINITION.outputs:
        whole = computed(indicator, series, params, source, output.name)
        for begin in (1, 700, 2111):
            late = computed(indicator, part(series, begin, 9000), params, source, output.name)
            # Two blocks later every sum is made of the same bars in the same order.
            np.testing.assert_array_equal(late[:, 4300:], whole[:, begin + 4300 :])
            settled = max(indicator.settle(row(params, r, "")) for r in range(5)) if params else 1
            np.testing.assert_allclose(
                late[:, settled:], whole[:, begin + settled :], rtol=2e-7, atol=1e-9
            )
