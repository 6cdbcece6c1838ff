"""Stage A's columns of a job as bytes: an Arrow stream or a Parquet file, made while it is read.

Rows come span after span in the order of the walk, which depends on the request alone; those of a
slice ascend by flat index. At most one group of rows is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.column_parts import METRICS, Part, Slice, Wanted, refused, slices
from cluster.columns import axis_values, row_batch, row_schema
from compute.grid import Grid

MEDIA_TYPES: Final = {
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
_GROUP_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Rows:
    """The wanted rows of a grid as Arrow batches of `schema`, in groups of a useful size."""

    schema: Any
    batches: Callable[[], Iterator[Any]]


def rows(
    parts: Sequence[Part],
    grid: Grid,
    wanted: Wanted,
    names: Sequence[str] | None,
    metadata: Mapping[str, str],
) -> Rows:
    """`Rows` of the columns `names` (all without), in the order of the schema.

    Raises: InvalidRequest for a column that there is none of.
    """
    known = ("flat_index", *grid.axis_names, *METRICS)
    for name in names or ():
        if name not in known:
            message = f"no column {name!r}; columns are {', '.join(known)}"
            raise refused("columns", "unknown_column", message)
    label = "all" if wanted.everything else "filtered"
    whole = row_schema(grid, {**metadata, "roehub.rows": label}, "fast")
    chosen = [i for i, name in enumerate(known) if names is None or name in names]
    schema = _picked(whole, chosen)
    axes = [axis_values(axis) for axis in grid.axes]

    def batch(part: Slice) -> Any:
        full = row_batch(whole, axes, part.digits, part.columns)
        return full if len(chosen) == len(known) else full.select(chosen).cast(schema)

    return Rows(schema, lambda: _grouped(map(batch, slices(parts, grid, wanted))))


def encoded(form: str, found: Rows) -> Iterator[bytes]:
    """`found` in the form `arrow` or `parquet`, a piece for each group of rows."""
    return (_arrow if form == "arrow" else _parquet)(found)


def _picked(schema: Any, columns: Sequence[int]) -> Any:
    import pyarrow as pa

    return pa.schema([schema.field(i) for i in columns], metadata=schema.metadata)


def _grouped(batches: Iterator[Any]) -> Iterator[Any]:
    """Batches joined until they are worth a message: a filter may leave a row of each slice."""
    import pyarrow as pa

    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= _GROUP_ROWS:
            yield pa.concat_batches(held)
            held, count = [], 0
    if held:
        yield pa.concat_batches(held)


class _Pieces:
    """A file that only remembers what was written since one last looked."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0
        self.closed = False

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def writable(self) -> bool:
        return True

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        """What was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _arrow(found: Rows) -> Iterator[bytes]:
    import pyarrow as pa

    file = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), found.schema) as writer:
        yield file.taken()
        for batch in found.batches():
            writer.write_batch(batch)
            yield file.taken()
    yield file.taken()


def _parquet(found: Rows) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _Pieces()
    texts: Any = [
        field.name for field in found.schema if pa.types.is_dictionary(field.type)
    ]  # the stubs know only a boolean
    with pq.ParquetWriter(
        pa.PythonFile(file, mode="w"), found.schema, compression="zstd", use_dictionary=texts
    ) as writer:
        for batch in found.batches():
            writer.write_batch(batch)
            if piece := file.taken():
                yield piece
    yield file.taken()
