"""What a run did, held against the back-test of what is stored by now."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from compute.errors import InvalidInput
from compute.market.period import Period
from compute.results import ENGINE_VERSION
from ingest.stores.clickhouse import ClickHouse
from live.checks import check_run, due, reconciliation_record
from live.output import moment_text
from live.reconcile import Reconciliation
from live.results import account_record
from live.retention import delete_bars
from live.strategies.runs import Run
from tests.live.stage import Stage, minute, on_stage
from tests.live.test_instrument import EMA


async def traded(stage: Stage, missing: tuple[int, ...] = ()) -> Run:
    """A run of 100 to 300 over what is stored, `missing` minutes that never came left out."""
    stage.keep(number for number in range(300) if number not in missing)
    stage.now_ms = minute(100) + 200
    run = await stage.start(minute(99) + 5, **EMA)
    worker = await stage.worker()
    for number in (100, 200, 306):
        stage.now_ms = minute(number) + 200
        await stage.step(worker)
    return run


def checked(database: str, db: ClickHouse, symbol: str, work: Any) -> Reconciliation:
    found: list[Reconciliation] = []

    async def run(stage: Stage) -> None:
        run_id = (await work(stage)).run_id
        found.append(await check_run(stage.engine, db, run_id, stage.access().job))
        async with stage.engine.connect() as connection:
            query = text("select differences, report_json from live_reconciliations")
            row = (await connection.execute(query)).one()
        assert row.differences == found[0].differing
        assert row.report_json == found[0].record()

    on_stage(database, db, symbol, run)
    return found[0]


def test_a_run_that_did_what_its_back_test_does(database: str, db: ClickHouse) -> None:
    found = checked(database, db, "SAME", traded)
    assert found.exact
    assert found.bars == 201
    assert found.trades > 5


@pytest.mark.parametrize("frame", ["1m", "5m"])
def test_a_run_of_one_bar(database: str, db: ClickHouse, frame: str) -> None:
    async def work(stage: Stage) -> Run:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        run = await stage.start(minute(99) + 5, **{**EMA, "timeframe": frame, "warmup_bars": 10})
        await stage.step(await stage.worker())
        assert len(await stage.bars(run.run_id)) == 1
        return run

    found = checked(database, db, f"ONE{frame.upper()}", work)
    assert (found.badge, found.bars) == ("exact", 1)


@pytest.mark.parametrize(
    ("missing", "source", "cause", "how"),
    [
        ((150,), "ws", "late candle", "was stored after the run went on without it"),
        ((150,), "rest", "repair", "was stored after the run went on without it"),
        ((), "ws", "changed candle", "was stored again with other values"),
        ((), "rest", "repair", "was stored again with other values"),
    ],
    ids=["late", "filled", "changed", "repaired"],
)
def test_a_minute_that_was_another_one_is_named(
    database: str, db: ClickHouse, missing: tuple[int, ...], source: str, cause: str, how: str
) -> None:
    async def work(stage: Stage) -> Run:
        run = await traded(stage, missing=missing)
        stage.now_ms += 3_600_000  # by the clock of whoever stores it
        stage.keep([150], factor=1.01, source=source)
        stage.now_ms += 3_600_000
        stage.keep([149, 151])  # once more what is there
        return run

    found = checked(database, db, f"OTHER{len(missing)}{source.upper()}", work)
    assert {one.cause for one in found.differences} == {cause}
    assert found.differences[0].ts == moment_text(minute(150))
    assert found.differences[0].detail == f"the minute of {moment_text(minute(150))} {how}"


def test_minutes_that_are_gone_are_named(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> Run:
        run = await traded(stage)
        stage.store.delete(stage.instrument, Period(minute(90), minute(100)))
        return run

    found = checked(database, db, "GONE", work)
    assert {one.cause for one in found.differences} == {"missing candle"}
    assert found.differences[0].detail.endswith(moment_text(minute(90)))


def test_a_defect_is_not_excused_by_candles_that_are_stored_again(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> Run:
        run = await traded(stage)
        async with stage.engine.begin() as connection:
            await connection.execute(text("update live_bars set equity = equity + 1"))
        stage.now_ms = minute(3_000_000)
        stage.keep([75, 150])
        return run

    found = checked(database, db, "AGAIN", work)
    assert found.differing == 201
    assert len(found.differences) == 100
    assert {one.cause for one in found.differences} == {"unexplained"}


def test_each_engine_that_a_run_was_on_is_known(
    database: str, db: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(stage: Stage) -> Run:
        run = await stage.start(minute(99) + 5, **EMA)
        for version, number in (("0.0.8", 150), ("0.0.9", 200), (ENGINE_VERSION, 300)):
            monkeypatch.setattr("live.member.ENGINE_VERSION", version)
            stage.keep(range(number))
            stage.now_ms = minute(number) + 200
            for _ in range(2):  # a restart is no other version
                await stage.step(await stage.worker())
        live = (await stage.row(run.run_id)).metadata_json["live"]
        assert live["engine_versions"] == [
            [minute(70), "0.0.8"], [minute(150), "0.0.9"], [minute(200), ENGINE_VERSION],
        ]  # fmt: skip
        await moved(stage, "live_bars set equity = equity + 1", run=run.run_id)
        return run

    found = checked(database, db, "ENGINES", work)
    assert {one.cause for one in found.differences} == {"code version"}
    assert "it ran on 0.0.8 from 2023-11-15T01:10" in found.differences[0].detail


def test_a_run_that_nobody_started(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        with pytest.raises(InvalidInput, match="there is no run"):
            await check_run(stage.engine, db, uuid4(), stage.access().job)

    on_stage(database, db, "NONE", work)


def test_a_run_without_a_bar_agrees_with_everything(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        run = await stage.start(minute(99) + 5, **EMA)
        found = await check_run(stage.engine, db, run.run_id, stage.access().job)
        assert (found.exact, found.bars, found.until_ms) == (True, 0, None)

    on_stage(database, db, "EMPTY", work)


def test_each_run_has_its_turn_also_where_one_cannot_be_checked(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        runs = sorted([(await traded(stage)).run_id for _ in range(2)])
        waiting = await stage.start(minute(99) + 5, **EMA)
        turns = [await due(stage.engine, 24, 90) for _ in range(3)]  # nobody reports of them
        assert turns == [*runs, None]
        for hours, expected in ((0.5, None), (2, runs[1])):
            await moved(stage, "live_accounts set tried_at = tried_at - :by * interval '1 h'",
                        by=hours, run=runs[1])  # fmt: skip
            assert await due(stage.engine, 24, 90) == expected
        # One that was checked is due again a day later, if it went on in between.
        await moved(stage, "live_accounts set tried_at = null", run=runs[0])
        await check_run(stage.engine, db, runs[0], stage.access().job)
        assert await due(stage.engine, 24, 90) is None
        for run in (runs[0], waiting.run_id):
            await moved(stage, "strategy_runs set updated_at = clock_timestamp()", run=run)
        await moved(stage, "live_reconciliations set checked_at = checked_at - interval '25 h'",
                    run=runs[0])  # fmt: skip
        assert await due(stage.engine, 24, 90) == runs[0]
        await moved(stage, "live_accounts set tried_at = null", run=runs[0])
        await moved(stage, "strategy_runs set updated_at = started_at", run=runs[0])
        assert await due(stage.engine, 24, 90) is None

    on_stage(database, db, "TURNS", work)


def test_bars_go_when_their_run_has_ended_long_ago(
    database: str, db: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live.retention._ROWS", 100)

    async def work(stage: Stage) -> None:
        run, other = await traded(stage), await traded(stage)
        job = stage.access().job
        report = (await check_run(stage.engine, db, run.run_id, job)).record()
        assert await delete_bars(stage.engine, 90) == 0  # nothing has ended
        for one in (run, other):
            ended = "strategy_runs set state = 'stopped', stopped_at = started_at"
            await moved(stage, ended, run=one.run_id)
        assert await due(stage.engine, 24, 90) is None  # they ended in 2023
        assert await delete_bars(stage.engine, 90) == 201  # `run` was checked right now
        assert await stage.bars(other.run_id) == []
        ago = "live_reconciliations set checked_at = checked_at - interval '91 d'"
        await moved(stage, ago, run=run.run_id)
        assert await delete_bars(stage.engine, 90) == 201
        with pytest.raises(InvalidInput, match="not kept any more"):
            await check_run(stage.engine, db, run.run_id, job)
        async with stage.engine.connect() as connection:
            kept = await reconciliation_record(connection, run.run_id)
            assert await account_record(connection, run.run_id) is not None
        assert kept == {**report, "checked_at": kept["checked_at"]}
        assert len(await stage.trades(run.run_id)) > 5

    on_stage(database, db, "KEPT", work)


async def moved(stage: Stage, what: str, *, run: UUID, **values: Any) -> None:
    """Changes a row of a run."""
    async with stage.engine.begin() as connection:
        await connection.execute(text(f"update {what} where run_id = :run"), {"run": run, **values})
