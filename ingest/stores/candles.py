"""Candles of the store: rows in, columns and what is known about them out.

Rows go to the raw table of their exchange; the store's own triggers make the candles of them. Of
the rows of one minute the newest `ingested_at` counts, of equal ones the last inserted, over the
whole range and whether or not the store has merged them yet.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compute.errors import InvalidCandles
from compute.market.candles import SERIES, Candles
from compute.market.fingerprint import fingerprint
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import present
from ingest.exchanges.registry import market
from ingest.rows import (
    CANDLE_SCHEMA,
    DAY_MS,
    FIRST_STORED_MS,
    LAST_STORED_MS,
    MINUTE_MS,
    SYNTHETIC,
    faults,
)
from ingest.slices import slices
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.raw_tables import OPEN_TIMES, raw_rows

# The month is a function of the key, so versions of one minute are never in two partitions.
_NEWEST: Final = "SETTINGS do_not_merge_across_partitions_select_final = 1"
_TIMES_BETWEEN: Final = (
    "{time} >= fromUnixTimestamp64Milli({{start_ms:Int64}}, 'UTC') "
    "AND {time} < fromUnixTimestamp64Milli({{end_ms:Int64}}, 'UTC')"
)
_INSTRUMENT: Final = "market_id = {market_id:UInt64} AND symbol = {symbol:String}"
_WHERE: Final = f"WHERE {_INSTRUMENT} AND {_TIMES_BETWEEN.format(time='ts_open')}"


class CandleStore:
    """The one-minute candles of a ClickHouse; any thread may use it."""

    def __init__(self, db: ClickHouse) -> None:
        self.db = db
        self._columns: dict[str, tuple[str, ...]] = {}
        self._turn = threading.Lock()

    def insert(self, table: pa.Table, *, urgent: bool = False) -> int:
        """The number of rows stored, all of a `CANDLE_SCHEMA` table: one insert a raw table.

        Rows may be in any order and reach over any number of months. When one of two raw tables
        fails, the whole may be tried again.

        Raises:
            InvalidCandles: a row that is no candle, another schema; nothing is stored.
            InvalidInput: a market nobody knows; nothing is stored.
            StoreUnavailable: the store cannot be reached; some rows may be stored.
        """
        if table.schema != CANDLE_SCHEMA:
            table = _conformed(table)
        _refuse_faults(table)
        for name, rows in _by_raw_table(table).items():
            raw = raw_rows(name, self._raw_columns(name), rows)
            order = _order(rows)  # taken from raw rows, whose texts are dictionaries: cheap to move
            sorted_rows = raw if order is None else raw.take(pa.array(order))
            self.db.insert(name, sorted_rows, urgent=urgent)
        return table.num_rows

    def arrow(self, instrument: Instrument, period: Period) -> pa.Table:
        """The candles whose open lies in `period`, as rows of `CANDLE_SCHEMA`, ascending."""
        table = self.db.arrow(
            "SELECT market_id, toString(symbol) AS symbol, instrument_key, ts_open, open, high, "
            "low, close, volume_base, volume_quote, trades_count, taker_buy_volume_base, "
            "taker_buy_volume_quote, toString(source) AS source, ingested_at, "
            "toString(ingest_id) AS ingest_id "
            f"FROM canonical_candles_1m FINAL {_WHERE} ORDER BY ts_open {_NEWEST}",
            _asked(instrument, period),
        )
        return _conformed(table)

    def candles(self, instrument: Instrument, period: Period) -> Candles:
        """The candles whose open lies in `period`, ascending, one a minute, in float32.

        Prices are rounded to float32 by the store, to the nearest as NumPy does, so only half of
        their bytes travel.
        """
        table = self.db.arrow(
            "SELECT toUnixTimestamp64Milli(ts_open) AS ts_open_ms, toFloat32(open) AS o, "
            "toFloat32(high) AS h, toFloat32(low) AS l, toFloat32(close) AS c, "
            "toFloat32(volume_base) AS v "
            f"FROM canonical_candles_1m FINAL {_WHERE} ORDER BY ts_open {_NEWEST}",
            _asked(instrument, period),
        )
        columns = [column.to_numpy() for column in table.columns]
        return Candles(columns[0], **dict(zip(SERIES, columns[1:], strict=True)))

    def fingerprint(self, instrument: Instrument, period: Period) -> str:
        """The fingerprint of the candles in `period`, equal to that of a file which has them.

        It depends on the candles alone: storing equal ones again does not change it.
        """
        frame = TIMEFRAMES["1m"]
        found = present(self.candles(instrument, period), frame, period)
        return fingerprint(instrument, frame, period, found)

    def is_empty(self) -> bool:
        """Whether there is no candle at all."""
        return not self.db.rows("SELECT 1 FROM canonical_candles_1m LIMIT 1")

    def bounds(
        self,
        instrument: Instrument,
        before_ms: int | None = None,
        from_ms: int = FIRST_STORED_MS,
    ) -> tuple[int, int] | None:
        """First and last stored minute that open in a range; None where there is no candle."""
        start_ms = max(from_ms, FIRST_STORED_MS)
        end_ms = LAST_STORED_MS if before_ms is None else min(before_ms, LAST_STORED_MS)
        if end_ms <= start_ms:
            return None
        ((first_ms, last_ms),) = self.db.rows(
            "SELECT toUnixTimestamp64Milli(minOrNull(ts_open)), "
            "toUnixTimestamp64Milli(maxOrNull(ts_open)) "
            f"FROM canonical_candles_1m {_WHERE}",
            _asked(instrument, Period(start_ms, end_ms)),
        )
        return None if first_ms is None else (int(first_ms), int(last_ms))

    def minutes(self, instrument: Instrument, period: Period) -> NDArray[np.int64]:
        """The minutes of `period` that have a candle, ascending, each once."""
        table = self.db.arrow(
            "SELECT DISTINCT toUnixTimestamp64Milli(ts_open) AS ts_open_ms "
            f"FROM canonical_candles_1m {_WHERE} ORDER BY ts_open_ms",
            _asked(instrument, period),
        )
        return table.column(0).to_numpy()

    def day_counts(self, instrument: Instrument, period: Period) -> dict[int, int]:
        """Number of minutes with a candle by UTC midnight; a day without any is not there."""
        counts: dict[int, int] = {}
        # A statement a year, and minutes of the day in 16 bits, which are counted in a quarter of
        # the time of 64: the embedded store has nothing for a live candle meanwhile.
        for part in slices(period, 366):
            rows = self.db.rows(
                f"SELECT intDiv(toUnixTimestamp64Milli(ts_open), {DAY_MS}) * {DAY_MS} AS day_ms, "
                "uniqExact(toUInt16(intDiv("
                f"toUnixTimestamp64Milli(ts_open) % {DAY_MS}, {MINUTE_MS}))) "
                f"FROM canonical_candles_1m {_WHERE} GROUP BY day_ms ORDER BY day_ms",
                _asked(instrument, part),
            )
            counts |= {int(day_ms): int(count) for day_ms, count in rows}
        return counts

    def missing(self, instrument: Instrument, period: Period) -> list[Period]:
        """The minutes of `period` without a candle, as ranges that end at UTC midnights.

        A minute belongs to the period when it opens in it.
        """
        start_ms = -(-period.start_ms // MINUTE_MS) * MINUTE_MS
        end_ms = -(-period.end_ms // MINUTE_MS) * MINUTE_MS
        if start_ms >= end_ms:
            return []
        here = self.minutes(instrument, Period(start_ms, end_ms))
        edges = np.concatenate(([start_ms - MINUTE_MS], here, [end_ms]))
        jumps = np.flatnonzero(np.diff(edges) > MINUTE_MS)
        found: list[Period] = []
        for jump in jumps:
            gap_ms, stop_ms = int(edges[jump]) + MINUTE_MS, int(edges[jump + 1])
            while gap_ms < stop_ms:
                cut_ms = min(stop_ms, (gap_ms // DAY_MS + 1) * DAY_MS)
                found.append(Period(gap_ms, cut_ms))
                gap_ms = cut_ms
        return found

    def instruments(self) -> list[Instrument]:
        """Every instrument that has a candle, ascending."""
        rows = self.db.rows(
            "SELECT market_id, toString(symbol) AS name FROM canonical_candles_1m "
            "GROUP BY market_id, name ORDER BY market_id, name"
        )
        return [Instrument(int(market_id), symbol) for market_id, symbol in rows]

    def synthetic(self, instrument: Instrument, period: Period) -> int:
        """Number of candles in `period` that a generator made, as their files said."""
        ((count,),) = self.db.rows(
            f"SELECT countIf(source = {{made:String}}) FROM canonical_candles_1m FINAL {_WHERE} "
            f"{_NEWEST}",
            {**_asked(instrument, period), "made": SYNTHETIC},
        )
        return int(count)

    def delete(self, instrument: Instrument, period: Period) -> None:
        """Removes the candles whose open lies in `period`, and then the raw rows of them.

        Raises:
            StoreFailed: the store failed, or its user may not delete; some may be removed.
        """
        asked = _asked(instrument, period)
        raw_table, time = self._raw_time(instrument)
        self.db.command(f"DELETE FROM canonical_candles_1m {_WHERE}", asked)
        self.db.command(
            f"DELETE FROM {raw_table} WHERE {_INSTRUMENT} AND {_TIMES_BETWEEN.format(time=time)}",
            asked,
        )

    def written(self, instrument: Instrument, period: Period) -> list[tuple[int, int, int, str]]:
        """(minute, when its newest version was stored, versions, its source), ascending, in ms."""
        name, time = self._raw_time(instrument)
        rows = self.db.rows(
            f"SELECT toUnixTimestamp64Milli({time}) AS minute_ms, "
            "toUnixTimestamp64Milli(max(ingested_at)), count(), "
            "toString(argMax(source, ingested_at)) "
            f"FROM {name} WHERE {_INSTRUMENT} AND {_TIMES_BETWEEN.format(time=time)} "
            "GROUP BY minute_ms ORDER BY minute_ms",
            _asked(instrument, period),
        )
        return [(int(minute), int(at), int(count), source) for minute, at, count, source in rows]

    def raw_count(self, instrument: Instrument, period: Period) -> int:
        """Number of raw rows whose minute opens in `period`, repeats counted."""
        return self._raw_counts(instrument, period)[0]

    def duplicates(self, instrument: Instrument, period: Period) -> int:
        """Number of raw rows in `period` beyond the first of their minute."""
        rows, minutes = self._raw_counts(instrument, period)
        return rows - minutes

    def _raw_counts(self, instrument: Instrument, period: Period) -> tuple[int, int]:
        name, time = self._raw_time(instrument)
        ((rows, minutes),) = self.db.rows(
            f"SELECT count(), uniqExact({time}) FROM {name} "
            f"WHERE {_INSTRUMENT} AND {_TIMES_BETWEEN.format(time=time)}",
            _asked(instrument, period),
        )
        return int(rows), int(minutes)

    def _raw_time(self, instrument: Instrument) -> tuple[str, str]:
        """The raw table of an instrument, and its column with the minute's open."""
        name = market(instrument.market_id).raw_table
        return name, next(column for column in self._raw_columns(name) if column in OPEN_TIMES)

    def _raw_columns(self, name: str) -> tuple[str, ...]:
        """The columns of a raw table, asked for once."""
        with self._turn:
            known = self._columns.get(name)
        if known is None:
            rows = self.db.rows(
                "SELECT name FROM system.columns WHERE database = {database:String} "
                "AND table = {table:String} ORDER BY position",
                {"database": self.db.database, "table": name},
            )
            known = tuple(str(row[0]) for row in rows)
            if known:
                with self._turn:
                    self._columns[name] = known
        return known


