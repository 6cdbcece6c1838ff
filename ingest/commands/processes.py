"""The processes of market data put together: live worker and scheduler with all they stand on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.commands.duties import Duties
from ingest.commands.options import clock_ms
from ingest.health import HealthServer
from ingest.http import HttpClients
from ingest.live.buffer import BufferSettings
from ingest.live.connection import SocketSettings
from ingest.live.feed import FeedSettings
from ingest.live.fills import FillQueue, FillSettings
from ingest.live.tails import last_minutes
from ingest.live.worker import Access, Worker, WorkerSettings
from ingest.metrics import FillMetrics, LiveMetrics, RestMetrics, SchedulerMetrics
from ingest.scheduler import Scheduler, SchedulerSettings
from ingest.settings import MarketDataSettings
from ingest.signals import stop_event
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import RedisSettings, open_valkey

log = logging.getLogger(__name__)


async def run_live(
    db: ClickHouse,
    settings: MarketDataSettings,
    listed: Path | None,
    redis: RedisSettings | None,
    host: str,
    port: int,
    stop: asyncio.Event | None = None,
    made: Callable[[Worker], None] = lambda worker: None,
) -> int:
    """Follows the active instruments until SIGTERM or SIGINT, or until `stop` where it is given;
    candles that could not be stored.

    `made` is given the worker, to be asked how it does. With a whitelist the scheduler runs beside
    the worker. Redis is published to where it is given.

    Raises:
        InvalidInput: the port cannot be used.
        StoreUnavailable: the store or our own Valkey cannot be reached at the start.
    """
    stop = stop_event() if stop is None else stop
    registry = CollectorRegistry()
    rest, fills = RestMetrics(registry), FillMetrics(registry)
    metrics = LiveMetrics(registry, fills)
    async with AsyncExitStack() as stack:
        duties = await stack.enter_async_context(_duties(db, settings, listed, rest))
        client = None
        if redis is not None:
            valkey = stack.enter_context(open_valkey(redis))
            client = valkey.client()
            stack.push_async_callback(client.aclose)
            await _tell_of_publishing(client, redis.place)
        worker = Worker(
            sockets(settings),
            Access(
                insert=partial(duties.candles.insert, urgent=True),
                active=duties.active_now,
                last_minutes=lambda some, before_ms: last_minutes(duties.candles, some, before_ms),
                fill=duties.fill,
                earliest_ms=duties.known_beginning,
            ),
            metrics,
            clock=clock_ms,
            redis=client,
            settings=worker_settings(settings),
        )
        made(worker)
        checks = {"worker": worker.trouble, "store": duties.trouble}
        scheduler = None
        if listed is not None:
            scheduler = _scheduler(duties, settings, worker.fills, SchedulerMetrics(registry))
            checks["scheduler"] = scheduler.trouble
            await duties.sync_whitelist()  # the worker begins with the list of today
        health = HealthServer(
            registry, checks, host=host, port=port, refresh=worker.refresh_metrics
        )
        async with health:
            log.info("/metrics, /health and /ready are on %s:%d", host, health.port)
            return await _together(worker, scheduler, stop)


async def run_schedule(
    db: ClickHouse, settings: MarketDataSettings, listed: Path, host: str, port: int
) -> None:
    """Runs the scheduler until SIGTERM or SIGINT; errors as with `run_live`."""
    stop = stop_event()
    registry = CollectorRegistry()
    rest, fills = RestMetrics(registry), FillMetrics(registry)
    async with _duties(db, settings, listed, rest) as duties:
        workers = FillSettings(workers=settings.ingestion.rest_concurrency_instruments)
        queue = FillQueue(duties.fill, fills, clock=clock_ms, settings=workers)
        scheduler = _scheduler(duties, settings, queue, SchedulerMetrics(registry))
        checks = {"scheduler": scheduler.trouble, "store": duties.trouble}
        async with HealthServer(registry, checks, host=host, port=port) as health:
            log.info("/metrics, /health and /ready are on %s:%d", host, health.port)
            await scheduler.run(stop)


def sockets(settings: MarketDataSettings) -> dict[int, SocketSettings]:
    """How the sockets of each market behave."""
    found: dict[int, SocketSettings] = {}
    for market_id, one in settings.by_id.items():
        ws, reconnect = one.ws, one.ws.reconnect
        found[market_id] = SocketSettings(
            url=ws.url,
            ping_interval_s=ws.ping_interval_s,
            pong_timeout_s=ws.pong_timeout_s,
            reconnect_min_s=reconnect.min_delay_s,
            reconnect_max_s=reconnect.max_delay_s,
            reconnect_factor=reconnect.factor,
            reconnect_jitter_s=reconnect.jitter_s,
            max_symbols=ws.max_symbols_per_connection,
        )
    return found


def worker_settings(settings: MarketDataSettings) -> WorkerSettings:
    """Sizes and pauses of the live worker."""
    ingestion, streams = settings.ingestion, settings.live_feed.redis_streams
    return WorkerSettings(
        buffer=BufferSettings(
            flush_s=ingestion.flush_interval_ms / 1000, flush_rows=ingestion.max_buffer_rows
        ),
        feed=FeedSettings(prefix=streams.stream_prefix, maxlen=streams.maxlen),
        fills=FillSettings(workers=ingestion.rest_concurrency_instruments),
    )


def scheduler_settings(settings: MarketDataSettings) -> SchedulerSettings:
    """Intervals of the jobs and the pace of the hourly pass."""
    jobs, ingestion = settings.scheduler.jobs, settings.ingestion
    return SchedulerSettings(
        sync_whitelist_s=jobs.sync_whitelist.interval_seconds,
        enrich_s=jobs.enrich.interval_seconds,
        rest_insurance_catchup_s=jobs.rest_insurance_catchup.interval_seconds,
        tail_lookback_minutes=ingestion.tail_lookback_minutes,
        concurrency=ingestion.rest_concurrency_instruments,
        inter_instrument_delay_s=ingestion.rest_inter_instrument_delay_s,
    )


async def _tell_of_publishing(client: Redis, place: str) -> None:
    """Logs whether Redis takes candles now. One that does not is no reason not to start."""
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        log.warning(
            "live candles are not published: the server at %s cannot be used (%s); they are all "
            "stored, and each is tried once",
            place, error,
        )  # fmt: skip
    else:
        log.info("live candles are published at %s", place)


async def _together(worker: Worker, scheduler: Scheduler | None, stop: asyncio.Event) -> int:
    """Runs both until `stop`; when one of them fails the other is stopped, too."""
    running = asyncio.create_task(worker.run(stop), name="worker")
    tasks: list[asyncio.Task[Any]] = [running]
    if scheduler is not None:
        tasks.append(asyncio.create_task(scheduler.run(stop), name="scheduler"))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()
    return running.result()


def _scheduler(
    duties: Duties, settings: MarketDataSettings, fills: FillQueue, metrics: SchedulerMetrics
) -> Scheduler:
    return Scheduler(duties, fills, metrics, clock=clock_ms, settings=scheduler_settings(settings))


@asynccontextmanager
async def _duties(
    db: ClickHouse, settings: MarketDataSettings, listed: Path | None, rest: RestMetrics
) -> AsyncIterator[Duties]:
    by_market = {market_id: one.rest for market_id, one in settings.by_id.items()}
    async with HttpClients(by_market, clock=clock_ms, observer=rest) as clients:
        duties = Duties(db, settings, listed, clients, rest)
        try:
            yield duties
        finally:
            duties.close()
