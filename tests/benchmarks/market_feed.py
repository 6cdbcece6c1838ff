"""Section feed: 1 000 instruments close in the same second, and are stored and published."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from ingest.live.connection import SocketSettings
from ingest.live.feed import Client, Feed
from ingest.live.fills import FillTask
from ingest.live.tails import last_minutes
from ingest.live.worker import Access, Worker
from ingest.metrics import LiveMetrics
from ingest.rows import MINUTE_MS, Candle, Origin, floor_minute, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.raw_tables import raw_rows
from ingest.stores.settings import ClickHouseSettings
from ingest.stores.valkey import RedisSettings, Valkey, open_valkey
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.market_source import MARKETS, now_ms
from tests.benchmarks.observed import ROOT
from tests.benchmarks.options import Options

INSTRUMENTS: Final = 1000
GOAL_S: Final = 1.0
DEADLINE_S: Final = 60.0
Key = tuple[int, str]


@dataclass
class Round:
    """When the candles of one minute were sent, received, stored and published; ms of the clock."""

    began_ms: int = 0
    ended_ms: int = 0
    received: dict[Key, int] = field(default_factory=dict)
    stored: dict[Key, int] = field(default_factory=dict)
    published: dict[Key, int] = field(default_factory=dict)

    def done(self, candles: int) -> bool:
        """Whether so many are stored and published."""
        return len(self.stored) == len(self.published) == candles

    def seconds(self, of: dict[Key, int]) -> list[float]:
        """From the close, which is when the first was sent, a value a candle."""
        return [(at_ms - self.began_ms) / 1000 for at_ms in of.values()]


class TimedFeed(Feed):
    """A feed that notes when a candle has been published."""

    rounds: dict[int, Round]

    async def _send(self, batch: list[tuple[Candle, Origin]]) -> None:
        await super()._send(batch)
        if self.failing is not None:
            raise RuntimeError(f"not published: {self.failing}")
        done_ms = now_ms()
        for candle, origin in batch:
            key = (candle.instrument.market_id, candle.instrument.symbol)
            told = self.rounds[candle.ts_open_ms]
            told.published[key] = done_ms
            told.received[key] = origin.ingested_at_ms


class Source:
    """The process of the exchanges."""

    def __init__(self, symbols: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.market_source", str(symbols)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        told = self._line()
        self.streams = {int(market_id): url for market_id, url in told["streams"].items()}
        self.instruments = [Instrument(m, symbol) for m in MARKETS for symbol in told["symbols"]]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def burst(self, minute_ms: int, *, closed: bool) -> dict[str, int]:
        """Sends a minute of every symbol; the answer of `market_source`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([minute_ms, closed]) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the exchanges have ended with {self._process.wait()}")
        return json.loads(line)


