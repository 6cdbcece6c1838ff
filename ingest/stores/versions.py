"""Versions of candles: a later writing must count, whatever its clock says."""

from __future__ import annotations

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import FIRST_STORED_MS, LAST_STORED_MS
from ingest.stores.clickhouse import ClickHouse


def newer_ms(db: ClickHouse, instrument: Instrument, period: Period | None, now_ms: int) -> int:
    """A version for rows written now: the time, but later than every row there is in `period`.

    A clock that was set back must not make a correction the older version.
    """
    start_ms = FIRST_STORED_MS if period is None else max(period.start_ms, FIRST_STORED_MS)
    end_ms = LAST_STORED_MS if period is None else min(period.end_ms, LAST_STORED_MS)
    ((newest_ms,),) = db.rows(
        "SELECT toUnixTimestamp64Milli(maxOrNull(ingested_at)) FROM canonical_candles_1m "
        "WHERE market_id = {market_id:UInt64} AND symbol = {symbol:String} "
        "AND ts_open >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') "
        "AND ts_open < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')",
        {
            "market_id": instrument.market_id,
            "symbol": instrument.symbol,
            "start_ms": start_ms,
            "end_ms": end_ms,
        },
    )
    return now_ms if newest_ms is None else max(now_ms, int(newest_ms) + 1)
