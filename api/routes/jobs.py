"""Grid jobs: made, shown, cancelled, deleted. What they leave is in `job_results`."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from api.bodies import JsonBody
from api.context import Context
from api.envelope import errors, json_response
from api.events import MEDIA_TYPE, BoundedStream, last_event_id
from api.jobs import Jobs, report_context
from api.openapi import body_of, event_stream
from api.saved import SavedRequest
from api.schemas import examples
from api.schemas.jobs import JobBody, JobPage, TopBody
from api.users import CurrentUser, still
from cluster.jobs.job import STATES, TERMINAL
from cluster.jobs.listing import (
    Wanted,
    cursor_filter,
    state_filter,
    symbol_filter,
    timeframe_filter,
    top_limit,
)
from cluster.postgres.keyset import PAGE_DEFAULT, PAGE_MAX, page_limit
from compute.market.timeframe import TIMEFRAMES
from compute.request import BacktestRequest

router = APIRouter(prefix="/backtests/jobs", tags=["jobs"])


async def jobs_of(request: Request) -> Jobs:
    """The jobs of the service; no plain function, for which a thread would be asked each time."""
    return request.app.state.context.running["jobs"]


TheJobs = Annotated[Jobs, Depends(jobs_of)]
JobId = Annotated[UUID, Path(description="The job.")]
OWNED = ("unauthorized", "forbidden", "not_found", "validation_error")
"""Refusals of every path that names a job."""


@router.post(
    "",
    status_code=201,
    response_model=JobBody,
    responses=errors(
        "unauthorized", "forbidden", "not_found", "conflict", "payload_too_large",
        "unsupported_media_type", "validation_error", "unavailable",
    ),
    openapi_extra=body_of(BacktestRequest, SavedRequest, examples=examples.BACKTESTS),
    summary="Create a job",
)  # fmt: skip
async def create(
    user: CurrentUser,
    body: JsonBody,
    jobs: TheJobs,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Sent again with the same request it gives the same job, with another one "
            "409. At most 255 printable ASCII characters.",
            max_length=255,
        ),
    ] = None,
) -> Response:
    """Checks the request, reads its candles, holds its plan to the guards, and queues it.

    Everything that its result depends on is fixed here: later changes of the configuration or of
    the candles do not change it.
    """
    job, new = await jobs.create(body, user, idempotency_key)
    headers = {"Location": f"/backtests/jobs/{job.job_id}"}
    if not new:
        headers["Idempotency-Replayed"] = "true"
    return json_response(job.status(), 201, headers)


@router.get(
    "",
    response_model=JobPage,
    responses=errors("unauthorized", "forbidden", "validation_error"),
    summary="List jobs, newest first",
)
async def listed(
    user: CurrentUser,
    jobs: TheJobs,
    state: Annotated[
        str | None,
        Query(description=f"Only those in this state: {', '.join(STATES)}. Blank is any."),
    ] = None,
    symbol: Annotated[
        str | None,
        Query(description="Only those whose symbol contains this. Blank is any.", max_length=64),
    ] = None,
    timeframe: Annotated[
        str | None, Query(description=f"Only those on {', '.join(TIMEFRAMES)}. Blank is any.")
    ] = None,
    limit: Annotated[
        int | None,
        Query(
            description=f"Jobs on a page, 1 to {PAGE_MAX}; {PAGE_DEFAULT} without.",
            json_schema_extra={"minimum": 1, "maximum": PAGE_MAX},
        ),
    ] = None,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before. Blank is the first.")
    ] = None,
) -> Response:
    """The user's jobs; a page goes on below the last job of the one before, whatever came since."""
    wanted = Wanted(state_filter(state), symbol_filter(symbol), timeframe_filter(timeframe))
    page = await jobs.page(user, wanted, page_limit(limit), cursor_filter(cursor))
    return json_response(page.record())


@router.get(
    "/{job_id}", response_model=JobBody, responses=errors(*OWNED), summary="How a job is doing"
)
async def shown(job_id: JobId, user: CurrentUser, jobs: TheJobs) -> Response:
    """State, stage and progress; why it failed if it did."""
    return json_response((await jobs.status(job_id, user)).status())


@router.get(
    "/{job_id}/top",
    response_model=TopBody,
    responses=errors(*OWNED),
    summary="The best variants so far",
)
async def top(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    limit: Annotated[
        int | None,
        Query(
            description="Rows, at most as many as jobs keep; all of them without.",
            json_schema_extra={"minimum": 1},
        ),
    ] = None,
) -> Response:
    """Rows without reports and trades: post `report_context` with a row's payload for those."""
    rows = top_limit(limit, jobs.settings.top_k_persisted_default)
    job, found = await jobs.top(job_id, user, rows)
    return json_response(
        {
            "job_id": str(job_id),
            "state": job.state,
            "report_context": report_context(job),
            "items": [row.record() for row in found],
        }
    )


@router.post(
    "/{job_id}/cancel", response_model=JobBody, responses=errors(*OWNED), summary="Cancel a job"
)
async def cancel(job_id: JobId, user: CurrentUser, jobs: TheJobs) -> Response:
    """A queued job is cancelled at once, a running one at its next block; an ended one stays."""
    return json_response((await jobs.cancel(job_id, user)).status())


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    responses=errors(*OWNED, "conflict"),
    summary="Delete a job that has ended",
)
async def delete(job_id: JobId, user: CurrentUser, jobs: TheJobs) -> Response:
    """Forgets the job; its files are removed later. A queued or running one is refused."""
    await jobs.delete(job_id, user)
    return Response(status_code=204)


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        **errors(*OWNED, "too_many_requests"),
        200: event_stream(
            "Events with ids that ascend, a comment every 15 seconds. It ends after the event of a "
            "final state.",
            ("state", "progress", "best"),
        ),
        204: {"description": "The job has ended and the last event was seen: do not come back."},
    },
    summary="Follow a job as server-sent events",
)
async def events(
    request: Request,
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    context: Context,
    last_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Id of the last event that was seen; the stream goes on after it.",
        ),
    ] = None,
    cursor: Annotated[
        str | None,
        Query(description="The same for a first request, whose headers a page cannot set."),
    ] = None,
) -> Response:
    """What happened so far, then what happens.

    Of progress and of the best rows only the latest are kept, so whoever comes late is brought up
    to date by a few events. A client that reads nothing for 30 seconds is cut off, and so is one
    whose login or token has ended.
    """
    after = last_event_id(last_id, cursor)
    job = await jobs.status(job_id, user)
    if after and job.state in TERMINAL and await jobs.feed.after(job_id, after) is None:
        return Response(status_code=204)
    ended = context.streams.open(user.user_id)
    pieces = jobs.feed.stream(job_id, after, allowed=partial(still, request, user))
    return BoundedStream(pieces, MEDIA_TYPE, ended=ended)
