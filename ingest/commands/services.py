"""Commands that run until they are stopped: live candles, the scheduler, or both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.commands.options import (
    Config,
    LogFormat,
    Logs,
    Whitelist,
    logs_to_stderr,
    market_data,
    read_whitelist,
    store,
)

if TYPE_CHECKING:
    from ingest.settings import MarketDataSettings, RedisStreamsSettings
    from ingest.stores.clickhouse import ClickHouse
    from ingest.stores.valkey import RedisSettings

MetricsHost = Annotated[str, typer.Option(help="Address of /metrics, /health and /ready.")]


def live(
    config: Config = None,
    whitelist: Whitelist = None,
    schedule: Annotated[
        bool,
        typer.Option(
            "--schedule",
            help="Run the scheduler in this process, too: an embedded store has one owner.",
        ),
    ] = False,
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(min=0, max=65535)] = 9201,
    log_format: Logs = LogFormat.text,
) -> None:
    """Follow the active instruments over WebSocket until SIGTERM or Ctrl-C.

    Exit codes: 0 stopped and everything stored, 1 a failure or candles that could not be stored,
    2 bad input.
    """
    import asyncio

    from ingest.commands.processes import run_live

    logs_to_stderr(log_format)
    settings = market_data(config)
    listed = read_whitelist(whitelist) if schedule else None
    owner = "roehub ingest live --schedule" if schedule else "roehub ingest live"
    with _service_store(owner) as db:
        left = asyncio.run(
            run_live(db, settings, listed, redis_settings(settings), metrics_host, metrics_port)
        )
    if left:
        raise typer.Exit(1)


def schedule(
    config: Config = None,
    whitelist: Whitelist = None,
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(min=0, max=65535)] = 9202,
    log_format: Logs = LogFormat.text,
) -> None:
    """Keep reference data in step and history whole, at intervals, until SIGTERM or Ctrl-C."""
    import asyncio

    from ingest.commands.processes import run_schedule

    logs_to_stderr(log_format)
    settings = market_data(config)
    listed: Path = read_whitelist(whitelist)
    with _service_store("roehub ingest schedule") as db:
        asyncio.run(run_schedule(db, settings, listed, metrics_host, metrics_port))


def _service_store(owner: str) -> ClickHouse:
    """The opened store. One that is busy is a failure here, not bad input: whoever keeps the
    service running starts it again until the store is free.
    """
    from ingest.errors import StoreInUse, StoreUnavailable

    try:
        return store(owner)
    except StoreInUse as error:
        raise StoreUnavailable(error.message) from error


def redis_settings(settings: MarketDataSettings) -> RedisSettings | None:
    """Where live candles are published; None when they are not. Raises: InvalidInput."""
    streams = settings.live_feed.redis_streams
    return published_to(streams, os.environ) if streams.enabled else None


def published_to(streams: RedisStreamsSettings, environ: Mapping[str, str]) -> RedisSettings:
    """The server of the environment, else of the file, else our own. Raises: InvalidInput."""
    from ingest.stores.valkey import PASSWORD_NAME, RedisSettings

    given = {name: value for name, value in environ.items() if value.strip()}
    password = "" if streams.password_env is None else given.get(streams.password_env, "")
    known = {**given, PASSWORD_NAME: password}
    if streams.host is not None:
        known = {
            "REDIS_HOST": streams.host,
            "REDIS_PORT": str(streams.port),
            "REDIS_DB": str(streams.db),
            **known,
        }
    return RedisSettings.from_environment(
        known,
        socket_timeout_s=streams.socket_timeout_s,
        connect_timeout_s=streams.connect_timeout_s,
    )
