"""What `live` and `schedule` make of the settings, and the two processes at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.load import config
from ingest.commands.processes import scheduler_settings, sockets, worker_settings
from ingest.commands.services import published_to, redis_settings
from ingest.settings import MarketDataSettings, RedisStreamsSettings


def shipped(env: str) -> MarketDataSettings:
    return config("market_data", {"ROEHUB_ENV": env}).settings(MarketDataSettings)


def test_every_setting_of_a_stream_reaches_its_socket() -> None:
    settings = shipped("prod")
    found = sockets(settings)
    assert set(found) == {1, 2, 3, 4}
    spot = found[3]
    ws = settings.market(3).ws
    assert (spot.url, spot.max_symbols) == (ws.url, 10)
    assert (spot.ping_interval_s, spot.pong_timeout_s) == (20.0, 10.0)
    assert (spot.reconnect_min_s, spot.reconnect_max_s) == (0.5, 60.0)
    assert (spot.reconnect_factor, spot.reconnect_jitter_s) == (1.7, 0.3)


def test_worker_and_scheduler_take_sizes_and_intervals() -> None:
    worker = worker_settings(shipped("prod"))
    assert (worker.buffer.flush_s, worker.buffer.flush_rows) == (0.25, 3000)
    assert (worker.feed.prefix, worker.feed.maxlen) == ("md.candles.1m", 10_080)
    assert worker.fills.workers == 4
    scheduler = scheduler_settings(shipped("dev"))
    assert (scheduler.sync_whitelist_s, scheduler.enrich_s) == (900, 21_600)
    assert scheduler.rest_insurance_catchup_s == 3600
    assert (scheduler.tail_lookback_minutes, scheduler.concurrency) == (180, 4)
    assert scheduler.inter_instrument_delay_s == 2.0


def test_where_live_candles_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = {"ROEHUB_DATA_DIR": str(tmp_path)}
    own = published_to(RedisStreamsSettings(enabled=True), home)
    assert own.path == tmp_path / "valkey"
    named = published_to(RedisStreamsSettings(enabled=True, host="redis", db=2), home)
    assert (named.host, named.port, named.db, named.path) == ("redis", 6379, 2, None)
    over = {**home, "REDIS_HOST": "other", "REDIS_PORT": "7000"}
    chosen = published_to(RedisStreamsSettings(host="redis"), over)
    assert (chosen.host, chosen.port) == ("other", 7000)
    secret = RedisStreamsSettings(host="redis", password_env="MY_PASSWORD", socket_timeout_s=7.0)
    found = published_to(secret, {"MY_PASSWORD": "word", "ROEHUB_REDIS_PASSWORD": "another"})
    assert (found.password, found.socket_timeout_s) == ("word", 7.0)
    assert "word" not in repr(found)
    plain = RedisStreamsSettings(host="redis", password_env=None)
    assert published_to(plain, {"ROEHUB_REDIS_PASSWORD": "another"}).password == ""
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    assert redis_settings(shipped("dev")) == own
