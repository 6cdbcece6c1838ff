"""The row of a job that a strategy was saved from: what came of it, as far as it is still there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from api.errors import Forbidden
from api.jobs import Jobs
from api.pages.job_view import row_tiles
from api.users import User
from cluster.jobs.errors import JobNotFound

GONE = "The job that it was saved from is gone, and its result with it."
NO_JOBS = "Jobs are off in this service, so what came of it is not shown."
UNREADABLE = "The result of the job that it was saved from cannot be read; the log says why."
UNRANKED = "The job did not rank it; its page can walk it again."
NOT_YET = "The job has not ranked it so far."
NO_ROW = "The job that it was saved from does not have the row any more."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedRow:
    """Tiles of a row, `missing` where there are none; `place` is its page, None without its job."""

    start: str
    end: str
    tiles: list[dict[str, Any]] = field(default_factory=list)
    missing: str | None = None
    place: str | None = None
    synthetic: bool = False


async def saved_row(
    jobs: Jobs | None, user: User, source: Mapping[str, Any] | None
) -> SavedRow | None:
    """The row that a `source` names; None where that is no job's."""
    if source is None or source.get("kind") != "job":
        return None
    period = source["time_range"]
    start, end = period["start"], period["end"]
    if jobs is None:
        return SavedRow(start, end, missing=NO_JOBS)
    try:
        job = await jobs.job(UUID(source["job_id"]), user)
    except (JobNotFound, Forbidden):
        return SavedRow(start, end, missing=GONE)
    here = f"/backtests/jobs/{job.job_id}"
    synthetic = bool(await jobs.generated(job))
    try:
        variants, final = await jobs.variants(job)
    except (OSError, ValueError, KeyError) as error:  # a run is stopped on this page whatever it is
        log.warning("the result of job %s cannot be read: %r", job.job_id, error)
        return SavedRow(start, end, missing=UNREADABLE, place=here, synthetic=synthetic)
    key = source["variant_key"]
    found = next(
        ((rank, one) for rank, one in enumerate(variants, 1) if one.get("variant_key") == key), None
    )
    if found is None:
        flat, missing, place = source.get("flat_index"), NO_ROW, here
        if flat is not None:
            missing, place = (
                (UNRANKED, f"{here}?flat_index={flat}#variant")
                if not job.active
                else (NOT_YET, here)
            )
        return SavedRow(start, end, missing=missing, place=place, synthetic=synthetic)
    rank, row = found
    return SavedRow(
        start, end, row_tiles(row, f"Rank {rank} returned" if final else "It returned"),
        place=f"{here}?rank={rank}#variant" if final else here, synthetic=synthetic,
    )  # fmt: skip
