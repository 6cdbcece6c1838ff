from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from compute.bits import unpack, words
from compute.errors import Cancelled, InvalidGrid
from compute.grid import Axis, IndicatorGrid
from compute.indicators.registry import definition, module
from compute.output_rows import block_rows
from compute.planes import build_votes, vote_layout
from tests.compute.ballot import codes
from tests.compute.indicators.candles import candles

BAND = {"long_threshold": (20, 30, 60), "short_threshold": (30, 70)}
DELTA = {"long_delta_periods": (-1, -3), "short_delta_periods": (-1, -5)}
CASES = {
    "ma.sma": ({"source": ("close", "hl2"), "window": (3, 5, 40)}, {}),
    "ma.ema": ({"source": ("open",), "window": tuple(range(2, 30))}, {}),
    "momentum.rsi": ({"source": ("close", "high"), "window": (3, 14)}, BAND),
    "momentum.macd": (
        {
            "fast_window": (3, 4, 5),
            "signal_window": (2, 9),
            "slow_window": (8, 13),
            "source": ("close", "low"),
        },
        {},
    ),
    "momentum.stoch": ({"d_window": (2, 3), "k_window": (5, 9), "smoothing": (2, 4)}, BAND),
    "volatility.atr": ({"window": (3, 9)}, DELTA),
    "volatility.bbands_percent_b": (
        {"mult": (1.0, 2.5), "source": ("hlc3",), "window": (5, 20)},
        {"long_threshold": (0.0, 0.2), "short_threshold": (0.8, 0.1)},
    ),
    "trend.vortex": ({"window": (3, 9)}, {"abs_threshold": (0.0, 0.1)}),
    "trend.supertrend": ({"window": (3, 9), "mult": (1.0, 2.0, 3.0)}, {}),
    "volume.obv": ({}, DELTA),
    "volume.volume_sma": ({"window": (4,)}, {}),
    "volume.vwap_deviation": ({"mult": (0.5, 1.0), "window": (3, 8)}, {}),
    "structure.candle_stats": ({}, {"min_body_pct": (0.2, 0.5)}),
    "structure.pivots": ({"left": (2, 3), "right": (2, 4)}, {}),
}


def grid_of(name, output=None, compute=None, signals=None) -> IndicatorGrid:
    item = definition(name)
    compute = compute if compute is not None else CASES[name][0]
    signals = signals if signals is not None else CASES[name][1]
    return IndicatorGrid(
        item,
        output or item.primary,
        tuple(Axis(axis, tuple(compute[axis])) for axis in item.axes),
        tuple(Axis(axis, tuple(signals[axis])) for axis in sorted(signals)),
    )


def settings_of(grid):
    """(compute values, signal values) of every local vote row, in row order."""
    for c in itertools.product(*(axis.values for axis in grid.compute)):
        for s in itertools.product(*(axis.values for axis in grid.signals)):
            yield (
                dict(zip((axis.name for axis in grid.compute), c, strict=True)),
                dict(zip((axis.name for axis in grid.signals), s, strict=True)),
            )


def expected_codes(grid, series, compute, signals):
    rule = grid.definition.output(grid.output).rule
    source = compute.get("source", "")

    def line(output):
        out = np.empty((1, len(series)), np.float32)
        params = {key: np.array([value]) for key, value in compute.items() if key != "source"}
        module(grid.indicator_id).rows(series, params, source, output, out)
        return out[0]

    price = series.volume if rule.price == "volume" else series.price(source or "close")
    return codes(
        rule.family,
        line(grid.output),
        signals,
        reference=price,
        opened=series.open,
        closed=series.close,
        low_output=line(rule.long_output) if rule.long_output else None,
        inverted=rule.inverted,
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_vote_row_equals_the_rule_on_its_settings(name):
    grid, series = grid_of(name), candles(400, 3)
    start, stop = 37, 391
    table = build_votes(vote_layout(grid), series, start, stop)
    assert table.long.shape[1] == words(stop - start)
    assert not table.long.flags.writeable
    for r, (compute, signals) in enumerate(settings_of(grid)):
        long = unpack(table.long[table.long_id[r]], stop - start)
        short = unpack(table.short[table.short_id[r]], stop - start)
        assert table.conflicts or not np.any(long & short)
        got = np.where(long & short, 0, long.astype(np.int8) - short.astype(np.int8))
        expected = expected_codes(grid, series, compute, signals)[start:stop]
        np.testing.assert_array_equal(got, expected, err_msg=f"{compute} {signals}")


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("momentum.macd", "hist"),
        ("trend.vortex", "vi_minus"),
        ("trend.supertrend", "supertrend_dir"),
    ],
)
def test_secondary_outputs_vote(name, output):
    grid, series = grid_of(name, output), candles(300, 6)
    table = build_votes(vote_layout(grid), series, 10, 300)
    for r, (compute, signals) in enumerate(settings_of(grid)):
        long = unpack(table.long[table.long_id[r]], 290)
        np.testing.assert_array_equal(
            long, expected_codes(grid, series, compute, signals)[10:] == 1
        )


