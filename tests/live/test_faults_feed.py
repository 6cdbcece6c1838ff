"""A feed that fails under a runner and comes back, or brings what is no candle."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import Valkey, socket_path
from live.feed import GROUP, Entry, Feed, FeedSettings
from tests.live.breakable import way_to_socket
from tests.live.stage import Stage, minute, on_stage
from tests.live.test_faults import begun, kinds, publish
from tests.live.test_instrument import EMA, checkpoint
from tests.live.test_runner import reached, runner, until


def test_a_feed_that_is_gone_comes_back_empty_and_trimmed(
    database: str, db: ClickHouse, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    front = tmp_path_factory.mktemp("way") / "feed.sock"

    async def work(stage: Stage) -> None:
        run, slow = await begun(stage, "1m", "5m")
        stream = f"md.candles.1m.{stage.key}"
        assert valkey.settings.path is not None
        behind = socket_path(valkey.settings.path)
        async with way_to_socket(behind, front) as way, valkey.client() as server:
            client = redis.asyncio.Redis(
                unix_socket_path=str(front),
                decode_responses=True,
                socket_timeout=1,
                retry=Retry(NoBackoff(), 0),
            )
            feed = Feed(client, "one", FeedSettings(block_ms=20))
            live = runner(stage, "one", feed)
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 149))

            async def fed(*numbers: int) -> None:
                for number in numbers:
                    stage.now_ms = minute(number + 1) + 200
                    await publish(server, stage, number)
                    await until(reached(stage, run, number))
                    stage.keep([number])

            async def joined() -> bool:
                there = await server.exists(stream)
                return bool(there) and bool(await server.xinfo_groups(stream))

            async def stored(*numbers: int) -> None:
                for number in numbers:
                    stage.keep(range(number - 2, number + 1))
                    stage.now_ms = minute(number + 1) + 6_000
                    await until(reached(stage, run, number))

            await fed(*range(150, 155))
            way.cut()
            await stored(157, 160, 163, 166)
            way.mend()
            await fed(167, 168)
            # Ten minutes again, and its data are lost.
            way.cut()
            await stored(171, 174, 177, 180)
            await server.delete(stream)
            way.mend()
            await until(joined)
            await fed(181, 182)
            # The runner alone is cut off, the store is behind, the stream is trimmed.
            way.cut()
            for number in range(183, 191):
                await publish(server, stage, number)
            await server.xtrim(stream, maxlen=2, approximate=False)
            stage.now_ms = minute(191) + 200
            way.mend()

            async def missed() -> bool:
                return bool(await kinds(stage, run))

            await until(missed)
            assert await checkpoint(stage, run) == 182
            stage.keep(range(183, 191))
            await until(reached(stage, run, 190))
            await fed(191)
            await until(reached(stage, slow, 191))

            async def acknowledged() -> bool:
                return (await server.xpending(stream, GROUP))["pending"] == 0

            await until(acknowledged)
            live.stop()
            await asyncio.wait_for(task, 10)
            await client.aclose()
        assert [kind for kind, _ in await kinds(stage, run)] == ["gap", "repair"]
        await stage.assert_once(run, 149, 191)
        await stage.assert_is_the_back_test(run, least_trades=1)
        await stage.assert_is_the_back_test(slow, least_trades=0)

    on_stage(database, db, "WAY", work)


def test_what_a_dead_runner_was_given_is_taken_over_at_once(
    database: str, db: ClickHouse, valkey: Valkey
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        async with valkey.client() as client:
            dead = Feed(client, "dead", FeedSettings(block_ms=20))
            await dead.entries([stage.key])
            stage.now_ms = minute(153) + 200
            for number in (150, 151, 152):
                await publish(client, stage, number)
            assert len(await dead.entries([stage.key])) == 3
            live = runner(stage, "one", Feed(client, "one", FeedSettings(block_ms=20)))
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 152))
            live.stop()
            await asyncio.wait_for(task, 10)
            pending = await client.xpending(f"md.candles.1m.{stage.key}", GROUP)
            assert pending["pending"] == 0

    on_stage(database, db, "DEAD", work)


def test_an_instrument_that_nobody_knows_gets_no_stream(
    database: str, db: ClickHouse, valkey: Valkey
) -> None:
    async def work(stage: Stage) -> None:
        run = await stage.start(minute(149) + 5, **EMA)
        async with valkey.client() as client:
            live = runner(stage, "one", Feed(client, "one", FeedSettings(block_ms=20)))
            task = asyncio.create_task(live.run())

            async def failed() -> bool:
                return (await stage.row(run.run_id)).state == "failed"

            stage.now_ms = minute(210)
            await until(failed)
            assert not await client.exists(f"md.candles.1m.{stage.key}")
            live.stop()
            await asyncio.wait_for(task, 10)

    on_stage(database, db, "NOBODY", work)


def test_a_read_that_fails_in_a_way_of_its_own_is_tried_again(
    database: str, db: ClickHouse, valkey: Valkey
) -> None:
    class Odd(Feed):
        times = 0

        async def entries(self, keys: Collection[str]) -> list[Entry]:
            if keys and self.times == 0:
                self.times += 1
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            return await super().entries(keys)

    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        async with valkey.client() as client:
            feed = Odd(client, "one", FeedSettings(block_ms=20))
            live = runner(stage, "one", feed)
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 149))
            stage.now_ms = minute(151) + 200
            await publish(client, stage, 150)
            await until(reached(stage, run, 150))
            assert feed.times == 1
            live.stop()
            await asyncio.wait_for(task, 10)

    on_stage(database, db, "ODD", work)


def test_an_entry_that_is_no_text_stops_nobody(
    database: str, db: ClickHouse, valkey: Valkey
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        async with valkey.client() as client:
            live = runner(stage, "one", Feed(client, "one", FeedSettings(block_ms=20)))
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 149))
            await client.xadd(f"md.candles.1m.{stage.key}", {b"\xff\xfe": b"\xff"})
            stage.keep([150])
            stage.now_ms = minute(151) + 6_000
            await until(reached(stage, run, 150))
            stage.now_ms = minute(152) + 200
            await publish(client, stage, 151)
            await until(reached(stage, run, 151))
            live.stop()
            await asyncio.wait_for(task, 10)

    on_stage(database, db, "BYTES", work)
