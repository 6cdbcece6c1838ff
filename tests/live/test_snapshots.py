"""What users are told of runs as they go on: every metric, from whoever advances them now."""

from __future__ import annotations

from ingest.stores.clickhouse import ClickHouse
from live.output import METRIC_TYPES
from live.snapshots import Snapshots
from tests.live.stage import Stage, minute, on_stage
from tests.live.test_instrument import EMA


def test_every_metric_is_told_and_none_that_is_untrue(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        await stage.start(
            minute(99) + 5,
            **EMA,
        )
        five = {**EMA, "timeframe": "5m", "warmup_bars": 25}  # of which there are twenty
        waits = await stage.start(minute(99) + 5, **five)
        worker = await stage.worker()
        await stage.step(worker)
        for number in (100, 101, 99, 102, 101, 103, 104):
            worker.offer(stage.entries(number))
            stage.now_ms = minute(number + 1) + 200
            await stage.step(worker)
        told = [one for one in stage.told if one.payload is None]
        assert {one.kind for one in told} == set(METRIC_TYPES)
        of_five = {one.kind: one.value for one in told if one.source.run_id == waits.run_id}
        assert of_five["run_state"] == "warming_up"
        assert of_five["dropped_non_contiguous_total"] == "2"
        assert of_five["rollup_bucket_closed"] == "1"  # with the minute of 104, without a trade

    on_stage(database, db, "TOLD", work, 200)


def test_a_run_that_comes_back_is_told_of_anew(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        snapshots = Snapshots(stage)
        stage.keep(range(110))
        run = await stage.start(minute(99) + 5, **EMA)

        async def went_on(number: int) -> dict[str, str]:
            worker = await stage.worker(snapshots=snapshots)
            stage.now_ms = minute(number) + 200
            stage.told.clear()
            await stage.step(worker)
            return {one.kind: one.value for one in stage.told if one.payload is None}

        await went_on(100)
        await went_on(103)
        assert "warmup_satisfied" not in await went_on(105)
        snapshots.forget("another")
        assert "warmup_satisfied" not in await went_on(106)
        snapshots.forget(stage.key)
        before = (await stage.row(run.run_id)).checkpoint_ts_open
        found = await went_on(108)
        after = (await stage.row(run.run_id)).checkpoint_ts_open
        assert found["warmup_satisfied"] == "1"
        assert before is not None
        assert after is not None  # minutes count since the run is with this process
        assert int(found["candles_processed_total"]) == (after - before).total_seconds() / 60

    on_stage(database, db, "ANEW", work, 200)