def section_feed(options: Options) -> Findings:
    """Close to stored and to published, a round a minute, beside the bare insert."""
    count = INSTRUMENTS // 10 if options.quick else INSTRUMENTS
    rounds = 3 if options.quick else 20
    options.say(f"feed: {count} instruments of {len(MARKETS)} markets, {rounds} minutes")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roehub-bench-")))
        source = Source(count // len(MARKETS))
        stack.callback(source.close)
        settings = ClickHouseSettings(path=scratch / "clickhouse")
        db = stack.enter_context(open_clickhouse(settings, owner="the benchmark"))
        migrate(db)
        valkey = stack.enter_context(open_valkey(RedisSettings(path=scratch / "valkey")))
        found = asyncio.run(_rounds(source, CandleStore(db), valkey, rounds))
        _whole(CandleStore(db), valkey, source.instruments, found)
        bare = _bare(db, source.instruments, 5 if options.quick else 20)
    return _findings(found, bare, count, judged=not options.quick)


async def _rounds(source: Source, store: CandleStore, valkey: Valkey, count: int) -> list[Round]:
    """What the worker made of so many minutes; the first one, which warms, is left out."""
    rounds: dict[int, Round] = {}

    def insert(table: pa.Table) -> int:
        rows = store.insert(table)
        done_ms = now_ms()
        times = table.column("ts_open").cast(pa.int64()).to_pylist()
        markets, symbols = (table.column(name).to_pylist() for name in ("market_id", "symbol"))
        for at_ms, market_id, symbol in zip(times, markets, symbols, strict=True):
            rounds[at_ms].stored[market_id, symbol] = done_ms
        return rows

    async def fill(task: FillTask) -> None:
        """History is not what is measured."""

    client: Client = valkey.client()
    worker = Worker(
        {market_id: SocketSettings(url=url) for market_id, url in source.streams.items()},
        Access(
            insert,
            lambda: source.instruments,
            lambda instruments, before_ms: last_minutes(store, instruments, before_ms),
            fill,
            lambda instrument: now_ms(),
        ),
        LiveMetrics(CollectorRegistry()),
        clock=now_ms,
    )
    feed = TimedFeed(client, LiveMetrics(CollectorRegistry()).feed, clock=now_ms)
    feed.rounds = rounds
    worker.feed = feed
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        await _until(lambda: worker.connections and all(c.open for c in worker.connections), task)
        await asyncio.wait_for(worker.tails.idle(), DEADLINE_S)
        first_ms = floor_minute(now_ms()) - (count + 1) * MINUTE_MS
        for number in range(count + 1):
            minute_ms = first_ms + number * MINUTE_MS
            told = rounds[minute_ms] = Round()
            await asyncio.to_thread(source.burst, minute_ms, closed=False)  # as in a real minute
            sent = await asyncio.to_thread(source.burst, minute_ms, closed=True)
            told.began_ms, told.ended_ms = sent["began_ms"], sent["ended_ms"]
            wanted = len(source.instruments)
            if sent["sent"] != wanted:
                raise RuntimeError(f"{sent['sent']} candles were sent, not {wanted}")
            await _until(partial(told.done, wanted), task)
            await asyncio.sleep(0.1)
    finally:
        stop.set()
        await task
        await valkey_closed(client)
    return [rounds[at_ms] for at_ms in sorted(rounds)][1:]


async def valkey_closed(client: Any) -> None:
    await client.aclose()


async def _until(condition: Callable[[], Any], task: asyncio.Task[int]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            if task.done():
                task.result()
                raise RuntimeError("the worker has ended")
            await asyncio.sleep(0.005)


def _whole(
    store: CandleStore, valkey: Valkey, instruments: Sequence[Instrument], rounds: list[Round]
) -> None:
    """Returns when the store and the streams have every candle once."""
    expected = (len(rounds) + 1) * len(instruments)
    rows = store.db.rows("SELECT count(), uniqExact(market_id, symbol, ts_open) "
                         "FROM canonical_candles_1m FINAL")  # fmt: skip
    if rows != [(expected, expected)]:
        raise RuntimeError(f"the store has {rows[0]} candles, not {expected}")
    client = valkey.blocking_client()
    keys: Any = client.keys("md.candles.1m.*")
    lengths = [client.xlen(key) for key in keys]
    if lengths != [len(rounds) + 1] * len(instruments):
        raise RuntimeError(f"{sum(map(int, lengths))} candles were published, not {expected}")  # type: ignore[arg-type]


def _bare(db: ClickHouse, instruments: Sequence[Instrument], rounds: int) -> list[float]:
    """Seconds of `insert_arrow` of the same rows, already as the raw tables have them."""
    store, seconds = CandleStore(db), []
    first_ms = floor_minute(now_ms()) - 100 * 24 * 60 * MINUTE_MS
    for number in range(rounds):
        at_ms = first_ms + number * MINUTE_MS
        spent = 0.0
        for name, ids in (("raw_binance_klines_1m", (1, 2)), ("raw_bybit_klines_1m", (3, 4))):
            table = table_of(
                [
                    Candle(one, at_ms, 1.0, 2.0, 0.5, 1.5, 10.0, 12.0, 3, 5.0, 6.0)
                    for one in instruments
                    if one.market_id in ids
                ],
                Origin("ws", at_ms),
            )
            rows = raw_rows(name, store._raw_columns(name), table)
            began = time.perf_counter()
            db.insert(name, rows)
            spent += time.perf_counter() - began
        seconds.append(spent)
    return seconds


def _findings(rounds: list[Round], bare: list[float], count: int, *, judged: bool) -> Findings:
    parts = {
        "received": [s for one in rounds for s in one.seconds(one.received)],
        "stored": [s for one in rounds for s in one.seconds(one.stored)],
        "published": [s for one in rounds for s in one.seconds(one.published)],
    }
    rows: list[tuple[object, ...]] = [
        ("sent, the whole burst", *_quantiles([(r.ended_ms - r.began_ms) / 1000 for r in rounds]))
    ]
    rows += [(f"close to {name}", *_quantiles(seconds)) for name, seconds in parts.items()]
    rows.append(("bare insert_arrow of the same rows", *_quantiles(bare)))
    table = Table(
        f"Feed: {count} instruments close in the same second, {len(rounds)} minutes",
        ("what", "p50 s", "p95 s", "longest s"),
        rows,
        "from the moment the first candle was sent; the exchanges are a process of their own on "
        "the same cores, the store is chDB, the feed a Valkey; a batch is inserted 250 ms after "
        f"its first candle; bare: {count / statistics.median(bare):,.0f} rows a second",
    )
    goals = [
        Goal(
            f"p95 from close to {name}, {count} instruments", "at most", GOAL_S,
            float(np.quantile(parts[name], 0.95)), "s", judged=judged,
        )
        for name in ("stored", "published")
    ]  # fmt: skip
    return Findings("feed", [table], goals)


def _quantiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    return (
        float(np.quantile(seconds, 0.5)),
        float(np.quantile(seconds, 0.95)),
        float(np.max(seconds)),
    )
