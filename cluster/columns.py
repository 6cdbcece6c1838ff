"""Stage A's columns as one Parquet file, a row per base variant in the order of the grid.

Blocks arrive in the order of the walk, so they are scattered into a mapped scratch file beside the
output and streamed from there. The disk space is claimed before the first block (a mapped page that
finds the disk full would kill the process), pages are given back as they fill, and the finished
file takes its name in one step: an earlier one survives whatever goes wrong.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidInput
from compute.grid import Axis, Grid
from compute.ranking import Scores
from compute.stage_a import columns

MAX_ROWS: Final = 5_000_000
"""Base variants up to which every one gets a row; above that the shortlist does."""

_METRICS: Final = np.dtype(
    [
        ("total_return_pct", "<f8"),
        ("win_rate_pct", "<f8"),
        ("profit_factor", "<f8"),
        ("num_trades", "<i4"),
        ("seen", "<i4"),
    ]
)
_GROUP_ROWS: Final = 131_072
_DIRTY_ROWS: Final = 1_000_000  # 32 MB of pages between two returns to the system


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its rows, and the variants of the grid they stand for."""

    path: Path
    rows: int
    variants: int

    @property
    def complete(self) -> bool:
        """Every base variant has a row."""
        return self.rows == self.variants


class ColumnFile:
    """Receives the bulk columns of one run; a sink of the executor.

    The scratch file has no name, so that nothing is left of it whatever ends the process.
    Raises: InvalidInput where the directory cannot be written or has no room.
    """

    def __init__(self, path: Path, grid: Grid, metadata: Mapping[str, str]) -> None:
        self._path, self._grid, self._metadata = path, grid, metadata
        self._rows = 0
        self._dirty = 0
        size = grid.total * _METRICS.itemsize
        try:
            with TemporaryFile(dir=path.parent, prefix=f".{path.name}.") as scratch:
                os.posix_fallocate(scratch.fileno(), 0, size)
                self._pages = mmap.mmap(scratch.fileno(), size)
        except OSError as error:
            raise unwritable(path, error, size) from error
        self._table: NDArray[Any] = np.frombuffer(self._pages, _METRICS)

    @property
    def rows(self) -> int:
        """Rows received so far."""
        return self._rows

    def __call__(self, block: dict[str, NDArray[Any]]) -> None:
        """Takes the columns of some base variants, each in one block of the run."""
        index = block["index"]
        for name in ("total_return_pct", "win_rate_pct", "profit_factor", "num_trades"):
            self._table[name][index] = block[name]
        self._table["seen"][index] = 1
        self._rows += len(index)
        self._dirty += len(index)
        if self._dirty >= _DIRTY_ROWS:
            self._dirty = 0
            self._pages.madvise(mmap.MADV_DONTNEED)  # a shared mapping: the file keeps the values

    def returns(self) -> NDArray[np.float64]:
        """Returns of all base variants in flat order; NaN where none came."""
        return np.where(self._table["seen"] == 1, self._table["total_return_pct"], np.nan)

    def best(self, n: int) -> list[tuple[int, float, int]]:
        """(flat index, return, trades) of the best `n` rows received, best first."""
        found = self.returns()
        order = np.argsort(-found, kind="stable")[: min(n, self._rows)]
        trades = self._table["num_trades"]
        return [(int(i), float(found[i]), int(trades[i])) for i in order]

    def finish(self) -> Written:
        """Writes the file of all rows, in flat order."""
        return self._write(self._path)

    def keep_partial(self, path: Path) -> Written:
        """Writes the rows received so far to another file, labelled when they are not all."""
        return self._write(path)

    def _write(self, path: Path) -> Written:
        rows = "all" if self._rows == self._grid.total else "partial"
        metadata = {**self._metadata, "roehub.rows": rows}
        write_rows(path, self._grid, self._groups(), metadata, score="fast")
        return Written(path, self._rows, self._grid.total)

    def _groups(self) -> Iterator[dict[str, NDArray[Any]]]:
        for at in range(0, self._grid.total, _GROUP_ROWS):
            part = self._table[at : at + _GROUP_ROWS]
            kept = np.flatnonzero(part["seen"])
            names = [name for name in _METRICS.fields or () if name != "seen"]
            yield {"index": kept + at, **{name: part[name][kept] for name in names}}
            self._pages.madvise(mmap.MADV_DONTNEED)


