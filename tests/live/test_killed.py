"""Runners that are processes of their own, and are killed at work."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.valkey import Valkey, socket_path
from live.feed import GROUP
from live.tables import LEASES
from tests.ingest.conftest import stand_in
from tests.ingest.stand_in.process import ROOT, StandIn
from tests.live.stage import Stage, minute, on_stage
from tests.live.test_faults import publish
from tests.live.test_instrument import EMA
from tests.live.test_runner import reached, until

__all__ = ["stand_in"]
LAST = 420


@pytest.mark.soak
def test_of_two_runners_the_one_at_work_is_killed_three_times(
    database: str, stand_in: StandIn, valkey: Valkey, tmp_path: Path
) -> None:
    clock = np.memmap(tmp_path / "clock", np.int64, "w+", shape=(1,))
    assert valkey.settings.path is not None
    given = {
        "dsn": database,
        "feed": str(socket_path(valkey.settings.path)),
        "clock": str(tmp_path / "clock"),
    }

    def process(owner: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.live.killed", json.dumps({**given, "owner": owner})]
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **stand_in.environ}, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    async def begun(one: subprocess.Popen[str]) -> None:
        assert one.stdout is not None
        assert await asyncio.to_thread(one.stdout.readline) == "begun\n"

    async def work(stage: Stage) -> None:
        stage.keep(range(LAST))
        clock[0] = minute(150) + 200
        runs = [await stage.start(minute(149) + 5, **{**EMA, "timeframe": f}) for f in ("1m", "5m")]
        owners = iter("abcdefgh")
        alive = {name: process(name) for name in (next(owners), next(owners))}
        rng = np.random.default_rng(7)
        kills = sorted(rng.choice(np.arange(180, 390), 3, replace=False).tolist())
        stream = f"md.candles.1m.{stage.key}"
        try:
            for one in alive.values():
                await begun(one)
            await until(reached(stage, runs[0], 149))
            async with valkey.client() as client:
                for number in range(150, LAST):
                    stage.now_ms = int(clock[0])
                    clock[0] = minute(number + 1) + 200
                    await publish(client, stage, number)
                    if number in kills:
                        async with stage.engine.connect() as connection:
                            query = select(LEASES.c.owner)
                            owner = (await connection.execute(query)).scalar_one()
                        alive[owner].kill()
                        alive.pop(owner).wait()
                        name = next(owners)
                        alive[name] = process(name)
                        await begun(alive[name])
                    await asyncio.sleep(0.01)
                await until(reached(stage, runs[0], LAST - 1))
                await until(reached(stage, runs[1], LAST - 1))

                async def acknowledged() -> bool:
                    return (await client.xpending(stream, GROUP))["pending"] == 0

                await until(acknowledged)
            for one in alive.values():
                one.terminate()
            assert [one.wait(20) for one in alive.values()] == [0, 0]
        finally:
            for one in alive.values():
                one.kill()
                one.wait()
        await stage.assert_once(runs[0], 149, LAST - 1)
        await stage.assert_once(runs[1], 145, LAST - 5, 5)
        await stage.assert_is_the_back_test(runs[0])
        await stage.assert_is_the_back_test(runs[1], least_trades=1)

    with open_clickhouse(stand_in.settings) as db:
        migrate(db)
        on_stage(database, db, "KILLED", work)
