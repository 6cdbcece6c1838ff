"""Events on a real database: their order, what a late reader finds, and one connection for all."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import LeaseLost
from cluster.jobs.events import EventHub, EventLog, JobEvent
from cluster.jobs.store import JobStore
from tests.cluster.jobs.stored import (
    claimed,
    created,
    execute,
    expire,
    fetch,
    leases,
    run,
    top_rows,
)


def kinds(events: list[JobEvent]) -> list[tuple[str, object]]:
    return [
        (event.kind, event.data.get("state") or event.data.get("stage") or event.data["count"])
        for event in events
    ]


def test_a_job_from_its_creation_to_its_end(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        log = EventLog(found)
        job = await created(found)
        await created(found)
        running = await claimed(found)
        held = leases(found)
        for done in range(4):
            await held.progress(running, "stage_a", done, 3, 1.5)
        for done in range(7):
            await held.progress(running, "stage_b", done, 6)
            await held.top(running, top_rows(done))
        await held.progress(running, "finalizing", 0, 1)
        ended = await held.succeed(running, "a" * 64)
        events = await log.after(job.job_id)
        assert kinds(events) == [
            ("state", "queued"), ("state", "running"), ("progress", "stage_a"),
            ("progress", "stage_b"), ("best", 6), ("progress", "finalizing"),
            ("state", "succeeded"),
        ]  # fmt: skip
        ids = [event.event_id for event in events]
        assert ids == sorted(set(ids))
        assert events[0].data["attempt"] == 0
        assert events[-1].data == ended.status()
        assert events[2].data == {
            "stage": "stage_a", "processed_units": 3, "total_units": 3, "eta_seconds": 1.5,
            "attempt": 1,
        }  # fmt: skip
        best = events[4].data
        assert best["items"] == [row.record() for row in top_rows(6)[:5]]
        assert all(event.at.utcoffset() is not None for event in events)
        # From wherever a reader was, it comes to the same end.
        for event_id in range(ids[-1] + 1):
            rest = await log.after(job.job_id, event_id)
            assert rest == [event for event in events if event.event_id > event_id]
        assert await log.after(job.job_id, 0, 2) == events[:2]
        assert await log.after(job.job_id, ids[-1]) == []

    run(database, work)


def test_a_write_that_fails_leaves_no_event(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        job = await created(found)
        running = await claimed(found)
        await expire(found, running)
        before = await EventLog(found).after(job.job_id)
        with pytest.raises(LeaseLost):
            await leases(found).progress(running, "stage_a", 1, 3)
        assert await EventLog(found).after(job.job_id) == before

    run(database, work)


def test_readers_are_woken(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        job, other = await created(found), await created(found)
        async with EventHub(database) as hub:
            assert await hub.ready(30)
            with hub.bell(job.job_id) as bell, hub.bell(other.job_id) as quiet:
                assert not await bell.wait(0)
                await JobStore(found).cancel(job.job_id)
                assert await bell.wait(30)
                assert not await bell.wait(0)
                # A ring that came before the wait is not lost.
                await JobStore(found).delete(job.job_id)
                with hub.bell(other.job_id) as later:
                    await JobStore(found).cancel(other.job_id)
                    assert await later.wait(30)
                assert await bell.wait(0.001)
                assert await quiet.wait(0.001)
            assert hub.waiting == 0
            third = await created(found)
            waiting = asyncio.create_task(hub.wait(third.job_id, 30))
            while hub.waiting == 0:
                await asyncio.sleep(0)
            await JobStore(found).cancel(third.job_id)
            assert await waiting
            assert not await hub.wait(third.job_id, 0)

    run(database, work)


def test_a_thousand_readers_take_one_connection(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        job = await created(found)
        async with EventHub(database) as hub:
            assert await hub.ready(30)
            waiting = [asyncio.create_task(hub.wait(job.job_id, 60)) for _ in range(1000)]
            while hub.waiting < 1000:
                await asyncio.sleep(0)
            listening = await fetch(
                found,
                "select count(*) from pg_stat_activity"
                " where query ilike 'listen%' and datname = current_database()",
            )
            assert listening == [(1,)]
            await JobStore(found).cancel(job.job_id)
            assert all(await asyncio.gather(*waiting))
            assert hub.waiting == 0

    run(database, work)


def test_a_lost_connection_is_made_again(database: str) -> None:
    """Everyone is woken then: what happened in between was heard by nobody."""

    async def work(found: AsyncEngine) -> None:
        job = await created(found)
        async with EventHub(database) as hub:
            assert await hub.ready(30)
            with hub.bell(job.job_id) as bell:
                for _ in range(2):
                    await execute(
                        found,
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where query ilike 'listen%' and datname = current_database()",
                    )
                    assert await bell.wait(30)
                    assert hub.connected
                await JobStore(found).cancel(job.job_id)
                assert await bell.wait(30)

    run(database, work)


def test_a_defect_of_the_driver_does_not_end_listening(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, failed = asyncpg.connect, False

    async def connected(*arguments: object, **options: object) -> object:
        nonlocal failed
        if not failed:
            failed = True
            raise asyncpg.InternalClientError("got result for unknown protocol state")
        return await connect(*arguments, **options)  # type: ignore[arg-type]

    async def work(found: AsyncEngine) -> None:
        job = await created(found)
        monkeypatch.setattr(asyncpg, "connect", connected)
        async with EventHub(database) as hub:
            assert await hub.ready(30)
            with hub.bell(job.job_id) as bell:
                await JobStore(found).cancel(job.job_id)
                assert await bell.wait(30)
        assert failed

    run(database, work)


def test_a_database_that_is_not_there_is_waited_for(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        nowhere = database.rpartition("/")[0] + "/nowhere"
        job = await created(found)
        async with EventHub(nowhere) as hub:
            assert not await hub.ready(0.2)
            assert not await hub.wait(job.job_id, 0.01)
            connection = await asyncpg.connect(database)
            try:
                await connection.execute("create database nowhere")
                assert await hub.ready(30)
            finally:
                await connection.close()

    try:
        run(database, work)
    finally:
        run(database, _drop)


async def _drop(found: AsyncEngine) -> None:
    async with found.connect() as connection:
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await free.exec_driver_sql("drop database if exists nowhere with (force)")
