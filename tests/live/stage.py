"""A live runner's surroundings: real stores, a clock that tests set, a market that they know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import uvloop
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine
from compute.backtest import Backtest
from compute.exact import REASONS
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.settings import Defaults
from ingest.rows import MINUTE_MS, Candle, Origin, instrument_key, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import EXCHANGE_ABSENT, Gap, GapLedger
from live.access import Access, RepairSettings
from live.digests import Digests
from live.feed import Entry
from live.instrument import InstrumentWorker
from live.leases import Leases
from live.ledger import Ledger
from live.member import course_of
from live.metrics import LiveMetrics
from live.outcomes import ms_of
from live.output import Told
from live.reconcile import MONEY
from live.snapshots import Snapshots
from live.strategies.run_store import RunStore
from live.strategies.runs import Run
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, backtest_of_spec, spec_of
from live.strategies.store import Draft, StrategyStore
from live.strategies.tables import EVENTS, RUNS
from live.tables import BARS, LEASES, RUNNERS, TRADES

START_MS = 1_700_006_400_000 // 86_400_000 * 86_400_000
OWNER = UUID(int=7)
RULES = SpecRules(StrategySettings(max_active_runs_per_user=10_000), Defaults())


def minute(number: int) -> int:
    """The open of a minute of the tests' time."""
    return START_MS + number * MINUTE_MS


async def expire(opened: AsyncEngine, owner: str) -> None:
    """The leases and the presence of a runner that died a while ago."""
    past = func.clock_timestamp() - timedelta(seconds=1)
    async with opened.begin() as connection:
        await connection.execute(
            update(LEASES).where(LEASES.c.owner == owner).values(lease_until=past)
        )
        await connection.execute(
            update(RUNNERS).where(RUNNERS.c.owner == owner).values(seen_until=past)
        )


