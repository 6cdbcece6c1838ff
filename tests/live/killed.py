"""A runner in a process of its own, to be killed: `python -m tests.live.killed JSON`.

Its candles are on a server (CH_HOST …), its feed and its database are those of the tests, its
clock is the first eight bytes of a file.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import redis.asyncio
import uvloop
from prometheus_client import CollectorRegistry

from cluster.postgres.engine import engine
from compute.settings import Defaults
from ingest.signals import stop_event
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.gaps import GapLedger
from ingest.stores.settings import ClickHouseSettings
from live.access import Access, RepairSettings
from live.feed import Feed, FeedSettings
from live.leases import Leases
from live.ledger import Ledger
from live.metrics import LiveMetrics
from live.runner import Runner, RunnerSettings
from live.service import Silent
from live.snapshots import Snapshots
from live.strategies.spec import backtest_of_spec

SETTINGS = RunnerSettings(
    0.1, 2.0, RepairSettings(late_seconds=5, retry_backoff_seconds=0.05), clock_seconds=math.inf
)


async def run(given: dict[str, Any], store: CandleStore, gaps: GapLedger) -> None:
    clock = np.memmap(given["clock"], np.int64, "r", shape=(1,))
    opened = engine(given["dsn"], application="killed")
    threads = ThreadPoolExecutor(1)
    client = redis.asyncio.Redis(unix_socket_path=given["feed"], decode_responses=True)
    feed = Feed(client, given["owner"], FeedSettings(block_ms=20, claim_idle_ms=1_000))
    access = Access(
        Ledger(opened), store.candles, gaps.absent, store.bounds,
        lambda spec: backtest_of_spec(spec, Defaults()), lambda: int(clock[0]), threads, threads,
        feed.recent,
    )  # fmt: skip
    live = Runner(
        access, Leases(opened, given["owner"], SETTINGS.lease_seconds), feed,
        Snapshots(Silent()), LiveMetrics(CollectorRegistry()), SETTINGS,
    )  # fmt: skip
    stop = stop_event()
    print("begun", flush=True)
    task = asyncio.create_task(live.run())
    await stop.wait()
    live.stop()
    await task
    await client.aclose()
    await opened.dispose()


def main() -> None:
    with open_clickhouse(ClickHouseSettings.from_environment(os.environ), "a runner") as db:
        uvloop.run(run(json.loads(sys.argv[1]), CandleStore(db), GapLedger(db)))


if __name__ == "__main__":
    main()
