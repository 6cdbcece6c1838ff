"""Votes of one indicator output: its rule with parameters, reduced to comparisons.

Eight rule families come down to five comparisons a side. Thresholds become closed float32
intervals (a strict bound is the next float), so "finite" is part of the interval and one vector
comparison serves bands, centred thresholds, signs, minima and events alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidGrid
from compute.indicators.definition import Definition, Rule
from compute.indicators.series import BarSeries

BETWEEN = 0  # low <= out <= high
ABOVE = 1  # reference > out
BELOW = 2  # reference < out
RISING = 3  # out > out[lag bars ago]
FALLING = 4  # out < out[lag bars ago]

_MOST = np.finfo(np.float32).max
_LEAST = -_MOST
_UP = np.float32(np.inf)
_DOWN = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a rule over all its parameter rows.

    `key` i4[S] maps a signal row to one of the `count` comparisons that differ; comparison k reads
    `low[k]`, `high[k]` (BETWEEN) or `lag[k]` (RISING, FALLING). `body` adds a candle direction:
    1 close > open, -1 close < open, 0 none.
    """

    form: int
    key: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    lag: NDArray[np.int64]
    output: str
    body: int = 0

    @property
    def count(self) -> int:
        """Number of comparisons that differ."""
        return self.low.size


@dataclass(frozen=True, slots=True)
class Sides:
    """Both directions of a rule; `conflicts`: some row can be true for both on one bar."""

    long: Side
    short: Side
    conflicts: bool


def voting_rule(definition: Definition, output: str | None) -> Rule:
    """The rule of an output. Raises InvalidGrid naming the outputs that have one."""
    usable = [item.name for item in definition.outputs if item.rule is not None]
    cure = f"use output {' or '.join(usable)}" if usable else "it cannot vote"
    name = definition.primary if output is None else output
    rule = next((item.rule for item in definition.outputs if item.name == name), None)
    if rule is None:
        raise InvalidGrid(
            f"Unsupported indicator_id for signals v1: {definition.indicator_id}"
            f" (output '{name}' has no rule; {cure})",
            details={"indicator_id": definition.indicator_id, "output": name, "usable": usable},
        )
    return rule


def check_signals(
    indicator_id: str, rule: Rule, values: Mapping[str, Sequence[object]]
) -> dict[str, tuple[float, ...]]:
    """The axis values of a rule, in the rule's parameter order, checked before any compute.

    Raises InvalidGrid for a missing or unknown parameter, a value that is not a finite number, and
    a lag that is not a non-zero integer.
    """
    known = [param.name for param in rule.params]
    for name in values:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise InvalidGrid(
                f"{indicator_id}: unknown signal param '{name}'; {rule.family} {takes}"
            )
    checked: dict[str, tuple[float, ...]] = {}
    for name in known:
        if name not in values or len(values[name]) == 0:
            raise InvalidGrid(f"{indicator_id}: missing required signal param '{name}'")
        checked[name] = tuple(
            _number(f"{indicator_id}: signal param '{name}'", value, rule.family == "delta_sign")
            for value in values[name]
        )
    return checked