def test_dead_axes_share_rows():
    grid = grid_of("momentum.macd")
    layout = vote_layout(grid)
    assert grid.compute_total == 24
    assert layout.n_live == layout.n_long == layout.n_short == 12  # signal_window is dead
    assert vote_layout(grid_of("momentum.macd", "hist")).n_live == 24
    ids = layout.long_id.reshape(3, 2, 2, 2)
    np.testing.assert_array_equal(ids[:, 0], ids[:, 1])
    assert len(np.unique(ids[:, 0])) == 12
    deviation = {"mult": (0.5, 1.0, 2.0), "window": (3, 8)}
    assert vote_layout(grid_of("volume.vwap_deviation", "vwap", deviation)).n_live == 2


def test_each_side_is_keyed_by_its_own_parameters():
    layout = vote_layout(grid_of("momentum.rsi"))
    # LONG: <= 20, <= 30, and 60 as reversion (below 70) or trend (above 30); SHORT: >= 30, >= 70
    # and <= 30 as trend. Six pairs of thresholds on four settings.
    assert (layout.long.count, layout.short.count) == (4, 3)
    assert (layout.n_long, layout.n_short) == (16, 12)
    assert layout.long_id.size == 4 * 6
    assert layout.conflicts


def test_conflicts_are_known_before_any_vote():
    def conflicts(name, signals=None, output=None):
        return vote_layout(grid_of(name, output, signals=signals)).conflicts

    apart = {"long_threshold": (20, 60), "short_threshold": (30, 70)}
    assert not conflicts("momentum.rsi", apart)
    assert conflicts("momentum.rsi", {"long_threshold": (50,), "short_threshold": (50,)})
    assert not conflicts("volume.obv", {"long_delta_periods": (-3,), "short_delta_periods": (3,)})
    assert conflicts("volume.obv", {"long_delta_periods": (-3,), "short_delta_periods": (-1,)})
    assert not conflicts("trend.vortex", {"abs_threshold": (0, 0.1)})
    assert conflicts("trend.vortex", {"abs_threshold": (-0.1,)})
    assert conflicts("structure.pivots")
    assert not conflicts("ma.sma")


def test_a_subset_of_compute_variants_keeps_its_votes():
    grid, series = grid_of("momentum.rsi"), candles(300, 9)
    whole = build_votes(vote_layout(grid), series, 0, 300)
    chosen = np.array([1, 3])
    layout = vote_layout(grid, chosen)
    some = build_votes(layout, series, 0, 300)
    rows = grid.signal_total
    for c in range(grid.compute_total):
        span = slice(c * rows, (c + 1) * rows)
        if c not in chosen:
            assert np.all(layout.long_id[span] == -1)
            assert np.all(layout.short_id[span] == -1)
            continue
        np.testing.assert_array_equal(
            some.long[some.long_id[span]], whole.long[whole.long_id[span]]
        )
        np.testing.assert_array_equal(
            some.short[some.short_id[span]], whole.short[whole.short_id[span]]
        )
    assert layout.n_live == 2


@pytest.mark.parametrize("name", ["ma.ema", "momentum.macd", "volatility.bbands_percent_b"])
def test_blocks_on_threads_give_the_same_table(name):
    compute = {
        "source": ("close", "high"),
        "window": tuple(range(2, 100)),
        "fast_window": tuple(range(2, 12)),
        "slow_window": tuple(range(8, 21)),
        "signal_window": (3, 4),
        "mult": (1.0, 2.0, 2.5),
    }
    grid, series = grid_of(name, compute=compute), candles(20_000, 4)
    layout = vote_layout(grid)
    assert layout.n_live > 3 * block_rows(len(series))
    alone = build_votes(layout, series, 100, 20_000)

    def each(fn, blocks):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(fn, reversed(blocks)))

    pooled = build_votes(layout, series, 100, 20_000, each)
    np.testing.assert_array_equal(alone.long, pooled.long)
    np.testing.assert_array_equal(alone.short, pooled.short)


def test_control_stops_between_blocks():
    calls = []

    def control():
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled("test", "planes")

    compute = {"source": ("close",), "window": tuple(range(2, 202))}
    layout = vote_layout(grid_of("ma.sma", compute=compute))
    with pytest.raises(Cancelled):
        build_votes(layout, candles(2000, 1), 0, 2000, control=control)
    assert len(calls) == 2


def test_a_million_vote_rows_are_laid_out_at_once():
    compute = {"source": ("close",), "window": tuple(range(5, 205))}
    signals = {"long_threshold": tuple(range(50)), "short_threshold": tuple(range(50, 150))}
    layout = vote_layout(grid_of("momentum.rsi", compute=compute, signals=signals))
    assert layout.long_id.size == 1_000_000
    assert (layout.n_long, layout.n_short) == (200 * 50, 200 * 100)
    assert layout.long_id[-1] == layout.n_long - 1
    assert layout.short_id[-1] == layout.n_short - 1


def test_a_missing_rule_parameter_is_found_before_any_vote():
    with pytest.raises(InvalidGrid, match="missing required signal param 'short_threshold'"):
        vote_layout(grid_of("momentum.rsi", signals={"long_threshold": (30,)}))
    with pytest.raises(InvalidGrid, match="use output pivot_high"):
        vote_layout(grid_of("structure.pivots", "pivot_low"))
