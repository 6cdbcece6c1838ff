"""The worker beyond its faults: lists that change, a Redis that is dead, what it asks for first."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from compute.market.instrument import Instrument
from ingest.errors import StoreUnavailable
from ingest.rows import MINUTE_MS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.live.stage import START_MS, Running, Stage, until


@pytest.fixture
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 120))


def test_a_changed_list_is_followed_without_a_restart(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["LISTA", "LISTB", "LISTC"], (1,)) as stage:
            run = Running(stage, refresh_s=0.02, sockets={"max_symbols": 2, "overlap_s": 0.05})
            a, b, c = stage.instruments
            run.active = [a, b]
            async with run.at_work():
                await stage.subscribed(2)
                await stage.close_minute(0)
                run.active = [b, c]
                await until(lambda: sorted(stage.server.topics(1)) == ["LISTB", "LISTC"])
                await until(lambda: run.value("ws_rotations_total") == 1)
                await stage.close_minute(1)
                stage.instruments = [b, c]
                await stage.complete(2)  # what LISTC had before is fetched
                run.active = [b, c, a]
                await stage.subscribed(3)
                stage.instruments = [a, b, c]
                await stage.close_minute(2)
                await stage.complete(3)
                run.active = []
                await until(lambda: stage.server.sockets == 0)
                assert run.worker.connections == []
                await until(lambda: run.value("ws_connected") == 0)
            assert run.value("ws_reconnects_total") == 0
            assert stage.differences(3) == []

    tell(story)


def test_a_worker_with_nothing_to_follow_says_so_once_and_what_helps(
    store: CandleStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ingest.live.worker")

    def lines(part: str) -> int:
        return sum(part in record.getMessage() for record in caplog.records)

    async def story() -> None:
        with Stage(store, ["NOBODY"]) as stage:
            run = Running(stage, refresh_s=0.01)
            assert "has not been read yet" in (await run.worker.trouble() or "")
            assert run.worker.is_unread
            looked = 0

            def active() -> list[Instrument]:
                nonlocal looked
                looked += 1
                return run.active

            run.worker._access = replace(run.worker._access, active=active)
            run.active = []
            async with run.at_work():
                for times in (1, 2):
                    before = looked
                    await until(lambda before=before: looked > before + 5)
                    assert "`roehub ingest sync-instruments`" in (await run.worker.trouble() or "")
                    assert not run.worker.is_unread
                    assert lines("sync-instruments") == times
                    run.active = list(stage.instruments)
                    await run.connected()
                    assert await run.worker.trouble() is None
                    assert lines("instruments followed: 1") == times
                    run.active = []

    tell(story)


def test_the_last_line_says_what_was_done_and_what_is_left(
    store: CandleStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ingest.live.worker")

    async def story() -> None:
        with Stage(store, ["LASTA", "LASTB"]) as stage:
            run = Running(stage, grace_s=0.5)
            async with run.at_work():
                await stage.subscribed()
                await stage.close_minutes(0, 2)
                await stage.complete(2)
                await until(lambda: len(run.worker.fills) == 0)
                run.store_error = StoreUnavailable("down")
                await stage.close_minute(2)
                await until(lambda: len(run.worker.buffer) == 2)
            assert run.left == 2

    tell(story)
    assert caplog.records[-1].getMessage() == (
        "stopped: 4 candles stored, 0 published; "
        "left behind: 2 not stored, 0 not published, 0 fills"
    )


def test_a_list_that_cannot_be_read_is_an_error_at_the_start_and_none_later(
    store: CandleStore,
) -> None:
    async def story() -> None:
        with Stage(store, ["LISTED"]) as stage:
            run = Running(stage, refresh_s=0.02)
            asked = 0

            def active() -> list[Instrument]:
                nonlocal asked
                asked += 1
                if asked > 1:
                    raise StoreUnavailable("down")
                return stage.instruments

            object.__setattr__(run.worker._access, "active", active)
            async with run.at_work():
                await run.connected()
                await until(lambda: asked > 3)
                assert len(stage.server.topics(1)) == 1
            asked = 1
            again = Running(stage)
            object.__setattr__(again.worker._access, "active", active)
            with pytest.raises(StoreUnavailable):
                await again.worker.run(asyncio.Event())

    tell(story)


def test_markets_without_a_stream_and_no_instruments_end_nothing(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["NONE"]) as stage:
            run = Running(stage)
            run.active = [Instrument(4, "NOSTREAM")]
            async with run.at_work():
                while "no instrument with a stream" not in (await run.worker.trouble() or ""):
                    await asyncio.sleep(0.005)
                assert run.worker.connections == []
            assert run.left == 0

    tell(story)


def test_a_dead_redis_does_not_stall_the_store(store: CandleStore) -> None:
    async def story() -> None:
        with (
            Stage(store, ["DEADA", "DEADB"], (1, 3)) as stage,
            socket.create_server(("127.0.0.1", 0)) as silent,  # accepts and says nothing
        ):
            run = Running(stage, grace_s=1.0)
            client = Redis(
                port=silent.getsockname()[1], socket_timeout=3600, retry=Retry(NoBackoff(), 0)
            )
            run.publish_to(client)
            async with run.at_work():
                await run.connected()
                await stage.close_minutes(0, 5)
                await stage.complete(5)
            assert run.left == 0
            assert run.value("redis_publish_total") == 0
            assert stage.differences(5) == []

    tell(story)


def test_staleness_of_what_has_not_told_anything_counts_from_when_it_was_followed(
    store: CandleStore,
) -> None:
    async def story() -> None:
        with Stage(store, ["STALEA", "STALEB"]) as stage:
            async with Running(stage).at_work() as run:
                await run.connected()
                at_ms = START_MS + 2 * MINUTE_MS
                stage.at(3)
                await asyncio.to_thread(stage.server.publish, 1, "STALEA", at_ms)
                await until(lambda: run.value("ws_closed_candles_total") == 1)
                stage.at(4, 500)
                run.worker.refresh_metrics()
                assert run.value("instrument_staleness_s", symbol="STALEA") == 60.5
                assert run.value("instrument_staleness_s", symbol="STALEB") == 240.5
                assert run.value("lag_to_now_s") == 240.5

    tell(story)