def write_shortlist(
    path: Path, grid: Grid, shortlist: Scores, metadata: Mapping[str, str]
) -> Written:
    """Writes the shortlist alone, for grids above `MAX_ROWS`; its scores are exact."""
    block = columns(shortlist.take(np.argsort(shortlist.index)))
    metadata = {**metadata, "roehub.rows": "best"}
    write_rows(path, grid, iter([block]), metadata, score="exact")
    return Written(path, len(shortlist), grid.total)


def write_rows(
    path: Path,
    grid: Grid,
    groups: Iterator[dict[str, NDArray[Any]]],
    metadata: Mapping[str, str],
    *,
    score: str,
) -> None:
    """Streams groups of rows, ascending by flat index, to `path`: whole or not at all.

    Raises: InvalidInput when the place cannot be written or is full.
    """
    import pyarrow.parquet as pq

    schema = row_schema(grid, metadata, score)
    axes = [axis_values(axis) for axis in grid.axes]
    unfinished = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with unfinished.open("xb") as file:
            axis_columns: Any = list(grid.axis_names)  # the stubs know only a boolean
            with pq.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=axis_columns
            ) as writer:
                for group in groups:
                    writer.write_batch(row_batch(schema, axes, grid.digits(group["index"]), group))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError, need_bytes: int | None = None) -> InvalidInput:
    """The refusal of an output that cannot be written: what, why, what to do."""
    need = f" ({need_bytes / 2**20:.0f} MiB are needed)" if need_bytes else ""
    reason = error.strerror or str(error)
    return InvalidInput(
        f"cannot write {path}: {reason}{need}; choose another --out or free some space"
    )


def row_schema(grid: Grid, metadata: Mapping[str, str], score: str) -> Any:
    """Arrow schema of the rows of a grid: flat index, a column an axis, metrics (`score` made
    them "fast" or "exact")."""
    import pyarrow as pa

    label = {"score": score}
    return pa.schema(
        [
            pa.field("flat_index", pa.int64(), nullable=False),
            *(
                pa.field(name, _axis_type(axis), nullable=False)
                for name, axis in zip(grid.axis_names, grid.axes, strict=True)
            ),
            pa.field("total_return_pct", pa.float64(), metadata=label),
            pa.field("num_trades", pa.int32(), metadata=label),
            pa.field("win_rate_pct", pa.float64(), metadata=label),
            pa.field("profit_factor", pa.float64(), metadata=label),
        ],
        metadata=dict(metadata),
    )


def _axis_type(axis: Axis) -> Any:
    import pyarrow as pa

    if isinstance(axis.values[0], str):
        return pa.dictionary(pa.int32(), pa.string())
    whole = all(isinstance(value, int) for value in axis.values)
    return pa.int64() if whole else pa.float64()


def axis_values(axis: Axis) -> Callable[[NDArray[np.int64]], Any]:
    """What turns digits of an axis into an Arrow array of its values."""
    import pyarrow as pa

    kind = _axis_type(axis)
    if pa.types.is_dictionary(kind):
        names = pa.array(axis.values, pa.string())
        return lambda digits: pa.DictionaryArray.from_arrays(digits.astype(np.int32), names)
    values = np.array(axis.values, np.int64 if kind == pa.int64() else np.float64)
    return lambda digits: pa.array(values[digits], kind)


def row_batch(
    schema: Any,
    axes: Sequence[Callable[[NDArray[np.int64]], Any]],
    digits: NDArray[np.int64],
    group: Mapping[str, Any],
) -> Any:
    """An Arrow batch of `schema` from the columns of some rows and their digits on `axes`."""
    import pyarrow as pa

    return pa.record_batch(
        [
            pa.array(group["index"]),
            *(axis(digits[:, column]) for column, axis in enumerate(axes)),
            pa.array(group["total_return_pct"]),
            pa.array(group["num_trades"]),
            pa.array(group["win_rate_pct"], from_pandas=True),  # NaN: no trade to win
            pa.array(group["profit_factor"]),
        ],
        schema=schema,
    )
