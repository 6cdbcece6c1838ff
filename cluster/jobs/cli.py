"""`roehub jobs`: the runner; other commands of the group are added by whoever can reach the API."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from cluster.cli import ExecutorName, Threads
from ingest.commands.options import LogFormat, Logs

METRICS_PORT = 9204
NICENESS = 10

_LOG = logging.getLogger(__name__)

app = typer.Typer(
    name="jobs",
    help="Grid jobs: without a command, run those that are waiting until SIGTERM or Ctrl-C.",
    invoke_without_command=True,
)


@app.callback()
def jobs(
    context: typer.Context,
    executor: Annotated[
        ExecutorName, typer.Option(help="A Ray cluster, or threads of this process.")
    ] = ExecutorName.ray,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a running cluster; default: one is started here.",
            envvar="ROEHUB_RAY_ADDRESS",
        ),
    ] = None,
    threads: Threads = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of /metrics, /health and /ready.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="ROEHUB_JOBS_METRICS_PORT")
    ] = METRICS_PORT,
    log_format: Logs = LogFormat.text,
) -> None:
    """Grid jobs: without a command, run those that are waiting until SIGTERM or Ctrl-C.

    STRATEGY_PG_DSN names the database (default: our own under ROEHUB_DATA_DIR), ROEHUB_RESULTS_DIR
    the directory of results. Any number of runners may share them; one that is stopped or killed
    costs the spans it was computing.

    Exit codes: 0 stopped, or jobs are not enabled; 1 a failure; 2 bad input.
    """
    if context.invoked_subcommand is not None:
        return
    from cluster.jobs.runner import COMPONENT
    from cluster.jobs.settings import JobSettings
    from compute.errors import InvalidInput
    from configs.load import config
    from ingest.commands.options import logs_to_stderr

    logs_to_stderr(log_format)
    settings = config("backtest").settings(JobSettings)
    if not settings.enabled:
        _LOG.info("component=%s status=disabled", COMPONENT)
        return
    if executor is ExecutorName.local and ray_address:
        raise InvalidInput("--ray-address joins a Ray cluster; leave out --executor local")
    _run(settings, executor, ray_address, threads, metrics_host, metrics_port)


def _run(
    settings: object, executor: ExecutorName, address: str | None, threads: int | None,
    host: str, port: int,
) -> None:  # fmt: skip
    from prometheus_client import CollectorRegistry

    from cluster.executors import opened
    from cluster.jobs.database import Database
    from cluster.jobs.durable import results_directory
    from cluster.jobs.metrics import RunnerMetrics
    from cluster.jobs.runner import Runner
    from cluster.jobs.service import served, startable
    from cluster.jobs.settings import JobSettings
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings

    assert isinstance(settings, JobSettings)
    directory = results_directory(os.environ)
    registry = CollectorRegistry()
    with (
        postgres(PostgresSettings.from_environment(os.environ)) as dsn,
        Database(dsn) as database,
    ):
        startable(database)
        runner = Runner(
            database,
            settings,
            lambda: opened(executor.value, address, threads, None, _LOG.warning),
            RunnerMetrics(registry),
            results_dir=directory,
        )
        with served(database, registry, host, port):
            give_way()  # not before: a database of ours that was started here goes on as it is
            runner.run()


def give_way() -> None:
    """Computing leaves the cores of this machine to whoever has to answer soon."""
    os.nice(NICENESS)
