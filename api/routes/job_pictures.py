"""Pictures of a job's grid: aggregates of Stage A's columns, made here and not by the reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.column_parts import METRICS, Wanted, wanted
from api.columns import Columns
from api.distribution import distribution, sample
from api.envelope import JSON, errors, json_response
from api.heatmap import AGGREGATES, MAX_CELLS, Heatmap, heatmap
from api.jobs import Jobs, grid_of
from api.plateau import TOLERANCE_PCT, plateau
from api.ranked import chosen_rows, ranked_record
from api.routes.job_results import AxisFilter, Least, Most
from api.routes.jobs import OWNED, JobId, TheJobs
from api.schemas.job_pictures import DistributionBody, PlateauBody, RankedBody, SampleBody
from api.schemas.jobs import HeatmapBody
from api.users import CurrentUser, User
from cluster.columns import MAX_ROWS

router = APIRouter(prefix="/backtests/jobs", tags=["jobs"])
BEST_MAX: Final = 1_000
RANDOM_MAX: Final = 5_000

Across = Annotated[str, Query(description="Axis of the columns.", examples=["ma.sma.window"])]
Up = Annotated[str, Query(description="Axis of the rows.", examples=["momentum.rsi.window"])]
MetricName = Annotated[str, Query(alias="metric", description=f"One of {', '.join(METRICS)}.")]
AggregateName = Annotated[
    str,
    Query(
        description=f"One of {', '.join(AGGREGATES)}, or q1 to q99 for a quantile. winners is the "
        "share of variants with a return above zero, in percent, whatever the metric."
    ),
]


async def _drawn(
    jobs: Jobs,
    job_id: UUID,
    user: User,
    filters: tuple[list[str] | None, list[str] | None, list[str] | None],
    draw: Callable[[Columns, Wanted], Any],
) -> Any:
    """What `draw` makes of the columns of a job. Raises: Conflict where there are none."""
    columns = await jobs.columns_of(await jobs.job(job_id, user))
    chosen = wanted(columns.grid, *(texts or () for texts in filters))
    return await jobs.threaded(draw, columns, chosen)


@router.get(
    "/{job_id}/heatmap",
    response_model=HeatmapBody,
    responses=errors(*OWNED, "conflict"),
    summary="A metric over two axes",
)
async def heatmap_of(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    x: Across,
    y: Up,
    metric: MetricName = "total_return_pct",
    aggregate: AggregateName = "median",
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
) -> Response:
    """One number for all the base variants that share two values."""

    def drawn(columns: Columns, chosen: Wanted) -> bytes:
        found = heatmap(columns, chosen, x=x, y=y, of=metric, aggregate=aggregate)
        return found.encoded(job_id=str(job_id))

    found = await _drawn(jobs, job_id, user, (axis, least, most), drawn)
    return Response(found, media_type=JSON)


heatmap_of.__doc__ = (
    f"{heatmap_of.__doc__} Values that `axis` leaves out have no row or column; at most "
    f"{MAX_CELLS} cells, of grids of up to {MAX_ROWS} base variants."
)


@router.get(
    "/{job_id}/plateau",
    response_model=PlateauBody,
    responses=errors(*OWNED, "conflict"),
    summary="The plateau around a cell of a heat map",
)
async def plateau_of(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    x: Across,
    y: Up,
    at_x: Annotated[
        str | None, Query(description="Value of the cell on x; the greatest cell without.")
    ] = None,
    at_y: Annotated[str | None, Query(description="Value of the cell on y.")] = None,
    tolerance_pct: Annotated[
        float,
        Query(
            gt=0,
            le=100,
            description="How far from the cell's value another one may be: percent of the span "
            "that 96 % of the cells lie in.",
        ),
    ] = TOLERANCE_PCT,
    metric: MetricName = "total_return_pct",
    aggregate: AggregateName = "median",
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
) -> Response:
    """The cells that are connected with one and do about as well, in numbers and in words."""

    def drawn(columns: Columns, chosen: Wanted) -> dict[str, Any]:
        found: Heatmap = heatmap(columns, chosen, x=x, y=y, of=metric, aggregate=aggregate)
        return plateau(found, at_x, at_y, tolerance_pct).record()

    found = await _drawn(jobs, job_id, user, (axis, least, most), drawn)
    return json_response({"job_id": str(job_id), **found})


@router.get(
    "/{job_id}/histogram",
    response_model=DistributionBody,
    responses=errors(*OWNED, "conflict"),
    summary="How a metric is distributed",
)
async def histogram_of(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    metric: MetricName = "total_return_pct",
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
) -> Response:
    """A histogram over base variants, without stops, with quartiles, mean and share above zero."""
    found = await _drawn(
        jobs, job_id, user, (axis, least, most),
        lambda columns, chosen: distribution(columns, chosen, metric),
    )  # fmt: skip
    return json_response({"job_id": str(job_id), **found})


@router.get(
    "/{job_id}/sample",
    response_model=SampleBody,
    responses=errors(*OWNED, "conflict"),
    summary="Some base variants: the best, and others by chance",
)
async def sample_of(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    metric: MetricName = "total_return_pct",
    best: Annotated[int, Query(ge=0, le=BEST_MAX, description="How many of the best.")] = 100,
    random: Annotated[int, Query(ge=0, le=RANDOM_MAX, description="How many others.")] = 300,
    seed: Annotated[
        int, Query(ge=0, le=2**32 - 1, description="Draws others; the same draws the same.")
    ] = 1,
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
) -> Response:
    """Rows to draw where all of them are too many: as parallel coordinates, say."""

    def drawn(columns: Columns, chosen: Wanted) -> dict[str, Any]:
        first, others, count = sample(columns, chosen, metric, best=best, random=random, seed=seed)
        return {
            "metric": metric,
            "axes": list(columns.grid.axis_names),
            "metrics": list(METRICS),
            "variants": count,
            "best": first,
            "random": others,
        }

    found = await _drawn(jobs, job_id, user, (axis, least, most), drawn)
    return json_response({"job_id": str(job_id), **found})


@router.get(
    "/{job_id}/ranked",
    response_model=RankedBody,
    responses=errors(*OWNED),
    summary="The ranked rows as a table",
)
async def ranked_of(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
) -> Response:
    """A column for each parameter that differs, rows with equal metrics grouped.

    Until the job has succeeded rows are provisional and have only their return. Filters of metrics
    look at what a row did with its stops.
    """
    job = await jobs.job(job_id, user)
    variants, final = await jobs.variants(job)
    grid = grid_of(job)
    rows = chosen_rows(variants, grid, wanted(grid, axis or (), least or (), most or ()))
    return json_response(
        {"job_id": str(job_id), "state": job.state, **ranked_record(variants, rows, grid, final)}
    )
