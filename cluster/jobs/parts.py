"""Parts of a fold as Parquet and back, to the bit, and their digests.

A part is a record of equally long columns and a few numbers. Its digest is taken over the values,
not over the file, so that it is the same whichever version of a library wrote them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.distinct import Census, Groups
from compute.ranking import Scores
from compute.selection import Best, Finalists

Block = dict[str, NDArray[Any]]
"""Bulk columns of some base variants: `index` and four metrics."""

_KINDS: Final = {kind.__name__: kind for kind in (Best, Groups, Scores, Finalists, Census)}
_HEADER: Final = b"roehub.part"
METRICS: Final = {
    "total_return_pct": np.float64,
    "num_trades": np.int32,
    "win_rate_pct": np.float64,
    "profit_factor": np.float64,
}


class PartUnreadable(ValueError):
    """Bytes that are no part, or not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A part as it is stored: the file, and the digest of what is in it."""

    content: bytes
    digest: str


def encode(part: Any, question: str, columns: str | None = None) -> Encoded:
    """A part as Parquet. `question` says what it answers, `columns` is the digest of its bulk."""
    layout: list[Any] = []
    table: dict[str, Any] = {}
    _flatten(part, "", layout, table)
    header = {
        "kind": type(part).__name__,
        "question": question,
        "columns": columns,
        "layout": layout,
        "types": [_type_of(column) for column in table.values()],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return Encoded(_parquet(table, {_HEADER: text.encode()}), _digest(text, table))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A stored part, and the digest of the bulk columns that belong to it."""

    part: Any
    columns: str | None


def decode(content: bytes, question: str, digest: str) -> Decoded:
    """The part that `encode` stored for this question. Raises: PartUnreadable."""
    metadata, table = _columns_of(content)
    text = metadata.get(_HEADER, b"").decode(errors="replace")
    try:
        header = json.loads(text)
    except ValueError:
        raise PartUnreadable("it has no header") from None
    if not _holds(digest, text, table):
        raise PartUnreadable("its digest is not the one that was committed")
    if header["question"] != question:
        raise PartUnreadable("it answers another question")
    part = _restored(_KINDS[header["kind"]], header["layout"], iter(table.values()))
    return Decoded(part, header["columns"])


def encode_columns(blocks: Sequence[Mapping[str, NDArray[Any]]]) -> Encoded:
    """Bulk columns as Parquet: `flat_index` and four metrics, no win rate where nothing traded."""
    import pyarrow as pa

    table: dict[str, Any] = {"flat_index": _joined(blocks, "index", np.int64)}
    for name, kind in METRICS.items():
        table[name] = _joined(blocks, name, kind)
    rate = table["win_rate_pct"]
    rate[np.isnan(rate)] = np.nan  # of all NaNs this one comes back from a missing value
    digest = _digest("columns", table)
    stored = table | {"win_rate_pct": pa.array(rate, from_pandas=True)}
    return Encoded(_parquet(stored, {b"roehub.score": b"fast"}), digest)


def decode_columns(content: bytes, digest: str) -> Block:
    """The bulk columns stored under this digest. Raises: PartUnreadable."""
    _, table = _columns_of(content)
    if not _holds(digest, "columns", table):
        raise PartUnreadable("its columns are not those that were committed")
    return {"index": table.pop("flat_index"), **table}


def question(stage: Any, query: Any) -> str:
    """Digest of what a fold asks: the stage, the place in it, and every value of the query."""
    asked: list[tuple[str, Any]] = [
        ("stage", stage.name),
        ("total", stage.total),
        ("units", stage.units_per_position),
        ("box", getattr(getattr(stage, "route", None), "box", None)),
        ("first_rank", getattr(stage, "first_rank", None)),
        ("flat", getattr(stage, "flat", None)),
        ("query", type(query).__qualname__),
        *((item.name, getattr(query, item.name)) for item in fields(query)),
    ]
    digest = sha256()
    for name, value in asked:
        digest.update(f"\n{name}=".encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


def _flatten(part: Any, prefix: str, layout: list[Any], table: dict[str, Any]) -> None:
    """Appends the fields of a part to `table`, and to `layout` how to put them back."""
    if type(part).__name__ not in _KINDS:
        raise TypeError(f"{type(part).__name__} is no part that can be stored")
    for item in fields(part):
        value, name = getattr(part, item.name), prefix + item.name
        if item.name == "columns":
            continue
        if isinstance(value, Scores):
            inner: list[Any] = []
            _flatten(value, f"{name}.", inner, table)
            layout.append([item.name, "scores", inner])
        elif isinstance(value, np.ndarray) and value.ndim == 2:
            layout.append([item.name, "matrix", value.shape[1]])
            table.update((f"{name}.{i}", value[:, i].copy()) for i in range(value.shape[1]))
        elif isinstance(value, np.ndarray):
            layout.append([item.name, "array"])
            table[name] = value
        elif isinstance(value, list):
            layout.append([item.name, "texts"])
            table[name] = value
        else:
            layout.append([item.name, "number", value])


def _restored(kind: type[Any], layout: Sequence[Any], columns: Any) -> Any:
    values: dict[str, Any] = {}
    for name, form, *more in layout:
        if form == "scores":
            values[name] = _restored(Scores, more[0], columns)
        elif form == "matrix":
            width = more[0]
            rows = [next(columns) for _ in range(width)]
            values[name] = np.stack(rows, axis=1) if width else np.empty((0, 0), np.int64)
        elif form == "number":
            values[name] = more[0]
        else:
            values[name] = next(columns)
    return kind(**values)


def _type_of(column: Any) -> str:
    return "text" if isinstance(column, list) else column.dtype.str


def _digest(head: str, table: Mapping[str, Any]) -> str:
    digest = sha256(head.encode())
    for name, column in table.items():
        digest.update(f"\n{name} {len(column)} ".encode())
        if isinstance(column, list):
            digest.update("\n".join(column).encode())
        else:
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _holds(digest: str, head: str, table: Mapping[str, Any]) -> bool:
    try:
        return _digest(head, table) == digest
    except (TypeError, ValueError):  # columns of kinds that are never stored
        return False


def _parquet(table: Mapping[str, Any], metadata: dict[bytes, bytes]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # No dictionaries: they would take one NaN, or zero, for another. LZ4, for zstd made a run of a
    # million variants that keeps its columns 15 % slower instead of 3 %; files are a third larger.
    arrow = pa.table({name: _array(pa, column) for name, column in table.items()})
    out = io.BytesIO()
    pq.write_table(
        arrow.replace_schema_metadata(metadata), out, compression="lz4", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip
    return out.getvalue()


def _array(pa: Any, column: Any) -> Any:
    return pa.array(column, pa.string()) if isinstance(column, list) else pa.array(column)


def _columns_of(content: bytes) -> tuple[Mapping[bytes, bytes], dict[str, Any]]:
    """(metadata, columns) of a Parquet file. Raises: PartUnreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(pa.BufferReader(content), use_threads=False)
        table: dict[str, Any] = {}
        for name in arrow.column_names:
            column = arrow.column(name).combine_chunks()
            texts = pa.types.is_string(column.type)
            table[name] = column.to_pylist() if texts else column.to_numpy(zero_copy_only=False)
        return arrow.schema.metadata or {}, table
    except Exception as error:  # bytes that were changed bring about errors of any kind
        raise PartUnreadable(f"it is no Parquet file: {error}") from None


def _joined(blocks: Sequence[Mapping[str, NDArray[Any]]], name: str, kind: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *(block[name] for block in blocks)]).astype(
        kind, copy=False
    )
