"""What `live` and `schedule` make of the settings, and the two processes at work."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from compute.market.period import Period
from configs.load import config
from ingest.commands.duties import EMBEDDED_ROWS, SERVER_ROWS, Duties
from ingest.commands.processes import scheduler_settings, sockets, worker_settings
from ingest.commands.services import published_to, redis_settings
from ingest.http import HttpClients
from ingest.metrics import RestMetrics
from ingest.rows import MINUTE_MS, floor_minute
from ingest.settings import MarketDataSettings, RedisStreamsSettings
from ingest.stores.candles import CandleStore
from ingest.stores.ready import ready_store
from ingest.stores.settings import ClickHouseSettings
from ingest.stores.valkey import RedisSettings, open_valkey
from tests.cluster.cli import started
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.test_cli import written_config, written_whitelist


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


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_streams_are_where_the_exchanges_send_klines(env: str) -> None:
    """USD-M takes subscriptions at `/stream`, too, and sends no kline there."""
    assert {one: found.url for one, found in sockets(shipped(env)).items()} == {
        1: "wss://stream.binance.com:9443/stream",
        2: "wss://fstream.binance.com/market/stream",
        3: "wss://stream.bybit.com/v5/public/spot",
        4: "wss://stream.bybit.com/v5/public/linear",
    }


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


def test_history_goes_into_the_embedded_store_in_batches_a_live_candle_can_wait_for(
    tmp_path: Path,
) -> None:
    settings = shipped("dev")
    clients = HttpClients({}, clock=wall_clock)
    with ready_store(ClickHouseSettings(path=tmp_path / "clickhouse"), "the tests") as db:
        duties = Duties(db, settings, None, clients, RestMetrics(CollectorRegistry()))
        assert duties._fetcher.settings.batch_rows == EMBEDDED_ROWS < SERVER_ROWS
        duties.close()


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


class Process:
    """A command that runs, and what it tells over HTTP."""

    def __init__(self, data_dir: Path, *arguments: object, **environ: str) -> None:
        self.stderr = data_dir.with_suffix(".log")
        with self.stderr.open("w") as log:
            self.running = started(
                *arguments,
                *("--metrics-port", 0),
                stderr=log.fileno(),
                **{"ROEHUB_DATA_DIR": str(data_dir), **environ},
            )

    def log(self) -> str:
        return self.stderr.read_text()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert self.running.poll() is None, self.log()
            assert time.monotonic() < end, f"{what}: {self.log()}"
            time.sleep(0.05)

    def port(self) -> int:
        found = re.compile(r"are on 127\.0\.0\.1:(\d+)")
        self.until(lambda: found.search(self.log()) is not None, "the port is told")
        told = found.search(self.log())
        assert told is not None
        return int(told[1])

    def get(self, path: str) -> tuple[int, str]:
        answer = httpx.get(f"http://127.0.0.1:{self.port()}{path}", timeout=10)
        return answer.status_code, answer.text

    def value(self, name: str, labels: str = '{market_id="1"}') -> float:
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{name}{labels} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def stop(self) -> None:
        self.running.send_signal(signal.SIGTERM)
        assert self.running.wait(60) == 0, self.log()


@pytest.fixture
def server() -> Iterator[BinanceServer]:
    with BinanceServer(wall_clock) as server:
        yield server


def prepared(tmp_path: Path, server: BinanceServer, first_ms: int) -> list[object]:
    """Flags that name settings and a whitelist for the server's one symbol."""
    server.tape(1).enlist("BTCUSDT", first_ms=first_ms)
    chosen = written_config(tmp_path, {1: server})
    return ["--config", chosen, "--whitelist", written_whitelist(tmp_path, "1,BTCUSDT,1")]


def minutes_of(data_dir: Path) -> list[int]:
    settings = ClickHouseSettings(path=data_dir / "clickhouse")
    with ready_store(settings, "the tests") as db:
        period = Period(0, wall_clock())
        return CandleStore(db).minutes(Instrument(1, "BTCUSDT"), period).tolist()


