"""Grids of indicator blocks as they are sent: axes checked, missing ones filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    Raises: the first InvalidGrid of all that is wrong with the block, with the others;
    InvalidDefaults when the deployment's own ranges are outside the bounds.
    """
    known = definition(block.indicator_id)
    check_default(given, known)
    usable = _usable_outputs(known)
    faults = Faults()
    output = next((item for item in usable if item.name == (block.output or known.primary)), None)
    if output is None:
        faults.found.append(_unusable(known, block.output or known.primary, usable))
    compute = _compute_axes(known, block, given, faults)
    rule_axes = () if output is None else _signal_axes(known, output, signals, given, faults)
    faults.refuse()
    assert output is not None  # else there is a fault
    return IndicatorGrid(known, output.name, compute, rule_axes)


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
    faults = Faults()
    compute = _compute_axes(known, block, IndicatorDefaults(known.indicator_id), faults)
    faults.refuse()
    return IndicatorGrid(known, output, compute, ())


class Faults:
    """What is wrong with a block, gathered so that all of it can be mended at once."""

    def __init__(self) -> None:
        self.found: list[InvalidGrid] = []

    def add(self, message: str, **details: str) -> None:
        """One more."""
        self.found.append(InvalidGrid(message, details=details))

    @contextmanager
    def kept(self, **details: str) -> Iterator[None]:
        """Keeps the InvalidGrid that is raised inside, with these details at least."""
        try:
            yield
        except InvalidGrid as fault:
            fault.details = details | fault.details
            self.found.append(fault)

    def refuse(self) -> None:
        """Raises the first one, with the others, where there are some."""
        if self.found:
            first, *others = self.found
            first.others = others
            raise first


def _usable_outputs(known: Definition) -> list[Output]:
    """The outputs that can vote. Raises: InvalidGrid where there are none."""
    usable = [output for output in known.outputs if output.rule is not None]
    if not usable:
        raise InvalidGrid(
            f"{known.indicator_id} has no output that can vote;"
            f" {known.voter} votes on the same values",
            details={"indicator_id": known.indicator_id, "usable_outputs": []},
        )
    return usable


def _unusable(known: Definition, name: str, usable: Sequence[Output]) -> InvalidGrid:
    """What to say of an output that cannot vote or does not exist."""
    names = [output.name for output in usable]
    exists = any(output.name == name for output in known.outputs)
    what = f"output {name!r} has no voting rule" if exists else f"unknown output {name!r}"
    return InvalidGrid(
        f"{known.indicator_id}: {what}; usable outputs: {', '.join(names)}",
        details={"indicator_id": known.indicator_id, "usable_outputs": names},
    )


def _compute_axes(
    known: Definition, block: IndicatorBlock, given: IndicatorDefaults, faults: Faults
) -> tuple[Axis, ...]:
    """Compute axes in definition order, missing ones from the defaults; fewer where one is wrong.

    The details of a fault name its `axis`.
    """
    names = [param.name for param in known.params]
    where = known.indicator_id
    for name in block.params:
        if name not in names:
            takes = ", ".join(names) or "no params"
            faults.add(
                f"{where}: unknown param {name!r}; it takes {takes}", indicator_id=where, axis=name
            )
    if block.source is not None and not known.sources:
        faults.add(
            f"{where}: unknown input 'source', it reads fixed series",
            indicator_id=where,
            axis=SOURCE,
        )
    found: list[Axis] = []
    for name in known.axes:
        spec = block.source if name == SOURCE else block.params.get(name)
        spec = spec or (given.source if name == SOURCE else given.params.get(name))
        if spec is None:
            kind = "input" if name == SOURCE else "param"
            faults.add(
                f"{where}: missing required {kind} {name!r};"
                " send it, this environment has no default",
                indicator_id=where,
                axis=name,
            )
            continue
        with faults.kept(indicator_id=where, axis=name):
            if name == SOURCE:
                found.append(Axis(name, axes.source_values(known, spec)))
            else:
                found.append(Axis(name, axes.compute_values(known, known.param(name), spec)))
    if len(found) == len(known.axes):
        _check_order(known, found, faults)
    return tuple(found)


def _check_order(known: Definition, found: Sequence[Axis], faults: Faults) -> None:
    values = {axis.name: [v for v in axis.values if not isinstance(v, str)] for axis in found}
    for small, large in known.ordered:
        most, least = max(values[small]), min(values[large])
        if most > least:
            faults.add(
                f"{known.indicator_id}: {small} must not exceed {large} in any combination,"
                f" the grid pairs {most} with {least}",
                indicator_id=known.indicator_id,
                axis=small,
            )


def _signal_axes(
    known: Definition,
    output: Output,
    sent: Mapping[str, AxisSpec],
    given: IndicatorDefaults,
    faults: Faults,
) -> tuple[Axis, ...]:
    """Rule axes sorted by name, missing ones from the defaults; fewer where one is wrong.

    The details of a fault name its `param`.

    The deployment's defaults are meant for the primary output; another output has its own scale,
    so it takes the ranges its definition proposes.
    """
    rule = output.rule or Rule("")
    names = sorted(param.name for param in rule.params)
    for name in sent:
        if name not in names:
            faults.add(
                f"{known.indicator_id}: unknown signal param {name!r}; "
                f"rule {rule.family} takes {', '.join(names) or 'none'}",
                indicator_id=known.indicator_id,
                param=name,
            )
    found: list[Axis] = []
    for param in sorted(rule.params, key=lambda param: param.name):
        spec = sent.get(param.name)
        if spec is None:
            primary = output.name == known.primary
            spec = given.signals.get(param.name) if primary else proposed_axis(param)
        if spec is None:
            faults.add(
                f"{known.indicator_id}: missing required signal param '{param.name}'",
                indicator_id=known.indicator_id,
                param=param.name,
            )
            continue
        with faults.kept(indicator_id=known.indicator_id, param=param.name):
            values = axes.signal_values(known.indicator_id, rule.family, param, spec)
            found.append(Axis(param.name, values))
    return tuple(found)


def proposed_axis(param: RuleParam) -> AxisSpec:
    """The values a definition proposes for a parameter of its rule."""
    proposed = param.proposed
    if isinstance(proposed, Listed):
        return Explicit(proposed.values)
    return Range(proposed.start, proposed.stop_incl, proposed.step)
