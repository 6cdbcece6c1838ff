"""The live runner put together with all that it stands on."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import UUID

from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine
from cluster.postgres.schema import require_schema
from compute.backtest import Backtest
from ingest.health import HealthServer
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import GapLedger
from ingest.stores.valkey import RedisSettings, open_valkey
from live.access import Access
from live.checks import checked_again_and_again
from live.feed import FAILURES, Feed
from live.leases import Leases
from live.ledger import Ledger
from live.metrics import LiveMetrics, OutputMetrics, TelegramMetrics
from live.outbox import outbox
from live.output import Output
from live.readiness import Check, Patient
from live.runner import Runner
from live.settings import LiveSettings
from live.snapshots import Publisher, Snapshots
from live.telegram.bot import Bot
from live.telegram.chats import chat_of
from live.telegram.listener import Listener
from live.telegram.notifier import LogSender, Notifier

_STALE_PASSES: Final = 5
_READERS: Final = 8  # reads of candles at once

log = logging.getLogger(__name__)


class Silent:
    """A publisher for nobody."""

    async def publish(self, records: Any) -> None:
        """Sends nothing."""


async def run_live(
    dsn: str,
    db: ClickHouse,
    settings: LiveSettings,
    job: Callable[[Mapping[str, Any]], Backtest],
    environ: Mapping[str, str],
    host: str,
    port: int,
    stop: asyncio.Event,
) -> None:
    """Runs strategies until `stop`; `job` makes the back-test of a specification.

    Raises: SchemaOutdated, DatabaseUnavailable, StoreUnavailable, InvalidInput.
    """
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        opened = engine(dsn, application="roehub live")
        stack.push_async_callback(opened.dispose)
        await require_schema(opened)
        metrics = LiveMetrics(registry)
        client = None
        if settings.streams.enabled:
            client = await _client(stack, settings.streams.server(environ))
        # Containers are often called alike and are all process 1.
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        feed = None if client is None else Feed(client, owner, settings.streams)
        publisher = await _publisher(stack, settings, environ, client, OutputMetrics(registry))
        notifier = await stack.enter_async_context(
            _telegram(settings, environ, opened, owner, TelegramMetrics(registry))
        )
        runner = Runner(
            _access(stack, opened, db, job, feed),
            Leases(opened, owner, settings.worker.lease_seconds),
            feed,
            Snapshots(publisher, notifier),
            metrics,
            settings.runner(),
        )
        checks = _checks(opened, db, runner, settings, client)
        async with HealthServer(
            registry, checks, host=host, port=port, refresh=runner.measure
        ) as health:
            log.info(
                "component=live-runner event=metrics_started host=%s port=%d", host, health.port
            )
            checking = checked_again_and_again(
                opened, db, job, metrics, settings.worker.reconcile_hours,
                settings.worker.keep_bars_days,
            )  # fmt: skip
            beside = [asyncio.create_task(_end(stop, runner)), asyncio.create_task(checking)]
            try:
                await runner.run()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)


def _access(
    stack: AsyncExitStack,
    opened: AsyncEngine,
    db: ClickHouse,
    job: Callable[[Mapping[str, Any]], Backtest],
    feed: Feed | None,
) -> Access:
    """What instruments are traded with; its threads end with `stack`."""
    threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="live")
    stack.callback(threads.shutdown)
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="live store")
    stack.callback(readers.shutdown)
    candles, gaps = CandleStore(db), GapLedger(db)
    return Access(
        ledger=Ledger(opened),
        candles=candles.candles,
        absent=gaps.absent,
        bounds=candles.bounds,
        job=job,
        clock=lambda: time.time_ns() // 1_000_000,
        threads=threads,
        readers=readers,
        recent=None if feed is None else feed.recent,
    )


async def _end(stop: asyncio.Event, runner: Runner) -> None:
    await stop.wait()
    runner.stop()


async def _client(stack: AsyncExitStack, server: RedisSettings) -> Any:
    """A client of a Redis server, of our own where the settings say so."""
    client = stack.enter_context(open_valkey(server)).client()
    stack.push_async_callback(client.aclose)
    return client


async def _publisher(
    stack: AsyncExitStack,
    settings: LiveSettings,
    environ: Mapping[str, str],
    feeding: Any,
    metrics: OutputMetrics,
) -> Publisher:
    """Where records of users go: to their own server, to that of the feed, or nowhere."""
    if not settings.realtime.enabled:
        return Silent()
    own = settings.realtime.server(environ)
    if own is not None or feeding is None:
        feeding = await _client(stack, own or settings.streams.server(environ))
    output = Output(feeding, metrics, settings.realtime)
    return await stack.enter_async_context(outbox(output, metrics))


@asynccontextmanager
async def _telegram(
    settings: LiveSettings,
    environ: Mapping[str, str],
    opened: AsyncEngine,
    owner: str,
    metrics: TelegramMetrics,
) -> AsyncIterator[Notifier | None]:
    """The notifier while it sends and the bot listens; None where Telegram is off."""
    telegram = settings.messages.telegram(environ)
    if not telegram.enabled:
        yield None
        return
    bot = Bot(telegram) if telegram.talks else None

    async def chat(user_id: UUID) -> int | None:
        return await chat_of(opened, user_id)

    notifier = Notifier(bot or LogSender(), chat, metrics, telegram.debounce_failed_seconds)
    tasks = [asyncio.create_task(notifier.run(), name="telegram")]
    if bot is not None:
        listener = Listener(bot, opened, owner, metrics)
        tasks.append(asyncio.create_task(listener.run(), name="telegram bot"))
    try:
        yield notifier
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if bot is not None:
            await bot.close()


def _checks(
    opened: AsyncEngine, db: ClickHouse, runner: Runner, settings: LiveSettings, client: Any
) -> dict[str, Check]:
    """What must be there for runs to go on; each may be gone for a moment."""
    checks: dict[str, Check] = {
        "database": lambda: _database(opened),
        "candle_store": lambda: _store(db),
        "instruments": lambda: _troubles(runner),
    }
    if client is not None:
        checks["feed"] = lambda: _feed(client)
    patient: dict[str, Check] = {name: Patient(check).reason for name, check in checks.items()}
    return {**patient, "runs": lambda: _passes(runner, settings)}


async def _database(opened: AsyncEngine) -> str | None:
    async with opened.connect() as connection:
        await connection.execute(text("select 1"))
    return None


async def _store(db: ClickHouse) -> str | None:
    alive = await asyncio.to_thread(db.ping)
    return None if alive else f"the store at {db.settings.place} does not answer"


async def _feed(client: Any) -> str | None:
    try:
        await client.ping()
    except FAILURES as error:
        return f"the live feed does not answer ({error}); minutes are those stored"
    return None


async def _troubles(runner: Runner) -> str | None:
    troubles = sorted(runner.troubles().items())
    if not troubles:
        return None
    key, text = troubles[0]
    more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    return f"{key} cannot be advanced{more}: {text}"


async def _passes(runner: Runner, settings: LiveSettings) -> str | None:
    passed_at = runner.passed_at
    why = "" if runner.failure is None else f": {runner.failure}"
    if passed_at is None:
        return f"the active runs have not been read yet{why}"
    age = time.monotonic() - passed_at
    most = _STALE_PASSES * max(
        settings.worker.poll_interval_seconds, settings.worker.lease_seconds / 3
    )
    return f"the active runs were read {age:.0f} s ago{why}" if age > most else None
