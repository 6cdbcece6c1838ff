"""What the form shows of an indicator: axes and their bounds, outputs, what it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from api.pages.form import INDICATOR, Fields, Pairs, axis_pairs
from compute.axes import AxisSpec, Explicit, Range, materialised
from compute.indicator_grids import proposed_axis
from compute.indicators.defaults import IndicatorDefaults
from compute.indicators.definition import GROUPS, SOURCE, Definition, Param, RuleParam
from compute.indicators.registry import definition, ids

GROUP_NAMES: Final = {
    "ma": "Moving averages",
    "momentum": "Momentum",
    "trend": "Trend",
    "volatility": "Volatility",
    "volume": "Volume",
    "structure": "Candle structure",
}
_RULE_VALUES: Final = 3
"""Values that an axis of a rule begins with."""

Known = Mapping[str, IndicatorDefaults]


@dataclass(frozen=True, slots=True)
class AxisView:
    """An axis of numbers as inputs: what its values may be, and what is tried where it is empty."""

    name: str
    label: str
    is_whole: bool
    least: float | None
    most: float | None
    step: float | None
    default: Mapping[str, Any]

    @property
    def bounds(self) -> str:
        """What its values may be, in words."""
        if self.least is None:
            return "whole numbers" if self.is_whole else ""
        return f"{self.least:g} to {self.most:g}" + ("" if self.step == 1 else f" by {self.step:g}")

    @property
    def first_form(self) -> str:
        """How its values are given where nothing was chosen."""
        return "list" if self.default.get("mode") == "explicit" else "range"


@dataclass(frozen=True, slots=True)
class BlockView:
    """An indicator as a part of the form."""

    indicator_id: str
    title: str
    group: str
    sources: tuple[str, ...]
    default_sources: str
    params: tuple[AxisView, ...]
    outputs: tuple[tuple[str, str], ...]
    primary: str
    output: str
    meaning: str
    signals: tuple[AxisView, ...]


def listing() -> list[tuple[str, list[tuple[str, str]]]]:
    """(group, its indicators by id and title) of all that can vote; imports every one of them."""
    found: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for name in ids():
        known = definition(name)
        if any(output.rule is not None for output in known.outputs):
            found[known.group].append((name, known.title))
    return [(GROUP_NAMES[group], found[group]) for group in GROUP_NAMES]


def block_view(indicator_id: str, fields: Fields, defaults: Known) -> BlockView:
    """The block of an indicator in a form. Raises: InvalidGrid for an unknown one."""
    known = definition(indicator_id)
    given = defaults.get(indicator_id) or IndicatorDefaults(indicator_id)
    name = f"blocks.{indicator_id}"
    chosen = fields.texts(f"{name}.{SOURCE}")
    output = _output(known, fields.text(f"{name}.output"))
    source = given.source
    return BlockView(
        indicator_id=indicator_id,
        title=known.title,
        group=GROUP_NAMES[known.group],
        # The order of the values is that of the boxes, so chosen ones stand first, as they came.
        sources=tuple(dict.fromkeys([*(s for s in chosen if s in known.sources), *known.sources])),
        default_sources="" if source is None else ", ".join(map(str, materialised(source))),
        params=tuple(
            _param_view(f"{name}.params.{param.name}", param, given.params.get(param.name))
            for param in known.params
        ),
        outputs=tuple((one.name, one.meaning) for one in known.outputs if one.rule is not None),
        primary=known.primary,
        output=output,
        meaning=known.output(output).meaning,
        signals=tuple(
            _rule_view(f"signals.{indicator_id}.{param.name}", param, axis)
            for param, axis in _rule_axes(known, output, given)
        ),
    )


def start_pairs(
    indicator_id: str, fields: Fields, defaults: Known, *, is_one: bool = False
) -> Pairs:
    """The fields that a block begins with: few values of each axis that has none in the form.

    With `is_one` it is one value of each.
    """
    known = definition(indicator_id)
    given = defaults.get(indicator_id) or IndicatorDefaults(indicator_id)
    name = f"blocks.{indicator_id}"
    pairs: Pairs = []
    if indicator_id not in fields.indicators:
        pairs.append((INDICATOR, indicator_id))
        if known.sources:
            pairs.append((f"{name}.{SOURCE}", known.sources[0]))
        sides = 0 if is_one else 2 if len(known.params) == 1 else 1
        for param in known.params:
            axis = around(param, given.params.get(param.name), sides)
            pairs += axis_pairs(f"{name}.params.{param.name}", axis.spec())
    output = _output(known, fields.text(f"{name}.output"))
    for param, axis in _rule_axes(known, output, given):
        if param.name not in fields.below(f"signals.{indicator_id}"):
            few = middle(axis, 1 if is_one else _RULE_VALUES)
            pairs += axis_pairs(f"signals.{indicator_id}.{param.name}", few.spec())
    return pairs


def around(param: Param, axis: AxisSpec | None, sides: int) -> AxisSpec:
    """A few values of a parameter: its usual one with `sides` others below and above.

    They are a round step of about a quarter of the usual value apart, and within what is tried
    where nothing is said. Values that are listed there are taken as they are, the ones in the
    middle where they are many.
    """
    if isinstance(axis, Explicit):
        return middle(axis, 2 * sides + 1)
    bounds = (param.hard_min, param.hard_max) if axis is None else (axis.start, axis.stop_incl)
    low, high, usual, least = map(_exact, (*bounds, param.default, param.step))
    usual = min(max(usual, low), high)
    if not sides:
        return Explicit((_plain(usual),))
    step = _round_step(min(usual / 4, (high - low) / (2 * sides)), least)
    room_below, room_above = (usual - low) // step, (high - usual) // step
    above = min(2 * sides - min(sides, room_below), room_above)
    below = min(2 * sides - above, room_below)
    return Range(*map(_plain, (usual - below * step, usual + above * step, step)))


def middle(axis: AxisSpec, most: int) -> AxisSpec:
    """At most `most` values of an axis, those in its middle."""
    count = len(axis.values) if isinstance(axis, Explicit) else axis.count()
    start = max(0, count - most + 1) // 2
    if isinstance(axis, Explicit):
        return Explicit(axis.values[start : start + most])
    first, step = _exact(axis.start), _exact(axis.step)
    last = first + (min(start + most, count) - 1) * step
    return Range(*map(_plain, (first + start * step, last, step)))


def _round_step(most: Decimal, least: Decimal) -> Decimal:
    """The largest of 1, 2, 5, 10, 20, … up to `most` that is a multiple of `least`, else that."""
    top = most.adjusted()
    steps = (Decimal(digit).scaleb(power) for power in (top, top - 1) for digit in (5, 2, 1))
    return next((step for step in steps if step <= most and step % least == 0), least)


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _output(known: Definition, wanted: str) -> str:
    """The output that a block votes with: the one wanted, the primary one, else the first."""
    usable = [output.name for output in known.outputs if output.rule is not None]
    return next((name for name in (wanted, known.primary) if name in usable), usable[0])


def _rule_axes(
    known: Definition, output: str, given: IndicatorDefaults
) -> list[tuple[RuleParam, AxisSpec]]:
    """The parameters of an output's rule, by name, and what is tried where nothing is said."""
    rule = known.output(output).rule
    assert rule is not None
    own = given.signals if output == known.primary else {}
    return [
        (param, own.get(param.name) or proposed_axis(param))
        for param in sorted(rule.params, key=lambda param: param.name)
    ]


def _param_view(name: str, param: Param, default: AxisSpec | None) -> AxisView:
    return AxisView(
        name,
        param.name.replace("_", " "),
        param.kind == "int",
        param.hard_min,
        param.hard_max,
        param.step,
        {} if default is None else default.spec(),
    )


def _rule_view(name: str, param: RuleParam, default: AxisSpec) -> AxisView:
    label = param.name.replace("_", " ")
    return AxisView(name, label, param.kind == "int", None, None, None, default.spec())
