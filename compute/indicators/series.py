"""Bars as the indicators read them: frozen float32 columns and the derived prices."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    _derived: dict[str, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if len({getattr(self, name).shape for name in FIELDS}) != 1 or self.close.ndim != 1:
            raise ValueError("bar columns must be one-dimensional and equally long")

    def __len__(self) -> int:
        return self.close.size

    def price(self, source: str) -> NDArray[np.float32]:
        """The price series `source`; the means are computed in float32, once.

        Raises InvalidGrid for a name outside open, high, low, close, hl2, hlc3, ohlc4.
        """
        if source not in PRICES:
            raise InvalidGrid(f"Unsupported inputs.source value: {source}")
        if source in FIELDS:
            return getattr(self, source)
        # Two threads may both compute a mean; they store equal arrays, so no lock is needed.
        if (known := self._derived.get(source)) is not None:
            return known
        high, low = self.high, self.low
        if source == "hl2":
            mean = (high + low) / np.float32(2)
        elif source == "hlc3":
            mean = (high + low + self.close) / np.float32(3)
        else:
            mean = (self.open + high + low + self.close) / np.float32(4)
        self._derived[source] = frozen(mean)
        return self._derived[source]
