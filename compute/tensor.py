"""Tensors of one indicator output: every variant over every bar, in either layout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.errors import GuardExceeded
from compute.grid import Axis, IndicatorGrid
from compute.indicators.registry import module
from compute.indicators.series import BarSeries
from compute.output_rows import OutputRows, output_rows, tensor_rows
from compute.quantities import size_text, spaced
from compute.settings import Limits

TIME_MAJOR = "time_major"
VARIANT_MAJOR = "variant_major"
LAYOUTS = (TIME_MAJOR, VARIANT_MAJOR)
SCHEMA_VERSION = 1

_RESERVE_BYTES = 64 << 20
_CANDLE_BYTES = 5 * 4 + 8
_TILE = 256  # bars of a transposed copy: a tile of 64 rows stays in L1
Each = Callable[[Callable[[Any], None], Sequence[Any]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """`values` f4[T, V] (time_major) or f4[V, T] (variant_major), C-contiguous; NaN is propagated.

    V runs over `axes` row-major, the last axis fastest.
    """

    indicator_id: str
    output: str
    layout: str
    axes: tuple[Axis, ...]
    values: NDArray[np.float32]
    compute_ms: int

    def record(self) -> dict[str, Any]:
        """Everything about the tensor but its values, as JSON."""
        bars, variants = self.values.shape[:: 1 if self.layout == TIME_MAJOR else -1]
        return {
            "schema_version": SCHEMA_VERSION,
            "indicator_id": self.indicator_id,
            "output": self.output,
            "layout": self.layout,
            "axes": [{"name": axis.name, "values": list(axis.values)} for axis in self.axes],
            "shape": list(self.values.shape),
            "dtype": str(self.values.dtype),
            "c_contiguous": bool(self.values.flags.c_contiguous),
            "meta": {
                "t": bars,
                "variants": variants,
                "nan_policy": "propagate",
                "compute_ms": self.compute_ms,
            },
        }


def tensor_bytes(bars: int, variants: Sequence[int]) -> int:
    """Bytes by the contract's formula: candles, one tensor an indicator, and a reserve."""
    base = bars * _CANDLE_BYTES + sum(bars * count * 4 for count in variants)
    return base + max(_RESERVE_BYTES, -(-base // 5))


def check_total(total: int, limit: int) -> None:
    """Raises GuardExceeded when there are more than `limit` variants."""
    if total > limit:
        raise GuardExceeded(
            f"the grid has {spaced(total)} variants, the limit is {spaced(limit)}; narrow its axes"
            " or raise max_variants_per_compute",
            details={
                "error": "max_variants_per_compute_exceeded",
                "total_variants": total,
                "max_variants_per_compute": limit,
            },
        )


def check_bytes(need: int, limits: Limits) -> None:
    """Raises GuardExceeded when `need` bytes are above the budget."""
    if need > limits.max_compute_bytes_total:
        raise GuardExceeded(
            f"the grid needs {size_text(need)}, the budget is"
            f" {size_text(limits.max_compute_bytes_total)}; narrow its axes or its time"
            " range, or raise max_compute_bytes_total",
            details={
                "error": "max_compute_bytes_total_exceeded",
                "estimated_memory_bytes": need,
                "max_compute_bytes_total": limits.max_compute_bytes_total,
            },
        )


def check_prepared(bars: int, variants: int, limits: Limits) -> None:
    """Raises GuardExceeded when the finished tensor and its scratch are above the budget."""
    bytes_out = bars * variants * 4
    total = bytes_out + -(-bytes_out // 5) + _RESERVE_BYTES
    if total > limits.max_compute_bytes_total:
        raise GuardExceeded(
            f"a tensor of {spaced(bars)} bars × {spaced(variants)} variants needs"
            f" {size_text(total)}, the budget is {size_text(limits.max_compute_bytes_total)};"
            " narrow the axes or the time range",
            details={
                "error": "compute_budget_exceeded",
                "T": bars,
                "V": variants,
                "bytes_out": bytes_out,
                "bytes_total_est": total,
                "max_compute_bytes_total": limits.max_compute_bytes_total,
            },
        )


def _plain(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


def tensor(
    grid: IndicatorGrid,
    series: BarSeries,
    layout: str = TIME_MAJOR,
    *,
    limits: Limits,
    each: Each = _plain,
) -> Tensor:
    """The tensor of `grid` over `series`; `each(work, blocks)` may run blocks on threads.

    Settings along axes that do not move the output are computed once and copied.
    Raises: GuardExceeded before anything is allocated, ValueError for an unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    bars, variants = len(series), grid.compute_total
    check_prepared(bars, variants, limits)
    begun = time.perf_counter()
    shape = (bars, variants) if layout == TIME_MAJOR else (variants, bars)
    values = np.empty(shape, np.float32)
    rows = output_rows(grid)
    view = values.T if layout == TIME_MAJOR else values
    each(_Filler(rows, series, view), rows.blocks(tensor_rows(bars, rows.grid.definition.slow)))
    elapsed = round(1000 * (time.perf_counter() - begun))
    return Tensor(grid.indicator_id, grid.output, layout, grid.compute, values, elapsed)


class _Filler:
    """Callable that computes one block of rows into `out` [V, T], any strides."""

    def __init__(self, rows: OutputRows, series: BarSeries, out: NDArray[np.float32]) -> None:
        self.rows, self.series, self.out = rows, series, out
        self.indicator = module(rows.grid.indicator_id)
        order = np.argsort(rows.row, kind="stable")
        counts = np.bincount(rows.row, minlength=len(rows))
        self.readers = np.split(order, np.cumsum(counts)[:-1])

    def __call__(self, block: NDArray[np.int64]) -> None:
        params, source = self.rows.settings(block)
        scratch = np.empty((block.size, len(self.series)), np.float32)
        self.indicator.rows(self.series, params, source, self.rows.grid.output, scratch)
        for begin in range(0, len(self.series), _TILE):
            span = slice(begin, begin + _TILE)
            for r, row in enumerate(block):
                self.out[self.readers[row], span] = scratch[r, span]
