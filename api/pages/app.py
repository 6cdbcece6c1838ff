"""The pages of the service: an application beside the API, over the same context."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.context import AppContext
from api.errors import merged_details, status_of
from api.pages import rendering
from api.pages.routes import account, build, home, job, jobs, login, strategies
from api.pages.visitor import LoginNeeded
from compute.errors import RoehubError

_NOTHING: Final = "There is nothing at this address."
_ASSET_AGE: Final = "no-cache"  # asked for again each time, and not sent where it is the same


def create_pages(context: AppContext) -> FastAPI:
    """The application that shows `context` to people."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = context
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    for module in (home, login):
        app.include_router(module.router)
    if context.identity is not None:
        app.include_router(account.router)
    if "jobs" in context.parts:
        app.include_router(build.router)
        app.include_router(jobs.router)
        app.include_router(job.router)
    if "strategies" in context.parts:
        app.include_router(strategies.router)
    app.mount("/assets", _Assets(directory=rendering.HERE / "assets"), name="assets")
    _install(app)
    return app


def has_page(app: FastAPI, path: str) -> bool:
    """Whether a path is one of a page."""
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is not Match.NONE for route in app.routes)


class _Assets(StaticFiles):
    """Scripts, styles and pictures."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _ASSET_AGE
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _install(app: FastAPI) -> None:
    """Makes every error that leaves `app` a page, or a line in the page that asked for a part."""

    @app.exception_handler(LoginNeeded)
    async def strangers(request: Request, error: LoginNeeded) -> Response:
        if is_part(request):
            return Response(status_code=401, headers={"HX-Redirect": error.place})
        return Response(status_code=303, headers={"Location": error.place})

    @app.exception_handler(RoehubError)
    async def ours(request: Request, error: RoehubError) -> Response:
        faults = merged_details(error).get("errors", [])
        return _told(request, status_of(error), error.message, faults)

    @app.exception_handler(RequestValidationError)
    async def schema(request: Request, error: RequestValidationError) -> Response:
        return _told(request, 404 if request.method == "GET" else 422, _NOTHING)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        message = _NOTHING if error.status_code == 404 else str(error.detail)
        return _told(request, error.status_code, message)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return _told(request, 500, "Something went wrong here. The log of the service says what.")


def is_part(request: Request) -> bool:
    """Whether a page asks for a part of itself."""
    return request.headers.get("hx-request") == "true"


def _told(
    request: Request, status: int, message: str, faults: list[dict[str, str]] | None = None
) -> Response:
    values = {"status": status, "message": message, "faults": faults or []}
    if is_part(request):
        return rendering.part("_error.html", values, status=status)
    return rendering.page(request, "error.html", None, values, status=status)
