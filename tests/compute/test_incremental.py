"""An indicator advanced bar by bar has the values and the votes of the back-test, to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from compute.bits import unpack
from compute.errors import InvalidCandles, InvalidGrid, InvalidInput
from compute.grid import Axis, IndicatorGrid
from compute.incremental import Advance, BarRing, Incremental, IncrementalVotes
from compute.indicators.definition import SOURCE, Listed, RuleParam
from compute.indicators.registry import definition, ids, module
from compute.indicators.series import FIELDS, BarSeries
from compute.output_rows import output_rows
from compute.planes import build_votes, vote_layout
from tests.compute.indicators.candles import candles, part

SHORT, LONG = 700, 5200  # bars: of a recursion, of a window whose ring begins to move
OUTPUTS = [(name, output.name) for name in ids() for output in definition(name).outputs]


def holed(bars: int) -> BarSeries:
    """Candles with holes at the start, in the middle and among the last bars."""
    whole = candles(bars, 5, holes=True)
    columns = {name: getattr(whole, name).copy() for name in FIELDS}
    for bar in (3, 4, 40, bars - 60, bars - 57, bars - 30):
        for column in columns.values():
            column[bar] = np.nan
    columns["close"][bars - 25] = columns["volume"][bars - 45] = np.nan
    return BarSeries(**columns, first_bar=whole.first_bar)


@pytest.fixture(scope="module")
def short():
    return holed(SHORT)


@pytest.fixture(scope="module")
def long():
    return holed(LONG)


def middle(param: RuleParam) -> tuple[float, ...]:
    """One value of a rule's parameter: lags of both sides differ, so that both can be true."""
    if isinstance(param.proposed, Listed):
        return (param.proposed.values[2 if param.name.startswith("long") else 1],)
    return (param.proposed.start,)


def grid_of(name: str, output: str, wide: bool = False) -> IndicatorGrid:
    """One setting: the defaults, or `wide` windows that are odd."""
    known, axes = definition(name), []
    for axis in known.axes:
        value = known.defaults[axis]
        if wide and axis != SOURCE and known.param(axis).kind == "int":
            value = min(5 * value + 3, 150)
        if wide and axis == SOURCE:
            value = known.sources[-1]
        axes.append(Axis(axis, (value,)))
    rule = known.output(output).rule
    params = sorted(rule.params, key=lambda param: param.name) if rule else ()
    signals = tuple(Axis(param.name, middle(param)) for param in params)
    return IndicatorGrid(known, output, tuple(axes), signals)


def batch(grid: IndicatorGrid, series: BarSeries) -> tuple[NDArray, NDArray | None]:
    """Values f4[T] and votes i1[T] (None without a rule) of the whole series at once."""
    params, source = output_rows(grid).settings(np.zeros(1, np.int64))
    out = np.empty((1, len(series)), np.float32)
    module(grid.indicator_id).rows(series, params, source, grid.output, out)
    if grid.definition.output(grid.output).rule is None:
        return out[0], None
    table = build_votes(vote_layout(grid), series, 0, len(series))
    both = zip((table.long, table.short), (table.long_id, table.short_id), strict=True)
    long, short = (unpack(planes[ids[0]], len(series)) for planes, ids in both)
    clash = long & short
    assert table.conflicts or not np.any(clash)
    return out[0], (long & ~clash).astype(np.int8) - (short & ~clash)


def advancing(grid: IndicatorGrid, anchor: int) -> Incremental | IncrementalVotes:
    voting = grid.definition.output(grid.output).rule is not None
    return (IncrementalVotes if voting else Incremental)(grid, anchor)


def run(
    grid: IndicatorGrid, series: BarSeries, cuts: list[int], restarts: set[int]
) -> tuple[NDArray, NDArray]:
    """Values and votes of `series` cut at `cuts`; a new process goes on at each of `restarts`."""
    line = advancing(grid, series.first_bar)
    ring, values, votes = BarRing(line.lead), [], []
    for begin, stop in pairwise(cuts):
        if begin in restarts:
            state, kept = line.state(), ring.kept
            line, ring = advancing(grid, series.first_bar), BarRing(line.lead)
            line.restore(state)
            ring.append(kept)
        made = line.advance(ring.append(part(series, begin, stop)))
        if isinstance(made, np.ndarray):
            made = Advance(made, np.zeros(stop - begin, np.int8))
        values.append(made.values)
        votes.append(made.votes)
        assert line.next_bar == series.first_bar + stop
    return np.concatenate(values), np.concatenate(votes)


def check(grid: IndicatorGrid, series: BarSeries, cuts: list[int], restarts: set[int]) -> None:
    values, votes = batch(grid, series)
    found, codes = run(grid, series, cuts, restarts)
    np.testing.assert_array_equal(found, values)
    if votes is not None:
        np.testing.assert_array_equal(codes, votes)