def _asked(instrument: Instrument, period: Period) -> dict[str, Any]:
    """The parameters of a query, the period cut to what a store can hold."""
    return {
        "market_id": instrument.market_id,
        "symbol": instrument.symbol,
        "start_ms": min(max(period.start_ms, FIRST_STORED_MS), LAST_STORED_MS),
        "end_ms": min(max(period.end_ms, FIRST_STORED_MS), LAST_STORED_MS),
    }


def _conformed(table: pa.Table) -> pa.Table:
    """The table in `CANDLE_SCHEMA`, columns in its order and of its types."""
    lacking = [name for name in CANDLE_SCHEMA.names if name not in table.column_names]
    if lacking:
        raise InvalidCandles(f"rows for the store lack the columns {', '.join(lacking)}")
    try:
        return table.select(CANDLE_SCHEMA.names).cast(CANDLE_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise InvalidCandles(f"rows for the store have other types: {error}") from error


def _refuse_faults(table: pa.Table) -> None:
    found = faults(table)
    if found:
        first = found[0]
        are = "rows are no candles" if table.num_rows > 1 else "row is no candle"
        raise InvalidCandles(
            f"{len(found)} of {table.num_rows} {are} (row {first.row}: "
            f"{first.reason}); nothing was stored: correct or leave them out",
            rows=[fault.row for fault in found[:5]],
        )


def _by_raw_table(table: pa.Table) -> dict[str, pa.Table]:
    """The rows by the raw table they go to, in the order of the tables' names."""
    market_ids = table.column("market_id").to_numpy()
    targets: dict[str, list[int]] = {}
    for market_id in np.unique(market_ids):
        targets.setdefault(market(int(market_id)).raw_table, []).append(int(market_id))
    if len(targets) == 1:
        return {next(iter(targets)): table}
    return {
        name: table.filter(pa.array(np.isin(market_ids, ids)))
        for name, ids in sorted(targets.items())
    }


def _order(table: pa.Table) -> NDArray[np.int64] | None:
    """The rows by market, symbol and time, equal ones in their order; None: they are already."""
    times = table.column("ts_open").cast(pa.int64()).to_numpy()
    markets = table.column("market_id").to_numpy()
    symbols = table.column("symbol").combine_chunks().dictionary_encode()
    rank = np.argsort(np.argsort(np.array(symbols.dictionary.to_pylist(), object)))
    ranks = rank[np.asarray(symbols.indices)]
    alone = len(rank) < 2 and bool(np.all(markets[1:] == markets[:-1]))
    if alone and bool(np.all(times[1:] >= times[:-1])):
        return None
    order = np.argsort(times, kind="stable") if alone else np.lexsort((times, ranks, markets))
    return None if bool(np.all(order[1:] > order[:-1])) else order
