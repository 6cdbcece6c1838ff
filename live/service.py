"""The live runner put together with all that it stands on."""

from __future__ import annotations

import asyncio
import logging
import os
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
from ingest.stores.valkey import open_valkey
from live.checks import checked_again_and_again
from live.feed import FAILURES, Feed
from live.instrument import Access
from live.leases import Leases
from live.ledger import Ledger
from live.metrics import LiveMetrics
from live.output import Output
from live.runner import Runner
from live.settings import LiveSettings
from live.snapshots import Snapshots
from live.telegram import BotSender, LogSender, Notifier

_STALE_PASSES: Final = 5

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
        if settings.streams.enabled or settings.realtime.enabled:
            valkey = stack.enter_context(open_valkey(settings.streams.server(environ)))
            client = valkey.client()
            stack.push_async_callback(client.aclose)
        owner = f"{socket.gethostname()}-{os.getpid()}"
        feed = Feed(client, owner, settings.streams.feed()) if settings.streams.enabled else None
        publisher = (
            Output(client, registry, settings.realtime.output())
            if client is not None and settings.realtime.enabled
            else Silent()
        )
        notifier = await stack.enter_async_context(_notifier(settings, environ, opened, registry))
        threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="live")
        stack.callback(threads.shutdown)
        candles, gaps = CandleStore(db), GapLedger(db)
        access = Access(
            ledger=Ledger(opened),
            candles=candles.candles,
            absent=gaps.absent,
            job=job,
            clock=lambda: time.time_ns() // 1_000_000,
            threads=threads,
        )
        runner = Runner(
            access,
            Leases(opened, owner, settings.worker.lease_seconds),
            feed,
            Snapshots(publisher, notifier),
            metrics,
            settings.runner(),
        )
        checks = {
            "database": lambda: _database(opened),
            "runs": lambda: _passes(runner, settings),
            "instruments": lambda: _troubles(runner),
            **({"feed": lambda: _feed(client)} if client is not None else {}),
        }
        async with HealthServer(
            registry, checks, host=host, port=port, refresh=runner.measure
        ) as health:
            log.info(
                "component=live-runner event=metrics_started host=%s port=%d", host, health.port
            )
            checking = checked_again_and_again(
                opened, db, job, metrics, settings.worker.reconcile_hours
            )
            beside = [asyncio.create_task(_end(stop, runner)), asyncio.create_task(checking)]
            try:
                await runner.run()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)


async def _end(stop: asyncio.Event, runner: Runner) -> None:
    await stop.wait()
    runner.stop()


@asynccontextmanager
async def _notifier(
    settings: LiveSettings,
    environ: Mapping[str, str],
    opened: AsyncEngine,
    registry: CollectorRegistry,
) -> AsyncIterator[Notifier | None]:
    """The notifier while it sends; None where messages are off."""
    telegram = settings.messages.telegram(environ)
    if not telegram.enabled:
        yield None
        return
    sender = BotSender(telegram) if telegram.mode == "telegram" else LogSender()

    async def chat(user_id: UUID) -> int | None:
        return await chat_of(opened, user_id)

    notifier = Notifier(sender, chat, registry, telegram.debounce_failed_seconds)
    sending = asyncio.create_task(notifier.run(), name="telegram")
    try:
        yield notifier
    finally:
        sending.cancel()
        if isinstance(sender, BotSender):
            await sender.close()


async def chat_of(opened: AsyncEngine, user_id: UUID) -> int | None:
    """The chat that a user confirmed last; None without any."""
    query = text(
        "SELECT chat_id FROM identity_telegram_channels WHERE user_id = :user_id AND is_confirmed "
        "ORDER BY confirmed_at DESC NULLS LAST, chat_id LIMIT 1"
    )
    async with opened.connect() as connection:
        return (await connection.execute(query, {"user_id": user_id})).scalar_one_or_none()


async def _database(opened: AsyncEngine) -> str | None:
    async with opened.connect() as connection:
        await connection.execute(text("select 1"))
    return None


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
    if passed_at is None:
        return "the active runs have not been read yet"
    age = time.monotonic() - passed_at
    most = _STALE_PASSES * max(
        settings.worker.poll_interval_seconds, settings.worker.lease_seconds / 3
    )
    return f"the active runs were read {age:.0f} s ago" if age > most else None
