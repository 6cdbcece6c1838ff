"""A third exchange needs its module and a line in the registry; the rest takes it as it is."""

from __future__ import annotations

import asyncio

import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.exchanges import registry
from ingest.exchanges.exchange import Exchange
from ingest.http import HttpClients
from ingest.klines import first_minute, pages
from ingest.rows import MINUTE_MS, Origin, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.exchange_servers.hours import Hours
from tests.ingest.exchange_servers.settings import rest_settings
from tests.ingest.exchanges.toy import TOY, Toy, ToyServer

T0 = 1_709_251_200_000


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """The toy exchange in the registry, as one more line there would put it."""
    toy = Toy()
    monkeypatch.setitem(registry.MARKETS, TOY.market_id, TOY)
    monkeypatch.setitem(registry._EXCHANGE_OF, TOY.market_id, toy)
    return toy


@pytest.mark.usefixtures("registered")
def test_its_history_is_fetched_and_stored(db: ClickHouse) -> None:
    hours = Hours(T0 + 1_000 * MINUTE_MS)
    instrument = Instrument(TOY.market_id, "TOYUSD")
    with ToyServer(hours) as server:
        server.tape(TOY.market_id).enlist("TOYUSD", first_ms=T0)
        server.fail(status=429)
        server.fail(status=503)

        async def run() -> tuple[int | None, list]:
            settings = {TOY.market_id: rest_settings(server.rest_url)}
            async with HttpClients(settings, clock=hours, sleep=hours.sleep) as clients:
                client = clients.of(TOY.market_id)
                first_ms = await first_minute(client, instrument)
                period = Period(T0, T0 + 250 * MINUTE_MS)
                return first_ms, [page async for page in pages(client, instrument, period)]

        first_ms, found = asyncio.run(run())
    assert first_ms == T0
    assert [len(page) for page in found] == [100, 100, 50]
    candles = [candle for page in found for candle in page]
    store = CandleStore(db)
    assert store.insert(table_of(candles, Origin("rest", hours.now_ms))) == 250
    assert store.bounds(instrument) == (T0, T0 + 249 * MINUTE_MS)
    keys = store.arrow(instrument, Period(T0, T0 + MINUTE_MS)).column("instrument_key")
    assert keys.to_pylist() == ["toy:spot:TOYUSD"]


def test_its_stream_is_read(registered: Exchange) -> None:
    with ToyServer(lambda: T0) as server:
        server.tape(TOY.market_id).enlist("TOYUSD", first_ms=T0)
        text = server.kline_text(TOY.market_id, "TOYUSD", T0, True) or ""
    frame = registered.parse_frame(TOY, text)
    assert [candle.ts_open_ms for candle in frame.candles] == [T0]
