"""Candles of the live feed, published by the market data worker's own code into a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.live.feed import fields
from ingest.rows import MINUTE_MS, Candle, Origin
from ingest.stores.valkey import Valkey
from live.feed import Entry, Feed, FeedSettings, InvalidEntry, candle_of

START_MS = 1_700_006_400_000
SETTINGS = FeedSettings(claim_idle_ms=0, block_ms=0)
_names = itertools.count(1)


def name() -> tuple[Instrument, str]:
    symbol = f"S{next(_names)}"
    return Instrument(1, symbol), f"binance:spot:{symbol}"


def candle(instrument: Instrument, minute: int) -> Candle:
    return Candle(
        instrument, START_MS + minute * MINUTE_MS, 1.5, 2.0, 1.0, 1.25, 10.0 + minute,
        volume_quote=None, trades_count=None, taker_buy_volume_base=None,
        taker_buy_volume_quote=None,
    )  # fmt: skip


def published(instrument: Instrument, minute: int) -> dict[str, str]:
    raw = fields(candle(instrument, minute), Origin("ws", START_MS, None))
    return {key.decode(): value.decode() for key, value in raw.items()}


def put(valkey: Valkey, key: str, minute: int, entry: dict[str, str]) -> None:
    at = START_MS + minute * MINUTE_MS
    shown: dict[Any, Any] = dict(entry)
    valkey.blocking_client().xadd(f"md.candles.1m.{key}", shown, id=f"{at}-0")


def using(valkey: Valkey, work: Callable[[Callable[[str], Feed]], Awaitable[None]]) -> None:
    async def run() -> None:
        async with valkey.client() as client:
            await work(lambda consumer: Feed(client, consumer, SETTINGS))

    asyncio.run(run())


def minutes(entries: list[Entry]) -> list[int]:
    return [(entry.ts_open_ms - START_MS) // MINUTE_MS for entry in entries]


def test_new_candles_are_read_once_and_acknowledged(valkey: Valkey) -> None:
    instrument, key = name()

    async def work(feed: Callable[[str], Feed]) -> None:
        one, two = feed("one"), feed("two")
        assert await one.entries([key]) == []
        assert await two.entries([key]) == []
        put(valkey, key, 0, published(instrument, 0))
        put(valkey, key, 1, published(instrument, 1))
        found = await one.entries([key])
        assert minutes(found) == [0, 1]
        assert found[0].candle == (1.5, 2.0, 1.0, 1.25, 10.0)
        assert await two.entries([key]) == []
        await one.acknowledge(found)
        pending: Any = valkey.blocking_client().xpending(
            f"md.candles.1m.{key}", SETTINGS.consumer_group
        )
        assert pending["pending"] == 0

    using(valkey, work)


def test_what_a_consumer_left_is_taken_over(valkey: Valkey) -> None:
    instrument, key = name()

    async def work(feed: Callable[[str], Feed]) -> None:
        one, two = feed("one"), feed("two")
        two._settings = FeedSettings(block_ms=0)  # however short ago it was: the lease is ours
        await one.entries([key])
        for minute in range(3):
            put(valkey, key, minute, published(instrument, minute))
        await one.acknowledge((await one.entries([key]))[:1])
        left = await two.left(key)
        assert minutes(left) == [1, 2]
        await two.acknowledge(left)
        assert await two.left(key) == []
        stream: Any = f"md.candles.1m.{key}"
        consumers: Any = valkey.blocking_client().xinfo_consumers(stream, SETTINGS.consumer_group)
        assert sorted(one["name"] for one in consumers) == ["one", "two"]
        assert await feed("three").left(key) == []  # to which both have been silent long enough
        consumers = valkey.blocking_client().xinfo_consumers(stream, SETTINGS.consumer_group)
        assert {one["name"] for one in consumers} <= {"three"}

    using(valkey, work)


def test_what_a_stream_still_has_of_a_time_is_read(valkey: Valkey) -> None:
    instrument, key = name()

    async def work(feed: Callable[[str], Feed]) -> None:
        for minute in range(6):
            put(valkey, key, minute, published(instrument, minute) if minute != 3 else {"no": "1"})
        period = Period(START_MS + 2 * MINUTE_MS, START_MS + 5 * MINUTE_MS)
        assert minutes(await feed("one").recent(key, period)) == [2, 4]
        assert await feed("one").recent(name()[1], period) == []

    using(valkey, work)


def test_what_is_no_candle_is_dropped_and_told(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    instrument, key = name()

    async def work(feed: Callable[[str], Feed]) -> None:
        one = feed("one")
        await one.entries([key])
        put(valkey, key, 0, {"hello": "world"})
        put(valkey, key, 1, published(instrument, 1))
        assert minutes(await one.entries([key])) == [1]
        assert one.malformed == 1
        assert await feed("two").left(key) != []

    using(valkey, work)
    assert "is dropped: it lacks schema_version" in caplog.text


def test_a_server_that_lost_its_streams_is_joined_again(valkey: Valkey) -> None:
    instrument, key = name()

    async def work(feed: Callable[[str], Feed]) -> None:
        one = feed("one")
        await one.entries([key])
        valkey.blocking_client().delete(f"md.candles.1m.{key}")
        assert await one.entries([key]) == []
        assert await one.entries([key]) == []
        put(valkey, key, 5, published(instrument, 5))
        assert minutes(await one.entries([key])) == [5]

    using(valkey, work)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schema_version": "2"}, "schema_version"),
        ({"symbol": "OTHER"}, "it is of"),
        ({"instrument_key": "bybit:spot:S"}, "it is of"),
        ({"ts_open": "yesterday"}, "yesterday"),
        ({"ts_open": "2023-11-15T00:00:30.000Z"}, "no minute"),
        ({"close": "x"}, "could not convert"),
        ({"close": "nan"}, "no candle"),
        ({"low": "0"}, "no candle"),
        ({"volume_base": "-1"}, "no candle"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_entry_that_is_no_candle_is_refused(wrong: dict[str, str], said: str) -> None:
    entry = published(Instrument(1, "S"), 0) | wrong
    with pytest.raises(InvalidEntry, match=said):
        candle_of("binance:spot:S", entry)
