"""Settings of market data: the shipped values, and every value that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compute.errors import InvalidInput
from configs.load import ENVIRONMENTS, InvalidConfig, config
from ingest.settings import (
    BackoffSettings,
    IngestionSettings,
    LimiterSettings,
    MarketDataSettings,
    RedisStreamsSettings,
)

NOW_MS = 1_750_000_000_000
DELETE = object()


def shipped(env: str) -> MarketDataSettings:
    file = config("market_data", {"ROEHUB_ENV": env})
    return file.settings(MarketDataSettings).as_of(NOW_MS)


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> MarketDataSettings:
    """The settings of the dev file after a change to its `market_data`."""
    document = yaml.safe_load(config("market_data", {"ROEHUB_ENV": "dev"}).path.read_text())
    for one in document["market_data"]["markets"]:
        earliest = one["rest"]["earliest_available_ts_utc"]
        one["rest"]["earliest_available_ts_utc"] = earliest.isoformat()
    change(document["market_data"])
    path = tmp_path / "market_data.yaml"
    path.write_text(yaml.safe_dump(document))
    return config("market_data", path=path).settings(MarketDataSettings).as_of(NOW_MS)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_shipped_markets(env: str) -> None:
    found = shipped(env)
    assert {i: m.market_code for i, m in found.by_id.items()} == {
        1: "binance:spot", 2: "binance:futures", 3: "bybit:spot", 4: "bybit:futures",
    }  # fmt: skip
    assert {i: m.rest.base_url for i, m in found.by_id.items()} == {
        1: "https://api.binance.com",
        2: "https://fapi.binance.com",
        3: "https://api.bybit.com",
        4: "https://api.bybit.com",
    }
    starts = {i: m.rest.earliest_available_ts_utc[:10] for i, m in found.by_id.items()}
    assert starts == {1: "2017-01-01", 2: "2019-09-01", 3: "2018-01-01", 4: "2018-01-01"}
    assert found.market(1).rest.earliest_ms == 1_483_228_800_000
    sizes = {i: m.ws.max_symbols_per_connection for i, m in found.by_id.items()}
    assert sizes == {1: 200, 2: 200, 3: 10, 4: 200}
    assert found.market(4).ws.url == "wss://stream.bybit.com/v5/public/linear"


def test_shipped_values_of_dev_and_prod() -> None:
    dev, prod = shipped("dev"), shipped("prod")
    for found, timeout_s, retries in ((dev, 10.0, 3), (prod, 15.0, 5)):
        assert {m.rest.timeout_s for m in found.markets} == {timeout_s}
        assert {m.rest.retries for m in found.markets} == {retries}
    assert dev.market(1).rest.backoff == BackoffSettings(0.5, 10.0, 0.2)
    assert prod.market(1).rest.backoff == BackoffSettings(0.5, 15.0, 0.3)
    assert dev.market(1).rest.limiter == LimiterSettings("autodetect", 0.8, 4)
    assert prod.market(1).rest.limiter == LimiterSettings("autodetect", 0.7, 3)
    assert (dev.market(2).ws.reconnect.max_delay_s, prod.market(2).ws.reconnect.max_delay_s) == (
        30.0, 60.0,
    )  # fmt: skip
    assert dev.ingestion == IngestionSettings(250, 2000, rest_inter_instrument_delay_s=2.0)
    assert prod.ingestion == IngestionSettings(250, 3000, rest_inter_instrument_delay_s=2.0)
    jobs = [(s.scheduler.jobs.sync_whitelist, s.scheduler.jobs.enrich) for s in (dev, prod)]
    assert [(a.interval_seconds, b.interval_seconds) for a, b in jobs] == [
        (900, 21_600), (60, 43_200),
    ]  # fmt: skip
    feed = prod.live_feed.redis_streams
    assert feed == RedisStreamsSettings(enabled=True, host="redis")
    assert feed.maxlen == 10_080
    assert dev.live_feed.redis_streams == RedisStreamsSettings(enabled=True)


def test_what_may_be_left_out(tmp_path: Path) -> None:
    def bare(document: dict[str, Any]) -> None:
        for name in ("live_feed", "scheduler", "backfill"):
            del document[name]
        document["ingestion"] = {"raw_write": {"flush_interval_ms": 100, "max_buffer_rows": 7}}

    found = changed(tmp_path, bare)
    assert not found.live_feed.redis_streams.enabled
    jobs = found.scheduler.jobs
    assert jobs.sync_whitelist.interval_seconds == 3600
    assert jobs.enrich.interval_seconds == 21_600
    assert found.backfill.max_days_per_insert == 7
    assert (found.ingestion.flush_interval_ms, found.ingestion.max_buffer_rows) == (100, 7)
    assert found.ingestion.rest_inter_instrument_delay_s == 0.0


def test_the_older_place_of_the_flush_keys_wins(tmp_path: Path) -> None:
    found = changed(
        tmp_path, lambda d: d["ingestion"].update(raw_write={"flush_interval_ms": 300})
    ).ingestion
    assert (found.flush_interval_ms, found.max_buffer_rows) == (300, 2000)


def at(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Puts a value at a dotted path; `DELETE` removes the key."""

    def change(node: Any) -> None:
        *parents, key = path.split(".")
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node.setdefault(parent, {})
        if value is DELETE:
            del node[key]
        else:
            node[key] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("markets", [], "markets must name at least one market"),
        ("markets", DELETE, "market_data.markets: required"),
        ("markets.0.market_id", 2, "market_id 2 is binance:futures, got binance:spot"),
        ("markets.0.market_id", 9, "market 9 is unknown"),
        ("markets.0.market_id", True, "must be an integer, got True"),
        ("markets.0.exchange", "kraken", "exchange must be binance or bybit, got 'kraken'"),
        ("markets.0.market_type", "swap", "market_type must be futures or spot, got 'swap'"),
        ("markets.0.market_code", "binance:futures", "market_code must be binance:spot"),
        ("markets.0.market_code", "", "market_code must be binance:spot"),
        ("markets.0.color", "red", "market_data.markets.0.color: unknown key"),
        ("markets.2.rest.base_url", " ", "base_url must not be blank"),
        ("markets.0.rest.earliest_available_ts_utc", DELETE, "earliest_available_ts_utc: required"),
        ("markets.0.rest.earliest_available_ts_utc", "soon", "must be a time like"),
        ("markets.0.rest.earliest_available_ts_utc", "2017-01-01", "must have a zone"),
        ("markets.0.rest.timeout_s", 0, "timeout_s must be > 0, got 0.0"),
        ("markets.0.rest.retries", -1, "retries must be >= 0, got -1"),
        ("markets.0.rest.retries", 1.5, "must be an integer, got 1.5"),
        ("markets.0.rest.backoff.base_s", 11.0, "base_s must not be above max_s"),
        ("markets.0.rest.backoff.base_s", 0, "base_s must be > 0"),
        ("markets.0.rest.backoff.jitter_s", -0.1, "jitter_s must be >= 0"),
        ("markets.0.rest.limiter.mode", "fixed", "mode must be autodetect, got 'fixed'"),
        ("markets.0.rest.limiter.safety_factor", 1.1, "safety_factor must be > 0 and <= 1"),
        ("markets.0.rest.limiter.max_concurrency", 0, "max_concurrency must be > 0"),
        ("markets.0.ws.url", "", "url must not be blank"),
        ("markets.0.ws.ping_interval_s", 0, "ping_interval_s must be > 0"),
        ("markets.0.ws.pong_timeout_s", 0, "pong_timeout_s must be > 0"),
        ("markets.0.ws.reconnect.factor", 0.9, "factor must be >= 1"),
        ("markets.0.ws.reconnect.min_delay_s", 31, "min_delay_s must not be above max_delay_s"),
        ("markets.0.ws.max_symbols_per_connection", 0, "max_symbols_per_connection must be > 0"),
        ("ingestion.flush_interval_ms", DELETE, "flush_interval_ms is required"),
        ("ingestion.flush_interval_ms", 501, "must be 1 to 500, got 501"),
        ("ingestion.max_buffer_rows", DELETE, "max_buffer_rows is required"),
        ("ingestion.max_buffer_rows", True, "must be an integer, got True"),
        ("ingestion.raw_write.max_buffer_rows", -1, "must be > 0, got -1"),
        ("ingestion.rest_concurrency_instruments", 0, "rest_concurrency_instruments must be > 0"),
        ("ingestion.tail_lookback_minutes", 0, "tail_lookback_minutes must be > 0"),
        ("ingestion.rest_inter_instrument_delay_s", -1, "rest_inter_instrument_delay_s must be >="),
        ("live_feed.redis_streams.enabled", 1, "must be true or false, got 1"),
        ("live_feed.redis_streams.host", " ", "host must not be blank"),
        ("live_feed.redis_streams.port", 0, "port must be 1 to 65535"),
        ("live_feed.redis_streams.db", -1, "db must be >= 0"),
        ("live_feed.redis_streams.password_env", "", "password_env must not be blank"),
        ("live_feed.redis_streams.socket_timeout_s", 0, "socket_timeout_s must be > 0"),
        ("live_feed.redis_streams.stream_mode", "one", "stream_mode must be per_instrument"),
        ("live_feed.redis_streams.stream_prefix", "", "stream_prefix must not be blank"),
        ("live_feed.redis_streams.retention_days", 0, "retention_days must be > 0"),
        ("live_feed.redis_streams.maxlen_approx", 0, "maxlen_approx must be > 0"),
        ("scheduler.jobs.enrich.interval_seconds", 0, "interval_seconds must be > 0"),
        ("scheduler.jobs.enrich", {}, "scheduler.jobs.enrich.interval_seconds: required"),
        ("scheduler.jobs.startup_scan", {}, "scheduler.jobs.startup_scan: unknown key"),
        ("backfill.max_days_per_insert", 8, "max_days_per_insert must be 1 to 7, got 8"),
        ("backfill.chunk_align", "hour", "chunk_align must be utc_day"),
        ("backfil", {}, "market_data.backfil: unknown key"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, path: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        changed(tmp_path, at(path, value))
    assert reason in str(caught.value)
    assert str(tmp_path / "market_data.yaml") in str(caught.value)


def test_a_market_comes_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="markets names market_id 1 twice"):
        changed(tmp_path, lambda d: d["markets"].append(d["markets"][0]))


def test_no_history_begins_in_the_future(tmp_path: Path) -> None:
    path = "markets.1.rest.earliest_available_ts_utc"
    with pytest.raises(InvalidInput, match="of market 2 is in the future: 2999-01-01"):
        changed(tmp_path, at(path, "2999-01-01T00:00:00Z"))


def test_a_market_that_is_not_configured_is_named(tmp_path: Path) -> None:
    found = changed(tmp_path, lambda d: d["markets"].pop(2))
    with pytest.raises(InvalidInput, match="market 3 is not configured; configured are 1, 2, 4"):
        found.market(3)
