"""What a job leaves: the columns of Stage A, the result and the report page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from typing import Annotated, Final, Literal, cast

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from api.column_parts import METRICS, wanted
from api.envelope import errors
from api.events import BoundedStream
from api.jobs import Jobs
from api.routes.jobs import OWNED, JobId, TheJobs
from api.users import CurrentUser
from api.variants import MEDIA_TYPES, Rows, encoded, rows
from cluster.jobs.job import Job
from cluster.outputs import REPORT, RESULT
from compute.results import ENGINE_VERSION
from ingest.candle_columns import SYNTHETIC_METADATA

router = APIRouter(prefix="/backtests/jobs", tags=["jobs"])

AxisFilter = Annotated[
    list[str] | None,
    Query(
        alias="axis",
        description="Only these values of an axis, `NAME:VALUE`, `NAME:V1,V2` or `NAME:LOW..HIGH` "
        "(an end may be left out). Several are all to hold.",
        examples=[["ma.sma.window:10..50"]],
    ),
]
Least = Annotated[
    list[str] | None,
    Query(
        alias="min",
        description="Only variants with at least this: `METRIC:NUMBER`.",
        examples=[["num_trades:20"]],
    ),
]
Most = Annotated[
    list[str] | None,
    Query(alias="max", description="Only variants with at most this: `METRIC:NUMBER`."),
]
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/{job_id}/variants",
    response_class=Response,
    responses={
        **errors(*OWNED, "conflict"),
        200: {
            "description": "A row for each base variant: flat index, a column for each axis, "
            f"{', '.join(METRICS)}. Scores are the fast ones of Stage A, without stops.",
            "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY),
        },
    },
    summary="All base variants as Arrow or Parquet",
)
async def variants(
    job_id: JobId,
    user: CurrentUser,
    jobs: TheJobs,
    axis: AxisFilter = None,
    least: Least = None,
    most: Most = None,
    columns: Annotated[
        str | None,
        Query(
            description="Names of the columns, separated by commas; all without.",
            examples=["flat_index,total_return_pct"],
        ),
    ] = None,
    form: Annotated[
        Literal["arrow", "parquet"] | None,
        Query(alias="format", description="Overrules Accept; an Arrow stream without either."),
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Rows are streamed span after span, ascending by flat index within a slice, in the same order
    at every call. They are there when Stage A has finished, for grids of up to five million base
    variants; otherwise the answer is 409.
    """
    job = await jobs.job(job_id, user)
    parts, grid = await jobs.columns(job)
    chosen = wanted(grid, axis or (), least or (), most or ())
    names = [name.strip() for name in columns.split(",")] if columns and columns.strip() else None
    found: Rows = rows(parts, grid, chosen, names, labels(job, await jobs.generated(job)))
    kind = form or _accepted(accept)
    name = f"variants-{job_id}.{'arrows' if kind == 'arrow' else kind}"
    return BoundedStream(
        _threaded(jobs, encoded(kind, found)),
        MEDIA_TYPES[kind],
        {"content-disposition": f'attachment; filename="{name}"', "vary": "accept"},
    )


@router.get(
    "/{job_id}/result",
    response_class=Response,
    responses={
        **errors(*OWNED, "conflict"),
        200: {
            "description": "The content of result.json.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
    },
    summary="The result of a job that succeeded",
)
async def result(job_id: JobId, user: CurrentUser, jobs: TheJobs) -> Response:
    """The ranked rows with their metrics, report tables and trades, and what they were made of."""
    path = await jobs.file(await jobs.job(job_id, user), RESULT)
    return WholeFile(path, media_type="application/json")


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={
        **errors(*OWNED, "conflict"),
        200: {
            "description": "A page that needs nothing else.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
    },
    summary="The report page of a job that succeeded",
)
async def report(job_id: JobId, user: CurrentUser, jobs: TheJobs) -> Response:
    """Curves, table and surface of the best variants, as one HTML page."""
    path = await jobs.file(await jobs.job(job_id, user), REPORT)
    return WholeFile(path, media_type="text/html; charset=utf-8")


class WholeFile(FileResponse):
    """A file, always all of it: refusals of ranges would have a form of their own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["accept-ranges"] = "none"
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def labels(job: Job, generated: bool | None) -> dict[str, str]:
    """What a file made of a job says of itself; `generated` is whether a generator made candles."""
    known = {} if generated is None else {SYNTHETIC_METADATA: str(generated).lower()}
    return known | {
        "roehub.engine_version": ENGINE_VERSION,
        "roehub.candles_fingerprint": job.candles_fingerprint,
        "roehub.job_id": str(job.job_id),
        "roehub.variants_total": str(job.plan_json["stage_a_variants_total"]),
    }


def _accepted(accept: str | None) -> str:
    """The form that an Accept header prefers, of equals the one that it names first."""
    best, weight = "arrow", 0.0
    for entry in (accept or "").lower().split(","):
        media, *options = (text.strip() for text in entry.split(";"))
        quality = 1.0
        for option in options:
            if option.startswith("q="):
                with suppress(ValueError):
                    quality = float(option[2:])
        for form, name in MEDIA_TYPES.items():
            if media == name and quality > weight:
                best, weight = form, quality
    return best


async def _threaded(jobs: Jobs, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece made on a thread, when it is asked for; a slow client holds no thread."""
    made: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            made = asyncio.create_task(jobs.threaded(next, pieces, None))
            piece = await asyncio.shield(made)
            if piece is None:
                return
            if piece:
                yield piece
    finally:
        if made is not None and not made.done():
            await asyncio.wait((made,))  # a generator cannot be closed while it runs
        cast(Generator[bytes, None, None], pieces).close()
