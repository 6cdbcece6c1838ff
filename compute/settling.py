"""Bars until what an indicator says no longer depends on where its bars begin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from compute.grid import Axis, Grid, IndicatorGrid
from compute.indicators.registry import module


def settle_bars(grid: Grid) -> int:
    """Bars to load before a period so that every vote is settled on its first bar: windows full,
    seeds worn off, lags inside.

    The bar that closes as the period starts is the first one traded and one of the loaded, hence
    one more than the longest settling.
    """
    return 1 + max((settling(part) + longest_lag(part) for part in grid.indicators), default=0)


def settling(part: IndicatorGrid) -> int:
    """The longest settling of the settings of an indicator.

    It is monotone in each parameter, so the corners of the axes are enough.
    """
    settle = module(part.indicator_id).settle
    return max(settle(corner) for corner in corners(part))


def corners(part: IndicatorGrid) -> Iterator[dict[str, int | float | str]]:
    """The settings at the ends of the axes of an indicator."""
    return map(dict, itertools.product(*(_ends(axis) for axis in part.compute)))


def _ends(axis: Axis) -> tuple[tuple[str, int | float | str], ...]:
    """(name, value) at the smallest and the largest value; sources settle alike."""
    numbers = [value for value in axis.values if not isinstance(value, str)]
    ends = {min(numbers), max(numbers)} if numbers else {axis.values[0]}
    return tuple((axis.name, value) for value in ends)


def longest_lag(part: IndicatorGrid) -> int:
    """The longest lag of a rule that compares an output with itself."""
    rule = part.definition.output(part.output).rule
    if rule is None or rule.family != "delta_sign":
        return 0
    return max(abs(int(value)) for axis in part.signals for value in axis.values)
