"""Rows for the store, made up but exact: every price tells its minute and its version."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compute.market.instrument import Instrument
from ingest.rows import CANDLE_SCHEMA, MINUTE_MS, TIME, Candle, instrument_key

START_MS = 1_704_067_200_000  # 2024-01-01
INGESTED_MS = 1_767_225_600_000  # 2026-01-01
MONTH_MS = 30 * 86_400_000


def candle(instrument: Instrument, minute: int, version: int = 0) -> Candle:
    """The candle of a minute, counted from `START_MS`; another version has other prices."""
    close = 100.0 + minute % 1000 + version * 10_000
    return Candle(
        instrument,
        START_MS + minute * MINUTE_MS,
        close - 0.25,
        close + 1.5,
        close - 1.5,
        close,
        float(minute % 7),
        volume_quote=float(minute % 7) * close,
        trades_count=minute % 50,
        taker_buy_volume_base=float(minute % 7) / 2,
        taker_buy_volume_quote=float(minute % 7) * close / 2,
    )


def table(
    instrument: Instrument,
    minutes: Sequence[int] | NDArray[np.int64],
    version: int = 0,
    source: str = "rest",
) -> pa.Table:
    """The same candles as rows, ingested `version` milliseconds after `INGESTED_MS`."""
    at = np.asarray(minutes, np.int64)
    close = 100.0 + at % 1000 + version * 10_000
    base = (at % 7).astype(np.float64)
    columns = {
        "market_id": pa.array(np.full(len(at), instrument.market_id, np.uint16)),
        "symbol": pa.repeat(pa.scalar(instrument.symbol), len(at)),
        "instrument_key": pa.repeat(pa.scalar(instrument_key(instrument)), len(at)),
        "ts_open": pa.array(START_MS + at * MINUTE_MS, TIME),
        "open": pa.array(close - 0.25),
        "high": pa.array(close + 1.5),
        "low": pa.array(close - 1.5),
        "close": pa.array(close),
        "volume_base": pa.array(base),
        "volume_quote": pa.array(base * close),
        "trades_count": pa.array((at % 50).astype(np.uint32)),
        "taker_buy_volume_base": pa.array(base / 2),
        "taker_buy_volume_quote": pa.array(base * close / 2),
        "source": pa.repeat(pa.scalar(source), len(at)),
        "ingested_at": pa.array(np.full(len(at), INGESTED_MS + version), TIME),
        "ingest_id": pa.nulls(len(at), pa.string()),
    }
    return pa.Table.from_arrays([columns[n] for n in CANDLE_SCHEMA.names], schema=CANDLE_SCHEMA)
