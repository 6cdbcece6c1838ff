"""Grids: enumeration order, digits, vote rows and the way back, without an object per variant."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidGrid
from compute.grid import Axis, Grid, IndicatorGrid, Selection
from compute.indicators.definition import Definition, Output, Param


def definition(indicator_id: str, axes: tuple[str, ...], primary: str = "value") -> Definition:
    return Definition(
        indicator_id=indicator_id,
        title=indicator_id,
        group=indicator_id.partition(".")[0],
        inputs=(),
        sources=("close", "open", "hlc3") if "source" in axes else (),
        params=tuple(Param(name, "int", 2, 10**9, 1, 2) for name in axes if name != "source"),
        axes=axes,
        outputs=(Output("value", None, axes), Output("other", None, axes)),
        primary=primary,
        formula="",
        reference="",
    )


def indicator(
    indicator_id: str,
    compute: dict[str, tuple[int | str, ...]],
    signals: dict[str, tuple[int, ...]] | None = None,
    output: str = "value",
) -> IndicatorGrid:
    return IndicatorGrid(
        definition(indicator_id, tuple(compute)),
        output,
        tuple(Axis(name, values) for name, values in compute.items()),
        tuple(Axis(name, values) for name, values in sorted((signals or {}).items())),
    )


RSI = indicator(
    "momentum.rsi",
    {"source": ("close",), "window": (7, 14)},
    {"short_threshold": (40, 45), "long_threshold": (50,)},
)
SMA = indicator("ma.sma", {"source": ("close",), "window": (5, 10, 15)})
WORKED = Grid((RSI, SMA))


def test_worked_order_of_twelve_variants() -> None:
    assert WORKED.total == 12
    assert (WORKED.compute_total, WORKED.signal_total) == (6, 2)
    assert WORKED.axis_names == (
        "ma.sma.source",
        "ma.sma.window",
        "momentum.rsi.source",
        "momentum.rsi.window",
        "momentum.rsi.long_threshold",
        "momentum.rsi.short_threshold",
    )
    assert WORKED.sizes == (1, 3, 1, 2, 1, 2)
    order = []
    for flat in range(12):
        sma, rsi = WORKED.selection(flat)
        order.append((sma.params["window"], rsi.params["window"], rsi.signals["short_threshold"]))
    assert order == list(itertools.product((5, 10, 15), (7, 14), (40, 45)))
    assert (order[0], order[1], order[2]) == ((5, 7, 40), (5, 7, 45), (5, 14, 40))
    assert (order[4], order[11]) == ((10, 7, 40), (15, 14, 45))


def test_selection_holds_inputs_params_and_signals() -> None:
    assert WORKED.selection(3) == [
        Selection("ma.sma", {"source": "close"}, {"window": 5}),
        Selection(
            "momentum.rsi",
            {"source": "close"},
            {"window": 14},
            None,
            {"long_threshold": 50, "short_threshold": 45},
        ),
    ]


def test_signal_axes_of_all_indicators_run_fastest() -> None:
    """Signals of the first indicator vary faster than the compute axes of the last."""
    grid = Grid((indicator("a.a", {"w": (2, 3)}, {"p": (0, 1)}), indicator("b.b", {"w": (4, 5)})))
    assert grid.axis_names == ("a.a.w", "b.b.w", "a.a.p")
    assert grid.digits(np.arange(8)).tolist() == [list(d) for d in np.ndindex(2, 2, 2)]
    assert grid.local_rows(np.arange(8)).tolist() == [
        [0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [3, 0], [2, 1], [3, 1],
    ]  # fmt: skip


def test_indicator_without_axes_is_one_variant() -> None:
    grid = Grid((indicator("volume.obv", {}),))
    assert (grid.total, grid.sizes) == (1, ())
    assert grid.digits(np.zeros(1, np.int64)).shape == (1, 0)
    assert grid.local_rows(np.zeros(1, np.int64)).tolist() == [[0]]
    assert grid.selection(0) == [Selection("volume.obv")]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    parts = []
    for k in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 4), max_size=3))
        rules = draw(st.lists(st.integers(1, 3), max_size=2))
        compute: dict[str, tuple[int | str, ...]] = {
            f"p{i}": tuple(range(2, 2 + n)) for i, n in enumerate(sizes)
        }
        if draw(st.booleans()):
            compute["source"] = ("close", "hlc3")
        signals = {f"s{i}": tuple(range(-n, 0)) for i, n in enumerate(rules)}
        output = draw(st.sampled_from(("value", "other")))
        parts.append(indicator(f"g.i{k}", compute, signals, output))
    return Grid(tuple(draw(st.permutations(parts))))


@given(grids(), st.data())
def test_flat_index_and_parameters_are_inverse(grid: Grid, data: st.DataObject) -> None:
    flat = data.draw(st.integers(0, grid.total - 1))
    chosen = grid.selection(flat)
    assert grid.flat(reversed(chosen)) == flat
    digits = grid.digits(np.array([flat]))[0]
    assert flat == (np.ravel_multi_index(tuple(digits), grid.sizes) if grid.sizes else 0)
    values = {
        name: axis.values[d]
        for name, axis, d in zip(grid.axis_names, grid.axes, digits, strict=True)
    }
    told = {
        f"{choice.indicator_id}.{name}": value
        for choice in chosen
        for part in (choice.inputs, choice.params, choice.signals)
        for name, value in part.items()
    }
    assert told == values


@given(grids(), st.data())
def test_local_rows_count_each_indicators_own_axes(grid: Grid, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.integers(0, grid.total - 1), min_size=1, max_size=20))
    flats = np.array(drawn)
    digits = grid.digits(flats)
    rows = grid.local_rows(flats)
    for k, part in enumerate(grid.indicators):
        mine = [
            column
            for column, name in enumerate(grid.axis_names)
            if name.startswith(part.indicator_id)
        ]
        sizes = [grid.sizes[column] for column in mine]
        expected = (
            np.ravel_multi_index(tuple(digits[:, mine].T), sizes)
            if sizes
            else np.zeros(len(drawn), np.int64)
        )
        assert (rows[:, k] == expected).all()
        for row, flat in zip(rows[:, k].tolist(), drawn, strict=True):
            compute_index, signal_index = divmod(row, part.signal_total)
            choice = grid.selection(flat)[k]
            assert part.settings(compute_index) == (choice.inputs, choice.params)
            assert part.rule_settings(signal_index) == choice.signals


def huge() -> Grid:
    wide = tuple(range(2, 1002))
    return Grid(tuple(indicator(f"g.i{k}", {"w": wide}) for k in range(3)))


def test_a_billion_variants_cost_nothing() -> None:
    grid = huge()
    assert grid.total == 10**9
    flats = np.array([0, 1, 999_999_999, 123_456_789])
    tracemalloc.start()
    rows = grid.local_rows(flats)
    last = grid.selection(10**9 - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.tolist() == [[0, 0, 0], [0, 0, 1], [999, 999, 999], [123, 456, 789]]
    assert rows.dtype == np.int32
    assert [choice.params["w"] for choice in last] == [1001, 1001, 1001]
    assert peak < 100_000


def test_more_variants_than_an_index_holds() -> None:
    wide = tuple(range(2, 1_000_002))
    grid = Grid(tuple(indicator(f"g.i{k}", {"w": wide}) for k in range(4)))
    assert grid.total == 10**24  # counted, so that a guard can name the number
    assert grid.flat(grid.selection(10**24 - 1)) == 10**24 - 1
    with pytest.raises(InvalidGrid, match=r"at most 2\*\*63"):
        grid.digits(np.zeros(1, np.int64))
    squared = Grid((indicator("g.i", {"a": wide, "b": wide}),))
    with pytest.raises(InvalidGrid, match="vote rows"):
        squared.local_rows(np.zeros(1, np.int64))


def test_totals_are_products() -> None:
    assert WORKED.total == math.prod(WORKED.sizes)
    assert [part.rows for part in WORKED.indicators] == [3, 4]


def test_wrong_grids_are_refused() -> None:
    with pytest.raises(InvalidGrid, match=r"duplicate indicator_id in indicator_grids: ma\.sma"):
        Grid((SMA, SMA))
    with pytest.raises(InvalidGrid, match="at least one indicator"):
        Grid(())
    with pytest.raises(InvalidGrid, match="has no values"):
        Axis("window", ())
    with pytest.raises(InvalidGrid, match="takes the axes source, window in this order"):
        IndicatorGrid(SMA.definition, "value", tuple(reversed(SMA.compute)), ())
    with pytest.raises(InvalidGrid, match="sorted and unique"):
        IndicatorGrid(SMA.definition, "value", SMA.compute, (Axis("b", (1,)), Axis("a", (1,))))


@pytest.mark.parametrize(
    ("window", "text"), [(6, "ma.sma.window = 6 is not on the grid"), (None, "needs exactly")]
)
def test_flat_of_a_foreign_selection(window: int | None, text: str) -> None:
    sma, rsi = WORKED.selection(0)
    params = {} if window is None else {"window": window}
    with pytest.raises(InvalidGrid, match=text):
        WORKED.flat([Selection("ma.sma", sma.inputs, params), rsi])
    with pytest.raises(InvalidGrid, match="other indicators"):
        WORKED.flat([sma])
    with pytest.raises(InvalidGrid, match="gridded on the output value"):
        WORKED.flat([Selection("ma.sma", sma.inputs, sma.params, "other"), rsi])
    with pytest.raises(IndexError):
        WORKED.selection(12)
