"""Candles of an exchange over REST, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.http import HttpClient
from ingest.rows import MINUTE_MS, Candle


async def pages(
    client: HttpClient, instrument: Instrument, period: Period
) -> AsyncIterator[list[Candle]]:
    """The minutes of `period` that the exchange has, ascending, each once, a list a request.

    A list may be empty where the exchange has nothing. A window never holds more minutes than a
    page may have rows, so whichever end an exchange fills a page from, nothing is left out; what
    lies outside the window is not taken. The minute that still runs is among them if the period
    reaches that far.

    Raises:
        InvalidInput: the instrument is of another market than the client.
        ExchangeError: a request failed for good.
        MalformedFrame: an answer makes no sense; pages before it have been given.
    """
    market, exchange = client.market, client.exchange
    if instrument.market_id != market.market_id:
        raise InvalidInput(f"{instrument} is not of {market.code}, market {market.market_id}")
    limit = exchange.kline_limit(market)
    cursor_ms = -(-period.start_ms // MINUTE_MS) * MINUTE_MS
    while cursor_ms < period.end_ms:
        window_end_ms = min(period.end_ms, cursor_ms + limit * MINUTE_MS)
        minutes = -(-(window_end_ms - cursor_ms) // MINUTE_MS)
        body = await client.get_json(
            exchange.kline_request(market, instrument.symbol, cursor_ms, window_end_ms, minutes)
        )
        page = {
            candle.ts_open_ms: candle
            for candle in exchange.parse_klines(market, instrument.symbol, body)
            if cursor_ms <= candle.ts_open_ms < window_end_ms
        }
        yield [page[opened_ms] for opened_ms in sorted(page)]
        cursor_ms = max(page, default=window_end_ms - MINUTE_MS) + MINUTE_MS


async def first_minute(client: HttpClient, instrument: Instrument) -> int | None:
    """Open of the first minute that the exchange has of an instrument, None when it has none.

    Raises:
        ExchangeError: a request failed for good, as for a symbol the exchange does not know.
    """
    return await client.ask(client.exchange.first_candle(client.market, instrument.symbol))