def test_live_with_its_scheduler_fetches_follows_stores_and_publishes(
    tmp_path: Path, server: BinanceServer
) -> None:
    first_ms = floor_minute(wall_clock()) - 40 * MINUTE_MS
    flags = prepared(tmp_path, server, first_ms)
    data_dir = tmp_path / "data"
    process = Process(data_dir, "ingest", "live", "--schedule", *flags)
    try:
        server.wait_for_topics(1, 1, 60)
        process.until(lambda: process.get("/ready")[0] == 200, "it is ready")
        process.until(lambda: process.value("rest_fill_pending") == 0, "history is fetched")
        process.until(lambda: process.value("slices_total") > 0, "history is fetched")
        last_ms = floor_minute(wall_clock()) - MINUTE_MS
        assert server.publish(1, "BTCUSDT", last_ms) == 1
        process.until(lambda: process.value("insert_rows_total") >= 1, "the candle is stored")
        process.until(lambda: process.value("redis_publish_total") >= 1, "it is published")
        assert process.get("/health")[0] == 200
        runs = process.value("scheduler_job_runs_total", '{job="startup_scan"}')
        assert runs == 1
        busy = call_in(data_dir, "ingest", "coverage")
        assert busy.returncode == 2
        assert "used by roehub ingest live --schedule (pid" in busy.stderr
    finally:
        process.stop()
    assert f"are published at {data_dir / 'valkey'}" in process.log()
    assert re.search(r"stopped: \d+ candles stored, 1 published; left behind: 0", process.log())
    stored = minutes_of(data_dir)
    assert stored[0] == first_ms
    assert set(range(first_ms, first_ms + 39 * MINUTE_MS, MINUTE_MS)) <= set(stored)
    assert last_ms in stored
    place = RedisSettings(path=data_dir / "valkey")
    with open_valkey(place) as valkey, valkey.blocking_client() as client:
        entries: Any = client.xrange("md.candles.1m.binance:spot:BTCUSDT")
    assert [entry[0] for entry in entries] == [f"{last_ms}-0"]


def test_live_alone_says_what_it_lacks_instruments_and_a_redis(
    tmp_path: Path, server: BinanceServer
) -> None:
    flags = prepared(tmp_path, server, wall_clock())[:2]
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        process = Process(
            tmp_path / "data", "ingest", "live", *flags, REDIS_HOST="127.0.0.1", REDIS_PORT=port
        )
        try:
            process.until(lambda: "nothing is followed" in process.log(), "it says so")
            status, body = process.get("/ready")
        finally:
            process.stop()
    assert status == 503
    assert "roehub ingest sync-instruments" in json.loads(body)["checks"]["worker"]
    log = process.log()
    assert f"not published: the server at redis://127.0.0.1:{port}/0 cannot be used" in log
    assert "are published at" not in log
    assert "stopped: 0 candles stored, 0 published" in log.splitlines()[-1]


def call_in(data_dir: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = started(*arguments, ROEHUB_DATA_DIR=str(data_dir))
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, stdout, stderr)


def test_schedule_fills_history_and_ends_when_told(tmp_path: Path, server: BinanceServer) -> None:
    first_ms = floor_minute(wall_clock()) - 30 * MINUTE_MS
    flags = prepared(tmp_path, server, first_ms)
    process = Process(tmp_path / "data", "ingest", "schedule", *flags, "--log-format", "json")
    try:
        process.until(lambda: process.value("slices_total") > 0, "history is fetched")
        assert process.get("/ready")[0] == 200
    finally:
        process.stop()
    assert minutes_of(tmp_path / "data")[:25] == [first_ms + n * MINUTE_MS for n in range(25)]
    lines = [json.loads(line) for line in process.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


def test_a_port_that_is_taken_is_refused(tmp_path: Path, server: BinanceServer) -> None:
    flags = prepared(tmp_path, server, wall_clock())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call_in(tmp_path / "data", "ingest", "schedule", *flags, "--metrics-port", port)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
