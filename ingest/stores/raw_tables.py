"""Rows of the common schema in the words of a raw table.

A raw table keeps what an exchange sent under the names the exchange gives it. What each name means
stands here, once for all exchanges; which names a table has, the store itself knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import SchemaOutdated
from ingest.rows import MINUTE_MS, TIME

OPEN_TIMES: Final = ("open_time", "start_time_utc")
"""Names that raw tables have for the minute's open."""


def _same(name: str) -> Callable[[pa.Table], Any]:
    return lambda table: table.column(name)


def _or_zero(name: str) -> Callable[[pa.Table], Any]:
    return lambda table: pc.fill_null(table.column(name), 0)


def _close_time(table: pa.Table) -> Any:
    times = table.column("ts_open").cast(pa.int64()).to_numpy()
    return pa.array(times + MINUTE_MS, TIME)


def _milliseconds(table: pa.Table) -> Any:
    return table.column("ts_open").cast(pa.int64()).cast(pa.uint64())


def _one(table: pa.Table) -> Any:
    return pa.array(np.ones(table.num_rows, np.uint16))


def _text(name: str) -> Callable[[pa.Table], Any]:
    # A few texts for many rows: as a dictionary they travel as numbers.
    return lambda table: table.column(name).dictionary_encode()


_MEANINGS: Final[dict[str, Callable[[pa.Table], Any]]] = {
    **{name: _same(name) for name in ("market_id", "open", "high", "low", "close", "ingested_at")},
    **{name: _text(name) for name in ("symbol", "instrument_key", "source", "ingest_id")},
    **{name: _same("ts_open") for name in OPEN_TIMES},
    "start_time_ms": _milliseconds,
    "close_time": _close_time,
    "interval_min": _one,
    "volume": _same("volume_base"),
    "quote_asset_volume": _or_zero("volume_quote"),
    "turnover": _or_zero("volume_quote"),
    "number_of_trades": _or_zero("trades_count"),
    "taker_buy_base_asset_volume": _or_zero("taker_buy_volume_base"),
    "taker_buy_quote_asset_volume": _or_zero("taker_buy_volume_quote"),
}


def raw_rows(table_name: str, columns: Sequence[str], table: pa.Table) -> pa.Table:
    """The rows of a `CANDLE_SCHEMA` table as rows of a raw table with these columns.

    Raises:
        SchemaOutdated: the raw table is not there, or has a column without a meaning.
    """
    unknown = [name for name in columns if name not in _MEANINGS]
    if unknown or not columns:
        lacks = f"has columns {', '.join(unknown)}" if unknown else "is not there"
        raise SchemaOutdated(
            f"raw table {table_name} {lacks}, for which this version has no rule; "
            f"run `roehub ingest migrate`, or say in ingest/stores/raw_tables.py what they hold"
        )
    return pa.table({name: _MEANINGS[name](table) for name in columns})
