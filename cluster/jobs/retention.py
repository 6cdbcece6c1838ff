"""What is no longer kept: old jobs, spans of plans that no job refers to, and files of either."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.durable import file_time
from cluster.jobs.job import TERMINAL
from cluster.jobs.tables import JOBS, SPANS

GRACE_SECONDS: Final = 3600.0
"""A file younger than this is kept though no job refers to it: one may be about to be created."""

_BATCH: Final = 100
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ARROW: Final = ".arrow"
_GONE: Final = ".gone"  # of a directory whose removal has begun


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed."""

    jobs: int = 0
    spans: int = 0
    files: int = 0


class Retention:
    """Keeps finished jobs for `days`, and in `results_dir` only what a job refers to.

    Any number of processes may sweep; one of them does it at a time.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        results_dir: Path,
        days: float,
        *,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._engine = engine
        self._directory = results_dir
        self._days = days
        self._grace_seconds = grace_seconds

    async def sweep(self) -> Swept:
        """Removes what is not kept any more; what another sweep is removing is left to it."""
        async with self._engine.begin() as connection:
            alone = await connection.execute(
                text("select pg_try_advisory_xact_lock(hashtextextended('backtest sweep', 0))")
            )
            if not alone.scalar_one():
                return Swept()
            jobs = await self._old_jobs()
            spans = await self._loose_spans()
            files = 0
            for kind, entries in await asyncio.to_thread(list, self._entries()):
                for at in range(0, len(entries), _BATCH):
                    files += await self._remove(kind, entries[at : at + _BATCH])
        return Swept(jobs, spans, files)

    async def _old_jobs(self) -> int:
        """Jobs of the batches that were deleted, each in a transaction of its own."""
        age = func.make_interval(0, 0, 0, 0, 0, 0, self._days * 86400.0)
        old = (
            select(JOBS.c.job_id)
            .where(JOBS.c.state.in_(TERMINAL), JOBS.c.finished_at < func.now() - age)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
        removed = 0
        while True:
            async with self._engine.begin() as connection:
                found = await connection.execute(delete(JOBS).where(JOBS.c.job_id.in_(old)))
            removed += found.rowcount
            if found.rowcount < _BATCH:
                return removed

    async def _loose_spans(self) -> int:
        used = select(JOBS.c.plan_key).where(JOBS.c.plan_key == SPANS.c.plan_key)
        async with self._engine.begin() as connection:
            found = await connection.execute(delete(SPANS).where(~used.exists()))
        return found.rowcount

    def _entries(self) -> Iterator[tuple[str, list[Path]]]:
        """(kind, old enough entries whose names are of that kind)."""
        for kind in _KEYS:
            try:
                entries = sorted((self._directory / kind).iterdir())
                latest = self._latest(kind)
            except FileNotFoundError:
                continue
            yield kind, [path for path in entries if _key(kind, path) and _changed(path) <= latest]

    def _latest(self, kind: str) -> float:
        """What was changed later is kept, by the clock of the volume."""
        return file_time(self._directory / kind) - self._grace_seconds

    async def _remove(self, kind: str, entries: list[Path]) -> int:
        column = _KEYS[kind]
        keys = {path: _key(kind, path) for path in entries}
        async with self._engine.begin() as connection:
            query = select(column).distinct().where(column.in_(set(keys.values())))
            used = set((await connection.execute(query)).scalars())
        loose = [path for path, key in keys.items() if key not in used]
        return await asyncio.to_thread(self._removed, loose, kind)

    def _removed(self, paths: Collection[Path], kind: str) -> int:
        """How many of `paths` are gone now.

        A job may have been created since the database was asked: its candles were made young then,
        and a plan's directory goes by its name at once, for a runner may be about to write into it.
        """
        removed, latest = 0, self._latest(kind)
        for path in [one for one in paths if _changed(one) <= latest]:
            if path.is_dir() and not path.is_symlink():
                gone = path.with_name(path.name.removesuffix(_GONE) + _GONE)
                if path != gone:
                    shutil.rmtree(gone, ignore_errors=True)
                    path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed += not path.exists()
        return removed


_KEYS: Final[dict[str, Column[Any]]] = {
    "candles": JOBS.c.candles_fingerprint,
    "plans": JOBS.c.plan_key,
    "jobs": JOBS.c.job_id,
}


def _key(kind: str, path: Path) -> str | UUID | None:
    """What a job would refer to the entry by; None for a file that is not of ours."""
    name = path.name.removesuffix(_GONE)
    if kind == "jobs":
        try:
            return UUID(name)
        except ValueError:
            return None
    if kind == "candles":
        if path.suffix != _ARROW:
            return None
        name = path.stem.partition("-")[0]
    return name if _HEX.fullmatch(name) else None


def _changed(path: Path) -> float:
    """Time of the last change, that of what is directly inside included; never where it is gone."""
    try:
        inside = path.iterdir() if path.is_dir() else ()
        return max(entry.stat().st_mtime for entry in (path, *inside))
    except FileNotFoundError:
        return math.inf
