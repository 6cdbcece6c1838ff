"""The first candle an exchange has of an instrument, asked for once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from compute.market.instrument import Instrument
from ingest.rows import TIME
from ingest.stores.clickhouse import ClickHouse


@dataclass(frozen=True, slots=True)
class Listing:
    """What an exchange answered: the open of its first candle, None where it has none."""

    first_ms: int | None
    updated_at_ms: int


_SCHEMA: Final = pa.schema(
    [
        ("market_id", pa.uint16()),
        ("symbol", pa.string()),
        ("first_candle", TIME),
        ("updated_at", TIME),
    ]
)


class ListingStore:
    """The listings of a ClickHouse; any thread may use it."""

    def __init__(self, db: ClickHouse) -> None:
        self.db = db

    def listing(self, instrument: Instrument) -> Listing | None:
        """The newest answer for an instrument; None: nobody has asked yet."""
        rows = self.db.rows(
            "SELECT toUnixTimestamp64Milli(first_candle), toUnixTimestamp64Milli(updated_at) "
            "FROM listings FINAL WHERE market_id = {market_id:UInt64} AND symbol = {symbol:String}",
            {"market_id": instrument.market_id, "symbol": instrument.symbol},
        )
        if not rows:
            return None
        first_ms, updated_at_ms = rows[0]
        return Listing(None if first_ms is None else int(first_ms), int(updated_at_ms))

    def record(self, instrument: Instrument, first_ms: int | None, now_ms: int) -> None:
        """Keeps an answer; the newest one counts."""
        record = {
            "market_id": instrument.market_id,
            "symbol": instrument.symbol,
            "first_candle": first_ms,
            "updated_at": now_ms,
        }
        self.db.insert("listings", pa.Table.from_pylist([record], schema=_SCHEMA))
