"""`roehub live`: the runner of strategies; `api.live_cli` adds the check of what it did."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.commands.options import LogFormat, Logs, logs_to_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from cluster.postgres.settings import PostgresSettings
    from compute.backtest import Backtest
    from ingest.stores.clickhouse import ClickHouse
    from live.settings import LiveSettings

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
        int | None,
        typer.Option(min=0, max=65535, help="Its port; default: the file's, 9203; 0: any."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Instead of ROEHUB_STRATEGY_CONFIG and ROEHUB_ENV's file.")
    ] = None,
    log_format: Logs = LogFormat.text,
) -> None:
    """Strategies live: without a command, run those that were started until Ctrl-C.

    Trades on paper, on the very code of the back-test. Any number of runners share the instruments;
    what one that is killed held is taken over.

    On one machine run `roehub up --ingest --live` instead: the embedded candle store belongs to one
    process, so a runner beside a service needs servers. STRATEGY_PG_DSN names the database, CH_HOST
    the candle store, REDIS_HOST the live feed.

    Exit codes: 0 stopped, or the runner is not enabled; 1 a failure; 2 bad input.
    """
    if context.invoked_subcommand is not None:
        return
    import os

    import uvloop

    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from ingest.signals import stop_event
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings
    from live.service import run_live

    logs_to_stderr(log_format)
    settings = live_settings(config)
    settings.messages.telegram(os.environ)  # before a store of ours is opened
    if not settings.worker.enabled:
        logging.getLogger(__name__).info("component=live-runner status=disabled")
        return

    with (
        ready_store(ClickHouseSettings.from_environment(os.environ), "roehub live") as db,
        postgres(PostgresSettings.from_environment(os.environ)) as dsn,
    ):

        async def run() -> None:
            await run_live(
                dsn, db, settings, strategy_job(), os.environ, metrics_host,
                settings.metrics.port if metrics_port is None else metrics_port, stop_event(),
            )  # fmt: skip

        uvloop.run(run())  # a fifth less time for each minute than with the loop of Python


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

    database = _with_data(PostgresSettings.from_environment(os.environ))
    with (
        ready_store(ClickHouseSettings.from_environment(os.environ), "roehub live") as db,
        postgres(database) as dsn,
    ):
        return asyncio.run(_reconciled(dsn, db, run_id))


def _with_data(settings: PostgresSettings) -> PostgresSettings:
    """The same, where something may be found in it. Raises: InvalidInput."""
    from compute.errors import InvalidInput

    if settings.embedded and not settings.directory.exists():
        root = settings.directory.parent
        raise InvalidInput(f"no Roehub data at {root} (ROEHUB_DATA_DIR)")
    return settings


@app.command()
def bind(
    token: Annotated[str, typer.Argument(help="Token of POST /account/telegram/chats.")],
    chat: Annotated[int, typer.Option(help="Id of the chat; any where messages go to the log.")],
) -> None:
    """Bind a Telegram chat by hand, where no bot does it: with `telegram.mode: log_only`.

    Exit codes: 0 bound, 1 a failure, 2 bad input.
    """
    import asyncio
    import os

    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings

    with postgres(_with_data(PostgresSettings.from_environment(os.environ))) as dsn:
        asyncio.run(_bound(dsn, token, chat))
    print(f"chat {chat} is bound")


async def _bound(dsn: str, token: str, chat_id: int) -> None:
    from cluster.postgres.engine import engine, typed
    from cluster.postgres.schema import require_schema
    from compute.errors import InvalidInput
    from live.telegram.chats import Bound, bind

    opened = engine(dsn, connections=1, application="roehub live")
    try:
        await require_schema(opened)
        with typed():
            async with opened.begin() as connection:
                found = await bind(connection, token, chat_id)
    finally:
        await opened.dispose()
    if found is not Bound.BOUND:
        raise InvalidInput(f"chat {chat_id} was not bound: {found.value}")


async def _reconciled(dsn: str, db: ClickHouse, run_id: UUID) -> dict[str, Any]:
    from cluster.postgres.engine import engine
    from live.checks import check_run

    opened = engine(dsn, connections=2, application="roehub live")
    try:
        return (await check_run(opened, db, run_id, strategy_job())).record()
    finally:
        await opened.dispose()


def live_settings(path: Path | None = None) -> LiveSettings:
    """The settings of this environment, or of a file. Raises: InvalidConfig."""
    from configs.legacy import runner_config
    from live.access import RepairSettings
    from live.settings import (
        LiveSettings,
        MessageSettings,
        MetricsSettings,
        RealtimeSettings,
        StreamSettings,
        WorkerSettings,
    )

    file = runner_config(path=path)
    return LiveSettings(
        file.settings(WorkerSettings),
        file.settings(StreamSettings),
        file.settings(RepairSettings),
        file.settings(RealtimeSettings),
        file.settings(MessageSettings),
        file.settings(MetricsSettings),
    )


def strategy_job() -> Callable[[Mapping[str, Any]], Backtest]:
    """Makes the back-test of a specification under this environment's defaults."""
    from functools import partial

    from compute.settings import Defaults
    from configs.load import config
    from live.strategies.spec import backtest_of_spec

    return partial(backtest_of_spec, defaults=config("backtest").settings(Defaults))
