"""The live feed against a real Valkey, one that works and one that does not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from ingest.live.feed import Feed, FeedSettings
from ingest.metrics import FeedMetrics
from ingest.rows import MINUTE_MS, Candle, Origin
from ingest.stores.valkey import Valkey

NOW_MS = 1_769_990_460_123
OPEN_MS = 1_769_990_400_000
ORIGIN = Origin("ws", NOW_MS, "5b0f2a7e-7a8d-4b06-9d0a-0f3c8f8f2a11")


def candle(symbol: str, minute: int = 0, **values: Any) -> Candle:
    given: dict[str, Any] = {
        "open": 0.1,
        "high": 3.0,
        "low": 0.05,
        "close": 2e-7,
        "volume_base": 1.0,
    }
    given |= values
    return Candle(Instrument(3, symbol), OPEN_MS + minute * MINUTE_MS, **given)


class Case:
    """A feed over a client, with its metrics."""

    def __init__(self, client: Redis, **settings: Any) -> None:
        self.client = client
        self.registry = CollectorRegistry()
        self.feed = Feed(
            client,
            FeedMetrics(self.registry),
            clock=lambda: NOW_MS + 40,
            settings=FeedSettings(**settings),
        )

    async def publish(self, candles: Sequence[Candle], deadline_s: float = 30.0) -> int:
        self.feed.start()
        for one in candles:
            self.feed.publish(one, ORIGIN)
        left = await self.feed.close(deadline_s)
        await self.client.aclose()
        return left

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"market_id": "3"})


def test_an_entry_is_what_the_contract_says(valkey: Valkey) -> None:
    case = Case(valkey.client())
    asyncio.run(case.publish([candle("ENTRYUSDT"), candle("ENTRYUSDT", 1, volume_quote=1e22)]))
    entries: Any = valkey.blocking_client().xrange("md.candles.1m.bybit:spot:ENTRYUSDT")
    assert [key for key, _ in entries] == ["1769990400000-0", "1769990460000-0"]
    assert entries[0][1] == {
        "schema_version": "1",
        "market_id": "3",
        "symbol": "ENTRYUSDT",
        "instrument_key": "bybit:spot:ENTRYUSDT",
        "ts_open": "2026-02-02T00:00:00.000Z",
        "ts_close": "2026-02-02T00:01:00.000Z",
        "open": "0.1",
        "high": "3.0",
        "low": "0.05",
        "close": "2e-07",
        "volume_base": "1.0",
        "volume_quote": "",
        "source": "ws",
        "ingested_at": "2026-02-02T00:01:00.123Z",
        "ingest_id": ORIGIN.ingest_id,
    }
    assert entries[1][1]["volume_quote"] == "1e+22"
    assert case.value("redis_publish_total") == 2
    assert case.value("redis_publish_duration_seconds_count") == 1
    assert case.value("ws_closed_to_publish_seconds_sum") == pytest.approx(0.08)


def test_repeated_and_late_candles_are_not_delivered_again(valkey: Valkey) -> None:
    case = Case(valkey.client())
    asyncio.run(case.publish([candle("TWICEUSDT", n) for n in (0, 2, 2, 1, 3)]))
    entries: Any = valkey.blocking_client().xrange("md.candles.1m.bybit:spot:TWICEUSDT")
    assert [key for key, _ in entries] == [f"{OPEN_MS + n * MINUTE_MS}-0" for n in (0, 2, 3)]
    assert case.value("redis_publish_duplicates_total") == 2
    assert case.value("redis_publish_errors_total") == 0


def test_a_stream_is_cut_to_about_its_length(valkey: Valkey) -> None:
    case = Case(valkey.client(), prefix="short", maxlen=100)
    asyncio.run(case.publish([candle("LONGUSDT", n) for n in range(1000)]))
    kept: Any = valkey.blocking_client().xlen("short.bybit:spot:LONGUSDT")
    assert 100 <= kept <= 200  # whole nodes of a stream go


def test_one_stream_that_is_broken_does_not_harm_the_others(valkey: Valkey) -> None:
    valkey.blocking_client().set("md.candles.1m.bybit:spot:WRONGUSDT", "no stream")
    case = Case(valkey.client())
    asyncio.run(case.publish([candle("WRONGUSDT"), candle("RIGHTUSDT")]))
    assert valkey.blocking_client().xlen("md.candles.1m.bybit:spot:RIGHTUSDT") == 1
    assert case.value("redis_publish_errors_total") == 1
    assert case.value("redis_publish_total") == 1
    assert case.feed.failing is not None


def client_of(port: int, timeout_s: float) -> Redis:
    return Redis(
        port=port,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def test_a_dead_server_stalls_nobody_and_everything_is_counted() -> None:
    async def story() -> int:
        # It takes connections and never answers, the worst there is.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            case.client = client_of(silent.getsockname()[1], 60.0)
            case.feed = Feed(
                case.client,
                FeedMetrics(case.registry),
                clock=lambda: NOW_MS,
                settings=FeedSettings(queued=50),
            )
            case.feed.start()
            for n in range(300):
                case.feed.publish(candle("DEADUSDT", n), ORIGIN)  # returns at once
                if n % 100 == 0:
                    await asyncio.sleep(0)
            left = await case.feed.close(0.05)
            await case.client.aclose()
            return left

    case = Case.__new__(Case)
    case.registry = CollectorRegistry()
    left = asyncio.run(asyncio.wait_for(story(), 30))
    dropped = case.value("redis_publish_dropped_total")
    assert dropped is not None
    assert left + dropped == 300
    assert left <= 50 + 256


def test_a_server_that_is_not_there_is_one_failed_try_a_candle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    case = Case(client_of(port, 1.0))

    async def story() -> int:
        return await case.publish([candle("GONEUSDT", n) for n in range(10)])

    assert asyncio.run(story()) == 0
    assert case.value("redis_publish_errors_total") == 10
    assert case.value("redis_publish_total") == 0


@pytest.mark.parametrize("settings", [{"prefix": " "}, {"maxlen": 0}, {"queued": 0}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        FeedSettings(**settings)
