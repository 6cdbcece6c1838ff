"""A job's page: its run, its grid, its variants; and two jobs side by side."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api.column_parts import METRICS, Wanted, wanted
from api.errors import Conflict, NotFound
from api.heatmap import AGGREGATES
from api.jobs import Jobs, grid_of
from api.pages import job_view
from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.ranked import chosen_rows, result_of
from api.routes.jobs import TheJobs
from cluster.jobs.job import Job
from cluster.outputs import RESULT
from compute.errors import InvalidRequest
from compute.grid import Grid
from compute.quantities import sentence

router = APIRouter()

Sort = Annotated[str, Query(max_length=200)]
Down = Annotated[bool, Query()]
All = Annotated[bool, Query(alias="all")]


@router.get("/backtests/jobs/compare")
async def compared(request: Request, user: Visitor, jobs: TheJobs, a: UUID, b: UUID) -> Response:
    """Two jobs side by side: what differs in them, and what came of it."""
    sides = [await _side(jobs, await jobs.job(job_id, user)) for job_id in (a, b)]
    differences = job_view.compared(*(side["request"] for side in sides))
    values = {
        "sides": sides,
        "differences": differences,
        "metrics": [
            (label, *(job_view.metric_text(name, side["metrics"].get(name)) for side in sides))
            for name, label in job_view.METRIC_LABELS.items()
        ],
    }
    return page(request, "job_compare.html", user, values)


async def _side(jobs: Jobs, job: Job) -> dict[str, Any]:
    variants, final = await jobs.variants(job)
    return {
        "job_id": str(job.job_id),
        "state": job.state,
        "about": job_view.about(job),
        "created_at": job.created_at,
        "request": job.effective_json,
        "metrics": (variants[0]["metrics"] if variants else {}),
        "has_rows": bool(variants),
        "final": final,
        "synthetic": await jobs.generated(job),
    }


@router.get("/backtests/jobs/{job_id}")
async def shown(
    request: Request,
    job_id: UUID,
    user: Visitor,
    jobs: TheJobs,
    sort: Sort = "rank",
    down: Down = False,
    every: All = False,
) -> Response:
    """A job, whatever it has come to."""
    job = await jobs.job(job_id, user)
    grid = grid_of(job)
    values = await _run(jobs, job)
    if values["course"]["ended"]:
        values |= await _ranked(request, jobs, job, grid, sort, down, every)
        values |= await _result(jobs, job)
    values |= {
        "fields": job_view.filter_fields(grid),
        "metrics": {name: job_view.METRIC_NAMES[name] for name in METRICS},
        "aggregates": list(AGGREGATES),
        "axes": _axes(grid),
        "short": job_view.short,
        "why_no_columns": await _why_no_columns(jobs, job),
    }
    return page(request, "job.html", user, values)


@router.get("/_partial/jobs/{job_id}/run")
async def run(job_id: UUID, user: Visitor, jobs: TheJobs) -> Response:
    """How the job is doing."""
    return part("_job_run.html", await _run(jobs, await jobs.job(job_id, user)))


@router.get("/_partial/jobs/{job_id}/ranked")
async def ranked(
    request: Request,
    job_id: UUID,
    user: Visitor,
    jobs: TheJobs,
    sort: Sort = "rank",
    down: Down = False,
    every: All = False,
) -> Response:
    """The ranked rows that the filters let through."""
    job = await jobs.job(job_id, user)
    values = await _ranked(request, jobs, job, grid_of(job), sort, down, every)
    return part("_job_ranked.html", {"job_id": str(job_id), **values})


async def _run(jobs: Jobs, job: Job) -> dict[str, Any]:
    variants, _ = await jobs.variants(job)
    return {
        "job": job.status(),
        "job_id": str(job.job_id),
        "about": job_view.about(job),
        "course": job_view.course(job, await jobs.is_left(job)),
        "best": job_view.best_rows(variants),
        "synthetic": await jobs.generated(job),
    }


async def _ranked(
    request: Request, jobs: Jobs, job: Job, grid: Grid, sort: str, down: bool, every: bool
) -> dict[str, Any]:
    variants, final = await jobs.variants(job)
    chosen = job_view.filters(request.query_params, grid)
    rows, left, refusal = [], None, ""
    try:
        let = wanted(grid, chosen.axis, chosen.least, chosen.most)
    except InvalidRequest as error:
        left, refusal = 0, error.message
    else:
        rows = chosen_rows(variants, grid, let)
        if chosen.query and not rows:
            left = await _left(jobs, job, let)
    return {
        "left": left,
        "refusal": refusal,
        "table": job_view.table(variants, rows, grid, final, sort, down),
        "filters": chosen,
        "most": None if every else job_view.ROWS,
        "cell": job_view.cell,
    }


async def _left(jobs: Jobs, job: Job, let: Wanted) -> int | None:
    """How many base variants filters leave; None where nobody can say."""
    try:
        columns = await jobs.columns_of(job)
    except Conflict:
        return None
    return await jobs.threaded(columns.count, let)


async def _result(jobs: Jobs, job: Job) -> dict[str, Any]:
    """Tiles and notices of a job's result, where there is one."""
    none = {"tiles": [], "notices": [], "has_files": False}
    if job.state != "succeeded":
        return none
    try:
        found = await jobs.threaded(result_of, await jobs.file(job, RESULT))
    except NotFound:
        gone = "The files of this job are not in the directory of results any more."
        return none | {"notices": [gone]}
    min_trades = job.effective_json["ranking"]["min_trades"]
    return {
        "tiles": job_view.tiles(found),
        "notices": job_view.notices(found, min_trades),
        "has_files": True,
    }


def _axes(grid: Grid) -> list[str]:
    """Names of the axes, first those along which most can be seen."""
    idle = set(grid.idle_axes)
    named = zip(grid.axis_names, grid.sizes, strict=True)
    found = sorted(named, key=lambda one: (one[0] in idle, -one[1]))
    several = [name for name, size in found if size > 1]
    return several if len(several) > 1 else [name for name, _ in found]


async def _why_no_columns(jobs: Jobs, job: Job) -> str | None:
    """Why there is nothing to draw of a job's grid; None where there is."""
    try:
        await jobs.columns(job)
    except Conflict as error:
        return sentence(error.message)
    return None
