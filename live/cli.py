"""`roehub live`: the runner of strategies; `api.live_cli` adds the check of what it did."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.commands.options import LogFormat, Logs, logs_to_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from compute.backtest import Backtest
    from ingest.stores.clickhouse import ClickHouse
    from live.settings import LiveSettings

METRICS_PORT = 9203

app = typer.Typer(
    name="live",
    help="Strategies live: without a command, run those that were started until Ctrl-C.",
    invoke_without_command=True,
)


@app.callback()
def live(
    context: typer.Context,
    metrics_host: Annotated[
        str, typer.Option(help="Address of /metrics, /health and /ready.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="ROEHUB_STRATEGY_METRICS_PORT")
    ] = METRICS_PORT,
    log_format: Logs = LogFormat.text,
) -> None:
    """Strategies live: without a command, run those that were started until Ctrl-C.

    Trades on paper, on the very code of the back-test. STRATEGY_PG_DSN names the database, CH_HOST
    the candle store, REDIS_HOST the live feed; without them they are our own under
    ROEHUB_DATA_DIR. Any number of runners share the instruments; what one that is killed held is
    taken over.

    Exit codes: 0 stopped, or the runner is not enabled; 1 a failure; 2 bad input.
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio
    import os

    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from ingest.signals import stop_event
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings
    from live.service import run_live

    logs_to_stderr(log_format)
    settings = live_settings()
    if not settings.worker.enabled:
        logging.getLogger(__name__).info("component=live-runner status=disabled")
        return

    with (
        ready_store(ClickHouseSettings.from_environment(os.environ), "roehub live") as db,
        postgres(PostgresSettings.from_environment(os.environ)) as dsn,
    ):

        async def run() -> None:
            await run_live(
                dsn, db, settings, strategy_job(), os.environ, metrics_host, metrics_port,
                stop_event(),
            )  # fmt: skip

        asyncio.run(run())


def reconciled(run_id: UUID) -> dict[str, Any]:
    """The report of a run, checked over the stores of this environment.

    Raises: StoreInUse where another process has the candles; InvalidInput, StoreFailed.
    """
    import asyncio
    import os

    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings

    with (
        ready_store(ClickHouseSettings.from_environment(os.environ), "roehub live") as db,
        postgres(PostgresSettings.from_environment(os.environ)) as dsn,
    ):
        return asyncio.run(_reconciled(dsn, db, run_id))


async def _reconciled(dsn: str, db: ClickHouse, run_id: UUID) -> dict[str, Any]:
    from cluster.postgres.engine import engine
    from live.checks import check_run

    opened = engine(dsn, connections=2, application="roehub live")
    try:
        return (await check_run(opened, db, run_id, strategy_job())).record()
    finally:
        await opened.dispose()


def live_settings() -> LiveSettings:
    """The settings of this environment. Raises: InvalidConfig."""
    from configs.load import config
    from live.settings import (
        LiveSettings,
        MessageSettings,
        PatienceSettings,
        RealtimeSettings,
        StreamSettings,
        WorkerSettings,
    )

    file = config("strategy")
    return LiveSettings(
        file.settings(WorkerSettings),
        file.settings(StreamSettings),
        file.settings(PatienceSettings),
        file.settings(RealtimeSettings),
        file.settings(MessageSettings),
    )


def strategy_job() -> Callable[[Mapping[str, Any]], Backtest]:
    """Makes the back-test of a specification under this environment's defaults."""
    from functools import partial

    from compute.settings import Defaults
    from configs.load import config
    from live.strategies.spec import backtest_of_spec

    return partial(backtest_of_spec, defaults=config("backtest").settings(Defaults))
