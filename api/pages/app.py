"""The pages of the service: an application beside the API, over the same context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

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
from api.pages.routes import account, build, docs, home, job, jobs, login, sample, strategies
from api.pages.visitor import LoginNeeded, recognised
from api.users import developer
from compute.errors import RoehubError
from compute.quantities import sentence

_NOTHING: Final = "There is nothing at this address."
_FAILED: Final = "Something went wrong here."
_ASSET_AGE: Final = "no-cache"  # asked for again each time, and not sent where it is the same


def create_pages(context: AppContext, document: Callable[[], Mapping[str, Any]]) -> FastAPI:
    """The application that shows `context`, and the API of the OpenAPI `document`, to people."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = context
    app.state.reference = cache(lambda: docs.described(document(), with_header=_is_told(context)))
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    for module in (home, login, docs):
        app.include_router(module.router)
    if context.identity is not None:
        app.include_router(account.router)
    if "jobs" in context.parts:
        app.include_router(build.router)
        app.include_router(sample.router)
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


def _is_told(context: AppContext) -> bool:
    """Whether a request may say whose it is."""
    return developer is (context.login if context.identity is None else context.identity.fallback)


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
            return Response(status_code=401, headers={"HX-Redirect": f"{error.place}&ended=true"})
        return Response(status_code=303, headers={"Location": error.place})

    @app.exception_handler(RoehubError)
    async def ours(request: Request, error: RoehubError) -> Response:
        faults = merged_details(error).get("errors", [])
        headers = getattr(error, "headers", None)
        return await _told(request, status_of(error), error.message, faults, headers)

    @app.exception_handler(RequestValidationError)
    async def schema(request: Request, error: RequestValidationError) -> Response:
        return await _told(request, 404 if request.method == "GET" else 422, _NOTHING)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        message = _NOTHING if error.status_code == 404 else str(error.detail)
        return await _told(request, error.status_code, message, headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return await _told(request, 500, _FAILED)


async def told(request: Request, status: int, error: Mapping[str, Any]) -> Response:
    """The page of an error of the API."""
    details = error["details"]
    message = _NOTHING if status == 404 and "method" in details else error["message"]
    return await _told(request, status, message, details.get("errors"))


def is_part(request: Request) -> bool:
    """Whether a page asks for a part of itself."""
    return request.headers.get("hx-request") == "true"


async def _told(
    request: Request,
    status: int,
    message: str,
    faults: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    values = {"status": status, "message": sentence(message), "faults": faults or []}
    if is_part(request):
        answer = rendering.part("_error.html", values, status=status)
    else:
        user = await recognised(request)
        answer = rendering.page(request, "error.html", user, values, status=status)
    answer.headers.update(headers or {})
    return answer
