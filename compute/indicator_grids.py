"""Grids of indicator blocks as they are sent: axes checked, missing ones filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compute import axes
from compute.axes import AxisSpec, Explicit, Range
from compute.errors import InvalidGrid
from compute.grid import Axis, IndicatorGrid
from compute.indicators.defaults import IndicatorDefaults, check_default
from compute.indicators.definition import SOURCE, Definition, Listed, Output, Rule, RuleParam
from compute.indicators.registry import definition

if TYPE_CHECKING:
    from compute.request import IndicatorBlock


def voting_grid(
    block: IndicatorBlock, signals: Mapping[str, AxisSpec], given: IndicatorDefaults
) -> IndicatorGrid:
    """The grid of a block that votes; axes it leaves out come from the deployment's defaults.

    Raises: InvalidGrid; InvalidDefaults when the deployment's own ranges are outside the bounds.
    """
    known = definition(block.indicator_id)
    check_default(given, known)
    output = _voting_output(known, block.output)
    return IndicatorGrid(
        known,
        output.name,
        _compute_axes(known, block, given),
        _signal_axes(known, output, signals, given),
    )


def series_grid(block: IndicatorBlock) -> IndicatorGrid:
    """The grid of a block that is only computed: every axis as sent, any output.

    Raises: InvalidGrid.
    """
    known = definition(block.indicator_id)
    names = [output.name for output in known.outputs]
    output = known.primary if block.output is None else block.output
    if output not in names:
        raise InvalidGrid(
            f"{known.indicator_id}: unknown output {output!r}; it has {', '.join(names)}",
            details={"indicator_id": known.indicator_id, "outputs": names},
        )
    given = IndicatorDefaults(known.indicator_id)
    return IndicatorGrid(known, output, _compute_axes(known, block, given), ())


def _voting_output(known: Definition, name: str | None) -> Output:
    """The output that votes. Raises: InvalidGrid with the usable ones."""
    usable = [output.name for output in known.outputs if output.rule is not None]
    fields = {"indicator_id": known.indicator_id, "usable_outputs": usable}
    try:
        output = known.output(name)
    except KeyError:
        raise InvalidGrid(
            f"{known.indicator_id}: unknown output {name!r}; "
            f"usable outputs: {', '.join(usable) or 'none'}",
            details=fields,
        ) from None
    if output.rule is None:
        if name is None and not usable:
            raise InvalidGrid(
                f"Unsupported indicator_id for signals v1: {known.indicator_id}", details=fields
            )
        raise InvalidGrid(
            f"{known.indicator_id}: output {output.name!r} has no voting rule; "
            f"usable outputs: {', '.join(usable) or 'none'}",
            details=fields,
        )
    return output


def _compute_axes(
    known: Definition, block: IndicatorBlock, given: IndicatorDefaults
) -> tuple[Axis, ...]:
    """Compute axes in definition order, missing ones from the defaults."""
    names = [param.name for param in known.params]
    for name in block.params:
        if name not in names:
            raise InvalidGrid(
                f"{known.indicator_id}: unknown param {name!r}; "
                f"it takes {', '.join(names) or 'no params'}",
                details={"indicator_id": known.indicator_id, "param": name},
            )
    if block.source is not None and not known.sources:
        raise InvalidGrid(
            f"{known.indicator_id}: unknown input 'source', it reads fixed series",
            details={"indicator_id": known.indicator_id, "param": SOURCE},
        )
    found: list[Axis] = []
    for name in known.axes:
        spec = block.source if name == SOURCE else block.params.get(name)
        spec = spec or (given.source if name == SOURCE else given.params.get(name))
        if spec is None:
            kind = "input" if name == SOURCE else "param"
            raise InvalidGrid(
                f"{known.indicator_id}: missing required {kind} {name!r}; "
                "send it, this environment has no default",
                details={"indicator_id": known.indicator_id, "param": name},
            )
        if name == SOURCE:
            found.append(Axis(name, axes.source_values(known, spec)))
        else:
            found.append(Axis(name, axes.compute_values(known, known.param(name), spec)))
    _check_order(known, found)
    return tuple(found)


def _check_order(known: Definition, found: Sequence[Axis]) -> None:
    values = {axis.name: [v for v in axis.values if not isinstance(v, str)] for axis in found}
    for small, large in known.ordered:
        most, least = max(values[small]), min(values[large])
        if most > least:
            raise InvalidGrid(
                f"{known.indicator_id}: {small} must not exceed {large} in any combination,"
                f" the grid pairs {most} with {least}",
                details={"indicator_id": known.indicator_id, "param": small},
            )


def _signal_axes(
    known: Definition, output: Output, sent: Mapping[str, AxisSpec], given: IndicatorDefaults
) -> tuple[Axis, ...]:
    """Rule axes sorted by name, missing ones from the defaults.

    The deployment's defaults are meant for the primary output; another output has its own scale,
    so it takes the ranges its definition proposes.
    """
    rule = output.rule or Rule("")
    names = sorted(param.name for param in rule.params)
    for name in sent:
        if name not in names:
            raise InvalidGrid(
                f"{known.indicator_id}: unknown signal param {name!r}; "
                f"rule {rule.family} takes {', '.join(names) or 'none'}",
                details={"indicator_id": known.indicator_id, "param": name},
            )
    found: list[Axis] = []
    for param in sorted(rule.params, key=lambda param: param.name):
        spec = sent.get(param.name)
        if spec is None:
            primary = output.name == known.primary
            spec = given.signals.get(param.name) if primary else proposed_axis(param)
        if spec is None:
            raise InvalidGrid(
                f"{known.indicator_id}: missing required signal param '{param.name}'",
                details={"indicator_id": known.indicator_id, "param": param.name},
            )
        values = axes.signal_values(known.indicator_id, rule.family, param, spec)
        found.append(Axis(param.name, values))
    return tuple(found)


def proposed_axis(param: RuleParam) -> AxisSpec:
    """The values a definition proposes for a parameter of its rule."""
    proposed = param.proposed
    if isinstance(proposed, Listed):
        return Explicit(proposed.values)
    return Range(proposed.start, proposed.stop_incl, proposed.step)
