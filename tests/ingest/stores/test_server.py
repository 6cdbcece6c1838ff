"""The store on a server: the real HTTP client against a stand-in that breaks and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import SchemaOutdated, StoreFailed, StoreRefused, StoreUnavailable
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate, require_schema
from tests.ingest.stand_in.process import StandIn
from tests.ingest.stores.made import START_MS, table

YEAR = Period(START_MS, START_MS + 365 * 86_400_000)


@pytest.fixture(scope="module")
def db(stand_in: StandIn) -> Iterator[ClickHouse]:
    with open_clickhouse(stand_in.settings) as opened:
        with pytest.raises(SchemaOutdated, match="run `roehub ingest migrate`"):
            require_schema(opened)  # there is not even a database
        with pytest.raises(SchemaOutdated, match="run `roehub ingest migrate`"):
            CandleStore(opened).instruments()
        migrate(opened)
        require_schema(opened)
        yield opened


def test_statements_and_parameters_travel_apart(db: ClickHouse, stand_in: StandIn) -> None:
    hostile = "X'; DROP TABLE ref_market; --"
    assert CandleStore(db).bounds(Instrument(1, hostile)) is None
    assert not any(hostile in query for query in stand_in.seen())


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        ("status", 503, StoreUnavailable),
        ("status", 502, StoreUnavailable),
        ("status", 500, StoreUnavailable),
        ("code", 159, StoreUnavailable),
        ("code", 202, StoreUnavailable),
        ("code", 241, StoreUnavailable),
        ("code", 252, StoreUnavailable),
        ("code", 62, StoreFailed),
        ("code", 60, SchemaOutdated),
        ("drop", 0, StoreUnavailable),
    ],
)
def test_a_failed_insert_says_whether_to_try_again_and_stored_nothing(
    db: ClickHouse, stand_in: StandIn, kind: str, number: int, expected: type[Exception]
) -> None:
    store, instrument = CandleStore(db), Instrument(1, f"F-{kind}-{number}")
    stand_in.fail(kind, number, matching="INSERT INTO `raw_binance")
    with pytest.raises(expected) as caught:
        store.insert(table(instrument, range(3)))
    assert type(caught.value) is expected
    assert store.bounds(instrument) is None
    store.insert(table(instrument, range(3)))
    assert len(store.candles(instrument, YEAR)) == 3


def test_a_lost_acknowledgement_and_a_second_try_store_one_candle(
    db: ClickHouse, stand_in: StandIn
) -> None:
    """The insert is not sent twice by itself: its owner decides."""
    store, instrument = CandleStore(db), Instrument(3, "LOSTUSDT")
    stand_in.fail("lose", matching="INSERT INTO `raw_bybit")
    with pytest.raises(StoreUnavailable, match="closed connection"):
        store.insert(table(instrument, range(3)))
    assert store.raw_count(instrument, YEAR) == 3
    store.insert(table(instrument, range(3)))
    assert store.raw_count(instrument, YEAR) == 6
    assert len(store.candles(instrument, YEAR)) == 3


@pytest.mark.parametrize("sent", [0, 100, 5_000])
def test_an_answer_that_is_cut_off_is_worth_another_try(
    db: ClickHouse, stand_in: StandIn, sent: int
) -> None:
    counted = "SELECT number FROM system.numbers LIMIT 5000"
    for ask in (db.arrow, db.rows) if sent else (db.arrow,):
        stand_in.fail("cut", sent, matching=counted)
        with pytest.raises(StoreUnavailable, match="cannot be used now"):
            ask(counted)
        assert len(ask(counted)) == 5_000


def test_one_raw_table_of_two_fails_and_the_batch_is_repeated(
    db: ClickHouse, stand_in: StandIn
) -> None:
    store = CandleStore(db)
    pair = [Instrument(2, "PAIRUSDT"), Instrument(4, "PAIRUSDT")]
    batch = pa.concat_tables([table(instrument, range(3)) for instrument in pair])
    stand_in.fail("status", 503, matching="INSERT INTO `raw_bybit")
    with pytest.raises(StoreUnavailable):
        store.insert(batch)
    store.insert(batch)
    assert [len(store.candles(instrument, YEAR)) for instrument in pair] == [3, 3]


def test_a_store_that_was_down_is_used_again_when_it_is_back(
    db: ClickHouse, stand_in: StandIn
) -> None:
    store, instrument = CandleStore(db), Instrument(1, "DOWNUSDT")
    store.insert(table(instrument, range(3)))
    stand_in.kill()
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        store.insert(table(instrument, range(3, 6)))
    assert not db.ping()
    with pytest.raises(StoreUnavailable, match="Connection refused"):
        open_clickhouse(stand_in.settings)
    stand_in.start()
    assert db.ping()
    assert len(store.candles(instrument, YEAR)) == 3  # acknowledged before the kill
    store.insert(table(instrument, range(3, 6)))
    assert len(store.candles(instrument, YEAR)) == 6


def test_threads_do_not_wait_for_each_other(db: ClickHouse, stand_in: StandIn) -> None:
    """A slow query in one thread does not hold up another: each has a client."""
    stand_in.fail("slow", 60_000, matching="slowly")

    def wait() -> None:
        with suppress(StoreUnavailable):  # the stand-in goes before it answers
            db.rows("SELECT 'slowly'")

    stuck = threading.Thread(target=wait, daemon=True)
    stuck.start()
    store = CandleStore(db)

    def work(number: int) -> int:
        instrument = Instrument(2, f"TH{number}USDT")
        store.insert(table(instrument, range(number + 1)))
        return len(store.candles(instrument, YEAR))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(12))) == list(range(1, 13))
    assert stuck.is_alive()
    stand_in.kill()
    stuck.join()
    stand_in.start()


def test_a_refused_user_is_told_where_to_look(stand_in: StandIn) -> None:
    with pytest.raises(StoreRefused, match="refuses user default; check CH_USER and CH_PASSWORD"):
        open_clickhouse(replace(stand_in.settings, password="wrong"))


def test_a_closed_store_is_closed_for_every_thread(stand_in: StandIn) -> None:
    db = open_clickhouse(stand_in.settings)
    db.close()
    with ThreadPoolExecutor(1) as pool, pytest.raises(StoreFailed, match="is closed"):
        pool.submit(db.rows, "SELECT 1").result()
    with pytest.raises(StoreFailed, match="is closed"):
        db.rows("SELECT 1")
    assert not db.ping()
