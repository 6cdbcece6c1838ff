"""`roehub live`: the runner of strategies, and the check of what it did."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.commands.options import LogFormat, Logs, logs_to_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from compute.backtest import Backtest
    from ingest.stores.clickhouse import ClickHouse
    from live.reconcile import Reconciliation
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


@app.command()
def reconcile(
    run_id: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON to stdout, nothing else.")] = False,
) -> None:
    """Hold what a run did against the back-test of the candles that are stored now.

    Exit codes: 0 they agree to the bit, 1 they do not, or a failure; 2 bad input.
    """
    import asyncio
    import os
    from uuid import UUID

    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from compute.errors import InvalidInput
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings

    try:
        wanted = UUID(run_id)
    except ValueError:
        raise InvalidInput(f"a run has an id like a UUID, got {run_id!r}") from None
    with (
        ready_store(ClickHouseSettings.from_environment(os.environ), "roehub live") as db,
        postgres(PostgresSettings.from_environment(os.environ)) as dsn,
    ):
        found = asyncio.run(_checked(dsn, db, wanted))
    print(json.dumps(found.record(), allow_nan=False) if as_json else _text(found))
    if not found.exact:
        raise typer.Exit(1)


async def _checked(dsn: str, db: ClickHouse, run_id: UUID) -> Reconciliation:
    from cluster.postgres.engine import engine
    from live.checks import check_run

    opened = engine(dsn, connections=1, application="roehub live")
    try:
        return await check_run(opened, db, run_id, strategy_job())
    finally:
        await opened.dispose()


def _text(found: Reconciliation) -> str:
    if found.until_ms is None:
        return "the run has not traded on a bar yet"
    from live.output import moment_text

    head = f"{found.bars} bars and {found.trades} trades until {moment_text(found.until_ms)}: " + (
        "exactly those of the back-test" if found.exact else f"{found.differing} differ"
    )
    lines = [
        f"  {one.ts}  {one.kind}: live {one.live}, back-test {one.backtest} – {one.cause}"
        + (f" ({one.detail})" if one.detail else "")
        for one in found.differences
    ]
    return "\n".join([head, *lines])


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
