"""The database beside a runner: what the same rows cost bare, and how far its runs are."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import asyncpg

from ingest.rows import MINUTE_MS
from tests.benchmarks.live_place import Crowd

CONNECTIONS: Final = 10  # as the runner's engine has
DEADLINE_S: Final = 120.0
_TABLES: Final = ("strategy_runs", "live_bars", "live_accounts")
_METADATA: Final = '{"warmup": {"bars": 200}, "rollup": {"timeframe": "15m"}, "live": {}}'
_ACCOUNT: Final = '{"balance": {"available": 10000.0, "safe": 0.0}, "position": null, "vote": 1}'


class Probe:
    """A connection to look with, and a pool that writes copies of the tables of runs."""

    def __init__(self, dsn: str, crowd: Crowd, start_ms: int) -> None:
        self._dsn, self._crowd, self._at = dsn, crowd, start_ms
        self._loop = asyncio.Runner()

    def __enter__(self) -> Self:
        self._loop.run(self._opened())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._loop.run(self._pool.close())
        self._loop.close()

    def seconds(self, *, bars: bool) -> float:
        """Of a bare transaction an instrument: its runs updated, with `bars` one and an account
        for each."""
        self._at += MINUTE_MS
        return self._loop.run(self._written(datetime.fromtimestamp(self._at / 1000, UTC), bars))

    def taken_up(self, now_ms: int) -> float:
        """When all runs had gone through the minutes before `now_ms`, seconds of the clock."""
        until_ms = now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
        return self._loop.run(self._reached(until_ms))

    def whole(self, until_ms: int) -> list[UUID]:
        """The ids of runs with bars, when all have come to a minute. Raises: RuntimeError."""
        rows = self._loop.run(
            self._pool.fetch("SELECT run_id, state, checkpoint_ts_open FROM strategy_runs")
        )
        at = {(row["state"], _ms(row["checkpoint_ts_open"])) for row in rows}
        if at != {("running", until_ms)} or len(rows) != self._crowd.runs:
            raise RuntimeError(f"{len(rows)} runs are at {at}, not at minute {until_ms}")
        bars = "SELECT run_id FROM live_bars GROUP BY run_id ORDER BY run_id"
        return [row["run_id"] for row in self._loop.run(self._pool.fetch(bars))]

    async def _opened(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=CONNECTIONS, max_size=CONNECTIONS
        )
        for name in _TABLES:
            await self._pool.execute(f"CREATE TABLE bare_{name} (LIKE {name} INCLUDING ALL)")
        await self._pool.execute("INSERT INTO bare_strategy_runs SELECT * FROM strategy_runs")
        rows = await self._pool.fetch("SELECT run_id FROM strategy_runs")
        ids, each = [row["run_id"] for row in rows], self._crowd.runs_each
        self._groups = [ids[begin : begin + each] for begin in range(0, len(ids), each)]

    async def _written(self, at: datetime, bars: bool) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self._transaction(group, at, bars) for group in self._groups))
        return time.perf_counter() - began

    async def _transaction(self, ids: list[UUID], at: datetime, bars: bool) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                "UPDATE bare_strategy_runs SET checkpoint_ts_open = $2, metadata_json = $3,"
                " updated_at = clock_timestamp() WHERE run_id = $1",
                [(one, at, _METADATA) for one in ids],
            )
            if not bars:
                return
            await connection.executemany(
                "INSERT INTO bare_live_bars (run_id, bar_ts, close, vote, equity)"
                " VALUES ($1, $2, 1.5, 1, 10000)",
                [(one, at) for one in ids],
            )
            await connection.executemany(
                "INSERT INTO bare_live_accounts (run_id, account_json, equity, bar_ts)"
                " VALUES ($1, $3, 10000, $2) ON CONFLICT (run_id) DO UPDATE SET"
                " account_json = excluded.account_json, bar_ts = excluded.bar_ts",
                [(one, at, _ACCOUNT) for one in ids],
            )

    async def _reached(self, until_ms: int) -> float:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                row: Any = await self._pool.fetchrow(
                    "SELECT count(*) FILTER (WHERE checkpoint_ts_open >= $1) AS there,"
                    " count(*) FILTER (WHERE state = 'failed') AS failed FROM strategy_runs",
                    datetime.fromtimestamp(until_ms / 1000, UTC),
                )
                if row["failed"]:
                    raise RuntimeError(f"{row['failed']} runs failed")
                if row["there"] == self._crowd.runs:
                    return time.time()
                await asyncio.sleep(0.1)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
