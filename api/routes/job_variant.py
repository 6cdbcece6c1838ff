"""One variant of a job in full: curves, trades, votes, and files of them to keep."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from api.context import Context
from api.distribution import around
from api.envelope import JSON, errors, json_response
from api.errors import Conflict, invalid
from api.inspecting import (
    FLAT_MAX,
    TRADE_FORMS,
    Chosen,
    Place,
    chosen,
    trades_csv,
    trades_parquet,
    variant_task,
)
from api.jobs import Jobs
from api.ranked import RANK_MAX
from api.routes.job_results import labels
from api.routes.jobs import OWNED, JobId, TheJobs
from api.running import answered
from api.schemas.job_pictures import InspectionBody, WindowBody
from api.sync import VARIANT
from api.users import CurrentUser
from api.variant_tasks import Look, inspected, paged, traded, windowed
from cluster.inputs import STORE
from compute.report.ranked import has_stops, parameter_values

router = APIRouter(prefix="/backtests/jobs", tags=["jobs"])
_REFUSED = errors(*OWNED, "conflict", "too_many_requests")
_BAR_MAX = 2**31 - 1


def _place(
    rank: Annotated[
        int | None, Query(ge=1, le=RANK_MAX, description="A ranked row, by its rank.")
    ] = None,
    flat_index: Annotated[
        int | None,
        Query(ge=0, le=FLAT_MAX, description="A base variant, by its place in the grid."),
    ] = None,
    sl_pct: Annotated[
        float | None,
        Query(ge=0, lt=1e6, description="Stop-loss of a base variant in percent; none without."),
    ] = None,
    tp_pct: Annotated[
        float | None,
        Query(ge=0, lt=1e6, description="Take-profit of a base variant in percent; none without."),
    ] = None,
) -> Place:
    """Which variant. Raises: InvalidRequest."""
    return Place(rank, flat_index, sl_pct, tp_pct)


ThePlace = Annotated[Place, Depends(_place)]
PartName = Annotated[
    Literal["ranked", "holdout"],
    Query(alias="part", description="The part of the period that was ranked on, or the other."),
]


def _held_out(found: Chosen, part: str) -> bool:
    """Whether the part that was held out is meant. Raises: InvalidRequest where there is none."""
    if part == "holdout" and not found.job.effective_json["validation"]["holdout_fraction"]:
        raise invalid("the job held nothing out", "invalid_value", "query.part")
    return part == "holdout"


async def _looked(
    request: Request, context: Context, jobs: Jobs, found: Chosen, look: Look
) -> bytes:
    return await answered(request, context, VARIANT, lambda: variant_task(jobs, found, look))


@router.get(
    "/{job_id}/variant",
    response_model=InspectionBody,
    responses=_REFUSED,
    summary="One variant in full",
)
async def shown(
    request: Request,
    job_id: JobId,
    user: CurrentUser,
    context: Context,
    jobs: TheJobs,
    place: ThePlace,
    part: PartName = "ranked",
) -> Response:
    """A ranked row by its rank, or any base variant by its place in the grid.

    It is walked again over the candles that the job was made with. `rank` and `flat_index` exclude
    each other.
    """
    found = await chosen(jobs, job_id, user, place)
    body = await _looked(
        request, context, jobs, found, partial(inspected, held_out=_held_out(found, part))
    )
    head = {
        "job_id": str(job_id),
        "rank": found.rank,
        "flat_index": found.flat_index,
        "part": part,
        "synthetic": await jobs.generated(found.job),
        "payload": found.payload,
        "parameters": parameter_values(found.payload),
        "around": await _around(jobs, found),
    }
    first = bytes(json_response(head).body)  # one object: the head, then what was computed
    return Response(first[:-1] + b"," + body[1:], media_type=JSON)


async def _around(jobs: Jobs, found: Chosen) -> dict[str, Any] | None:
    try:
        columns = await jobs.columns_of(found.job)
    except Conflict:
        return None
    return await jobs.threaded(around, columns, found.flat_index, has_stops(found.payload))


@router.get(
    "/{job_id}/variant/window",
    response_model=WindowBody,
    responses=_REFUSED,
    summary="Candles and votes of a part of it",
)
async def windowed_of(
    request: Request,
    job_id: JobId,
    user: CurrentUser,
    context: Context,
    jobs: TheJobs,
    place: ThePlace,
    part: PartName = "ranked",
    first: Annotated[int, Query(ge=0, le=_BAR_MAX, description="First bar.")] = 0,
    last: Annotated[
        int, Query(ge=0, le=_BAR_MAX, description="The bar after the last one.")
    ] = _BAR_MAX,
) -> Response:
    """The same candles and votes, finer: for whoever looks closer at some bars."""
    found = await chosen(jobs, job_id, user, place)
    look = partial(windowed, held_out=_held_out(found, part), first=first, last=last)
    return Response(await _looked(request, context, jobs, found, look), media_type=JSON)


@router.get(
    "/{job_id}/variant/trades",
    response_class=Response,
    responses={
        **_REFUSED,
        200: {
            "description": "A row for each trade; times are the closes of bars, epoch milliseconds "
            "in CSV and JSON.",
            "content": {form: {"schema": {"type": "string"}} for form in TRADE_FORMS.values()},
        },
    },
    summary="All its trades as a file",
)
async def trades_of(
    request: Request,
    job_id: JobId,
    user: CurrentUser,
    context: Context,
    jobs: TheJobs,
    place: ThePlace,
    part: PartName = "ranked",
    form: Annotated[
        Literal["csv", "json", "parquet"], Query(alias="format", description="Of the file.")
    ] = "csv",
) -> Response:
    """Every trade, with costs, exit reason and the prices of its stops."""
    found = await chosen(jobs, job_id, user, place)
    body = await _looked(
        request, context, jobs, found, partial(traded, held_out=_held_out(found, part))
    )
    if form != "json":
        told = labels(found.job, await jobs.generated(found.job))
        trades = json.loads(body)
        make = trades_csv if form == "csv" else partial(trades_parquet, labels=told)
        body = await jobs.threaded(make, trades)
    return Response(
        body, headers=_file(f"trades-{_name(found)}.{form}"), media_type=TRADE_FORMS[form]
    )


@router.get(
    "/{job_id}/variant/report",
    response_class=Response,
    responses={
        **_REFUSED,
        200: {
            "description": "A page that needs nothing else.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
    },
    summary="A page of it to share",
)
async def page_of(
    request: Request,
    job_id: JobId,
    user: CurrentUser,
    context: Context,
    jobs: TheJobs,
    place: ThePlace,
) -> Response:
    """Curves, trades and the 25 rows of one variant, as one HTML page."""
    found = await chosen(jobs, job_id, user, place)
    body = await _looked(request, context, jobs, found, partial(paged, source=STORE))
    return Response(
        json.loads(body),
        headers=_file(f"variant-{_name(found)}.html"),
        media_type="text/html; charset=utf-8",
    )


def _file(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _name(found: Chosen) -> str:
    which = f"rank-{found.rank}" if found.rank else f"base-{found.flat_index}"
    return f"{str(found.job.job_id)[:8]}-{which}"
