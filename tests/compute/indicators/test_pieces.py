"""Rows made piece by piece are the rows made at once, to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import compute.pieces
from compute.bits import words
from compute.grid import Axis, IndicatorGrid
from compute.indicators.definition import SOURCE
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import FIELDS, BarSeries
from compute.pieces import PIECE_BARS, piece_columns, pieces
from compute.planes import build_votes, scratch_shape, vote_layout
from tests.compute.indicators.candles import candles

BARS, START, STOP = 4 * PIECE_BARS + 700, 333, 4 * PIECE_BARS + 690
BY_PIECES = [  # every output, and the primary one with rows that are read without a lag too
    (name, output.name, lag)
    for name in ids()
    for output in definition(name).outputs
    for lag in ((0, 70) if output.name == definition(name).primary else (70,))
]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(compute.pieces, "_FEWEST", 2)
    monkeypatch.setattr(compute.pieces, "_FEW_ROWS", 0)


def grid_of(name: str) -> IndicatorGrid:
    """A few settings of each parameter, long windows among them."""
    item = definition(name)
    axes = []
    for axis in item.axes:
        if axis == SOURCE:
            axes.append(Axis(axis, ("close",)))
            continue
        param = item.param(axis)
        odd = 5 * param.default + 3 if param.kind == "int" else param.default
        axes.append(Axis(axis, tuple(dict.fromkeys((param.default, min(odd, param.hard_max))))))
    return IndicatorGrid(item, item.primary, tuple(axes), ())


@pytest.fixture(scope="module")
def series():
    whole = candles(BARS, 11, holes=True)
    columns = {name: getattr(whole, name).copy() for name in FIELDS}
    for piece in (PIECE_BARS, 2 * PIECE_BARS):  # and at borders, where a piece begins and ends
        for bar in (START + piece - 1, START + piece, START + piece + 40):
            for column in columns.values():
                column[bar] = np.nan
    return BarSeries(**columns, first_bar=whole.first_bar)


@pytest.mark.parametrize(("name", "output", "lag"), BY_PIECES)
def test_pieces_equal_the_whole(few, series, name, output, lag):
    grid, indicator = replace(grid_of(name), output=output), module(name)
    assert piece_columns(grid, STOP - START, lag) is not None
    names = [axis.name for axis in grid.compute if axis.name != SOURCE]
    corners = list(product(*(axis.values for axis in grid.compute if axis.name != SOURCE)))
    columns = zip(*corners, strict=True)
    params = {name: np.array(column) for name, column in zip(names, columns, strict=True)}
    count = len(corners)
    whole = np.empty((count, BARS), np.float32)
    indicator.rows(series, params, "close", output, whole)
    made = pieces(grid, series, START, STOP, lag)
    flat, at = np.empty(count * BARS, np.float32), START

    def room(columns: int):
        flat[:] = 7  # a piece must not lean on what another left here
        return flat[: count * columns].reshape(count, columns)

    for piece in made(params, "close", output, room):
        assert piece.bar == at
        assert (at - START) % 64 == 0
        assert piece.rows.flags.c_contiguous
        before = min(lag, piece.bar)
        assert piece.start >= before
        expected = whole[:, piece.bar - before : piece.bar + piece.stop - piece.start]
        np.testing.assert_array_equal(piece.rows[:, piece.start - before : piece.stop], expected)
        at += piece.stop - piece.start
    assert at == STOP


CASES = {
    "ma.sma": {},
    "ma.ema": {},
    "momentum.rsi": {"long_threshold": (30, 60), "short_threshold": (70, 40)},
    "volatility.atr": {"long_delta_periods": (-1, -3, -90), "short_delta_periods": (-1, -5)},
    "volatility.tr": {"long_delta_periods": (-2,), "short_delta_periods": (-70,)},
    "structure.candle_stats_atr_norm": {"min_body_atr": (0.5, 1.0)},
    "structure.pivots": {},
}


@pytest.mark.parametrize("name", CASES)
def test_votes_of_pieces_equal_those_of_the_whole(series, name, request):
    base = grid_of(name)
    signals = tuple(Axis(key, values) for key, values in sorted(CASES[name].items()))
    grid = IndicatorGrid(base.definition, base.output, base.compute, signals)
    layout = vote_layout(grid)
    whole = build_votes(layout, series, START, STOP)
    request.getfixturevalue("few")
    rows, columns = scratch_shape(grid, BARS, STOP - START)
    assert rows > 1
    assert columns < BARS
    found = build_votes(layout, series, START, STOP)
    assert found.long.shape[1] == words(STOP - START)
    np.testing.assert_array_equal(found.long, whole.long)
    np.testing.assert_array_equal(found.short, whole.short)


def windows(name: str, *values: int) -> IndicatorGrid:
    axes = (Axis(SOURCE, ("close",)), Axis("window", values))
    return IndicatorGrid(definition(name), "value", axes, ())


def test_too_long_a_lead_or_lag_or_few_rows_are_made_at_once():
    bars, many = 100 * PIECE_BARS, range(10, 30)
    assert piece_columns(windows("ma.sma", 200), bars, 0) is not None
    assert piece_columns(windows("ma.sma", 200), bars, PIECE_BARS) is None
    assert piece_columns(windows("ma.sma", 200), 2 * PIECE_BARS, 0) is None
    assert piece_columns(windows("ma.ema", *many), bars, 10) is not None
    assert piece_columns(windows("ma.ema", *many), bars, PIECE_BARS) is None
    assert piece_columns(windows("ma.ema", 10, 20), bars, 10) is None
