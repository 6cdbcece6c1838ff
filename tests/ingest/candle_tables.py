"""Seeded candles as tables and files, for the tests of history."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.backfill import BackfillReport, backfill
from ingest.rows import MINUTE_MS, Candle
from ingest.stores.candles import CandleStore
from tests.ingest.exchange_servers.tape import made_up

T0 = 1_735_603_200_000  # 2024-12-31: three quarters of the rows of a week lie in 2025
NOW = T0 + 400 * 1440 * MINUTE_MS
UTC_MS = pa.timestamp("ms", "UTC")
DATA = ["ts_open", "open", "high", "low", "close", "volume_base", "volume_quote", "trades_count"]


def candle_table(rows: int, *, seed: int = 1, start_ms: int = T0) -> pa.Table:
    """So many minutes in a row, with every optional column."""
    random = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, 1e-3, rows))), 2)
    opened = np.append(close[:1], close[:-1])
    volume = np.round(random.random(rows) * 100, 3)
    return pa.table(
        {
            "ts_open": pa.array(start_ms + np.arange(rows) * MINUTE_MS, UTC_MS),
            "open": opened,
            "high": np.maximum(opened, close) + 0.5,
            "low": np.minimum(opened, close) - 0.5,
            "close": close,
            "volume_base": volume,
            "volume_quote": volume * 100,
            "trades_count": (volume * 10).astype(np.int64),
            "taker_buy_volume_base": volume / 2,
            "taker_buy_volume_quote": volume * 50,
        }
    )


def replaced(table: pa.Table, **columns: Any) -> pa.Table:
    """The table with these columns instead of its own, or more."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    return table


def times(table: pa.Table, unit_per_ms: int = 1) -> pa.Array:
    """Opens as integers."""
    return pa.array(table["ts_open"].cast(pa.int64()).to_numpy() * unit_per_ms)


def parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    """`path`, written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def csv(path: Path, table: pa.Table) -> Path:
    """`path`, written, times as integers of milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pc.write_csv(replaced(table, ts_open=times(table)), path)
    return path


def archive_lines(table: pa.Table, unit_per_ms: int = 1) -> list[str]:
    """The rows as an exchange archive has them."""
    lines = []
    for row in replaced(table, ts_open=times(table)).to_pylist():
        opened = row["ts_open"]
        cells = [
            opened * unit_per_ms, row["open"], row["high"], row["low"], row["close"],
            row["volume_base"], (opened + MINUTE_MS) * unit_per_ms - 1, row["volume_quote"],
            row["trades_count"], row["taker_buy_volume_base"], row["taker_buy_volume_quote"], 0,
        ]  # fmt: skip
        lines.append(",".join(str(cell) for cell in cells))
    return lines


def mt4_lines(table: pa.Table) -> list[str]:
    """The rows as a Bybit archive has them: a clock three hours ahead, no header."""
    lines = []
    for row in table.to_pylist():
        ahead = (row["ts_open"] + timedelta(hours=3)).strftime("%Y.%m.%d %H:%M")
        cells = (row[name] for name in ("open", "high", "low", "close", "volume_base"))
        lines.append(",".join([ahead, *(str(cell) for cell in cells)]))
    return lines


def candle_of(instrument: Instrument, minute_ms: int, price: float | None = None) -> Candle:
    """A minute as the exchange has it, at another price if there is one."""
    one = made_up(instrument.symbol, minute_ms)
    told = (one.open, one.high, one.low, one.close)
    first, high, low, last = told if price is None else (price,) * 4
    return Candle(instrument, one.ts_open_ms, first, high, low, last, one.volume_base)


def load(
    store: CandleStore, instrument: Instrument, *paths: Path, **options: Any
) -> BackfillReport:
    """The files in the store."""
    return backfill(store, instrument, paths, clock=lambda: NOW, **options)


def assert_holds(store: CandleStore, instrument: Instrument, table: pa.Table) -> None:
    """The store has exactly these minutes, once each, with these values."""
    here = store.arrow(instrument, Period(0, NOW + 10**10))
    assert here.num_rows == table.num_rows
    for name in DATA:
        if name in table.column_names:
            assert here[name].to_pylist() == table[name].to_pylist(), name
