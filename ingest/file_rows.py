"""Rows of candle files as rows of the store: chosen, converted, judged; all by column.

Rows of other instruments or outside the range asked for are not judged. A row with none of the
five values is a missing minute and left out, as in every candle file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import CANDLE_SCHEMA, LAST_STORED_MS, TIME, Fault, Origin, faults, instrument_key

FIVE: Final = ("open", "high", "low", "close", "volume_base")
_OPTIONAL: Final = ("volume_quote", "taker_buy_volume_base", "taker_buy_volume_quote")
_TEXTS: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
_MOST_TRADES: Final = 2**32

ROW_SCHEMA: Final = pa.schema(
    [CANDLE_SCHEMA.field(name) for name in ("ts_open", *FIVE, "volume_quote", "trades_count")]
    + [CANDLE_SCHEMA.field(name) for name in _OPTIONAL[1:]]
)
"""What a file tells of a candle; the rest of a row is the same for all of them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a file are meant: of `instrument`, in `period` if there is one, and closed.

    Minutes from `closed_ms` on are not closed yet. Times without a zone are refused unless they
    are declared UTC.
    """

    instrument: Instrument
    period: Period | None
    closed_ms: int
    naive_is_utc: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a batch that are meant, as `ROW_SCHEMA`, and what became of the others.

    `faults` count rows within the file; while there are any, `table` is not to be used.
    """

    table: pa.Table
    faults: list[Fault]
    others: int
    outside: int
    open: int
    empty: int


def chosen(label: str, first_row: int, batch: pa.RecordBatch, wanted: Wanted) -> Chosen:
    """The wanted rows of a batch of a stream.

    Raises:
        InvalidCandles: a column of a type that cannot be meant.
    """
    times, off_grid, absent = _times_ms(label, batch.column("ts_open"), wanted.naive_is_utc)
    mine = _of_instrument(label, batch, wanted.instrument)
    inside = absent | _inside(times, wanted.period)
    closed = absent | (times < wanted.closed_ms) | (times >= LAST_STORED_MS)
    keep = mine & inside & closed
    columns: dict[str, Any] = {"ts_open": pa.array(times, pa.int64()).cast(TIME)}
    for name in FIVE:
        columns[name] = _numbers(label, name, batch)
    empty = np.logical_and.reduce([_none(columns[name]) for name in FIVE]) & keep
    keep &= ~empty
    odd_trades, columns["trades_count"] = _counts(label, batch)
    for name in _OPTIONAL:
        columns[name] = _optional(label, name, batch)
    table = pa.Table.from_arrays([columns[n] for n in ROW_SCHEMA.names], schema=ROW_SCHEMA)
    rows = np.flatnonzero(keep)
    if len(rows) < len(keep):
        table = table.filter(pa.array(keep))
    return Chosen(
        table=table,
        faults=_faults(table, first_row, rows, off_grid, absent, odd_trades),
        others=int(np.count_nonzero(~mine)),
        outside=int(np.count_nonzero(mine & ~inside)),
        open=int(np.count_nonzero(mine & inside & ~closed)),
        empty=int(np.count_nonzero(empty)),
    )


def stamped(table: pa.Table, instrument: Instrument, origin: Origin) -> pa.Table:
    """The rows with what is the same in all of them, as `CANDLE_SCHEMA`."""
    same: dict[str, Any] = {
        "market_id": instrument.market_id,
        "symbol": instrument.symbol,
        "instrument_key": instrument_key(instrument),
        "source": origin.source,
        "ingested_at": origin.ingested_at_ms,
        "ingest_id": origin.ingest_id,
    }
    count = table.num_rows
    arrays = [
        pa.repeat(pa.scalar(same[field.name], field.type), count)
        if field.name in same
        else table.column(field.name)
        for field in CANDLE_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=CANDLE_SCHEMA)


def _faults(
    table: pa.Table,
    first_row: int,
    rows: NDArray[np.intp],
    off_grid: NDArray[np.bool_],
    absent: NDArray[np.bool_],
    odd_trades: NDArray[np.bool_],
) -> list[Fault]:
    found = {int(rows[one.row]): one.reason for one in faults(table)}
    for bad, reason in (
        (odd_trades, "trades_count is no count"),
        (off_grid, "ts_open is not on a whole minute"),
        (absent, "ts_open is empty"),
    ):
        found |= {int(row): reason for row in rows[bad[rows]]}
    return [Fault(first_row + row, found[row]) for row in sorted(found)]


