"""What the service is measured in: a database with jobs, a store with candles, its processes.

    python -m tests.benchmarks.service_place DIRECTORY MINUTES    # fills a candle store

The service is `roehub api` and `roehub jobs` as anybody starts them, over an embedded server.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.benchmarks.observed import ROOT

MINUTES_START_MS: Final = 1_640_995_200_000  # of the candles, 2022-01-01
SYMBOL: Final = "LOADUSDT"
USERS: Final = 20
_BARE: Final = ("-m", "tests.benchmarks.bare_service")

# Terminal jobs of every kind: nobody claims them, and a list has something to show.
_FILL: Final = """
    insert into backtest_jobs ({columns})
    select {values}
    from backtest_jobs made, generate_series(1, :jobs) as n,
         lateral (select (array['succeeded', 'succeeded', 'cancelled', 'failed'])[1 + n % 4] as s) x
    where made.job_id = :job_id
"""
_VALUES: Final = {
    "job_id": "gen_random_uuid()",
    "user_id": "cast(lpad(to_hex(1000 + n % :users), 32, '0') as uuid)",
    "state": "x.s",
    "stage": "case x.s when 'succeeded' then 'finalizing' else 'stage_b' end",
    "created_at": "made.created_at - n * interval '1 minute'",
    "started_at": "made.created_at - n * interval '1 minute' + interval '5 seconds'",
    "finished_at": "made.created_at - n * interval '1 minute' + interval '50 seconds'",
    "processed_units": "1",
    "total_units": "1",
    "attempt": "1",
    "last_error": "case x.s when 'failed' then 'the disk is full' end",
    "last_error_json": "case x.s when 'failed' then "
    """cast('{"code": "unexpected_error", "message": "the disk is full"}' as jsonb) end""",
}


def user_of(number: int) -> UUID:
    """One of the users that the jobs belong to."""
    return UUID(int=1000 + number % USERS)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of stores and results, and the DSN of a server."""

    directory: Path
    dsn: str

    @property
    def results(self) -> Path:
        """Where runners write."""
        return self.directory / "results"

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes of the service."""
        return os.environ | {
            "ROEHUB_ENV": "test",
            "ROEHUB_DATA_DIR": str(self.directory),
            "ROEHUB_RESULTS_DIR": str(self.results),
            "STRATEGY_PG_DSN": self.dsn,
        }

    @contextmanager
    def api(self) -> Iterator[Served]:
        """`roehub api` on a free port."""
        with _served(["-m", "api.cli", "api", "--port", "0"], self.environment) as found:
            yield found

    @contextmanager
    def bare(self) -> Iterator[Served]:
        """The roofline, likewise."""
        with _served([*_BARE, self.dsn], self.environment) as found:
            yield found

    @contextmanager
    def runner(self, threads: int) -> Iterator[None]:
        """`roehub jobs` on threads of its own process."""
        command = [
            sys.executable, "-m", "api.cli", "jobs", "--executor", "local",
            "--threads", str(threads), "--metrics-port", "0",
        ]  # fmt: skip
        with _ended(
            subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL)
        ):
            yield


@dataclass(frozen=True, slots=True)
class Served:
    """Where a process serves."""

    url: str
    pid: int


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """An embedded server in `directory`, migrated, with the settings that users have."""
    from cluster.postgres.schema import migrate
    from cluster.postgres.server import embedded_postgres

    with embedded_postgres(directory / "postgres") as dsn:
        migrate(dsn)
        found = Place(directory, dsn)
        found.results.mkdir()
        yield found


def fill_jobs(where: Place, jobs: int) -> dict[UUID, list[UUID]]:
    """Ids of so many ended jobs by user, made in the database from one that the service made."""
    from sqlalchemy import text

    from cluster.jobs.store import JobStore
    from cluster.jobs.tables import JOBS
    from cluster.postgres.engine import engine
    from tests.cluster.jobs.requests import made

    async def filled() -> dict[UUID, list[UUID]]:
        found = engine(where.dsn, statement_s=120)
        try:
            store = JobStore(found)
            job, _ = await store.create(
                made(), user_of(0), max_active=1, results_dir=str(where.results)
            )
            await store.cancel(job.job_id)
            names = [column.name for column in JOBS.columns]
            values = [_VALUES.get(name, f"made.{name}") for name in names]
            statement = text(_FILL.format(columns=", ".join(names), values=", ".join(values)))
            async with found.begin() as connection:
                await connection.execute(
                    statement, {"jobs": jobs, "users": USERS, "job_id": job.job_id}
                )
            async with found.execution_options(isolation_level="AUTOCOMMIT").connect() as one:
                await one.execute(text("vacuum analyze backtest_jobs"))
                rows = (await one.execute(text("select user_id, job_id from backtest_jobs"))).all()
        finally:
            await found.dispose()
        owned: dict[UUID, list[UUID]] = {}
        for user_id, job_id in rows:
            owned.setdefault(user_id, []).append(job_id)
        return owned

    return asyncio.run(filled())


def fill_candles(where: Place, minutes: int) -> None:
    """Puts so many minutes into the store of the place, in a process that ends with it."""
    command = [sys.executable, "-m", "tests.benchmarks.service_place", str(where.directory)]
    subprocess.run([*command, str(minutes)], cwd=ROOT, check=True)


def _candles(directory: Path, minutes: int) -> None:
    from ingest.stores.candles import CandleStore
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import migrate
    from ingest.stores.settings import ClickHouseSettings
    from tests.benchmarks.candle_store import _rows

    with open_clickhouse(ClickHouseSettings(path=directory / "clickhouse"), "the benchmark") as db:
        migrate(db)
        CandleStore(db).insert(_rows(SYMBOL, minutes, 0))


@contextmanager
def _served(arguments: list[str], environment: dict[str, str]) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with _ended(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving http://"):
            raise RuntimeError(f"{' '.join(arguments)} does not serve; it said {line!r}")
        yield Served(line.split()[1].rstrip(","), process.pid)


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Ends a process with the block."""
    with ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)


if __name__ == "__main__":
    _candles(Path(sys.argv[1]), int(sys.argv[2]))
