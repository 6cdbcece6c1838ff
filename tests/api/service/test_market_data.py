"""Markets, instruments, candles and coverage of the store over HTTP."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

import api.candles
from api.schemas.market_data import CandleList, CoverageList, InstrumentList, MarketList
from api.settings import ApiSettings
from compute.market.period import Period, instant
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.market import (
    BTC,
    MINUTES,
    START_MS,
    client,
    client_of,
    context_of,
    refused,
    store,
    store_directory,
)

__all__ = ["client", "store", "store_directory"]

RANGE = {"market_id": 1, "symbol": " btcusdt ", "start": "2026-01-01T00:00:00Z"}


def test_markets(client: httpx.Client) -> None:
    found = client.get("/market-data/markets")
    MarketList.model_validate(found.json())
    assert found.json()["items"][0] == {
        "market_id": 1,
        "exchange_name": "binance",
        "market_type": "spot",
        "market_code": "binance:spot",
    }
    assert [item["market_id"] for item in found.json()["items"]] == [1, 2, 3, 4]


def symbols(client: httpx.Client, **query: Any) -> list[str]:
    response = client.get("/market-data/instruments", params={"market_id": 1, **query})
    assert response.status_code == 200, response.text
    return [item.symbol for item in InstrumentList.model_validate(response.json()).items]


def test_instruments(client: httpx.Client) -> None:
    assert symbols(client) == ["A%B", "AXB", "A_B", "BTCUSDC", "BTCUSDT", "ETHUSDT"]
    assert symbols(client, q=" btc ") == ["BTCUSDC", "BTCUSDT"]
    assert symbols(client, q="  ", limit=2) == ["A%B", "AXB"]
    assert symbols(client, q="a_") == ["A_B"]
    assert symbols(client, q="A%") == ["A%B"]
    assert symbols(client, q="é'\\") == []
    assert symbols(client, market_id=65_535) == []


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("", ("query.market_id", "required", "is required")),
        ("market_id=0", ("query.market_id", "greater_than_equal",
                         "Input should be greater than or equal to 1")),
        ("market_id=65536", ("query.market_id", "less_than_equal",
                             "Input should be less than or equal to 65535")),
        ("market_id=1&limit=201", ("query.limit", "less_than_equal",
                                   "Input should be less than or equal to 200")),
    ],
)  # fmt: skip
def test_instruments_that_cannot_be(
    client: httpx.Client, query: str, item: tuple[str, str, str]
) -> None:
    error = refused(client.get(f"/market-data/instruments?{query}"))
    assert error["message"] == "Validation failed"
    assert [tuple(one.values()) for one in error["details"]["errors"]] == [item]


def test_coverage_page_by_page(client: httpx.Client, store: ClickHouse) -> None:
    found, cursor = [], None
    for _ in range(4):
        query = {"limit": 1} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/market-data/coverage", params=query).json()
        CoverageList.model_validate(page)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [(one["market_id"], one["symbol"]) for one in found] == [
        (1, "BTCUSDT"), (1, "ETHUSDT"), (2, "BTCUSDT"),
    ]  # fmt: skip
    stored = CandleStore(store).minutes(BTC, Period(START_MS, START_MS + MINUTES * 60_000))
    assert found[0] == {
        "market_id": 1,
        "symbol": "BTCUSDT",
        "first": instant(START_MS),
        "last": instant(START_MS + (MINUTES - 1) * 60_000),
        "minutes": len(stored),
        "missing": MINUTES - len(stored),
        "coverage_pct": 10_000 * len(stored) // MINUTES / 100,
    }
    assert found[0]["missing"] > 0
    one = client.get("/market-data/coverage", params={"market_id": 2, "symbol": "btcusdt"}).json()
    assert one == {"items": found[2:], "next_cursor": None}
    assert client.get("/market-data/coverage", params={"symbol": "NONE"}).json()["items"] == []
    error = refused(client.get("/market-data/coverage", params={"cursor": "BTCUSDT"}))
    assert error["details"]["errors"][0]["code"] == "invalid_cursor"


def test_candles(client: httpx.Client, store: ClickHouse) -> None:
    query = RANGE | {"end": "2026-01-10T00:00:30Z"}
    response = client.get("/market-data/candles", params=query)
    assert response.headers["content-type"] == "application/json"
    found = CandleList.model_validate(response.json())
    assert (found.market_id, found.symbol, found.timeframe) == (1, "BTCUSDT", "1m")
    start_ms, end_ms = 1_767_225_600_000, 1_768_003_230_000
    table = CandleStore(store).arrow(BTC, Period(start_ms, end_ms))
    assert len(found.items) == table.num_rows > 12_000
    times = table.column("ts_open").cast(pa.int64()).to_pylist()
    assert [item.ts_open for item in found.items] == [instant(ms) for ms in times]
    assert [item.close for item in found.items] == table.column("close").to_pylist()

    sent = client.get("/market-data/candles", params=query | {"format": "arrow"})
    assert sent.headers["content-type"] == "application/vnd.apache.arrow.stream"
    same = pa.ipc.open_stream(sent.content).read_all()
    assert same.column_names[:5] == ["ts_open", "open", "high", "low", "close"]
    for name in same.column_names:
        assert same.column(name).combine_chunks().equals(table.column(name).combine_chunks())
    assert np.all(np.diff(same.column("ts_open").cast(pa.int64()).to_numpy()) > 0)


def test_candles_become_json_beside_the_event_loop(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    known = api.candles._json_rows

    def json_rows(table: pa.Table) -> bytes:
        names.append(threading.current_thread().name)
        return known(table)

    monkeypatch.setattr(api.candles, "_json_rows", json_rows)
    query = RANGE | {"end": "2026-01-02T00:00:00Z"}
    assert len(client.get("/market-data/candles", params=query).json()["items"]) > 1_000
    assert len(names) == 1
    assert names != ["server"]


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_no_candles(client: httpx.Client, form: str) -> None:
    query = RANGE | {"symbol": "NONE", "end": "2026-01-20T00:00:00Z", "format": form}
    response = client.get("/market-data/candles", params=query)
    assert response.status_code == 200
    if form == "json":
        assert response.json()["items"] == []
    else:
        assert pa.ipc.open_stream(response.content).read_all().num_rows == 0


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ({"end": "2026-01-01T00:00:00Z"}, ("query.start", "value_error")),
        ({"end": "2026-01-02T00:00:00"}, ("query.end", "timezone_aware")),
        ({"end": "soon"}, ("query.end", "datetime_from_date_parsing")),
        ({"end": "2026-01-02T00:00:00Z", "format": "csv"}, ("query.format", "enum")),
        ({"end": "2026-01-02T00:00:00Z", "symbol": "  "}, ("query.symbol", "value_error")),
        ({"end": "2026-01-02T00:00:00Z", "symbol": "A\0"}, ("query.symbol", "string_pattern")),
    ],
)
def test_candles_that_cannot_be(
    client: httpx.Client, query: dict[str, str], item: tuple[str, str]
) -> None:
    error = refused(client.get("/market-data/candles", params=RANGE | query))
    assert [(one["path"], one["code"]) for one in error["details"]["errors"]] == [item]


def test_more_candles_than_are_sent_at_once(store: ClickHouse) -> None:
    with client_of(lambda: context_of(store, api=ApiSettings(max_candles=1_440))) as client:
        day = RANGE | {"end": "2026-01-02T00:00:00Z"}
        assert client.get("/market-data/candles", params=day).status_code == 200
        error = refused(
            client.get("/market-data/candles", params=day | {"end": "2026-01-02T00:00:01Z"})
        )
        assert error["details"] == {
            "error": "max_candles_exceeded", "candles": 1_441, "max_candles": 1_440,
        }  # fmt: skip


def test_a_store_that_fails_is_an_answer(store: ClickHouse) -> None:
    store.command("RENAME TABLE canonical_candles_1m TO away")
    try:
        with client_of(lambda: context_of(store)) as client:
            for path, query in (
                ("candles", RANGE | {"end": "2026-01-02T00:00:00Z"}),
                ("coverage", {}),
            ):
                error = refused(client.get(f"/market-data/{path}", params=query), 500)
                assert error["code"] == "unexpected_error"
                assert error["message"] == "Backtest storage operation failed"
                assert "lacks tables" in error["details"]["reason"]
    finally:
        store.command("RENAME TABLE away TO canonical_candles_1m")
