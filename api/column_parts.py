"""Stage A's columns as a job leaves them: a Parquet file a span, and the rows one wants of them.

A file is `<fold>-<start>-<stop>-columns.parquet` with a flat index and four metrics; the values of
the axes follow from the index. Files are read one after the other, a slice of rows at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.axes import Scalar
from compute.errors import InvalidRequest
from compute.grid import Axis, Grid

METRICS: Final = ("total_return_pct", "num_trades", "win_rate_pct", "profit_factor")
SLICE_ROWS: Final = 131_072
_NAME: Final = re.compile(r"(\d+)-(\d+)-(\d+)-columns\.parquet")
_RANGE: Final = ".."


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Columns of the positions [start, stop) of a fold."""

    fold: int
    start: int
    stop: int
    path: Path

    def __len__(self) -> int:
        return self.stop - self.start


def column_parts(directory: Path) -> list[Part]:
    """The parts of a plan's directory in the order of the walk; none where there is no such."""
    if not directory.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(
        Part(int(name[1]), int(name[2]), int(name[3]), path) for name, path in found if name
    )


def rows_of(parts: Sequence[Part]) -> int:
    """Base variants that the parts hold; a finished Stage A has as many as its grid."""
    return sum(len(part) for part in parts)


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Which rows: values of axes that are let through, by column of the grid, bounds of metrics.

    A value that is not there (no trade, no win rate) is within no bounds.
    """

    axes: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        """Whether no row is left out."""
        return not self.axes and not self.bounds

    def chosen(self, digits: NDArray[np.int64], rows: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Mask of the rows, given by their digits i8[n, axes] and metrics, that are wanted."""
        kept = np.ones(len(digits), np.bool_)
        for column, let in self.axes.items():
            kept &= let[digits[:, column]]
        for name, (low, high) in self.bounds.items():
            kept &= (rows[name] >= low) & (rows[name] <= high)
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some rows: digits i8[n, axes], and columns `index` and the four metrics."""

    digits: NDArray[np.int64]
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(self.digits)


def slices(parts: Sequence[Part], grid: Grid, wanted: Wanted) -> Iterator[Slice]:
    """The wanted rows, at most `SLICE_ROWS` at a time, ascending by flat index within a slice."""
    import pyarrow.parquet as pq

    for part in parts:
        with pq.ParquetFile(part.path) as file:
            for batch in file.iter_batches(
                SLICE_ROWS, columns=["flat_index", *METRICS], use_threads=False
            ):
                columns = {
                    name: batch.column(name).to_numpy(zero_copy_only=False) for name in METRICS
                }
                columns["index"] = batch.column("flat_index").to_numpy()
                digits = grid.digits(columns["index"])
                order = np.argsort(columns["index"], kind="stable")
                if not wanted.everything:
                    order = order[wanted.chosen(digits, columns)[order]]
                if len(order):
                    yield Slice(digits[order], {name: v[order] for name, v in columns.items()})


def wanted(
    grid: Grid, axes: Sequence[str] = (), least: Sequence[str] = (), most: Sequence[str] = ()
) -> Wanted:
    """The `Wanted` of query texts: `NAME:VALUE`, `NAME:V1,V2`, `NAME:LOW..HIGH` of axes (either end
    of a range may be left out), `METRIC:NUMBER` as the least and the most of a metric.

    Raises: InvalidRequest that names the parameter.
    """
    masks: dict[int, NDArray[np.bool_]] = {}
    for text in axes:
        name, values = _pair("axis", text)
        column = axis_column(grid, "axis", name)
        let = _let(grid.axes[column], name, values)
        masks[column] = masks[column] & let if column in masks else let
    bounds: dict[str, tuple[float, float]] = {}
    for parameter, texts in (("min", least), ("max", most)):
        for text in texts:
            name, value = _pair(parameter, text)
            low, high = bounds.get(metric(parameter, name), (-np.inf, np.inf))
            bound = _number(parameter, value)
            bounds[name] = (
                (max(low, bound), high) if parameter == "min" else (low, min(high, bound))
            )
    return Wanted(masks, bounds)


def axis_column(grid: Grid, parameter: str, name: str) -> int:
    """Column of an axis by its name. Raises: InvalidRequest."""
    if name not in grid.axis_names:
        raise refused(
            parameter, "unknown_axis", f"no axis {name!r}; axes are {', '.join(grid.axis_names)}"
        )
    return grid.axis_names.index(name)


def metric(parameter: str, name: str) -> str:
    """`name` if it is a metric of Stage A. Raises: InvalidRequest."""
    if name not in METRICS:
        raise refused(
            parameter, "unknown_metric", f"no metric {name!r}; metrics are {', '.join(METRICS)}"
        )
    return name


def refused(parameter: str, code: str, message: str) -> InvalidRequest:
    """The refusal of a query parameter."""
    error = {"path": f"query.{parameter}", "code": code, "message": message}
    return InvalidRequest(message, [error])


def _pair(parameter: str, text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not value.strip():
        raise refused(parameter, "invalid_value", f"{parameter} is NAME:VALUE, got {text!r}")
    return name.strip(), value.strip()


def _number(parameter: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if np.isnan(number):
        raise refused(parameter, "invalid_value", f"{parameter}: {text!r} is no number")
    return number


def _let(axis: Axis, name: str, text: str) -> NDArray[np.bool_]:
    """Mask of the values of an axis that `text` lets through; at least one."""
    low, dots, high = text.partition(_RANGE)
    if dots and not isinstance(axis.values[0], str):
        least = _number("axis", low) if low.strip() else -np.inf
        most = _number("axis", high) if high.strip() else np.inf
        let = [isinstance(value, int | float) and least <= value <= most for value in axis.values]
    else:
        given = {_scalar(axis, one.strip()) for one in text.split(",")}
        let = [value in given for value in axis.values]
    if not any(let):
        message = f"no value of {name} is {text}; it has {_reach(axis.values)}"
        raise refused("axis", "invalid_value", message)
    return np.array(let, np.bool_)


def _scalar(axis: Axis, text: str) -> Scalar:
    return text if isinstance(axis.values[0], str) else _number("axis", text)


def _reach(values: Sequence[Scalar]) -> str:
    if len(values) <= 8:
        return ", ".join(str(value) for value in values)
    return f"{len(values)} values from {values[0]} to {values[-1]}"
