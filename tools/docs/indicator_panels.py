"""What a picture shows where: outputs sorted into panels by the scale they are read on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Output
from compute.indicators.series import BarSeries
from tools.docs.indicator_example import Example

COMPARABLE: Final = 25.0
"""Outputs share a panel while the largest reaches less than this many times the smallest."""
COLUMNS: Final = frozenset({"hist", "ao"})
DOTS: Final = frozenset({"psar", "pivot_high", "pivot_low"})
PRICE_EVENTS: Final = frozenset({"pivot_high", "pivot_low"})


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One output in a panel; `color` is its place in the palette, `form` is line, steps, columns
    or dots."""

    name: str
    values: NDArray[np.float32]
    color: int
    form: str
    primary: bool


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Curves on one scale, from `low` to `high`; `levels` are the values that decide a vote."""

    curves: tuple[Curve, ...]
    levels: tuple[float, ...]
    low: float
    high: float
    volume: bool = False


def panels(shown: Example) -> tuple[Panel, tuple[Panel, ...]]:
    """The price panel with the outputs that are prices, and the panels below it."""
    known, series = shown.definition, shown.series
    curves = [
        Curve(item.name, shown.outputs[item.name], place, _form(shown, item.name),
              item.name == known.primary)
        for place, item in enumerate(known.outputs)
    ]  # fmt: skip
    over = tuple(c for c in curves if is_price(known.output(c.name)))
    rest = [c for c in curves if not is_price(known.output(c.name))]
    low, high = _reach([*(c.values for c in over), series.low, series.high], ())
    below = [_panel(shown, group, series) for group in _comparable(rest)]
    return Panel(over, (), low, high), tuple(below)


def is_price(output: Output) -> bool:
    """Whether an output is read on the price's own scale."""
    compared = output.rule is not None and output.rule.family == "compare_price_to_output"
    return compared or output.name in PRICE_EVENTS


def _form(shown: Example, name: str) -> str:
    if name in DOTS:
        return "dots"
    if name.endswith("_dir"):
        return "steps"
    candle = shown.definition.indicator_id.startswith("structure.candle_")
    return "columns" if name in COLUMNS or (candle and len(shown.outputs) == 1) else "line"


def _comparable(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Groups of curves of comparable size, in the order of their first curve."""
    groups: list[list[Curve]] = []
    for curve in curves:
        own = _size(curve)
        for group in groups:
            sizes = [_size(other) for other in group]
            if max(*sizes, own) < COMPARABLE * min(*sizes, own):
                group.append(curve)
                break
        else:
            groups.append([curve])
    return groups


def _size(curve: Curve) -> float:
    finite = curve.values[np.isfinite(curve.values)]
    return float(np.max(np.abs(finite), initial=1e-12))


def _panel(shown: Example, group: Sequence[Curve], series: BarSeries) -> Panel:
    """A panel of curves of comparable size, with the levels of the primary or else first one."""
    leader = next((curve for curve in group if curve.primary), group[0])
    rule = shown.definition.output(leader.name).rule
    # Only the primary output's parameters were chosen; a sign needs none.
    decided = rule is not None and (leader.primary or rule.family == "sign")
    levels = _levels(rule.family, shown.signals) if rule and decided else ()
    volume = rule is not None and rule.family == "compare_volume_to_output"
    rows = [curve.values for curve in group]
    low, high = _reach([*rows, series.volume] if volume else rows, levels)
    if volume or any(curve.form == "columns" for curve in group):
        low, high = min(low, 0.0), max(high, 0.0)
    return Panel(tuple(group), levels, low, high, volume)


def _levels(family: str, signals: dict[str, int | float]) -> tuple[float, ...]:
    """The values of an output at which its vote changes."""
    if family == "sign":
        return (0.0,)
    if family == "threshold_band":
        return (signals["long_threshold"], signals["short_threshold"])
    if family == "threshold_centered":
        return (1.0 - signals["abs_threshold"], 1.0 + signals["abs_threshold"])
    return tuple(signals.values()) if family == "candle_body_direction" else ()


def _reach(rows: Sequence[NDArray[np.float32]], levels: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest finite value; apart from each other even where all are equal."""
    values = np.concatenate([*rows, np.asarray(levels, np.float64)]).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 1.0, high + 1.0)
