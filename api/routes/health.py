"""Whether the service lives and whether it can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.envelope import errors, json_response
from api.schemas.health import Health

router = APIRouter(tags=["service"])


@router.get(
    "/health",
    response_model=Health,
    responses=errors(),
    summary="Whether the process lives",
)
async def health() -> Response:
    """Answers as long as the process and its event loop do."""
    return json_response({"status": "ok"})
