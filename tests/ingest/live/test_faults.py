"""What can go wrong with live data. Every story ends the same: nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ingest.errors import StoreUnavailable
from ingest.live.buffer import BufferSettings
from ingest.rows import MINUTE_MS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import Valkey
from tests.ingest.live.stage import SETTLED_MS, START_MS, Running, Stage, until


@pytest.fixture
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 180))


def streamed(valkey: Valkey, key: str) -> list[int]:
    """Minutes, counted from the first, of a stream's entries."""
    entries: Any = valkey.blocking_client().xrange(f"md.candles.1m.{key}")
    return [(int(entry.split("-")[0]) - START_MS) // MINUTE_MS for entry, _ in entries]


def test_four_markets_from_an_empty_store(store: CandleStore, valkey: Valkey) -> None:
    async def story() -> None:
        with Stage(store, ["FOURA", "FOURB"], (1, 2, 3, 4)) as stage:
            stage.at(5, 10_000)  # five minutes are history, which the bootstrap fetches
            async with Running(stage, valkey=valkey).at_work() as run:
                await run.connected()
                await stage.close_minute(5, closed=False)
                await stage.close_minutes(5, 8)
                await stage.complete(8)
                await run.worker.tails.idle()
                assert await run.worker.trouble() is None
                run.worker.refresh_metrics()
            assert run.left == 0
            assert stage.differences(8) == []
            for market_id in (1, 2, 3, 4):
                assert run.value("ws_closed_candles_total", market_id) == 6
                assert run.value("insert_rows_total", market_id) == 6
                assert run.value("ignored_non_closed_total", market_id) == 2
                assert run.value("rest_fill_tasks_total", market_id) == 2
                assert run.value("redis_publish_total", market_id) == 6
                assert run.value("ws_connected", market_id) == 0
                assert run.value("lag_to_now_s", market_id) == pytest.approx(SETTLED_MS / 1000)
            assert streamed(valkey, "bybit:futures:FOURB") == [5, 6, 7]  # the bootstrap is not

    tell(story)


def test_store_down_for_a_while(store: CandleStore, valkey: Valkey) -> None:
    async def story() -> None:
        with Stage(store, ["DOWNA", "DOWNB"], (1, 3)) as stage:
            async with Running(stage, valkey=valkey).at_work() as run:
                await run.connected()
                await stage.close_minutes(0, 2)
                await stage.complete(2)
                run.store_error = StoreUnavailable("down")
                await stage.close_minutes(2, 10)
                await until(lambda: run.value("insert_errors_total") >= 3)
                assert await run.worker.trouble() is not None
                # Redis has what the store does not have yet.
                await until(lambda: streamed(valkey, "binance:spot:DOWNA") == list(range(10)))
                run.store_error = None
                await stage.complete(10)
                assert run.value("insert_dropped_total") == 0
                assert run.value("rest_fill_tasks_total") == 0
            assert run.left == 0
            assert stage.differences(10) == []

    tell(story)


def test_store_down_for_longer_than_memory_lasts(store: CandleStore) -> None:
    buffer = BufferSettings(flush_s=0.02, held_rows=6, backoff_s=(0.02, 0.05))

    async def story() -> None:
        with Stage(store, ["FULLA", "FULLB"]) as stage:
            async with Running(stage, buffer=buffer).at_work() as run:
                await run.connected()
                run.store_error = StoreUnavailable("down")
                await stage.close_minutes(0, 20)
                await until(lambda: run.value("ws_closed_candles_total") == 40)
                assert len(run.worker.buffer) <= 6
                run.store_error = None
                await stage.complete(20)
                assert run.value("insert_dropped_total") >= 34
                await run.worker.fills.idle()
                assert {task.reason for task in run.fetched} == {"gap"}
            assert run.left == 0
            assert stage.differences(20) == []

    tell(story)


def test_store_down_when_the_stream_begins(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["LATESTORE"]) as stage:
            stage.at(3, 100)
            run = Running(stage)
            run.store_error = StoreUnavailable("down")
            async with run.at_work():
                await run.connected()
                await stage.close_minute(3)
                await asyncio.to_thread(stage.server.drop_sockets)  # and begins again
                await until(lambda: run.value("ws_reconnects_total") == 1)
                await stage.subscribed()
                await stage.close_minute(4)
                await until(lambda: run.value("ws_closed_candles_total") == 2)
                run.store_error = None
                # The candle of minute 3 does not hide the minutes before it.
                await stage.complete(5)
            assert stage.differences(5) == []

    tell(story)


def test_a_minute_that_is_stored_before_the_look_up_hides_nothing(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["HIDEA"], (3,)) as stage:
            stage.at(6, 40)  # minute 5 is over, and about to be told
            run = Running(stage)
            run.look_up.clear()
            async with run.at_work():
                await run.connected()
                await asyncio.to_thread(stage.server.burst, 3, None, START_MS + 5 * MINUTE_MS)
                await until(lambda: run.inserted == 1)
                run.look_up.set()
                await stage.complete(6)
            assert stage.differences(6) == []

    tell(story)


def test_duplicate_late_and_corrected_candles(store: CandleStore, valkey: Valkey) -> None:
    async def story() -> None:
        with Stage(store, ["DUPLA"], (4,)) as stage:
            async with Running(stage, valkey=valkey).at_work() as run:
                await run.connected()
                await stage.close_minutes(0, 4)
                await stage.close_minute(3)
                await stage.complete(4)
                tape = stage.server.tape(4)
                told = tape.at("DUPLA", START_MS + MINUTE_MS)
                assert told is not None
                tape.tell("DUPLA", replace(told, close=told.high, volume_base=7.5))
                stage.at(4, 900)
                await asyncio.to_thread(
                    stage.server.publish, 4, "DUPLA", START_MS + MINUTE_MS, closed=True
                )
                await stage.complete(4)  # the newer version counts
                await until(lambda: run.value("redis_publish_duplicates_total", 4) == 2)
            assert run.value("ws_duplicates_total", 4) == 1
            assert run.value("ws_out_of_order_total", 4) == 1
            assert run.value("rest_fill_tasks_total", 4) == 0
            assert stage.differences(4) == []
            assert store.raw_count(stage.instruments[0], stage.period(4)) == 6
            assert streamed(valkey, "bybit:futures:DUPLA") == [0, 1, 2, 3]

    tell(story)


@pytest.mark.parametrize("mid_frame", [False, True])
def test_reconnect_storm(store: CandleStore, mid_frame: bool) -> None:
    name = f"STORM{'MID' if mid_frame else ''}"

    async def story() -> None:
        with Stage(store, [f"{name}A", f"{name}B", f"{name}C"], (1, 3)) as stage:
            async with Running(stage, sockets={"max_symbols": 2}).at_work() as run:
                await run.connected()
                for minute in range(12):
                    await stage.close_minute(minute)  # to those who listen just now
                    for server in stage.servers.values():
                        server.refuse_streams = minute % 3
                        await asyncio.to_thread(server.drop_sockets, mid_frame=mid_frame)
                await stage.subscribed()
                stage.at(13, 10)  # minute 12 closes unheard, and the last gap shows with 13
                await stage.close_minute(13)
                await stage.complete(14)
                assert run.value("ws_reconnects_total") + run.value("ws_reconnects_total", 3) >= 4
                assert run.value("ws_malformed_total") == 0
            assert run.left == 0
            assert stage.differences(14) == []
            assert run.value("ws_connected") == 0

    tell(story)


NONSENSE = (
    "",
    "null",
    "[]",
    "{",
    '{"topic":"kline.1.BADA","data":[{"confirm":true,"start":"x","interval":"1"}]}',
    '{"topic":"kline.1.BADA","data":[{"start":1769990400000,"end":1,"interval":"1","open":"1",'
    '"close":"nan","high":"1","low":"1","volume":"1","turnover":"1","confirm":true}]}',
    '{"topic":"kline.1.BADA","data":[{"start":60000,"end":1,"interval":"1","open":"1",'
    '"close":"1","high":"1","low":"1","volume":"1","turnover":"1","confirm":true}]}',
    "[" * 100_000,
)


def test_malformed_frames_are_put_aside_and_the_socket_stays(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["BADA"], (3,)) as stage:
            async with Running(stage).at_work() as run:
                await run.connected()
                await stage.close_minute(0)
                for text in NONSENSE:
                    await asyncio.to_thread(stage.server.send_text, text)
                await stage.close_minute(1)
                await stage.complete(2)
                assert stage.server.connections == 1
            assert run.value("ws_malformed_total", 3) == len(NONSENSE)
            assert run.value("ws_errors_total", 3) == 0
            assert len(run.worker.quarantine) == len(NONSENSE)
            assert all(len(one.text) <= 2000 for one in run.worker.quarantine)
            assert stage.differences(2) == []
            assert store.bounds(stage.instruments[0]) == (START_MS, START_MS + MINUTE_MS)

    tell(story)


def test_an_exchange_without_a_minute(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["HOLEA"], (2,)) as stage:
            hole_ms = START_MS + 3 * MINUTE_MS
            stage.server.tape(2).drop("HOLEA", hole_ms, hole_ms + 2 * MINUTE_MS)
            async with Running(stage).at_work() as run:
                await run.connected()
                await stage.close_minutes(0, 8)
                await stage.complete(8)
                await until(lambda: len(run.fetched) == 1)
                await run.worker.fills.idle()
                assert [(task.reason, task.period.start_ms) for task in run.fetched] == [
                    ("gap", hole_ms)
                ]
            assert stage.differences(8) == []

    tell(story)


@pytest.mark.parametrize("skew_s", [-180, -3.5, -0.5, 0.5, 3.5, 180])
def test_clock_skew(store: CandleStore, skew_s: float) -> None:
    """Our clock is so much ahead of the exchange's, or behind it."""
    symbol = f"SKEW{'SLOW' if skew_s < 0 else 'FAST'}{abs(skew_s):g}".replace(".", "")

    async def story() -> None:
        with Stage(store, [symbol], (1, 4)) as stage:
            stage.at(6, 200)
            for market_id, server in stage.servers.items():  # minute 5 may still be corrected
                tape = server.tape(market_id)
                told = tape.at(symbol, START_MS + 5 * MINUTE_MS)
                assert told is not None
                tape.tell(symbol, replace(told, close=told.high, volume_base=0.5))
            run = Running(stage, skew_ms=round(skew_s * 1000))
            async with run.at_work():
                await run.connected()
                await run.worker.tails.idle()
                # A clock that is ahead takes that minute for settled, and may one that still runs.
                if skew_s > 0:
                    await until(lambda: run.value("rest_fill_errors_total") >= 1)
                    await until(lambda: run.value("rest_fill_errors_total", 4) >= 1)
                else:
                    await until(lambda: run.inserted >= 2)
                for market_id, server in stage.servers.items():
                    server.tape(market_id).listings[symbol].told.clear()
                await stage.close_minutes(6, 9)
                await stage.complete(9)
                await asyncio.to_thread(stage.server.drop_sockets)
                stage.at(11, 100)  # two minutes pass unheard
                await stage.subscribed()
                await stage.close_minutes(11, 13)
                await stage.complete(13)
            assert run.left == 0
            assert stage.differences(13) == []

    tell(story)


def test_two_workers_at_once(store: CandleStore, valkey: Valkey) -> None:
    async def story() -> None:
        with Stage(store, ["TWINA", "TWINB"], (1, 3)) as stage:
            stage.at(4, 100)
            first, second = Running(stage, valkey=valkey), Running(stage, valkey=valkey)
            async with first.at_work(), second.at_work():
                await first.connected()
                await second.connected()
                await stage.close_minutes(4, 7)
                await stage.complete(7)
                await asyncio.to_thread(stage.servers[1].drop_sockets)
                await until(lambda: second.value("ws_reconnects_total") == 1)
                await stage.subscribed(2 * len(stage.instruments))
                await stage.close_minutes(7, 10)
                await stage.complete(10)
            assert (first.left, second.left) == (0, 0)
            assert stage.differences(10) == []
            published = first.value("redis_publish_total") + second.value("redis_publish_total")
            assert published == 12  # each candle of the market once, whoever was first
            assert streamed(valkey, "binance:spot:TWINA") == [4, 5, 6, 7, 8, 9]

    tell(story)


def test_shutdown_with_a_full_buffer(store: CandleStore) -> None:
    buffer = BufferSettings(flush_s=3600, flush_rows=10**6)

    async def story() -> None:
        with Stage(store, ["STOPA", "STOPB"], (1, 4)) as stage:
            async with Running(stage, buffer=buffer).at_work() as run:
                await run.connected()
                await stage.close_minutes(0, 6)
                await until(lambda: len(run.worker.buffer) == 24)
                assert run.inserted == 0
            assert run.left == 0
            assert stage.differences(6) == []

    tell(story)


def test_shutdown_while_the_store_comes_back(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["BACKA"]) as stage:
            run = Running(stage, grace_s=60.0)
            async with run.at_work():
                await run.connected()
                run.store_error = StoreUnavailable("down")
                await stage.close_minutes(0, 4)
                await until(lambda: run.value("insert_errors_total") >= 1)
                run.stop.set()
                errors = run.value("insert_errors_total")
                await until(lambda: run.value("insert_errors_total") > errors)
                run.store_error = None
            assert run.left == 0
            assert stage.differences(4) == []

    tell(story)


def test_shutdown_without_a_store_ends_in_time_and_a_restart_fetches_the_rest(
    store: CandleStore,
) -> None:
    async def story() -> None:
        with Stage(store, ["LEFTA"]) as stage:
            run = Running(stage, grace_s=0.5)
            async with run.at_work():
                await run.connected()
                await stage.close_minutes(0, 2)
                await stage.complete(2)
                run.store_error = StoreUnavailable("down")
                await stage.close_minutes(2, 5)
                await until(lambda: len(run.worker.buffer) == 3)
            assert run.left == 3
            async with Running(stage).at_work() as again:
                await again.connected()
                await stage.complete(5)
                await again.worker.fills.idle()
            assert [task.reason for task in again.fetched] == ["reconnect_tail"]
            assert stage.differences(5) == []

    tell(story)


def test_a_shutdown_interrupts_the_rest_before_a_reconnect(store: CandleStore) -> None:
    rest = {"reconnect_min_s": 3600.0, "reconnect_max_s": 3600.0}

    async def story() -> None:
        with Stage(store, ["RESTA"]) as stage:
            async with Running(stage, sockets=rest).at_work() as run:
                await run.connected()
                followed = stage.instruments[0]
                assert run.worker.follows(followed)
                assert run.worker.unreached(followed) is None
                await asyncio.to_thread(stage.server.drop_sockets)
                await until(lambda: run.value("ws_errors_total") == 1)
                assert await run.worker.trouble() == "1 of 1 sockets are not connected"
                assert "the socket has ended" in (run.worker.unreached(followed) or "")
            assert run.left == 0

    tell(story)
