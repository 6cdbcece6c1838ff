"""What a sweep removes and what it must not, on a real database and real directories."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.job import Job
from cluster.jobs.retention import Retention, Swept
from cluster.jobs.spans import SpanRow, SpanStore
from cluster.jobs.store import JobStore
from tests.cluster.jobs.stored import claimed, created, execute, fetch, leases, run, small

LONG_AGO = 1_000_000_000.0


def _file(path: Path, *, old: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    if old:
        for place in (path, path.parent):
            os.utime(place, (LONG_AGO, LONG_AGO))
    return path


def _files(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }


async def _done(found: AsyncEngine, days: float, **options: Any) -> Job:
    await created(found, **options)
    job = await claimed(found)
    await SpanStore(found).commit(job, "host-1", [SpanRow(0, 0, 5, "b" * 64, 9)])
    await leases(found).succeed(job, "a" * 64)
    await execute(
        found,
        "update backtest_jobs set finished_at = now() - make_interval(secs => :seconds)"
        " where job_id = :job_id",
        seconds=days * 86400.0,
        job_id=job.job_id,
    )
    return job


def _results(directory: Path, job: Job) -> None:
    _file(directory / "candles" / f"{job.candles_fingerprint}-1h.arrow")
    _file(directory / "plans" / job.plan_key / "0-0-5.parquet")
    _file(directory / "jobs" / str(job.job_id) / "result.json")


def test_old_jobs_go_with_what_only_they_needed(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        old = await _done(found, 31, snapshot=small(4))
        kept = await _done(found, 29)
        queued = await created(found)
        await execute(
            found,
            "update backtest_jobs set created_at = now() - interval '1 year'"
            " where job_id = :job_id",
            job_id=queued.job_id,
        )
        for job in (old, kept):
            _results(tmp_path, job)
        _file(tmp_path / "candles" / f"{'0' * 64}.arrow")
        swept = await Retention(found, tmp_path, 30).sweep()
        assert swept == Swept(jobs=1, spans=1, files=3)
        store = JobStore(found)
        assert await store.get(old.job_id) is None
        assert await store.get(kept.job_id) is not None
        assert await store.get(queued.job_id) is not None
        assert await SpanStore(found).committed(kept.plan_key, 0) != []
        assert await SpanStore(found).committed(old.plan_key, 0) == []
        assert _files(tmp_path) == {
            f"candles/{kept.candles_fingerprint}-1h.arrow",
            f"plans/{kept.plan_key}/0-0-5.parquet",
            f"jobs/{kept.job_id}/result.json",
        }
        assert await Retention(found, tmp_path, 30).sweep() == Swept()

    run(database, work)


def test_a_plan_stays_for_as_long_as_any_job_refers_to_it(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        old = await _done(found, 31)
        later = await created(found)
        assert later.plan_key == old.plan_key
        _results(tmp_path, old)
        assert await Retention(found, tmp_path, 30).sweep() == Swept(jobs=1, spans=0, files=1)
        assert len(await SpanStore(found).committed(later.plan_key, 0)) == 1

    run(database, work)


def test_files_that_are_new_or_not_ours_stay(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        key = "c" * 64
        _file(tmp_path / "candles" / f"{key}.arrow", old=False)
        _file(tmp_path / "plans" / key / "0-0-5.parquet", old=False)
        os.utime(tmp_path / "plans" / key, (LONG_AGO, LONG_AGO))
        _file(tmp_path / "candles" / "mine.arrow")
        _file(tmp_path / "candles" / f"{key}.txt")
        _file(tmp_path / "plans" / "notes" / "x")
        _file(tmp_path / "jobs" / "README")
        _file(tmp_path / "elsewhere" / key / "x")
        before = _files(tmp_path)
        assert await Retention(found, tmp_path, 30).sweep() == Swept()
        assert _files(tmp_path) == before
        swept = await Retention(found, tmp_path, 30, grace_seconds=-1).sweep()
        assert swept == Swept(files=2)
        assert await Retention(found, tmp_path / "none", 30).sweep() == Swept()

    run(database, work)


def test_candles_that_a_new_job_took_up_meanwhile_stay(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        taken = _file(tmp_path / "candles" / f"{'1' * 64}-1h.arrow")
        loose = _file(tmp_path / "candles" / f"{'2' * 64}-1h.arrow")
        retention = Retention(found, tmp_path, 30)
        [(kind, entries)] = retention._entries()
        assert entries == [taken, loose]
        os.utime(taken)  # as the creation of a job does before the job is there
        assert await retention._remove(kind, entries) == 1
        assert _files(tmp_path) == {f"candles/{taken.name}"}

    run(database, work)


def test_a_directory_goes_by_its_name_first(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "3" * 64
    plan = tmp_path / "plans" / key

    def killed(path: Path, **options: Any) -> None:
        if path.exists():
            assert not plan.exists(), "a runner may be writing into it"

    async def work(found: AsyncEngine) -> None:
        _file(plan / "0-0-5.parquet")
        with monkeypatch.context() as patched:
            patched.setattr("cluster.jobs.retention.shutil.rmtree", killed)
            assert await Retention(found, tmp_path, 30).sweep() == Swept(files=1)
        assert _files(tmp_path) == {f"plans/{key}.gone/0-0-5.parquet"}
        _file(plan / "0-0-5.parquet")
        await Retention(found, tmp_path, 30).sweep()
        assert _files(tmp_path) == set()

    run(database, work)


def test_a_link_is_removed_and_not_what_it_leads_to(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        target = _file(tmp_path / "outside" / "precious").parent
        (tmp_path / "results" / "plans").mkdir(parents=True)
        (tmp_path / "results" / "plans" / ("d" * 64)).symlink_to(target)
        await Retention(found, tmp_path / "results", 30, grace_seconds=-1).sweep()
        assert (target / "precious").exists()

    run(database, work)


def test_many_jobs_and_several_sweeps_at_once(database: str, tmp_path: Path) -> None:
    async def work(found: AsyncEngine) -> None:
        for _ in range(3):
            await _done(found, 40)
        await execute(
            found,
            "insert into backtest_jobs select (jsonb_populate_record(j, jsonb_build_object("
            "'job_id', gen_random_uuid()))).* from backtest_jobs j, generate_series(1, 80)",
        )
        swept = await asyncio.gather(*(Retention(found, tmp_path, 30).sweep() for _ in range(3)))
        assert sum(one.jobs for one in swept) == 243
        assert await fetch(found, "select count(*) from backtest_jobs") == [(0,)]

    run(database, work)
