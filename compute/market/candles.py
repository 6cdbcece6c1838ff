"""Columns of candles: time of the bar's open and float32 open, high, low, close, volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidCandles

SERIES: Final = ("open", "high", "low", "close", "volume")
COLUMNS: Final = ("ts_open_ms", *SERIES)

Scalar = TypeVar("Scalar", bound=np.generic)


def frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """A read-only C-contiguous view of `array`, copied only when it is strided.

    The caller's own array keeps its flags. Kernels are compiled for this one layout: writable,
    read-only and strided arrays would be three specialisations.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Equal-length columns of candles, read-only and C-contiguous.

    `ts_open_ms` is int64 UTC milliseconds of each bar's open, prices and volume are float32.
    Order, uniqueness and finiteness are the business of whoever makes them; a NaN `close` marks
    a candle that is not there.

    Raises:
        InvalidCandles: a column is not one-dimensional, not numeric or of another length.
    """

    ts_open_ms: NDArray[np.int64]
    open: NDArray[np.float32]
    high: NDArray[np.float32]
    low: NDArray[np.float32]
    close: NDArray[np.float32]
    volume: NDArray[np.float32]

    def __post_init__(self) -> None:
        times = np.asarray(self.ts_open_ms)
        if times.ndim != 1 or times.dtype.kind not in "iu":
            raise InvalidCandles(
                f"ts_open_ms must be a one-dimensional integer array, "
                f"got {times.ndim}-d {times.dtype}"
            )
        object.__setattr__(self, "ts_open_ms", frozen(times.astype(np.int64, copy=False)))
        for name in SERIES:
            values = np.asarray(getattr(self, name))
            if values.shape != times.shape or values.dtype.kind not in "fiu":
                raise InvalidCandles(
                    f"{name} must be a numeric array of {len(times)} values, "
                    f"got shape {values.shape} of {values.dtype}"
                )
            object.__setattr__(self, name, frozen(values.astype(np.float32, copy=False)))

    def __len__(self) -> int:
        return len(self.ts_open_ms)

    def __reduce__(self) -> tuple[Any, ...]:
        # Plain unpickling would restore writable arrays and skip `__post_init__`.
        return Candles, (self.ts_open_ms, *self.series())

    def series(self) -> tuple[NDArray[np.float32], ...]:
        """Open, high, low, close, volume, in this order."""
        return self.open, self.high, self.low, self.close, self.volume

    def slice(self, start: int, stop: int) -> Candles:
        """The candles `[start, stop)`, sharing memory with these."""
        rows, part = slice(start, stop), object.__new__(Candles)
        for name in COLUMNS:  # each is what `__post_init__` would make of it
            object.__setattr__(part, name, getattr(self, name)[rows])
        return part

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Candles:
        """The candles at `rows` (indices or mask), copied."""
        return Candles(self.ts_open_ms[rows], *(column[rows] for column in self.series()))