def _number(label: str, value: object, lag: bool) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        raise InvalidGrid(f"{label} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise InvalidGrid(f"{label} must be finite, got {value!r}")
    if lag:
        if not isinstance(value, int | np.integer):
            raise InvalidGrid(f"{label} must be an integer, got {value!r}")
        if value == 0:
            raise InvalidGrid(f"{label}: absolute value must be > 0, got {value}")
    return value  # type: ignore[return-value]


def sides(
    indicator_id: str, rule: Rule, output: str, signals: Mapping[str, Sequence[Any]]
) -> Sides:
    """Both directions of `rule` over its signal axes (sorted by name, the last one fastest).

    Raises InvalidGrid as `check_signals`.
    """
    checked = check_signals(indicator_id, rule, signals)
    names = sorted(checked)
    mesh = np.meshgrid(*(np.asarray(checked[name]) for name in names), indexing="ij")
    columns = {name: values.reshape(-1) for name, values in zip(names, mesh, strict=True)}
    size = math.prod(len(checked[name]) for name in names)
    long, short, conflicts = _FAMILIES[rule.family](rule, output, columns, size)
    if rule.inverted:
        long, short = short, long
    return Sides(long, short, conflicts)


def _side(form: int, rule_output: str, size: int, body: int = 0) -> Side:
    none = np.zeros(1, np.float32)
    return Side(
        form, np.zeros(size, np.int32), none, none, np.zeros(1, np.int64), rule_output, body
    )


def _interval(output: str, low: Any, high: Any, size: int, body: int = 0) -> Side:
    """Side true inside [low, high]; equal intervals are one comparison."""
    bounds = np.empty((size, 2), np.float32)
    bounds[:, 0], bounds[:, 1] = np.maximum(low, _LEAST), np.minimum(high, _MOST)
    distinct, key = np.unique(bounds, axis=0, return_inverse=True)
    return Side(
        BETWEEN,
        key.reshape(-1).astype(np.int32),
        np.ascontiguousarray(distinct[:, 0]),
        np.ascontiguousarray(distinct[:, 1]),
        np.zeros(len(distinct), np.int64),
        output,
        body,
    )


def _single(values: Any) -> NDArray[np.float32]:
    """`values` rounded to float32; one beyond its range compares with everything or nothing."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def _compare(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    return _side(ABOVE, output, size), _side(BELOW, output, size), False


def _sign(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    zero = np.float32(0)
    long = _interval(output, np.nextafter(zero, _UP), _MOST, size)
    return long, _interval(output, _LEAST, np.nextafter(zero, _DOWN), size), False


def _delta(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    pair = []
    for form, name in ((RISING, "long_delta_periods"), (FALLING, "short_delta_periods")):
        lags, key = np.unique(np.abs(columns[name].astype(np.int64)), return_inverse=True)
        none = np.zeros(lags.size, np.float32)
        pair.append(Side(form, key.reshape(-1).astype(np.int32), none, none, lags, output))
    long, short = pair
    return long, short, bool(np.any(long.lag[long.key] != short.lag[short.key]))


def _band(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    long, short = _single(columns["long_threshold"]), _single(columns["short_threshold"])
    reverts = long <= short
    low = _interval(output, np.where(reverts, _LEAST, long), np.where(reverts, long, _MOST), size)
    high = _interval(
        output, np.where(reverts, short, _LEAST), np.where(reverts, _MOST, short), size
    )
    return low, high, bool(np.any(long == short))


def _centered(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    width = columns["abs_threshold"].astype(np.float64)
    upper = np.nextafter(_single(1.0 + width), _UP)
    lower = np.nextafter(_single(1.0 - width), _DOWN)
    long = _interval(output, upper, _MOST, size)
    return long, _interval(output, _LEAST, lower, size), bool(np.any(upper <= lower))


def _body(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    least = _single(columns[rule.params[0].name])
    long = _interval(output, least, _MOST, size, body=1)
    return long, _interval(output, least, _MOST, size, body=-1), False


def _events(rule: Rule, output: str, columns: Any, size: int) -> tuple[Side, Side, bool]:
    long = _interval(rule.long_output or output, _LEAST, _MOST, size)
    return long, _interval(output, _LEAST, _MOST, size), True


_FAMILIES = {
    "compare_price_to_output": _compare,
    "compare_volume_to_output": _compare,
    "sign": _sign,
    "delta_sign": _delta,
    "threshold_band": _band,
    "threshold_centered": _centered,
    "candle_body_direction": _body,
    "pivot_events": _events,
}


def reference_series(rule: Rule, series: BarSeries, source: str) -> NDArray[np.float32]:
    """The float32 series a comparison reads beside the output."""
    if rule.price == "volume":
        return series.volume
    return series.price(source if rule.price == "source" and source else "close")