def _inside(times: NDArray[np.int64], period: Period | None) -> NDArray[np.bool_]:
    if period is None:
        return np.ones(len(times), bool)
    return (times >= period.start_ms) & (times < period.end_ms)


def _times_ms(
    label: str, column: Any, naive_is_utc: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Milliseconds, where more than them was cut off, and where there is no time."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None and not naive_is_utc:
            raise InvalidCandles(
                f"{label}: ts_open has no time zone, so its instant is unknown; store it as UTC "
                f"(Arrow type timestamp[ms, UTC], in CSV 2026-01-01T00:00:00Z), or say with "
                f"--naive-is-utc that these times are UTC"
            )
    elif not pa.types.is_integer(kind):
        raise InvalidCandles(
            f"{label}: ts_open is {kind}; it must be a timestamp, or UTC milliseconds or "
            f"microseconds as an integer"
        )
    absent = column.is_null().to_numpy(zero_copy_only=False)
    values = column.cast(pa.int64()).fill_null(0).to_numpy()
    if pa.types.is_timestamp(kind):
        factor = {"s": -1000, "ms": 1, "us": 1_000, "ns": 1_000_000}[kind.unit]
        if factor < 0:
            return values * -factor, np.zeros(len(values), bool), absent
        factors: Any = factor
    else:
        # What would be after the year 5000 in one unit is a time of today in the next finer one.
        size = np.abs(values)
        factors = np.where(size >= 10**17, 1_000_000, np.where(size >= 10**14, 1_000, 1))
    return values // factors, values % factors != 0, absent


def _of_instrument(label: str, batch: pa.RecordBatch, wanted: Instrument) -> NDArray[np.bool_]:
    """The rows of the instrument; a file that does not name one is taken at its giver's word."""
    mine = np.ones(batch.num_rows, bool)
    if "market_id" in batch.schema.names:
        column = batch.column("market_id")
        if not pa.types.is_integer(column.type):
            raise InvalidCandles(f"{label}: column market_id is {column.type}, not integers")
        mine &= column.cast(pa.int64()).fill_null(-1).to_numpy() == wanted.market_id
    if "symbol" in batch.schema.names:
        column = batch.column("symbol")
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        if not any(is_text(coded.type.value_type) for is_text in _TEXTS):
            raise InvalidCandles(f"{label}: column symbol is {column.type}, not text")
        names = [str(name).strip().upper() for name in coded.dictionary.to_pylist()]
        codes = [code for code, name in enumerate(names) if name == wanted.symbol]
        mine &= np.isin(coded.indices.fill_null(-1).to_numpy(), codes)
    return mine


def _numbers(label: str, name: str, batch: pa.RecordBatch) -> Any:
    """A column as float64."""
    column = batch.column(name)
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.float64())
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise InvalidCandles(f"{label}: column {name} is {kind}, not numbers; store it as float64")
    return column.cast(pa.float64(), safe=False)


def _none(column: Any) -> NDArray[np.bool_]:
    """Where a float column is null or NaN."""
    return np.isnan(column.to_numpy(zero_copy_only=False))


def _optional(label: str, name: str, batch: pa.RecordBatch) -> Any:
    """A column that may lack, or lack values: NaN is none."""
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.float64())
    column = _numbers(label, name, batch)
    values = column.to_numpy(zero_copy_only=False)
    none = np.isnan(values)
    return pa.array(values, mask=none) if none.any() else column


def _counts(label: str, batch: pa.RecordBatch) -> tuple[NDArray[np.bool_], Any]:
    """Where `trades_count` is no count, and the counts."""
    if "trades_count" not in batch.schema.names:
        return np.zeros(batch.num_rows, bool), pa.nulls(batch.num_rows, pa.uint32())
    values = _numbers(label, "trades_count", batch).to_numpy(zero_copy_only=False)
    none = np.isnan(values)
    with np.errstate(invalid="ignore"):
        good = (values >= 0) & (values < _MOST_TRADES) & (values == np.floor(values))
    odd = ~good & ~none
    counts = np.where(good, values, 0).astype(np.uint32)
    return odd, pa.array(counts, mask=none | odd)
