"""Markets and instruments as the store knows them; the newest version of each counts.

The newest version is found first and filtered then. Filtering first would bring an instrument back
that was disabled since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from compute.market.instrument import Instrument
from ingest.exchanges.registry import MARKETS
from ingest.rows import TIME
from ingest.stores.clickhouse import ClickHouse

ENABLED: Final = "ENABLED"
DISABLED: Final = "DISABLED"


@dataclass(frozen=True, slots=True)
class MarketRow:
    """A market of `ref_market`."""

    market_id: int
    exchange_name: str
    market_type: str
    market_code: str
    is_enabled: bool
    count_symbols: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class InstrumentRow:
    """An instrument of `ref_instruments`; what no exchange has told yet is None."""

    instrument: Instrument
    status: str
    is_tradable: bool
    updated_at_ms: int
    base_asset: str | None = None
    quote_asset: str | None = None
    price_step: float | None = None
    qty_step: float | None = None
    min_notional: float | None = None

    @property
    def active(self) -> bool:
        """Whether candles of it are collected."""
        return self.status == ENABLED and self.is_tradable


_MARKET_SCHEMA: Final = pa.schema(
    [
        ("market_id", pa.uint16()),
        ("exchange_name", pa.string()),
        ("market_type", pa.string()),
        ("market_code", pa.string()),
        ("is_enabled", pa.uint8()),
        ("count_symbols", pa.uint32()),
        ("updated_at", TIME),
    ]
)
# A null in a plain column of texts arrives as '' in a LowCardinality(Nullable(String)) column;
# from a dictionary it arrives as the null it is.
_TEXT_OR_NULL: Final = pa.dictionary(pa.int32(), pa.string())
_INSTRUMENT_SCHEMA: Final = pa.schema(
    [
        ("market_id", pa.uint16()),
        ("symbol", pa.string()),
        ("status", pa.string()),
        ("is_tradable", pa.uint8()),
        ("base_asset", _TEXT_OR_NULL),
        ("quote_asset", _TEXT_OR_NULL),
        ("price_step", pa.float64()),
        ("qty_step", pa.float64()),
        ("min_notional", pa.float64()),
        ("updated_at", TIME),
    ]
)
_INSTRUMENT_COLUMNS: Final = (
    "market_id, toString(symbol), toString(status), is_tradable, "
    "toUnixTimestamp64Milli(updated_at), CAST(base_asset AS Nullable(String)), "
    "CAST(quote_asset AS Nullable(String)), price_step, qty_step, min_notional"
)
_NEWEST: Final = f"SELECT {_INSTRUMENT_COLUMNS} FROM ref_instruments FINAL"
_ACTIVE: Final = f"status = '{ENABLED}' AND is_tradable = 1"


class ReferenceStore:
    """Markets and instruments of a ClickHouse; any thread may use it."""

    def __init__(self, db: ClickHouse) -> None:
        self.db = db

    def markets(self) -> list[MarketRow]:
        """Every market, by id."""
        rows = self.db.rows(
            "SELECT market_id, toString(exchange_name), toString(market_type), "
            "toString(market_code), is_enabled, count_symbols, "
            "toUnixTimestamp64Milli(updated_at) FROM ref_market FINAL ORDER BY market_id"
        )
        return [
            MarketRow(
                market_id=int(row[0]),
                exchange_name=row[1],
                market_type=row[2],
                market_code=row[3],
                is_enabled=bool(row[4]),
                count_symbols=int(row[5]),
                updated_at_ms=int(row[6]),
            )
            for row in rows
        ]

    def seed_markets(self, now_ms: int) -> int:
        """Number of markets that were not there and now are; one that is, is left as it is."""
        known = {row.market_id for row in self.markets()}
        rows = [
            MarketRow(
                market.market_id, market.exchange, market.market_type, market.code, True, 0, now_ms
            )
            for market in MARKETS.values()
            if market.market_id not in known
        ]
        return self.upsert_markets(rows)

    def upsert_markets(self, rows: Sequence[MarketRow]) -> int:
        """Number of markets written, each a version of `updated_at_ms`."""
        records = [
            {
                "market_id": row.market_id,
                "exchange_name": row.exchange_name,
                "market_type": row.market_type,
                "market_code": row.market_code,
                "is_enabled": int(row.is_enabled),
                "count_symbols": row.count_symbols,
                "updated_at": row.updated_at_ms,
            }
            for row in rows
        ]
        return self.db.insert("ref_market", _table(records, _MARKET_SCHEMA))

    def latest(self, instruments: Sequence[Instrument]) -> dict[Instrument, InstrumentRow]:
        """The newest version of each of `instruments` that is known."""
        if not instruments:
            return {}
        wanted = set(instruments)
        rows = self.db.rows(
            f"{_NEWEST} WHERE symbol IN {{symbols:Array(String)}} ORDER BY market_id, symbol",
            {"symbols": sorted({instrument.symbol for instrument in wanted})},
        )
        found = [_instrument_row(row) for row in rows]
        return {row.instrument: row for row in found if row.instrument in wanted}

    def instruments(self) -> list[InstrumentRow]:
        """The newest version of every instrument, by market and symbol."""
        rows = self.db.rows(f"{_NEWEST} ORDER BY market_id, symbol")
        return [_instrument_row(row) for row in rows]

    def active(self) -> list[Instrument]:
        """The instruments whose candles are collected, by market and symbol."""
        return [row.instrument for row in self.instruments() if row.active]

    def search(self, market_id: int, prefix: str = "", limit: int = 50) -> list[Instrument]:
        """At most `limit` active instruments of a market whose symbols begin so, by symbol.

        No character of `prefix` means anything but itself.
        """
        rows = self.db.rows(
            f"SELECT name FROM (SELECT toString(symbol) AS name, status, is_tradable "
            f"FROM ref_instruments FINAL WHERE market_id = {{market_id:UInt64}}) "
            f"WHERE {_ACTIVE} AND startsWith(name, {{prefix:String}}) "
            f"ORDER BY name LIMIT {{limit:UInt32}}",
            {"market_id": market_id, "prefix": prefix.strip().upper(), "limit": limit},
        )
        return [Instrument(market_id, row[0]) for row in rows]

    def upsert(self, rows: Sequence[InstrumentRow]) -> int:
        """Number of instruments written, each whole and a version of `updated_at_ms`.

        A row replaces every column: carry over what the version before it knew.
        """
        records = [
            {
                "market_id": row.instrument.market_id,
                "symbol": row.instrument.symbol,
                "status": row.status,
                "is_tradable": int(row.is_tradable),
                "base_asset": row.base_asset,
                "quote_asset": row.quote_asset,
                "price_step": row.price_step,
                "qty_step": row.qty_step,
                "min_notional": row.min_notional,
                "updated_at": row.updated_at_ms,
            }
            for row in rows
        ]
        return self.db.insert("ref_instruments", _table(records, _INSTRUMENT_SCHEMA))


def _table(records: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(records, schema=schema)


def _instrument_row(row: tuple[Any, ...]) -> InstrumentRow:
    market_id, symbol, status, is_tradable, updated_at_ms, *rest = row
    return InstrumentRow(
        Instrument(int(market_id), symbol), status, bool(is_tradable), int(updated_at_ms), *rest
    )