@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_bar_by_bar(short, long, name, output):
    if definition(name).recursive:
        check(grid_of(name, output), short, [*range(SHORT + 1)], {350, SHORT - 57})
    else:  # the last bars are those whose window no longer holds the first one
        cuts = [*range(30), *range(LONG - 80, LONG + 1)]
        check(grid_of(name, output), long, cuts, {10, LONG - 57})


@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_in_chunks(short, long, name, output):
    series = short if definition(name).recursive else long
    bars = len(series)
    steps = np.random.default_rng(len(name)).integers(1, 90, 20)
    cuts = [0, *(bars - np.cumsum(steps)[np.cumsum(steps) < min(bars, 690)][::-1]).tolist(), bars]
    check(grid_of(name, output, wide=True), series, cuts, {cuts[3], cuts[-3]})


@pytest.mark.parametrize("name", ["ma.ema", "ma.sma", "volume.obv", "momentum.stoch_rsi"])
def test_a_history_longer_than_a_tile_or_a_block(long, name):
    grid = grid_of(name, definition(name).primary)
    check(grid, long, [0, 1000, 1030, 2047, 2049, 4100, *range(LONG - 40, LONG + 1)], {1030, 4100})


def test_indicators_of_other_anchors_share_a_ring(short):
    grids = [grid_of("ma.ema", "value"), grid_of("volume.pvt", "pvt"), grid_of("ma.sma", "value")]
    anchors = [short.first_bar + at for at in (0, 100, 130)]
    lines = [IncrementalVotes(*each) for each in zip(grids, anchors, strict=True)]
    ring = BarRing(max(line.lead for line in lines))
    made: list[list[NDArray]] = [[] for _ in lines]
    series = ring.append(part(short, 0, 140))
    for begin in range(140, SHORT):
        for line, values in zip(lines, made, strict=True):
            values.append(line.advance(series).values)
        series = ring.append(part(short, begin, begin + 1))
    for line, values, grid in zip(lines, made, grids, strict=True):
        anchor = line.next_bar - sum(value.size for value in values) - short.first_bar
        expected, _ = batch(grid, part(short, anchor, SHORT - 1))
        np.testing.assert_array_equal(np.concatenate(values), expected)


def test_cost_does_not_grow_with_history(short):
    line = IncrementalVotes(grid_of("ma.sma", "value"), short.first_bar)
    ring, lengths = BarRing(50), []
    for begin in range(SHORT):
        lengths.append(len(ring.append(part(short, begin, begin + 1))))
    assert max(lengths) == 51
    assert len(ring.kept) == 50
    assert len(line.state()) < 200


def test_no_new_bars_change_nothing(short):
    line = IncrementalVotes(grid_of("volatility.atr", "atr"), short.first_bar)
    ring = BarRing(line.lead)
    series = ring.append(part(short, 0, 50))
    line.advance(series)
    before = line.state()
    again = line.advance(series)
    assert again.values.size == again.votes.size == 0
    assert line.state() == before


def test_bars_that_do_not_follow_are_refused(short):
    ring = BarRing(10)
    ring.append(part(short, 0, 5))
    for begin in (4, 6):
        with pytest.raises(InvalidCandles, match=f"bar {short.first_bar + 5} is next"):
            ring.append(part(short, begin, 10))
    line = Incremental(grid_of("ma.ema", "value"), short.first_bar)
    line.advance(part(short, 0, 20))
    for begin in (19, 20, 25):
        with pytest.raises(InvalidCandles, match="are needed to go on with bar"):
            line.advance(part(short, begin, 30))
    assert line.advance(part(short, 18, 30)).size == 10


def test_several_settings_are_refused():
    grid = grid_of("ma.ema", "value")
    several = replace(grid, compute=(grid.compute[0], Axis("window", (5, 9))))
    for kind in (Incremental, IncrementalVotes):
        with pytest.raises(InvalidGrid, match="one setting"):
            kind(several, 0)
    with pytest.raises(InvalidGrid, match="no rule"):
        IncrementalVotes(grid_of("structure.pivot_high", "pivot_high"), 0)


def test_a_state_of_something_else_is_refused(short):
    line = IncrementalVotes(grid_of("ma.ema", "value"), short.first_bar)
    line.advance(part(short, 0, 20))
    state = line.state()
    wide, later = grid_of("ma.ema", "value", wide=True), grid_of("ma.ema", "value")
    for other in (IncrementalVotes(wide, short.first_bar), IncrementalVotes(later, 7)):
        with pytest.raises(InvalidInput, match="the state is that of"):
            other.restore(state)
    line.restore(state.replace(b"smoothed", b"smoother"))
    with pytest.raises(InvalidInput, match="no state 'smoothed' of shape"):
        line.advance(part(short, 0, 21))
    with pytest.raises(InvalidInput, match="cut off"):
        line.restore(state[:-8])
    for damaged in (b"", b"{}", b"[1, 2, 3]\n", b"\xff\n"):
        with pytest.raises(InvalidInput, match="not the state of an indicator"):
            line.restore(damaged)
