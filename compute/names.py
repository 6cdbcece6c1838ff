"""Names of variants: identity keys, and places on the axes, by index alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.grid import Grid
from compute.keys import KeyTemplate

Ranges = dict[str, list[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class BaseNames:
    """Names of base variants; an index is a flat index of the grid."""

    template: KeyTemplate

    def __call__(self, index: NDArray[np.int64]) -> list[str]:
        """Identity keys."""
        return [self.template.base_key(i) for i in index.tolist()]

    def places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places i8[n, axes] of the parameters on their sorted axes."""
        return _places(self.template.grid, index)

    def ranges(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Ranges:
        """[smallest, largest] value by axis of two rows of places."""
        return _ranges(self.template.grid, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class VariantNames:
    """Names of variants with stops; an index is rank · pairs + risk index, `flat` i8 by rank."""

    template: KeyTemplate
    flat: NDArray[np.int64]

    def __call__(self, index: NDArray[np.int64]) -> list[str]:
        """Identity keys."""
        rank, risk = np.divmod(index, self.template.risk.total)
        key = self.template.variant_key
        return [key(f, k) for f, k in zip(self.flat[rank].tolist(), risk.tolist(), strict=True)]

    def places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places i8[n, axes + 2] of the parameters on their sorted axes, stops last."""
        rank, risk = np.divmod(index, self.template.risk.total)
        i_sl, i_tp = np.divmod(risk, len(self.template.risk.tp))
        stops = [
            np.argsort(np.argsort([np.inf if v is None else v for v in levels]))[digit]
            for levels, digit in ((self.template.risk.sl, i_sl), (self.template.risk.tp, i_tp))
        ]
        return np.column_stack([_places(self.template.grid, self.flat[rank]), *stops])

    def ranges(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Ranges:
        """[smallest, largest] value by axis of two rows of places; stops in percent, None: off."""
        ranges = _ranges(self.template.grid, low, high)
        risk = self.template.risk
        for column, (name, levels) in enumerate((("sl_pct", risk.sl), ("tp_pct", risk.tp)), -2):
            values = sorted(levels, key=lambda level: np.inf if level is None else level)
            ranges[name] = [values[low[column]], values[high[column]]]
        return ranges


def _places(grid: Grid, index: NDArray[np.int64]) -> NDArray[np.int64]:
    digits = grid.digits(index)
    for column, axis in enumerate(grid.axes):
        place = np.empty(len(axis), np.int64)
        place[sorted(range(len(axis)), key=axis.values.__getitem__)] = np.arange(len(axis))
        digits[:, column] = place[digits[:, column]]
    return digits


def _ranges(grid: Grid, low: NDArray[np.int64], high: NDArray[np.int64]) -> Ranges:
    ranges: Ranges = {}
    for name, axis, first, last in zip(grid.axis_names, grid.axes, low, high, strict=False):
        values = sorted(axis.values)  # type: ignore[type-var]  # an axis holds one kind
        ranges[name] = [values[first], values[last]]
    return ranges
