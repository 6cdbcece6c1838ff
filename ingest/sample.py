"""The sample: one made-up market that everybody may look at, and how it gets into a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from ingest.file_rows import FIVE, ROW_SCHEMA, stamped
from ingest.rows import SYNTHETIC, TIME, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.versions import newer_ms
from ingest.synthetic import synthetic_candles

INSTRUMENT: Final = Instrument(1, "SYNTHUSDT")
PERIOD: Final = Period.parse("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z")
SEED: Final = 7
_PIECES: Final = 24
_MADE: Final = 0.1
_STAMPED: Final = 0.45
"""Shares of the work: minutes are made, and are rows of the store."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is stored of the sample; `written` are the minutes that were not there before."""

    minutes: int
    written: int

    def record(self) -> dict[str, Any]:
        """The sample as JSON."""
        return {
            "market_id": INSTRUMENT.market_id,
            "symbol": INSTRUMENT.symbol,
            "start": instant(PERIOD.start_ms),
            "end": instant(PERIOD.end_ms),
            "minutes": self.minutes,
            "written": self.written,
        }


def sample_candles() -> Candles:
    """The minutes of a leap year, some of them missing, always the same."""
    frame = TIMEFRAMES["1m"]
    bars = PERIOD.duration_ms // frame.ms
    return synthetic_candles(seed=SEED, bars=bars, frame=frame, start_ms=PERIOD.start_ms)


def store_sample(
    store: CandleStore, now_ms: int, went: Callable[[float], None] = lambda share: None
) -> Sample:
    """The sample, stored as synthetic; where it is whole already nothing is written.

    `went` is told what share of the work is done. Raises: StoreFailed.
    """
    made = sample_candles()
    there = sum(store.day_counts(INSTRUMENT, PERIOD).values())
    if there >= len(made):
        return Sample(len(made), 0)
    went(_MADE)
    origin = Origin(SYNTHETIC, newer_ms(store.db, INSTRUMENT, PERIOD, now_ms))
    rows = stamped(_rows(made), INSTRUMENT, origin)
    size = -(-rows.num_rows // _PIECES)
    for piece in range(_PIECES):
        went(_STAMPED + (1 - _STAMPED) * piece / _PIECES)
        store.insert(rows.slice(piece * size, size))
    return Sample(len(made), len(made) - there)


def _rows(candles: Candles) -> pa.Table:
    columns: dict[str, Any] = {"ts_open": pa.array(candles.ts_open_ms).cast(TIME)}
    columns |= {
        name: pa.array(column.astype(np.float64))
        for name, column in zip(FIVE, candles.series(), strict=True)
    }
    nothing = pa.nulls(len(candles))
    return pa.Table.from_arrays(
        [columns.get(field.name, nothing).cast(field.type) for field in ROW_SCHEMA],
        schema=ROW_SCHEMA,
    )