def made_market(minutes: int, seed: int = 1) -> Candles:
    """Prices in float32 that survive the way through a store of float64."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.002 * rng.standard_normal(minutes)))
    opened = np.append(close[:1], close[:-1])
    high = np.maximum(opened, close) * (1 + 0.001 * rng.random(minutes))
    low = np.minimum(opened, close) * (1 - 0.001 * rng.random(minutes))
    columns = (opened, high, low, close, rng.random(minutes) * 10)
    times = START_MS + np.arange(minutes) * MINUTE_MS
    return Candles(times, *(column.astype(np.float32) for column in columns))


class Stage:
    """Stores over one database and one instrument's made-up market."""

    def __init__(
        self, opened: AsyncEngine, db: ClickHouse, instrument: Instrument, market: Candles
    ) -> None:
        self.engine, self.instrument, self.market = opened, instrument, market
        self.key = instrument_key(instrument)
        self.store, self.gaps = CandleStore(db), GapLedger(db)
        self.ledger, self.runs = Ledger(opened), RunStore(opened)
        self.strategies = StrategyStore(opened)
        self.now_ms = START_MS
        self.told: list[Told] = []
        self.reads: list[Period] = []
        self.threads = ThreadPoolExecutor(2)

    def access(self) -> Access:
        return Access(
            ledger=self.ledger,
            candles=self._candles,
            absent=self.gaps.absent,
            bounds=self.store.bounds,
            job=lambda spec: backtest_of_spec(spec, Defaults()),
            clock=lambda: self.now_ms,
            threads=self.threads,
            readers=self.threads,
        )

    async def publish(self, records: Sequence[Told]) -> None:
        self.told += records

    async def worker(
        self,
        owner: str = "one",
        access: Access | None = None,
        snapshots: Snapshots | None = None,
    ) -> InstrumentWorker:
        """A worker that holds the instrument, new as after a restart."""
        lease = (await Leases(self.engine, owner, 900).share([self.key]))[self.key]
        return InstrumentWorker(
            lease, self.instrument, access or self.access(), snapshots or Snapshots(self),
            LiveMetrics(CollectorRegistry()),
            RepairSettings(late_seconds=5, retry_backoff_seconds=0),
        )  # fmt: skip

    async def step(self, worker: InstrumentWorker) -> None:
        """Steps until there is nothing more to do now."""
        active = await self.ledger.active()
        worker.want([one for one in active if one.instrument_key == self.key])
        for _ in range(100):
            if not await worker.step():
                return
        raise AssertionError("a worker that never comes to rest")

    async def start(self, started_ms: int, **spec: Any) -> Run:
        """A run of a new strategy, as if it was started at a time of the tests."""
        body = {
            "schema_version": 2,
            "instrument_id": {
                "market_id": self.instrument.market_id, "symbol": self.instrument.symbol,
            },
            **spec,
        }  # fmt: skip
        draft = Draft(spec_of(body, RULES))
        strategy, _ = await self.strategies.create(draft, OWNER, most=10_000)
        run, _ = await self.runs.start(strategy.strategy_id, OWNER, most=10_000)
        at = datetime.fromtimestamp(started_ms / 1000, UTC)
        async with self.engine.begin() as connection:
            await connection.execute(
                update(RUNS).where(RUNS.c.run_id == run.run_id).values(started_at=at, updated_at=at)
            )
        return run

    def keep(self, numbers: Iterable[int], factor: float = 1.0, source: str = "ws") -> None:
        """Minutes into the store; `factor` makes other prices of them."""
        some = np.fromiter(numbers, np.int64)
        if len(some):
            found = [self._candle(int(number), factor) for number in some]
            self.store.insert(table_of(found, Origin(source, self.now_ms, None)))

    def absent(self, start: int, stop: int) -> None:
        """Says that the exchange does not have these minutes."""
        period = Period(minute(start), minute(stop))
        self.gaps.record(self.instrument, [Gap(period, EXCHANGE_ABSENT, updated_at_ms=self.now_ms)])

    def entries(self, *numbers: int) -> list[Entry]:
        """Minutes as the feed has them."""
        return [Entry(self.key, f"{minute(n)}-0", minute(n), self._values(n)) for n in numbers]

    def _values(self, number: int) -> tuple[float, float, float, float, float]:
        a, b, c, d, e = (float(column[number]) for column in self.market.series())
        return a, b, c, d, e

    def _candle(self, number: int, factor: float) -> Candle:
        *prices, volume = self._values(number)
        open_, high, low, close = (price * factor for price in prices)
        return Candle(self.instrument, minute(number), open_, high, low, close, volume)

    def _candles(self, instrument: Instrument, period: Period) -> Candles:
        self.reads.append(period)
        return self.store.candles(instrument, period)

    async def row(self, run_id: UUID) -> Run:
        """A run as it is stored."""
        from live.strategies.rows import columns, row_of

        query = select(*(RUNS.c[name] for name in columns(Run))).where(RUNS.c.run_id == run_id)
        async with self.engine.connect() as connection:
            return row_of(Run, (await connection.execute(query)).one())

    async def bars(self, run_id: UUID) -> list[tuple[int, int, float]]:
        """(open, vote, equity) of each bar that a run traded on."""
        query = select(BARS).where(BARS.c.run_id == run_id).order_by(BARS.c.bar_ts)
        async with self.engine.connect() as connection:
            return [
                (ms_of(row.bar_ts) or 0, row.vote, row.equity)
                for row in await connection.execute(query)
            ]

    async def trades(self, run_id: UUID) -> list[Any]:
        """The closed trades of a run."""
        query = select(TRADES).where(TRADES.c.run_id == run_id).order_by(TRADES.c.number)
        async with self.engine.connect() as connection:
            return list(await connection.execute(query))

    async def events(self, run_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        """(type, payload) of the log of a run."""
        query = (
            select(EVENTS).where(EVENTS.c.run_id == run_id).order_by(EVENTS.c.ts, EVENTS.c.event_id)
        )
        async with self.engine.connect() as connection:
            return [(row.event_type, row.payload_json) for row in await connection.execute(query)]

    async def assert_once(self, run: Run, first: int, last: int, frame_minutes: int = 1) -> None:
        """A run traded on each bar of these minutes once, and told of each thing once."""
        bars = [bar for bar, _, _ in await self.bars(run.run_id)]
        assert bars == [minute(n) for n in range(first, last + 1, frame_minutes)]
        events = await self.events(run.run_id)
        told = [(kind, payload["bar_ts"]) for kind, payload in events if "bar_ts" in payload]
        assert len(told) == len(set(told))
        closed = [payload["trade_id"] for kind, payload in events if kind == "trade_close"]
        assert closed == [trade.number for trade in await self.trades(run.run_id)]
        opened = sum(kind == "trade_open" for kind, _ in events)
        assert opened - len(closed) in (0, 1)

    async def assert_is_the_back_test(self, run: Run, least_trades: int = 3) -> None:
        """The bars and trades of a run are those of its back-test over what is stored."""
        from live.batch import batch

        stored = await self.row(run.run_id)
        course = course_of(stored)
        assert course is not None
        assert course.trading_from_ms is not None
        job: Backtest = self.access().job(await self.ledger.spec(run.strategy_id))
        bars = await self.bars(run.run_id)
        last_ms = bars[-1][0] + job.timeframe.ms
        candles = self.store.candles(self.instrument, Period(course.anchor_ms, last_ms))
        expected = batch(job, course, candles, last_ms)
        np.testing.assert_array_equal([bar for bar, _, _ in bars], expected.bar_ms)
        np.testing.assert_array_equal([vote for _, vote, _ in bars], expected.votes)
        np.testing.assert_array_equal([equity for *_, equity in bars], expected.replay.equity)
        async with self.engine.connect() as connection:
            found = await connection.execute(
                select(BARS.c.digest).where(BARS.c.run_id == run.run_id).order_by(BARS.c.bar_ts)
            )
        closes = expected.bar_ms + job.timeframe.ms
        np.testing.assert_array_equal(found.scalars().all(), Digests().closed(candles, closes))
        trades = await self.trades(run.run_id)
        theirs = expected.replay.trades
        for name in ("side", *MONEY):
            np.testing.assert_array_equal(
                [getattr(trade, name) for trade in trades], getattr(theirs, name), name
            )
        np.testing.assert_array_equal([trade.quantity for trade in trades], theirs.qty_base)
        for name in ("entry", "exit"):
            ms = [ms_of(getattr(trade, f"{name}_bar_ts")) for trade in trades]
            places = getattr(theirs, f"{name}_bar") - expected.replay.start
            np.testing.assert_array_equal(ms, expected.bar_ms[places], name)
        assert [trade.reason for trade in trades] == [REASONS[one] for one in theirs.reason]
        assert len(trades) >= least_trades


@asynccontextmanager
async def staged(dsn: str, db: ClickHouse, symbol: str, market: Candles) -> AsyncIterator[Stage]:
    """A stage over a database of a test's own."""
    opened = engine(dsn, application="test")
    stage = Stage(opened, db, Instrument(1, symbol), market)
    try:
        yield stage
    finally:
        stage.threads.shutdown()
        await opened.dispose()


def on_stage(
    dsn: str,
    db: ClickHouse,
    symbol: str,
    work: Callable[[Stage], Awaitable[None]],
    minutes: int = 900,
) -> None:
    """Runs `work` on a stage with a market of so many minutes."""

    async def run() -> None:
        async with staged(dsn, db, symbol, made_market(minutes)) as stage:
            await work(stage)

    uvloop.run(run())  # as `roehub live`
