"""Stage A's columns of a job as arrays: a value for each base variant, in the order of the grid.

Where every variant has a value, an axis of the grid is an axis of the array: a filter is a cut, an
aggregate a reduction. Columns are read when they are first asked for and kept for the next
question, the ones that were asked for last, up to a budget of bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from api.column_parts import METRICS, Part, Wanted
from compute.grid import Grid

CACHE_BYTES: Final = 320 * 2**20
"""Room for two jobs of five million base variants each."""

Floats = NDArray[np.float64]


class ColumnCache:
    """Columns that were read, by the directory of their plan; its spans never change."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[tuple[Path, str], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What is held."""
        return sum(column.nbytes for column in self._held.values())

    def column(self, parts: Sequence[Part], grid: Grid, name: str) -> NDArray[Any]:
        """The metric `name` of all variants, frozen; NaN where one has no value."""
        key = parts[0].path.parent, name
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        found = _read(parts, grid, name)
        with self._lock:
            self._held[key] = found
            while self.size_bytes > self._limit_bytes and len(self._held) > 1:
                self._held.popitem(last=False)
        return found


def _read(parts: Sequence[Part], grid: Grid, name: str) -> NDArray[Any]:
    import pyarrow.parquet as pq

    column: NDArray[Any] | None = None
    for part in parts:
        table = pq.read_table(part.path, columns=["flat_index", name], use_threads=False)
        values = table.column(name).to_numpy()
        if column is None:
            column = np.empty(grid.total, values.dtype)
        column[table.column("flat_index").to_numpy()] = values
    assert column is not None
    column.flags.writeable = False
    return column


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of one job: complete `parts` of `grid`."""

    parts: Sequence[Part]
    grid: Grid
    cache: ColumnCache

    def all(self, name: str) -> NDArray[Any]:
        """A metric of all variants, in flat order."""
        return self.cache.column(self.parts, self.grid, name)

    def kept(self, wanted: Wanted) -> list[NDArray[np.int64]]:
        """The digits of each axis that are let through."""
        sizes = enumerate(self.grid.sizes)
        return [np.flatnonzero(wanted.axes.get(i, np.ones(size, np.bool_))) for i, size in sizes]

    def block(self, wanted: Wanted, name: str) -> Floats:
        """A metric f8 over `kept(wanted)`, an axis of the array for each of the grid; a copy.

        NaN where a variant has no value or is outside the bounds.
        """
        found = self._cut(wanted, name).astype(np.float64)
        for bounded, (low, high) in wanted.bounds.items():
            other = self._cut(wanted, bounded)
            found[~((other >= low) & (other <= high))] = np.nan
        return found

    def count(self, wanted: Wanted) -> int:
        """How many variants are wanted; each has a return."""
        return int(np.count_nonzero(~np.isnan(self.block(wanted, METRICS[0]))))

    def _cut(self, wanted: Wanted, name: str) -> NDArray[Any]:
        cube = self.all(name).reshape(self.grid.sizes)
        for axis, let in wanted.axes.items():
            cube = np.compress(let, cube, axis=axis)
        return cube

    def flat(self, wanted: Wanted, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat indices of places in the flattened `block(wanted, …)`."""
        kept = self.kept(wanted)
        digits = np.unravel_index(places, [len(one) for one in kept])
        chosen = tuple(one[digit] for one, digit in zip(kept, digits, strict=True))
        return np.ravel_multi_index(chosen, self.grid.sizes).astype(np.int64)

    def rows(self, flat: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Flat index, value of each axis and metrics of some variants, JSON-able."""
        digits = self.grid.digits(flat)
        metrics = [self.all(name)[flat].tolist() for name in METRICS]
        return [
            {
                "flat_index": int(index),
                "values": [
                    axis.values[digit] for axis, digit in zip(self.grid.axes, row, strict=True)
                ],
                "metrics": [_finite(column[i]) for column in metrics],
            }
            for i, (index, row) in enumerate(zip(flat, digits.tolist(), strict=True))
        ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
