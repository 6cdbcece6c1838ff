"""A grid of variants: flat index ↔ parameters, without an object per variant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compute.axes import Scalar
from compute.errors import InvalidGrid

if TYPE_CHECKING:
    from compute.indicators.definition import Definition

_INDEXABLE = 2**63
_ROWS = 2**31


@dataclass(frozen=True, slots=True)
class Axis:
    """One named list of values; the position of a value is its digit."""

    name: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InvalidGrid(f"axis {self.name} has no values")

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Selection:
    """One concrete choice of an indicator; `output` is None for the primary one."""

    indicator_id: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, int | float] = field(default_factory=dict)
    output: str | None = None
    signals: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndicatorGrid:
    """Axes of one indicator: compute axes in definition order, signal axes sorted by name."""

    definition: Definition
    output: str
    compute: tuple[Axis, ...]
    signals: tuple[Axis, ...]
    compute_total: int = field(init=False)
    signal_total: int = field(init=False)

    def __post_init__(self) -> None:
        where = self.definition.indicator_id
        if tuple(axis.name for axis in self.compute) != tuple(self.definition.axes):
            raise InvalidGrid(
                f"{where} takes the axes {', '.join(self.definition.axes) or 'none'} in this order,"
                f" got {', '.join(axis.name for axis in self.compute) or 'none'}"
            )
        names = [axis.name for axis in self.signals]
        if names != sorted(set(names)):
            raise InvalidGrid(f"{where}: signal axes must be sorted and unique, got {names}")
        object.__setattr__(self, "compute_total", math.prod(map(len, self.compute)))
        object.__setattr__(self, "signal_total", math.prod(map(len, self.signals)))

    @property
    def indicator_id(self) -> str:
        """Identity of the indicator."""
        return self.definition.indicator_id

    @property
    def rows(self) -> int:
        """Vote rows: compute settings × rule settings."""
        return self.compute_total * self.signal_total

    def settings(self, compute_index: int) -> tuple[dict[str, str], dict[str, int | float]]:
        """Inputs and params of one compute index (row-major over the compute axes)."""
        inputs: dict[str, str] = {}
        params: dict[str, int | float] = {}
        for axis, digit in zip(self.compute, _digits(compute_index, self.compute), strict=True):
            value = axis.values[digit]
            if isinstance(value, str):
                inputs[axis.name] = value
            else:
                params[axis.name] = value
        return inputs, params

    def rule_settings(self, signal_index: int) -> dict[str, int | float]:
        """Rule parameters of one signal index (row-major over the signal axes)."""
        digits = _digits(signal_index, self.signals)
        return {
            axis.name: axis.values[digit]  # type: ignore[misc]  # signal axes are numeric
            for axis, digit in zip(self.signals, digits, strict=True)
        }


def _digits(index: int, axes: Sequence[Axis]) -> list[int]:
    """Mixed-radix digits of `index`, first axis slowest."""
    digits: list[int] = []
    for axis in reversed(axes):
        index, digit = divmod(index, len(axis))
        digits.append(digit)
    return digits[::-1]


@dataclass(frozen=True, slots=True)
class Grid:
    """Product of the indicators' axes, in the contract's enumeration order.

    Axes run slowest to fastest: compute axes of the indicators sorted by id, each in definition
    order, then all signal axes sorted by (indicator id, name); so
    `flat = compute_index * signal_total + signal_index`. Source: spec of back-tests, §4.3.
    """

    indicators: tuple[IndicatorGrid, ...]
    axes: tuple[Axis, ...] = field(init=False, repr=False)
    axis_names: tuple[str, ...] = field(init=False)
    sizes: tuple[int, ...] = field(init=False)
    compute_total: int = field(init=False)
    signal_total: int = field(init=False)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.indicators, key=lambda part: part.indicator_id))
        ids = [part.indicator_id for part in ordered]
        if not ids:
            raise InvalidGrid("a grid needs at least one indicator")
        for before, after in itertools.pairwise(ids):
            if before == after:
                raise InvalidGrid(f"duplicate indicator_id in indicator_grids: {after}")
        placed = [(part, axis) for part in ordered for axis in part.compute]
        placed += [(part, axis) for part in ordered for axis in part.signals]
        compute_total = math.prod(part.compute_total for part in ordered)
        signal_total = math.prod(part.signal_total for part in ordered)
        for name, value in (
            ("indicators", ordered),
            ("axes", tuple(axis for _, axis in placed)),
            ("axis_names", tuple(f"{part.indicator_id}.{axis.name}" for part, axis in placed)),
            ("sizes", tuple(len(axis) for _, axis in placed)),
            ("compute_total", compute_total),
            ("signal_total", signal_total),
            ("total", compute_total * signal_total),
        ):
            object.__setattr__(self, name, value)

    @property
    def idle_axes(self) -> tuple[str, ...]:
        """Names of the axes with several values that do not change the output that votes."""
        return tuple(
            f"{part.indicator_id}.{axis.name}"
            for part in self.indicators
            for axis in part.compute
            if len(axis) > 1 and axis.name not in part.definition.output(part.output).axes
        )

    def digits(self, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Digits i8[n, axes] of flat indices i8[n], one column per axis of `axis_names`."""
        rest = self._indices(flat)
        out = np.empty((rest.size, len(self.sizes)), np.int64)
        for column in range(len(self.sizes) - 1, -1, -1):
            rest, out[:, column] = np.divmod(rest, self.sizes[column])
        return out

    def local_rows(self, flat: NDArray[np.int64]) -> NDArray[np.int32]:
        """Vote rows i4[n, indicators]: row of indicator k = its compute index * S_k + its signal
        index, so that its signal axes run fastest."""
        indices = self._indices(flat)
        if (widest := max(part.rows for part in self.indicators)) >= _ROWS:
            raise InvalidGrid(f"an indicator has {widest} vote rows, at most {_ROWS - 1} fit")
        computes, signals = np.divmod(indices, self.signal_total)
        out = np.empty((indices.size, len(self.indicators)), np.int32)
        for k in range(len(self.indicators) - 1, -1, -1):
            part = self.indicators[k]
            computes, compute_index = np.divmod(computes, part.compute_total)
            signals, signal_index = np.divmod(signals, part.signal_total)
            out[:, k] = compute_index * part.signal_total + signal_index
        return out

    def selection(self, flat: int) -> list[Selection]:
        """Concrete choices of one variant, one per indicator, sorted by id."""
        if not 0 <= flat < self.total:
            raise IndexError(f"flat index {flat} outside 0..{self.total - 1}")
        compute_rest, signal_rest = divmod(int(flat), self.signal_total)
        chosen: list[Selection] = []
        for part in reversed(self.indicators):
            compute_rest, compute_index = divmod(compute_rest, part.compute_total)
            signal_rest, signal_index = divmod(signal_rest, part.signal_total)
            inputs, params = part.settings(compute_index)
            output = None if part.output == part.definition.primary else part.output
            signals = part.rule_settings(signal_index)
            chosen.append(Selection(part.indicator_id, inputs, params, output, signals))
        return chosen[::-1]

    def flat(self, selections: Iterable[Selection]) -> int:
        """Flat index of concrete choices, the inverse of `selection`, in any order.

        Raises: InvalidGrid when an indicator is missing or a value is not on its axis.
        """
        by_id = {choice.indicator_id: choice for choice in selections}
        if sorted(by_id) != [part.indicator_id for part in self.indicators]:
            raise InvalidGrid(f"the grid has other indicators than {', '.join(sorted(by_id))}")
        compute_index = signal_index = 0
        for part in self.indicators:
            choice = by_id[part.indicator_id]
            if (choice.output or part.definition.primary) != part.output:
                raise InvalidGrid(f"{part.indicator_id} is gridded on the output {part.output}")
            given = {**choice.inputs, **choice.params}
            compute_index = _index(part, compute_index, part.compute, given)
            signal_index = _index(part, signal_index, part.signals, choice.signals)
        return compute_index * self.signal_total + signal_index

    def _indices(self, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.total > _INDEXABLE:
            raise InvalidGrid(f"the grid has {self.total} variants, at most 2**63 can be numbered")
        return np.ascontiguousarray(flat, np.int64).reshape(-1)


def _index(
    part: IndicatorGrid, index: int, axes: Sequence[Axis], given: Mapping[str, Scalar]
) -> int:
    """`index` extended by the digits of `given` over `axes`."""
    if set(given) != {axis.name for axis in axes}:
        names = ", ".join(axis.name for axis in axes) or "no values"
        raise InvalidGrid(f"{part.indicator_id} needs exactly {names}")
    for axis in axes:
        try:
            digit = axis.values.index(given[axis.name])
        except ValueError:
            raise InvalidGrid(
                f"{part.indicator_id}.{axis.name} = {given[axis.name]!r} is not on the grid"
            ) from None
        index = index * len(axis) + digit
    return index
