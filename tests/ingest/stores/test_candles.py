"""The candle store over the real engine, in process and over HTTP."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from compute.errors import InvalidCandles, InvalidInput
from compute.market.candles import Candles
from compute.market.fingerprint import fingerprint
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from ingest.rows import CANDLE_SCHEMA, DAY_MS, MINUTE_MS, Origin, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.stores.made import INGESTED_MS, START_MS, candle, table

RUN_ID = "0f0e0d0c-1111-4222-8333-444455556666"


@pytest.fixture(scope="module")
def store(either: ClickHouse) -> CandleStore:
    return CandleStore(either)


def minutes(first: int, stop: int) -> Period:
    return Period(START_MS + first * MINUTE_MS, START_MS + stop * MINUTE_MS)


def closes(store: CandleStore, instrument: Instrument, period: Period) -> list[float]:
    return store.candles(instrument, period).close.tolist()


def kept(rows: pa.Table) -> pa.Table:
    """The rows as a raw table without trade counts and taker volumes keeps them."""
    for name in ("trades_count", "taker_buy_volume_base", "taker_buy_volume_quote"):
        field = CANDLE_SCHEMA.field(name)
        nothing = pa.nulls(rows.num_rows, field.type)
        rows = rows.set_column(CANDLE_SCHEMA.get_field_index(name), field, nothing)
    return rows.combine_chunks()


def test_rows_come_back_as_they_went_in(store: CandleStore) -> None:
    instrument = Instrument(1, "WHOLEUSDT")
    candles = [candle(instrument, minute) for minute in range(5)]
    rows = table_of(candles, Origin("ws", INGESTED_MS + 123, RUN_ID))
    assert store.insert(rows) == 5
    assert store.arrow(instrument, minutes(0, 5)) == rows


def test_what_an_exchange_does_not_tell_is_null_or_zero(store: CandleStore) -> None:
    for market_id, absent in ((2, 0), (4, None)):
        instrument = Instrument(market_id, "BAREUSDT")
        full = candle(instrument, 3)
        bare = type(full)(instrument, full.ts_open_ms, 1.0, 1.0, 1.0, 1.0, 0.0)
        store.insert(table_of([bare], Origin("rest", INGESTED_MS)))
        (row,) = store.arrow(instrument, minutes(0, 5)).to_pylist()
        assert row["trades_count"] == absent
        assert row["taker_buy_volume_base"] == row["taker_buy_volume_quote"] == absent
        assert row["volume_quote"] == 0.0  # both exchanges' raw columns hold a number
        assert row["ingest_id"] is None


def test_the_close_of_a_minute_is_a_minute_after_its_open(store: CandleStore) -> None:
    for market_id in (1, 3):
        instrument = Instrument(market_id, "CLOSEUSDT")
        store.insert(table(instrument, range(3)))
        rows = store.db.rows(
            "SELECT DISTINCT dateDiff('ms', ts_open, ts_close) FROM canonical_candles_1m "
            "WHERE market_id = {market_id:UInt16} AND symbol = 'CLOSEUSDT'",
            {"market_id": market_id},
        )
        assert rows == [(MINUTE_MS,)]


def test_a_mixed_batch_is_one_insert_a_raw_table(store: CandleStore) -> None:
    instruments = [Instrument(market_id, "MIXEDUSDT") for market_id in (1, 2, 3, 4)]
    batch = pa.concat_tables([table(instrument, range(10)) for instrument in instruments])
    shuffled = batch.take(pa.array(np.random.default_rng(1).permutation(40)))
    assert store.insert(shuffled) == 40
    for instrument in instruments:
        rows = table(instrument, range(10))
        expected = rows if instrument.market_id in (1, 2) else kept(rows)
        assert store.arrow(instrument, minutes(0, 10)) == expected
        assert store.raw_count(instrument, minutes(0, 10)) == 10


def test_the_newest_version_counts_wherever_it_is(store: CandleStore) -> None:
    """Old and late, merged or not, in whatever order they came: the last 24 hours or last year."""
    instrument = Instrument(3, "VERSIONSUSDT")
    store.insert(table(instrument, range(100), version=2))
    store.insert(table(instrument, range(50), version=1))  # older, written later
    store.insert(table(instrument, range(20, 30), version=3))
    expected = kept(
        pa.concat_tables(
            [
                table(instrument, range(20), 2),
                table(instrument, range(20, 30), 3),
                table(instrument, range(30, 100), 2),
            ]
        )
    )
    assert store.arrow(instrument, minutes(0, 100)) == expected
    before = store.fingerprint(instrument, minutes(0, 100))
    store.db.command("OPTIMIZE TABLE canonical_candles_1m FINAL")
    assert store.arrow(instrument, minutes(0, 100)) == expected
    assert store.fingerprint(instrument, minutes(0, 100)) == before
    assert store.raw_count(instrument, minutes(0, 100)) == 160
    assert store.duplicates(instrument, minutes(0, 100)) == 60


def test_of_equally_new_versions_the_last_inserted_counts(store: CandleStore) -> None:
    instrument = Instrument(1, "TIESUSDT")
    first, second = table(instrument, range(5)), table(instrument, range(5), version=1)
    same = second.set_column(
        second.schema.get_field_index("ingested_at"),
        CANDLE_SCHEMA.field("ingested_at"),
        first.column("ingested_at"),
    )
    store.insert(pa.concat_tables([first, same]))  # in one insert, too
    third = same.set_column(same.schema.get_field_index("close"), "close", same.column("low"))
    assert closes(store, instrument, minutes(0, 5)) == same.column("close").to_pylist()
    store.insert(third)
    assert closes(store, instrument, minutes(0, 5)) == third.column("close").to_pylist()
    store.db.command("OPTIMIZE TABLE canonical_candles_1m FINAL")
    assert closes(store, instrument, minutes(0, 5)) == third.column("close").to_pylist()


def test_three_unsorted_years_are_one_insert(store: CandleStore) -> None:
    """Daily partitions would refuse it: more than a hundred in one block."""
    instrument = Instrument(2, "YEARSUSDT")
    at = np.arange(0, 3 * 365 * 1440, 97)
    shuffled = np.random.default_rng(2).permutation(at)
    assert store.insert(table(instrument, shuffled)) == len(at)
    whole = Period(START_MS, START_MS + 3 * 365 * DAY_MS)
    assert store.minutes(instrument, whole).tolist() == (START_MS + at * MINUTE_MS).tolist()
    partitions = store.db.rows(
        "SELECT uniqExact(partition_id) FROM system.parts WHERE active "
        "AND database = {database:String} AND table = 'raw_binance_klines_1m'",
        {"database": store.db.database},
    )
    assert 36 <= partitions[0][0] <= 40


def test_nine_years_in_one_insert_pass_the_limit_of_a_hundred_partitions(
    store: CandleStore,
) -> None:
    instrument = Instrument(4, "DECADEUSDT")
    at = np.arange(-2 * 365 * 1440, 7 * 365 * 1440, 30 * 1440)
    store.insert(table(instrument, at))
    first, last = int(at[0]), int(at[-1])
    assert store.bounds(instrument) == (
        START_MS + first * MINUTE_MS,
        START_MS + last * MINUTE_MS,
    )


def test_candles_are_what_numpy_would_make_of_the_rows(store: CandleStore) -> None:
    instrument = Instrument(1, "FLOATUSDT")
    random = np.random.default_rng(3)
    close = np.exp(random.uniform(-20, 20, 2000))
    rows = table(instrument, range(2000))
    columns = {"open": close, "high": close * 1.1, "low": close * 0.9, "close": close}
    for name, values in columns.items():
        field = CANDLE_SCHEMA.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values))
    store.insert(rows)
    found = store.candles(instrument, minutes(0, 2000))
    for name, values in columns.items():
        np.testing.assert_array_equal(getattr(found, name), values.astype(np.float32))
    assert not found.close.flags.writeable
    expected = Candles(
        rows.column("ts_open").cast(pa.int64()).to_numpy(),
        *(rows.column(n).to_numpy() for n in ("open", "high", "low", "close", "volume_base")),
    )
    period = minutes(0, 2000)
    assert store.fingerprint(instrument, period) == fingerprint(
        instrument, TIMEFRAMES["1m"], period, expected
    )


def test_equal_data_again_keeps_the_fingerprint_and_other_data_changes_it(
    store: CandleStore,
) -> None:
    instrument, period = Instrument(3, "PRINTUSDT"), minutes(0, 500)
    store.insert(table(instrument, range(500)))
    first = store.fingerprint(instrument, period)
    again = table(instrument, range(500))
    later = pa.array(np.full(500, INGESTED_MS + 9), pa.timestamp("ms", "UTC"))
    store.insert(
        again.set_column(
            again.schema.get_field_index("ingested_at"), CANDLE_SCHEMA.field("ingested_at"), later
        )
    )
    assert store.fingerprint(instrument, period) == first
    assert store.fingerprint(instrument, minutes(0, 501)) != first
    store.insert(table(instrument, [250], version=20))
    assert store.fingerprint(instrument, period) != first


def test_an_empty_instrument_has_no_bounds(store: CandleStore) -> None:
    nobody = Instrument(1, "NOBODYUSDT")
    assert store.bounds(nobody) is None
    assert store.bounds(nobody, before_ms=START_MS) is None
    assert len(store.candles(nobody, minutes(0, 10))) == 0
    assert store.arrow(nobody, minutes(0, 10)) == CANDLE_SCHEMA.empty_table()
    assert store.minutes(nobody, minutes(0, 10)).tolist() == []
    assert store.day_counts(nobody, minutes(0, 10)) == {}
    assert store.raw_count(nobody, minutes(0, 10)) == store.duplicates(nobody, minutes(0, 10)) == 0
    assert store.missing(nobody, minutes(0, 10)) == [minutes(0, 10)]
    assert nobody not in store.instruments()


def test_bounds_are_those_before_a_limit(store: CandleStore) -> None:
    instrument = Instrument(2, "BOUNDSUSDT")
    store.insert(table(instrument, [5, 7, 2000]))
    at = [START_MS + minute * MINUTE_MS for minute in (5, 7, 2000)]
    assert store.bounds(instrument) == (at[0], at[2])
    assert store.bounds(instrument, before_ms=at[2]) == (at[0], at[1])
    assert store.bounds(instrument, before_ms=at[0]) is None
    assert store.bounds(instrument, before_ms=at[0] + 1) == (at[0], at[0])
    assert store.bounds(instrument, before_ms=-5) is None
    assert store.bounds(instrument, from_ms=at[0] + 1) == (at[1], at[2])
    assert store.bounds(instrument, from_ms=at[1], before_ms=at[2]) == (at[1], at[1])
    assert store.bounds(instrument, from_ms=at[2] + 1) is None
    assert store.bounds(instrument, from_ms=at[1], before_ms=at[1]) is None
    assert not store.is_empty()
    assert store.bounds(instrument, before_ms=1 << 60) == (at[0], at[2])


def test_missing_minutes_are_ranges_inside_days(store: CandleStore) -> None:
    instrument = Instrument(3, "HOLESUSDT")
    here = [*range(0, 10), *range(12, 1430), *range(1445, 1500), 4 * 1440]
    store.insert(table(instrument, here))
    store.insert(table(instrument, range(10), version=1))
    assert store.missing(instrument, minutes(0, 4 * 1440 + 1)) == [
        minutes(10, 12),
        minutes(1430, 1440),
        minutes(1440, 1445),
        minutes(1500, 2880),
        minutes(2880, 4320),
        minutes(4320, 5760),
    ]
    assert store.missing(instrument, minutes(0, 10)) == []
    assert store.missing(instrument, minutes(9, 13)) == [minutes(10, 12)]
    inner = Period(START_MS + 9 * MINUTE_MS + 1, START_MS + 11 * MINUTE_MS + 1)
    assert store.missing(instrument, inner) == [minutes(10, 12)]
    assert store.day_counts(instrument, minutes(0, 9999)) == {
        START_MS: 1428,
        START_MS + DAY_MS: 55,
        START_MS + 4 * DAY_MS: 1,
    }
    assert store.day_counts(instrument, minutes(5, 1446)) == {START_MS: 1423, START_MS + DAY_MS: 1}


def test_a_period_is_half_open_and_may_lie_anywhere(store: CandleStore) -> None:
    instrument = Instrument(1, "EDGESUSDT")
    store.insert(table(instrument, range(3)))
    assert len(store.candles(instrument, minutes(1, 2))) == 1
    assert len(store.candles(instrument, Period(START_MS + 1, START_MS + MINUTE_MS))) == 0
    assert len(store.candles(instrument, Period(-62_135_596_800_000, 253_402_300_800_000))) == 3
    assert len(store.candles(instrument, Period(-5, 5))) == 0


SYMBOLS = [
    "1000PEPEUSDT", "BTC-29DEC23-45000-C", "BTCUSDT_240329", "币安人生USDT", "ЖУК",
    "A'; DROP TABLE canonical_candles_1m; --", "A\\", "A\\'B", 'A"B`C', "{X:STRING}",
    "%(SYMBOL)S", "A\tB\nC", "NULL", "\\N", "A B", "A,B]", "\N{GRINNING FACE}", "X" * 300,
]  # fmt: skip


def test_every_symbol_is_only_a_symbol(store: CandleStore) -> None:
    instruments = [Instrument(4, symbol) for symbol in SYMBOLS]
    store.insert(pa.concat_tables([table(i, range(at + 1)) for at, i in enumerate(instruments)]))
    assert set(instruments) <= set(store.instruments())
    for at, instrument in enumerate(instruments):
        rows = store.arrow(instrument, minutes(0, 99))
        assert rows.num_rows == at + 1
        assert set(rows.column("symbol").to_pylist()) == {instrument.symbol}
        assert store.bounds(Instrument(4, instrument.symbol + "X")) is None


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("low", np.nan, "low is not finite"), ("volume_base", None, "volume_base is missing")],
)
def test_nothing_is_stored_of_a_batch_with_a_fault(
    store: CandleStore, column: str, value: float | None, reason: str
) -> None:
    instrument = Instrument(1, f"FAULT{column}")
    rows = table(instrument, range(5))
    bad = rows.column(column).to_pylist()
    bad[3] = value
    rows = rows.set_column(
        rows.schema.get_field_index(column),
        CANDLE_SCHEMA.field(column),
        pa.array(bad, pa.float64()),
    )
    with pytest.raises(InvalidCandles, match=f"row 3: {reason}") as caught:
        store.insert(rows)
    assert caught.value.rows == [3]
    assert store.bounds(instrument) is None


def test_a_market_nobody_has_is_refused_whole(store: CandleStore) -> None:
    known = Instrument(1, "KNOWNUSDT")
    rows = table(known, range(2))
    markets = pa.array([1, 9], pa.uint16())
    strange = rows.set_column(0, CANDLE_SCHEMA.field("market_id"), markets)
    with pytest.raises(InvalidInput, match="market 9 is unknown; known are 1"):
        store.insert(strange)
    assert store.bounds(known) is None
    assert len(store.candles(Instrument(99_999, "ANYUSDT"), minutes(0, 9))) == 0


def test_another_schema_is_cast_or_refused(store: CandleStore) -> None:
    instrument = Instrument(1, "CASTUSDT")
    rows = table(instrument, range(3))
    turned = rows.select(list(reversed(rows.column_names)))
    assert store.insert(turned) == 3
    assert store.arrow(instrument, minutes(0, 3)) == rows
    with pytest.raises(InvalidCandles, match="lack the columns close"):
        store.insert(rows.drop_columns(["close"]))
    index = rows.schema.get_field_index("open")
    texts = rows.set_column(index, "open", pa.array(["a", "b", "c"]))
    with pytest.raises(InvalidCandles, match="other types"):
        store.insert(texts)
    assert store.insert(CANDLE_SCHEMA.empty_table()) == 0


def test_instruments_ascend(store: CandleStore) -> None:
    found = store.instruments()
    assert found == sorted(found)
    assert len(found) == len(set(found))
