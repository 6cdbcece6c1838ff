"""Rows of candles put in order by way of the disk, for files that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from ingest.rows import DAY_MS

BUCKET_MS: Final = 90 * DAY_MS
"""130 000 minutes, some 10 MB: a bucket is sorted in memory, and years make few of them."""


class Buckets:
    """Rows by the quarter of a year their minute lies in, in files of a directory."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory = directory
        self._schema = schema
        self._writers: dict[int, ipc.RecordBatchStreamWriter] = {}

    def add(self, table: pa.Table) -> None:
        """Puts rows, in any order, where they belong."""
        buckets = table.column("ts_open").cast(pa.int64()).to_numpy() // BUCKET_MS
        for bucket in np.unique(buckets).tolist():
            writer = self._writers.get(bucket)
            if writer is None:
                writer = ipc.new_stream(str(self._path(bucket)), self._schema)
                self._writers[bucket] = writer
            writer.write_table(table.filter(pa.array(buckets == bucket)))

    def ordered(self) -> Iterator[pa.Table]:
        """The rows ascending, a table a bucket; rows of one minute stay in their order."""
        for writer in self._writers.values():
            writer.close()
        for bucket in sorted(self._writers):
            path = self._path(bucket)
            with pa.OSFile(str(path)) as file:
                table = ipc.open_stream(file).read_all()
            path.unlink()
            times = table.column("ts_open").cast(pa.int64()).to_numpy()
            yield table.take(pa.array(np.argsort(times, kind="stable"))).combine_chunks()

    def _path(self, bucket: int) -> Path:
        return self._directory / f"{bucket}.arrow"
