"""W1: the series of every indicator, windows 5..200 over a year of 1m, against a plain memory fill.

The fill writes the same float32 output: nothing that stores a tensor can be faster. TA-Lib is
called once a window, as its users do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.grid import Axis, IndicatorGrid
from compute.indicators.definition import SOURCE, Definition, Param
from compute.indicators.registry import definition, module
from compute.indicators.series import BarSeries
from compute.market.timeframe import TIMEFRAMES
from compute.output_rows import OutputRows, output_rows, tensor_rows
from ingest.synthetic import walk_candles
from tests.benchmarks.workloads import SEED, START_MS

T = TypeVar("T")
WINDOWS = tuple(range(5, 201))
# Values of each axis where several move the output: about 200 rows again.
_EDGE = {1: 196, 2: 14, 3: 6, 4: 4, 5: 3}


@cache
def year(bars: int) -> BarSeries:
    """`bars` made-up minutes around one price level."""
    frame = TIMEFRAMES["1m"]
    made = walk_candles(seed=SEED, bars=bars, frame=frame, start_ms=START_MS)
    return BarSeries(made.open, made.high, made.low, made.close, made.volume, START_MS // frame.ms)


def grid(indicator_id: str, output: str | None = None) -> IndicatorGrid:
    """About 200 settings of an output that differ: windows 5..200 where there is one window."""
    known = definition(indicator_id)
    name = known.primary if output is None else output
    moving = [axis for axis in known.output(name).axes if axis != SOURCE]
    count = _EDGE.get(len(moving), 2)
    axes = [
        Axis(
            axis,
            ("close",)
            if axis == SOURCE
            else values(known.param(axis), count)
            if axis in moving
            else (known.param(axis).default,),
        )
        for axis in known.axes
    ]
    return IndicatorGrid(known, name, tuple(axes), ())


def values(param: Param, count: int) -> tuple[int | float, ...]:
    """`count` values of a parameter around its default, or windows 5..200."""
    if param.kind == "int":
        if count == _EDGE[1]:
            return WINDOWS
        spread = np.linspace(max(param.hard_min, param.default // 2), 2 * param.default, count)
        return tuple(sorted({int(value) for value in spread}))
    top = min(param.hard_max, 2 * param.default)
    steps = np.round((np.linspace(param.default, top, count) - param.hard_min) / param.step)
    found = (round(param.hard_min + float(step) * param.step, 6) for step in np.unique(steps))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One indicator's rows over `series`, written to `out` f4[rows, T] in blocks of the engine."""

    rows: OutputRows
    output: str
    series: BarSeries
    out: NDArray[np.float32]
    parts: Sequence[NDArray[np.int64]]

    @classmethod
    def of(cls, indicator_id: str, series: BarSeries, room: NDArray[np.float32]) -> Tensor:
        """The W1 grid of an indicator, with the first rows of `room` to write to."""
        rows = output_rows(grid(indicator_id))
        size = tensor_rows(len(series), rows.grid.definition.slow)
        return cls(rows, rows.grid.output, series, room[: len(rows)], rows.blocks(size))

    @property
    def known(self) -> Definition:
        """What is computed."""
        return self.rows.grid.definition

    @property
    def values(self) -> int:
        """Number of values written."""
        return self.out.size

    def blocks(self) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows of each block, and where they go: blocks lie behind each other in `out`."""
        ends = np.cumsum([len(part) for part in self.parts])
        return [
            (part, self.out[end - len(part) : end])
            for part, end in zip(self.parts, ends, strict=True)
        ]

    def compute(self, pool: ThreadPoolExecutor) -> None:
        """Fills `out` from candles of which nothing is known yet."""
        rows, fresh = module(self.known.indicator_id).rows, replace(self.series)

        def one(item: tuple[NDArray[np.int64], NDArray[np.float32]]) -> None:
            params, source = self.rows.settings(item[0])
            rows(fresh, params, source, self.output, item[1])

        _spread(one, self.blocks(), pool)

    def fill(self, pool: ThreadPoolExecutor) -> None:
        """Writes the same bytes, and nothing else is done."""

        def one(item: tuple[NDArray[np.int64], NDArray[np.float32]]) -> None:
            item[1].fill(1.5)

        _spread(one, self.blocks(), pool)


def _spread(work: Callable[[T], None], items: Sequence[T], pool: ThreadPoolExecutor) -> None:
    """Works on all items; one alone needs no other thread."""
    if len(items) == 1:
        work(items[0])
    else:
        list(pool.map(work, items))


def prove(indicator_id: str, bars: int = 700) -> None:
    """Raises AssertionError unless the first and the last row of the grid equal the oracle."""
    indicator, series = module(indicator_id), year(bars)
    rows = output_rows(grid(indicator_id))
    for row in {0, len(rows) - 1}:
        params, source = rows.settings(np.array([row]))
        found = np.empty((1, bars), np.float32)
        indicator.rows(series, params, source, rows.grid.output, found)
        columns = {
            name: series.column(name).astype(np.float64)
            for name in ("open", "high", "low", "close", "volume", "hl2", "hlc3", "ohlc4")
        }
        plain = {name: value[0].item() for name, value in params.items()} | {"source": source}
        expected = indicator.oracle(columns, plain)[rows.grid.output].astype(np.float32)
        scale = float(np.nanmax(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(found[0], expected, rtol=2e-6, atol=1e-9 * scale)
