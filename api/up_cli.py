"""`roehub up`: everything on one machine, with one command."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.jobs.cli import METRICS_PORT
from ingest.commands.options import Config, LogFormat, Logs, Whitelist, logs_to_stderr

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from api.beside import Work
    from api.context import AppContext
    from api.up import Plan
    from ingest.settings import MarketDataSettings

_INGEST_METRICS_PORT = 9201


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Its port; 0 is any free one.", min=0, max=65535)
    ] = 8000,
    runners: Annotated[int, typer.Option(help="Job runners on the Ray cluster.", min=0)] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores of the Ray cluster; default: all.")
    ] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard.")] = False,
    ingest: Annotated[
        bool, typer.Option("--ingest", help="Follow the exchanges and keep history whole, too.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Run the strategies that were started, too.")
    ] = False,
    market_data_config: Config = None,
    whitelist: Whitelist = None,
    log_format: Logs = LogFormat.text,
) -> None:
    """Run everything on this machine until Ctrl-C: API, job runners on a Ray cluster, stores.

    Stores without a server in the environment are embedded ones under ROEHUB_DATA_DIR. A job that
    was under way when this was stopped, or killed, goes on where it was.

    Exit codes: 0 stopped, 1 a failure, 2 bad input or a second one over the same directory.
    """
    import os
    import sys

    logs_to_stderr(log_format)
    context.ensure_object(dict)["interrupted"] = "everything was stopped; jobs go on next time"
    from api.identity.settings import IdentitySettings, one_database
    from api.identity.users import OPERATOR
    from api.server import url_of
    from api.up import Plan, data_directory, free_port
    from cluster.inputs import threads as cores
    from cluster.postgres.settings import RUNTIME_NAME
    from configs.load import environment

    given = one_database(os.environ)
    # What can be refused is refused before a store of ours is made.
    IdentitySettings.from_environment(given, environment(given))
    followed = _followed(context, ingest, market_data_config, whitelist)
    directory = data_directory(os.environ)
    with (
        _held(directory, host, port) as found,
        _service(given, host, url_of(found)) as (served, environ, places),
    ):
        work, metrics = _beside(served, environ, followed, live)
        plan = Plan(
            found,
            directory / "logs",
            runners=runners if "jobs" in served.parts else 0,
            cpus=cores(threads),
            dashboard_token=directory / "ray-token" if dashboard else None,
            environment={RUNTIME_NAME: environ[RUNTIME_NAME]},
            runner_ports=tuple(free_port(METRICS_PORT + i) for i in range(runners)),
            places=places | metrics,
            **work,
            operator=OPERATOR if "operator" in places and sys.stdout.isatty() else None,
        )
        _run(served, plan)
        print("everything is stopped", flush=True)


@contextmanager
def _held(directory: Path, host: str, port: int) -> Iterator[socket.socket]:
    """The socket to serve at, while nobody else serves this directory.

    Raises: AlreadyUp; InvalidInput where the port is taken by others.
    """
    from api.server import listening, url_of
    from api.up import this_process
    from api.up_lock import only_one
    from compute.errors import InvalidInput

    with ExitStack() as stack:
        try:
            found = stack.enter_context(listening(host, port))
        except InvalidInput:
            with only_one(directory, {}):  # who listens there is often another one of these
                raise
        stack.enter_context(only_one(directory, this_process(url_of(found))))
        yield found


def _run(context: AppContext, plan: Plan) -> None:
    """Runs everything until a signal. Raises: Exit where it does not come up."""
    import asyncio

    from api.up import NotReady, Up

    async def run() -> None:
        await Up(context, plan, lambda line: print(line, flush=True)).run()

    try:
        asyncio.run(run())
    except NotReady as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None


@contextmanager
def _service(
    given: Mapping[str, str], host: str, url: str
) -> Iterator[tuple[AppContext, Mapping[str, str], dict[str, str]]]:
    """(The context of the service, its environment, where its parts are) while its stores are open.

    Raises: as `api.app.service`.
    """
    from api.app import service
    from api.identity.operator import local_operator
    from cluster.postgres.settings import RUNTIME_NAME

    with ExitStack() as stack:
        dsn, place = stack.enter_context(_database(given))
        environ = {**given, RUNTIME_NAME: dsn}
        context = stack.enter_context(service(environ, "roehub up", development=False))
        operator = _operator_file(given, host, context)
        if operator is not None:
            stack.enter_context(local_operator(dsn, operator, url))
        yield context, environ, _places(context, place, operator)


def _beside(
    context: AppContext,
    environ: Mapping[str, str],
    followed: tuple[MarketDataSettings, Path] | None,
    live: bool,
) -> tuple[dict[str, Work], dict[str, str]]:
    """(What runs beside the API, where its metrics are), by name."""
    from api.up import free_port

    work: dict[str, Work] = {}
    places: dict[str, str] = {}
    if followed is not None:
        port = free_port(_INGEST_METRICS_PORT)
        work["ingest"] = _ingestion(context, *followed, port)
        places["ingestion"] = f"http://127.0.0.1:{port}/metrics"
    strategies = _live(context, environ) if live else None
    if strategies is not None:
        work["live"], places["live"] = strategies
    return work, places


def _database(environ: Mapping[str, str]) -> Any:
    """(DSN, place) of the database while inside; one of our own is brought up to date."""
    import asyncio
    from contextlib import contextmanager

    from cluster.postgres.schema import migrate
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings

    @contextmanager
    def opened() -> Any:
        settings = PostgresSettings.from_environment(environ)
        with postgres(settings) as dsn:
            if settings.embedded:
                migrate(dsn)
                for job_id in asyncio.run(_orphans(dsn)):
                    print(f"job {job_id} was left by a runner that is gone; it goes on", flush=True)
            yield dsn, settings.place

    return opened()


async def _orphans(dsn: str) -> list[Any]:
    from cluster.jobs.orphans import release_orphans
    from cluster.postgres.engine import engine

    found = engine(dsn, connections=1, application="roehub up")
    try:
        return await release_orphans(found)
    finally:
        await found.dispose()


def _operator_file(environ: Mapping[str, str], host: str, context: AppContext) -> Path | None:
    """Where to leave the local operator's token; None unless nobody but this machine is served.

    The stores are ours, the address is of this machine alone, and it is no production.
    """
    from api.identity.operator_file import is_loopback, operator_path
    from cluster.postgres.settings import PostgresSettings
    from configs.load import environment

    ours = PostgresSettings.from_environment(environ).embedded
    if context.store is not None:
        ours = ours and context.store.settings.embedded
    if environment(environ) == "prod" or not (ours and is_loopback(host)):
        return None
    return operator_path(environ)


def _places(context: AppContext, database: str, operator: Path | None) -> dict[str, str]:
    found = {"database": database}
    if operator is not None:
        found["operator"] = str(operator)
    if context.store is not None:
        found["candles"] = context.store.settings.place
    if context.results_dir is not None:
        found["results"] = str(context.results_dir)
    return found


def _live(context: AppContext, environ: Mapping[str, str]) -> tuple[Work, str] | None:
    """(the live runner over the open store, where its metrics are); None where it is not enabled.

    Raises: InvalidConfig, InvalidInput.
    """
    from api.up import free_port
    from cluster.postgres.settings import RUNTIME_NAME
    from live.cli import live_settings, strategy_job
    from live.service import run_live

    settings, job, db = live_settings(), strategy_job(), context.store
    settings.messages.telegram(environ)  # before anything is started
    assert db is not None
    if not settings.worker.enabled:
        logging.getLogger(__name__).info("component=live-runner status=disabled")
        return None
    port = free_port(settings.metrics.port)

    async def run(stop: asyncio.Event) -> int:
        await run_live(environ[RUNTIME_NAME], db, settings, job, environ, "127.0.0.1", port, stop)
        return 0

    return run, f"http://127.0.0.1:{port}/metrics"


def _followed(
    context: typer.Context, ingest: bool, config: Path | None, listed: Path | None
) -> tuple[MarketDataSettings, Path] | None:
    """Settings and whitelist of ingestion, None without it. Raises: InvalidConfig, InvalidInput."""
    from compute.errors import InvalidInput
    from ingest.commands.options import market_data, read_whitelist

    if ingest:
        return market_data(config), read_whitelist(listed)
    for name in ("market_data_config", "whitelist"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(f"--{name.replace('_', '-')} is of --ingest; give that, too")
    return None


def _ingestion(context: AppContext, settings: MarketDataSettings, listed: Path, port: int) -> Work:
    """Live candles and the scheduler over the open store. Raises: InvalidInput."""
    from api.context import Ingestion
    from ingest.commands.processes import run_live
    from ingest.commands.services import redis_settings

    redis = redis_settings(settings)
    db = context.store
    assert db is not None
    context.ingestion = known = Ingestion()
    return lambda stop: run_live(db, settings, listed, redis, "127.0.0.1", port, stop, known.begun)
