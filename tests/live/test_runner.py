"""Runners over real stores: several share the instruments, some die, the feed goes away."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import redis.asyncio
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from ingest.live.feed import fields
from ingest.rows import Origin, table_of
from ingest.stores.clickhouse import ClickHouse
from live.access import Access, RepairSettings
from live.feed import Feed, FeedSettings
from live.leases import Leases
from live.metrics import LiveMetrics
from live.runner import Runner, RunnerSettings
from live.snapshots import Snapshots
from live.strategies.runs import Run
from live.tables import LEASES
from tests.live.stage import Stage, minute, on_stage
from tests.live.test_instrument import EMA, checkpoint

QUICK = RunnerSettings(
    0.05, 1.0, RepairSettings(late_seconds=5, retry_backoff_seconds=0), clock_seconds=math.inf
)


def runner(
    stage: Stage,
    owner: str,
    feed: Feed | None = None,
    access: Access | None = None,
    metrics: LiveMetrics | None = None,
    settings: RunnerSettings = QUICK,
) -> Runner:
    return Runner(
        access or stage.access(), Leases(stage.engine, owner, settings.lease_seconds), feed,
        Snapshots(stage), metrics or LiveMetrics(CollectorRegistry()), settings,
    )  # fmt: skip


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def reached(stage: Stage, run: Run, number: int) -> Callable[[], Any]:
    async def there() -> bool:
        row = await stage.row(run.run_id)
        return row.checkpoint_ts_open is not None and await checkpoint(stage, run) >= number

    return there


def stopped(stage: Stage, run: Run) -> Callable[[], Any]:
    async def there() -> bool:
        return (await stage.row(run.run_id)).state == "stopped"

    return there


def test_a_runner_goes_on_where_another_was_killed(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(400))
        stage.now_ms = minute(150) + 6_000
        run = await stage.start(minute(99) + 5, **EMA)
        runners = {name: runner(stage, name) for name in ("one", "two")}
        tasks = {name: asyncio.create_task(one.run()) for name, one in runners.items()}
        await until(reached(stage, run, 149))
        # The one that holds it is gone and gives nothing back, the other one takes over.
        async with stage.engine.connect() as connection:
            owner = (await connection.execute(select(LEASES.c.owner))).scalar_one()

        async def dead() -> None:
            raise OSError("killed")

        runners[owner]._leases.release = dead
        tasks[owner].cancel()
        stage.now_ms = minute(300) + 6_000
        await until(reached(stage, run, 299))
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await stage.assert_once(run, 99, 299)
        await stage.assert_is_the_back_test(run)

    on_stage(database, db, "TWO", work)


def test_start_and_stop_follow_the_user(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(200))
        stage.now_ms = minute(150) + 6_000
        live = runner(stage, "one")
        task = asyncio.create_task(live.run())
        run = await stage.start(minute(149) + 5, **EMA)
        await until(reached(stage, run, 149))
        await stage.runs.stop(run.strategy_id, run.user_id)

        await until(stopped(stage, run))
        live.stop()
        await asyncio.wait_for(task, 10)
        kinds = [kind for kind, _ in await stage.events(run.run_id)]
        assert kinds[-2:] == ["run_stop_requested", "run_stopped"]
        assert [one.kind for one in stage.told if one.payload is not None][-1] == "run_stopped"

    on_stage(database, db, "STOP", work)


def test_without_the_feed_minutes_are_those_stored(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(200))
        stage.now_ms = minute(150) + 6_000
        run = await stage.start(minute(149) + 5, **EMA)
        client = redis.asyncio.Redis(unix_socket_path="/nowhere/valkey.sock")
        live = runner(stage, "one", Feed(client, "one", FeedSettings(block_ms=0)))
        task = asyncio.create_task(live.run())
        for number in (160, 170):
            stage.now_ms = minute(number) + 6_000
            await until(reached(stage, run, number - 1))
        live.stop()
        await asyncio.wait_for(task, 10)
        assert (await stage.row(run.run_id)).state == "running"

    on_stage(database, db, "ALONE", work)


def test_minutes_of_a_real_feed(database: str, db: ClickHouse, valkey: Any) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(150))
        stage.now_ms = minute(150) + 200
        run = await stage.start(minute(149) + 5, **EMA)
        async with valkey.client() as client:
            live = runner(stage, "one", Feed(client, "one", FeedSettings(block_ms=20)))
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 149))
            await client.xadd(f"md.candles.1m.{stage.key}", {"schema_version": "2"})
            for number in range(150, 170):
                candle, origin = stage._candle(number, 1.0), Origin("ws", stage.now_ms, None)
                stage.now_ms = minute(number + 1) + 200
                await client.xadd(f"md.candles.1m.{stage.key}", fields(candle, origin))
                await until(reached(stage, run, number))
                stage.store.insert(table_of([candle], origin))
            live.stop()
            await asyncio.wait_for(task, 10)
            (malformed,) = live._metrics.messages_malformed.collect()
            assert malformed.samples[0].value == 1
            pending = await client.xpending(
                f"md.candles.1m.{stage.key}", FeedSettings().consumer_group
            )
            assert pending["pending"] == 0
        await stage.assert_is_the_back_test(run, least_trades=1)

    on_stage(database, db, "REAL", work)


def test_the_lag_of_an_instrument_that_stands_still_grows(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(200))
        stage.now_ms = minute(150) + 6_000
        run = await stage.start(minute(149) + 5, **EMA)
        registry = CollectorRegistry()
        live = Runner(
            stage.access(), Leases(stage.engine, "one", QUICK.lease_seconds), None,
            Snapshots(stage), LiveMetrics(registry), QUICK,
        )  # fmt: skip
        task = asyncio.create_task(live.run())
        await until(reached(stage, run, 149))

        def lag() -> float | None:
            live.measure()
            labels = {"instrument_key": stage.key}
            return registry.get_sample_value("strategy_live_runner_lag_seconds", labels)

        assert lag() == 6
        (held,) = live._held.values()
        held.worker.forget()  # as after a step that failed
        stage.now_ms += 600_000
        assert lag() == 606
        live.stop()
        await asyncio.wait_for(task, 10)

    on_stage(database, db, "STILL", work)


def test_a_clock_that_is_not_the_databases_advances_nothing(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(200))
        stage.now_ms = minute(150) + 6_000
        run = await stage.start(minute(149) + 5, **EMA)
        apart = time.time_ns() // 1_000_000 - stage.now_ms
        registry = CollectorRegistry()
        live = runner(stage, "one", metrics=LiveMetrics(registry))
        live._settings = dataclasses.replace(QUICK, clock_seconds=5.0)
        shift = [0]

        async def there() -> int:  # as if the tests' time were now
            return time.time_ns() // 1_000_000 - apart + shift[0]

        live._leases.now_ms = there
        live._access = dataclasses.replace(
            live._access, clock=lambda: time.time_ns() // 1_000_000 - apart
        )
        task = asyncio.create_task(live.run())
        await until(reached(stage, run, 149))
        shift[0] = -660_000

        async def refused() -> bool:
            return live.failure is not None and not live._held

        await until(refused)
        assert "660.0 s ahead of that of the database" in (live.failure or "")
        labels = {"instrument_key": stage.key}  # what it does not hold has no lag here
        assert registry.get_sample_value("strategy_live_runner_lag_seconds", labels) is None
        other = await stage.worker("two")  # which got the instrument at once
        assert other.lease.owner == "two"
        live.stop()
        await asyncio.wait_for(task, 10)

    on_stage(database, db, "CLOCK", work, 250)
