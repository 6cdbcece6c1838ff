"""The roofline of the service: FastAPI and one indexed query, and nothing around them.

    python -m tests.benchmarks.bare_service DSN

The server, its settings, the pool and the driver are those of the service. `/jobs…` answer byte by
byte what the service answers; `/state/…` reads one column of one row.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from fastapi import FastAPI, Response
from sqlalchemy import RowMapping, bindparam, select

from api.server import Server, listening, url_of
from cluster.jobs.job import JobStatus, Listed, columns
from cluster.jobs.listing import SUBJECT, Cursor
from cluster.jobs.tables import JOBS
from cluster.postgres.engine import engine

PAGE: Final = 50
_LISTED: Final = tuple(name for name in columns(Listed) if name != "user_id")
_ITEM: Final = (*_LISTED, *SUBJECT)
_STATUS: Final = tuple(name for name in columns(JobStatus) if name != "user_id")

_JOB: Final = JOBS.c.job_id == bindparam("job_id")
_STATE_QUERY: Final = select(JOBS.c.state).where(_JOB)
_STATUS_QUERY: Final = select(*(JOBS.c[name] for name in _STATUS)).where(_JOB)
_LIST_QUERY: Final = (
    select(
        *(JOBS.c[name] for name in _LISTED),
        *(place.label(name) for name, place in SUBJECT.items()),
    )
    .where(JOBS.c.user_id == bindparam("user_id"))
    .order_by(JOBS.c.created_at.desc(), JOBS.c.job_id.desc())
    .limit(PAGE + 1)
)


def made(dsn: str) -> FastAPI:
    """The application over a database."""
    connections = engine(dsn, application="bare")
    reads = connections.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await connections.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/state/{job_id}")
    async def state(job_id: UUID) -> Response:
        async with reads.connect() as connection:
            found = (await connection.execute(_STATE_QUERY, {"job_id": job_id})).one()
        return _json({"state": found.state})

    @app.get("/jobs/{job_id}")
    async def status(job_id: UUID) -> Response:
        async with reads.connect() as connection:
            row = (await connection.execute(_STATUS_QUERY, {"job_id": job_id})).one()
        return _json(_record(row._mapping, _STATUS))

    @app.get("/jobs")
    async def listed(user_id: UUID) -> Response:
        async with reads.connect() as connection:
            rows = (await connection.execute(_LIST_QUERY, {"user_id": user_id})).all()
        cursor = None
        if len(rows) > PAGE:
            cursor = Cursor(rows[PAGE - 1].created_at, rows[PAGE - 1].job_id).encode()
        items = [_record(row._mapping, _ITEM) for row in rows[:PAGE]]
        return _json({"items": items, "next_cursor": cursor})

    return app


def _record(row: RowMapping, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    return value


def _json(content: object) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), media_type="application/json")


async def _serve(dsn: str) -> None:
    with listening("127.0.0.1", 0) as found:
        server = Server(made(dsn))
        serving = asyncio.create_task(server.serve(sockets=[found]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        print(f"serving {url_of(found)}", flush=True)
        await serving


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
