"""Whether the service lives, whether it can do its work, and its numbers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.context import Context
from api.envelope import errors, json_response
from api.readiness import Readiness
from api.schemas.health import Health, Ready

router = APIRouter(tags=["service"])


@router.get(
    "/health", response_model=Health, responses=errors(), summary="Whether the process lives"
)
async def health() -> Response:
    """Answers as long as the process and its event loop do."""
    return json_response({"status": "ok"})


@router.get(
    "/ready",
    response_model=Ready,
    responses={**errors(), 503: {"model": Ready, "description": "A part cannot work now."}},
    summary="Whether the service can do its work",
)
async def ready(request: Request) -> Response:
    """Asks the candle store, and PostgreSQL and the directory of results where there are jobs."""
    checks: Readiness = request.app.state.readiness
    found = await checks.record()
    return json_response(found, 200 if found["status"] == "ready" else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **errors(),
        200: {
            "description": "Metrics in the text form of Prometheus.",
            "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}},
        },
    },
    summary="Metrics of this process",
)
async def metrics(context: Context) -> Response:
    """Requests by route, runs within requests, and whatever else the service counts."""
    return Response(
        generate_latest(context.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
