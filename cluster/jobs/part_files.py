"""The directory of a plan: a Parquet file a span, and one of its bulk columns where they are kept.

    plans/<plan_key>/<fold>-<start>-<stop>.parquet
    plans/<plan_key>/<fold>-<start>-<stop>-columns.parquet

A file that has its name is whole. Names and contents follow from the plan, so that runners which
compute the same span write the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.jobs.durable import sweep, write_all
from cluster.jobs.parts import (
    Block,
    PartUnreadable,
    decode,
    decode_columns,
    encode,
    encode_columns,
)
from cluster.jobs.spans import SpanRow


@dataclass(frozen=True, slots=True)
class Fresh:
    """A computed span on its way to the disk: `columns` are the blocks of its bulk, if any."""

    fold: int
    start: int
    stop: int
    question: str
    part: Any
    columns: Sequence[Block] | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A span as it was read back."""

    part: Any
    columns: Block | None


class PartFiles:
    """Reads and writes the parts of one plan."""

    def __init__(self, results_dir: Path, plan_key: str) -> None:
        self.plan_key = plan_key
        self.directory = results_dir / "plans" / plan_key

    def sweep(self) -> None:
        """Removes what killed writers left unfinished."""
        sweep(self.directory)

    def path(self, fold: int, start: int, stop: int) -> Path:
        """Where the part of a span is."""
        return self.directory / f"{fold}-{start}-{stop}.parquet"

    def columns_path(self, fold: int, start: int, stop: int) -> Path:
        """Where the bulk columns of a span are."""
        return self.directory / f"{fold}-{start}-{stop}-columns.parquet"

    def write(self, spans: Sequence[Fresh]) -> list[SpanRow]:
        """Rows of spans that are on the disk for good. Raises: ResultsUnwritable."""
        contents: dict[Path, bytes] = {}
        rows: list[SpanRow] = []
        for span in spans:
            place = (span.fold, span.start, span.stop)
            bulk = None if span.columns is None else encode_columns(span.columns)
            part = encode(span.part, span.question, None if bulk is None else bulk.digest)
            if bulk is not None:
                contents[self.columns_path(*place)] = bulk.content
            contents[self.path(*place)] = part.content
            size = len(part.content) + (0 if bulk is None else len(bulk.content))
            rows.append(SpanRow(*place, part.digest, size))
        write_all(contents)
        return rows

    def read(self, row: SpanRow, question: str, *, columns: bool) -> Stored:
        """The span of a committed row, with its columns where they are wanted.

        Raises: PartUnreadable when a file is missing, torn, changed, or answers something else.
        """
        place = (row.fold, row.start_at, row.stop_at)
        found = decode(_content(self.path(*place)), question, row.digest)
        if not columns:
            return Stored(found.part, None)
        if found.columns is None:
            raise PartUnreadable("it was stored without columns")
        return Stored(
            found.part, decode_columns(_content(self.columns_path(*place)), found.columns)
        )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PartUnreadable(f"{path.name}: {error.strerror or error}") from None
