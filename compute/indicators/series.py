"""Bars as the indicators read them: frozen float32 columns and the derived prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compute.errors import InvalidGrid

FIELDS = ("open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close", "hl2", "hlc3", "ohlc4")


def frozen(values: ArrayLike) -> NDArray[np.float32]:
    """Read-only C-contiguous float32 view: one array type, hence one compiled kernel."""
    view = np.ascontiguousarray(values, dtype=np.float32).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class BarSeries:
    """T bars as read-only float32 columns; NaN marks a hole.

    `first_bar` is the absolute number of bar 0 (its open time / bar length): running sums are
    anchored to it, so that a value does not depend on where the loaded range begins.
    """

    open: NDArray[np.float32]
    high: NDArray[np.float32]
    low: NDArray[np.float32]
    close: NDArray[np.float32]
    volume: NDArray[np.float32]
    first_bar: int = 0
    _derived: dict[tuple[str, str], NDArray[Any]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if len({getattr(self, name).shape for name in FIELDS}) != 1 or self.close.ndim != 1:
            raise ValueError("bar columns must be one-dimensional and equally long")

    def __len__(self) -> int:
        return self.close.size

    def slice(self, start: int, stop: int) -> BarSeries:
        """Bars [start, stop) of them, at their absolute numbers, with derived arrays of their own.

        `start` is not negative. The columns share memory with these.
        """
        rows, part = slice(start, stop), object.__new__(BarSeries)
        for name in FIELDS:  # each is what `__post_init__` would make of it
            object.__setattr__(part, name, getattr(self, name)[rows])
        object.__setattr__(part, "first_bar", self.first_bar + start)
        object.__setattr__(part, "_derived", {})
        return part

    def derived(self, name: str, build: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array called `name`, built at its first use and read-only from then on.

        Names belong to the module that `build` is written in: two indicators may use the same.
        """
        # Two threads may both build it; the arrays are equal, so no lock is needed.
        key = build.__module__, name
        known = self._derived.get(key)
        if known is None:
            known = np.ascontiguousarray(build()).view()
            known.flags.writeable = False
            self._derived[key] = known
        return known

    def price(self, source: str) -> NDArray[np.float32]:
        """The price series `source`; the means are computed in float32.

        Raises InvalidGrid for a name outside open, high, low, close, hl2, hlc3, ohlc4.
        """
        if source not in PRICES:
            raise InvalidGrid(f"Unsupported inputs.source value: {source}")
        return self.column(source)

    def column(self, name: str) -> NDArray[np.float32]:
        """A candle field or derived price."""
        if name in FIELDS:
            return getattr(self, name)
        return self.derived(name, lambda: self._mean(name))

    def _mean(self, name: str) -> NDArray[np.float32]:
        if name == "hl2":
            return (self.high + self.low) / np.float32(2)
        if name == "hlc3":
            return (self.high + self.low + self.close) / np.float32(3)
        return (self.open + self.high + self.low + self.close) / np.float32(4)

    def wide(self, name: str) -> NDArray[np.float64]:
        """A column as float64, f8[T]."""
        return self.derived(f"wide:{name}", lambda: self.column(name).astype(np.float64))

    @property
    def derived_bytes(self) -> int:
        """Bytes of all derived arrays."""
        return sum(array.nbytes for array in self._derived.values())

    def holes(self, *names: str) -> NDArray[np.int64]:
        """Bars at which one of the columns is NaN, i8[n]."""
        return self.derived(f"holes:{','.join(names)}", lambda: np.flatnonzero(self._bad(names)))

    def spans(self, *names: str) -> NDArray[np.int64]:
        """Maximal half-open runs of bars without NaN in the columns, i8[n, 2]."""
        return self.derived(f"spans:{','.join(names)}", lambda: valid_spans(self._bad(names)))

    def _bad(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        bad = np.zeros(len(self), np.bool_)
        for name in names:
            bad |= np.isnan(self.column(name))
        return bad


def valid_spans(bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Maximal half-open runs of false flags, i8[n, 2]."""
    if bad.size and not np.any(bad):
        return np.array([[0, bad.size]], np.int64)
    flags = np.concatenate(([True], bad, [True]))
    return np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2).astype(np.int64)
