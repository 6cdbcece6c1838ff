"""Indicators and their votes advanced bar by bar: a new bar costs the same after any history.

Values are the bits of the rows of a back-test that begins at the anchor. A window is computed again
over its lead, since sums are anchored to absolute bars; a recursion goes on from its state. Bars
stand in a ring beside, so that all indicators of a market share one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from compute.bits import unpack, words
from compute.errors import InvalidCandles, InvalidGrid, InvalidInput
from compute.grid import IndicatorGrid
from compute.indicators.carry import Carry
from compute.indicators.definition import Resumable
from compute.indicators.registry import module
from compute.indicators.series import FIELDS, BarSeries
from compute.output_rows import output_rows
from compute.packing import Packer, body_words
from compute.pieces import lead_bars
from compute.rules import reference_series, sides, voting_rule
from compute.settling import longest_lag


class BarRing:
    """The newest bars of a market: `lead` of them are kept in front of those that come.

    The buffer is twice as long, so that a bar is moved once in `lead` bars.
    """

    def __init__(self, lead: int) -> None:
        self.lead = max(1, lead)
        self._columns = np.empty((len(FIELDS), 2 * self.lead), np.float32)
        self._stop = 0  # columns in use
        self._first_bar: int | None = None  # absolute number of the bar in column 0

    def append(self, bars: BarSeries) -> BarSeries:
        """The bars kept so far with `bars`, which follow them, behind.

        The columns are views that the next call may overwrite.

        Raises: InvalidCandles where `bars` do not begin where the kept ones end.
        """
        count, known = len(bars), self._first_bar
        if known is not None and bars.first_bar != known + self._stop:
            raise InvalidCandles(
                f"bar {known + self._stop} is next in the ring, got bar {bars.first_bar}"
            )
        first = bars.first_bar if known is None else known
        first += self._make_room(count)
        begin, self._stop = self._stop, self._stop + count
        for column, name in zip(self._columns, FIELDS, strict=True):
            column[begin : self._stop] = getattr(bars, name)
        self._first_bar = first
        return self._series(max(0, begin - self.lead))

    @property
    def kept(self) -> BarSeries:
        """The last `lead` bars: what a new ring is filled with after a restart."""
        return self._series(max(0, self._stop - self.lead))

    def _series(self, begin: int) -> BarSeries:
        columns = (column[begin : self._stop] for column in self._columns)
        return BarSeries(*columns, first_bar=(self._first_bar or 0) + begin)

    def _make_room(self, count: int) -> int:
        """Columns by which the kept bars moved down so that `count` more fit."""
        if self._stop + count <= self._columns.shape[1]:
            return 0
        kept = min(self.lead, self._stop)
        moved = self._columns[:, self._stop - kept : self._stop].copy()
        self._columns = np.empty((len(FIELDS), max(2 * self.lead, kept + count)), np.float32)
        self._columns[:, :kept] = moved
        gone, self._stop = self._stop - kept, kept
        return gone


class Incremental:
    """One output of an indicator with one setting, from bar `anchor` on.

    `lead` are the bars in front of a new one that `advance` needs, `next_bar` is the absolute
    number of the bar that comes next.

    Raises: InvalidGrid where the grid has several settings.
    """

    def __init__(self, grid: IndicatorGrid, anchor: int) -> None:
        if grid.compute_total != 1:
            raise InvalidGrid(
                f"{grid.indicator_id} is advanced with one setting, the grid has"
                f" {grid.compute_total}"
            )
        self.anchor = self.next_bar = anchor
        self.lead = lead_bars(grid)
        self.params, self.source = output_rows(grid).settings(np.zeros(1, np.int64))
        self.carry = Carry()
        self._indicator, self._output = module(grid.indicator_id), grid.output
        self._recursive = grid.definition.recursive

    def advance(self, series: BarSeries) -> NDArray[np.float32]:
        """The values f4[n] of the n bars of `series` from `next_bar` on.

        Raises: InvalidCandles where `series` does not hold `lead` bars (or those since the anchor)
        before `next_bar`.
        """
        return self.run(self.fresh(series))

    def fresh(self, series: BarSeries) -> BarSeries:
        """The bars of `series` that `advance` reads. Raises: as `advance`."""
        begin = max(self.anchor, self.next_bar - self.lead)
        end = series.first_bar + len(series)
        if series.first_bar > begin or end < self.next_bar:
            raise InvalidCandles(
                f"bars from {begin} are needed to go on with bar {self.next_bar},"
                f" got {series.first_bar} to {end - 1}"
            )
        return series.slice(begin - series.first_bar, len(series))

    def run(self, part: BarSeries) -> NDArray[np.float32]:
        """`advance` of what `fresh` gave, or of more bars in front."""
        end = part.first_bar + len(part)
        count, self.next_bar = end - self.next_bar, end
        if not count:
            return np.empty(0, np.float32)
        out = np.empty((1, count if self._recursive else len(part)), np.float32)
        if self._recursive:
            indicator = cast(Resumable, self._indicator)
            indicator.rows(part, self.params, self.source, self._output, out, self.carry)
        else:
            self._indicator.rows(part, self.params, self.source, self._output, out)
        return out[0, -count:]

    def state(self) -> bytes:
        """What `restore` needs beside the bars of the ring."""
        return _packed(self._label(), self.next_bar, self.carry.states)

    def restore(self, state: bytes) -> None:
        """Go on where `state` was taken.

        Raises: InvalidInput for a state of something else; `advance` does for one of a version that
        kept other states, and then the line has to begin again from its anchor.
        """
        self.next_bar, states = _unpacked(state, self._label())
        self.carry = Carry(states, restored=self.next_bar > self.anchor)

    def _label(self) -> list[Any]:
        """What a state belongs to."""
        params = {name: values.item() for name, values in self.params.items()}
        known = self._indicator.DEFINITION
        return [known.indicator_id, self._output, self.source, params, self.anchor]


@dataclass(frozen=True, slots=True, eq=False)
class Advance:
    """New bars of a voting output: `values` f4[n], `votes` i1[n] of 1 LONG, -1 SHORT, 0 NEUTRAL."""

    values: NDArray[np.float32]
    votes: NDArray[np.int8]


class IncrementalVotes:
    """One output of an indicator with one setting and its votes with one setting of the rule.

    Raises: InvalidGrid where the output has no rule or the grid has several settings.
    """

    def __init__(self, grid: IndicatorGrid, anchor: int) -> None:
        if grid.rows != 1:
            raise InvalidGrid(
                f"{grid.indicator_id} votes with one setting, the grid has {grid.rows}"
            )
        self._rule = voting_rule(grid.definition, grid.output)
        axes = {axis.name: axis.values for axis in grid.signals}
        both = sides(grid.indicator_id, self._rule, grid.output, axes)
        pair = ((both.long, 0), (both.short, 1))
        alike = both.long.output == both.short.output
        passes = (pair,) if alike else (pair[:1], pair[1:])
        self._packers = [(part[0][0].output, Packer(part)) for part in passes]
        self._bodies = [(plane, side.body) for side, plane in pair if side.body]
        self._lag, self._output = longest_lag(grid), grid.output
        names = {grid.output, *(output for output, _ in self._packers)}
        self._lines = {
            name: Incremental(replace(grid, output=name), anchor) for name in sorted(names)
        }
        self._tail = np.full(self._lag, np.nan, np.float32)
        self.lead = max(line.lead for line in self._lines.values())

    @property
    def next_bar(self) -> int:
        """Absolute number of the bar that comes next."""
        return self._lines[self._output].next_bar

    def advance(self, series: BarSeries) -> Advance:
        """Values and votes of the bars of `series` from `next_bar` on.

        Raises: InvalidCandles as `Incremental.advance`.
        """
        line, before = self._lines[self._output], self.next_bar
        part = max((line.fresh(series) for line in self._lines.values()), key=len)
        values = {name: line.run(part) for name, line in self._lines.items()}
        count, begin = line.next_bar - before, before - part.first_bar
        if not count:
            return Advance(values[self._output], np.empty(0, np.int8))
        planes = np.zeros((2, words(count)), np.uint64)
        reference = reference_series(self._rule, part, line.source)
        for output, packer in self._packers:
            rows = np.concatenate((self._tail, values[output])).reshape(1, -1)
            packer.put(0, rows, self._lag, self._lag + count, reference, begin, planes)
        for plane, body in self._bodies:
            planes[plane] &= body_words(part, begin, begin + count, body)
        if self._lag:
            self._tail = np.concatenate((self._tail, values[self._output]))[-self._lag :]
        long, short = unpack(planes, count).view(np.int8)
        return Advance(values[self._output], long - short)

    def state(self) -> bytes:
        """What `restore` needs beside the bars of the ring."""
        held = {
            f"{name}/{key}": value
            for name, line in self._lines.items()
            for key, value in line.carry.states.items()
        }
        return _packed(self._label(), self.next_bar, held | {"": self._tail.astype(np.float64)})

    def restore(self, state: bytes) -> None:
        """Go on where `state` was taken. Raises: as `Incremental.restore`."""
        next_bar, held = _unpacked(state, self._label())
        self._tail = held.pop("").astype(np.float32)
        for name, line in self._lines.items():
            line.next_bar = next_bar
            keys = [key for key in held if key.startswith(f"{name}/")]
            states = {key.removeprefix(f"{name}/"): held[key] for key in keys}
            line.carry = Carry(states, restored=next_bar > line.anchor)

    def _label(self) -> list[Any]:
        return [*self._lines[self._output]._label(), self._lag]


def _packed(label: list[Any], next_bar: int, arrays: Mapping[str, NDArray[np.float64]]) -> bytes:
    shapes = {name: values.shape for name, values in arrays.items()}
    head = json.dumps([label, next_bar, shapes]).encode()
    body = (values.astype("<f8").tobytes() for values in arrays.values())
    return b"".join((head, b"\n", *body))


def _unpacked(state: bytes, label: list[Any]) -> tuple[int, dict[str, NDArray[np.float64]]]:
    head, _, body = state.partition(b"\n")
    try:
        found, next_bar, shapes = json.loads(head)
        sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in shapes.items()}
    except (ValueError, TypeError, AttributeError):
        raise InvalidInput("not the state of an indicator") from None
    if found != label:
        raise InvalidInput(f"the state is that of {found}, not of {label}")
    if len(body) != 8 * sum(sizes.values()):
        raise InvalidInput(f"the state of {label} is cut off")
    numbers, arrays, at = np.frombuffer(body, "<f8").astype(np.float64), {}, 0
    for name, size in sizes.items():
        arrays[name] = numbers[at : at + size].reshape(shapes[name]).copy()
        at += size
    return next_bar, arrays
