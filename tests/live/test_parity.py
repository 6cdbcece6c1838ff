"""Every indicator that votes, live: the very bars, votes and trades of its back-test."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import func, select

from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.indicators.definition import SOURCE, Listed, Output, RuleParam
from compute.indicators.registry import definition, ids
from ingest.live.feed import fields
from ingest.rows import Origin
from ingest.stores.clickhouse import ClickHouse
from live.feed import Feed, FeedSettings
from live.outcomes import ms_of
from live.output import EVENT_TYPES
from live.strategies.tables import RUNS
from tests.live.stage import Stage, expire, minute, on_stage
from tests.live.test_instrument import UNREADABLE
from tests.live.test_runner import QUICK, runner, stopped, until

HISTORY, MINUTES = 700, 940
PATIENT = dataclasses.replace(QUICK, lease_seconds=60.0)  # kernels may be compiled meanwhile
FOUR = ("ma.ema", "momentum.rsi", "trend.supertrend", "structure.pivots")


def voting(indicator_id: str) -> Output | None:
    known = definition(indicator_id)
    primary = known.output()
    others = (output for output in known.outputs if output.rule is not None)
    return primary if primary.rule is not None else next(others, None)


def middle(param: RuleParam) -> float:
    proposed = param.proposed
    if isinstance(proposed, Listed):
        return proposed.values[0]
    return proposed.start


def spec(indicator_id: str, **more: Any) -> dict[str, Any] | None:
    """A strategy of one indicator with its own defaults; None where it cannot vote."""
    known, output = definition(indicator_id), voting(indicator_id)
    if output is None or output.rule is None:
        return None
    values = {name: value for name, value in known.defaults.items() if name != SOURCE}
    entry: dict[str, Any] = {"id": indicator_id, "params": values, "output": output.name}
    if known.sources:
        entry["inputs"] = {"source": known.sources[0]}
    signals = {param.name: middle(param) for param in output.rule.params}
    return {
        "timeframe": "1m",
        "indicators": [entry],
        **({"signals": {indicator_id: signals}} if signals else {}),
        "warmup_bars": 300,
        **more,
    }


def modes() -> list[dict[str, Any]]:
    """Modes of direction, sizing and stops such that each pair of values is there."""
    stops = [
        {},
        {"risk": {"sl_enabled": True, "sl_pct": 0.3}},
        {"risk": {"sl_enabled": True, "sl_pct": 0.5, "tp_enabled": True, "tp_pct": 0.4}},
    ]
    found = []
    for i, (direction, sizing) in enumerate(itertools.product(DIRECTION_MODES, SIZING_MODES)):
        shift = (i + i // len(SIZING_MODES)) % len(stops)
        found.append({"direction_mode": direction, "sizing_mode": sizing, **stops[shift]})
    return found


class Publishing:
    """Minutes on their way to the feed as networks bring them: out of order, twice, or never."""

    def __init__(self, stage: Stage, client: Any, seed: int) -> None:
        self._stage, self._client = stage, client
        self._rng = np.random.default_rng(seed)

    async def burst(self, start: int, stop: int) -> None:
        """The minutes [start, stop), of which the store has all; the last one surely comes."""
        numbers = [n for n in range(start, stop - 1) if self._rng.random() > 0.1] + [stop - 1]
        again = [n for n in numbers if self._rng.random() < 0.2]
        for number in self._rng.permutation([*numbers, *again]).tolist():
            await self._publish(number)
        if self._rng.random() < 0.1:  # late, and with other prices
            await self._publish(start - 1, 1.01)

    async def heard(self) -> bool:
        """Whether a runner has read all of it."""
        key = f"md.candles.1m.{self._stage.key}"
        last = (await self._client.xinfo_stream(key))["last-generated-id"]
        groups = await self._client.xinfo_groups(key)
        return bool(groups) and all(one["last-delivered-id"] == last for one in groups)

    async def _publish(self, number: int, factor: float = 1.0) -> None:
        stage = self._stage
        entry = fields(stage._candle(number, factor), Origin("ws", stage.now_ms, None))
        await self._client.xadd(f"md.candles.1m.{stage.key}", entry)


class Process:
    """A runner over the feed, until it is killed or stopped."""

    def __init__(self, stage: Stage, client: Any, owner: str) -> None:
        self._stage, self._owner = stage, owner
        feed = Feed(client, owner, FeedSettings(block_ms=20))
        self._runner = runner(stage, owner, feed, settings=PATIENT)
        self._task = asyncio.create_task(self._runner.run())

    async def kill(self) -> None:
        async def dead() -> None:
            raise OSError("killed")

        self._runner._leases.release = dead
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await expire(self._stage.engine, self._owner)

    async def stop(self) -> None:
        self._runner.stop()
        await asyncio.wait_for(self._task, 10)


def all_reached(stage: Stage, number: int) -> Callable[[], Any]:
    """Whether all runs that have not failed have come to a minute."""
    query = select(func.min(RUNS.c.checkpoint_ts_open), func.bool_or(RUNS.c.state == "starting"))

    async def there() -> bool:
        async with stage.engine.connect() as connection:
            found = (await connection.execute(query.where(RUNS.c.state != "failed"))).one()
        return not found[1] and (ms_of(found[0]) or 0) >= minute(number)

    return there


def test_every_indicator_and_mode_is_its_back_test(
    database: str, db: ClickHouse, valkey: Any
) -> None:
    specs = [made for name in ids() if (made := spec(name)) is not None]
    assert len(specs) > 80
    specs += [made for name in FOUR for mode in modes() if (made := spec(name, **mode)) is not None]

    async def work(stage: Stage) -> None:
        stage.keep(range(MINUTES))
        stage.now_ms = minute(HISTORY) + 200
        runs = [await stage.start(minute(HISTORY - 1) + 5, **one) for one in specs]
        await stage.start(minute(HISTORY - 1) + 5, **UNREADABLE)
        rng, number, owners = np.random.default_rng(3), HISTORY, iter("abcdefghijklmnop")
        async with valkey.client() as client:
            process, publishing = Process(stage, client, next(owners)), Publishing(stage, client, 4)
            await until(all_reached(stage, number - 1), 120)
            while number < MINUTES:
                stop = min(number + int(rng.choice([1, 1, 1, 7, 40])), MINUTES)
                await publishing.burst(number, stop)
                await until(publishing.heard)  # before the clock tells that minutes are missing
                stage.now_ms = minute(stop) + 200
                if rng.random() < 0.08:
                    await process.kill()
                    process = Process(stage, client, next(owners))
                await until(all_reached(stage, stop - 1), 120)
                number = stop
            await stage.runs.stop(runs[0].strategy_id, runs[0].user_id)
            await process.stop()
            process = Process(stage, client, next(owners))
            await until(stopped(stage, runs[0]))
            await process.stop()
        assert next(owners) > "d"  # some were killed
        traded = 0
        for run in runs:
            await stage.assert_once(run, HISTORY - 1, MINUTES - 1)
            await stage.assert_is_the_back_test(run, least_trades=0)
            traded += len(await stage.trades(run.run_id)) > 0
        assert traded > 0.8 * len(runs)
        assert {one.kind for one in stage.told if one.payload is not None} == set(EVENT_TYPES)

    on_stage(database, db, "ALL", work, minutes=MINUTES)
