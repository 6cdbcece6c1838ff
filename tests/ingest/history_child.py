"""A backfill or a catch-up that stops at a given point and waits to be killed.

    python -m tests.ingest.history_child STORE backfill FILE SYMBOL BATCH_ROWS POINT NOW_MS
    python -m tests.ingest.history_child STORE catch_up URL SYMBOL BATCH_ROWS POINT NOW_MS

`POINT` is the number of inserts after which it stops, or `report`: everything is stored and
nothing told yet. It prints `here` when it is there, and `done` when it never was.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from compute.market.instrument import Instrument
from ingest.backfill import backfill
from ingest.catchup import catch_up
from ingest.fetching import Fetcher, FetchSettings
from ingest.http import HttpClients
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.exchange_servers.settings import rest_settings


def here() -> None:
    print("here", flush=True)
    sys.stdin.read()  # until the end of this process, one way or the other


class Stopping(CandleStore):
    """A store that stops after its `point`-th insert."""

    def __init__(self, db: ClickHouse, point: str) -> None:
        super().__init__(db)
        self.point = point
        self.calls = 0

    def insert(self, table: Any, *, urgent: bool = False) -> int:
        rows = super().insert(table, urgent=urgent)
        self.calls += 1
        if str(self.calls) == self.point:
            here()
        return rows


def run_backfill(
    db: ClickHouse, file: str, symbol: str, batch_rows: str, point: str, now_ms: str
) -> None:
    store = Stopping(db, point)
    backfill(
        store,
        Instrument(1, symbol),
        [Path(file)],
        clock=lambda: int(now_ms),
        batch_rows=int(batch_rows),
    )
    if point == "report":
        here()


def run_catch_up(
    db: ClickHouse, url: str, symbol: str, batch_rows: str, point: str, now_ms: str
) -> None:
    async def run() -> None:
        settings = {1: rest_settings(url)}
        async with HttpClients(settings, clock=lambda: int(now_ms)) as clients:
            fetcher = Fetcher(
                db,
                clients,
                clock=lambda: int(now_ms),
                settings=FetchSettings(batch_rows=int(batch_rows)),
            )
            fetcher.candles = Stopping(db, point)
            await catch_up(fetcher, Instrument(1, symbol))
        if point == "report":
            here()

    asyncio.run(run())


def main(path: str, work: str, *arguments: str) -> None:
    with open_clickhouse(ClickHouseSettings(path=Path(path)), owner="a child of the tests") as db:
        migrate(db)
        {"backfill": run_backfill, "catch_up": run_catch_up}[work](db, *arguments)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
