"""The service: its routes over a context, and the context of this environment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from api import envelope, openapi
from api.bodies import BodyLimit
from api.context import AppContext
from api.metrics import HttpMetrics, Measured
from api.readiness import readiness
from api.routes import backtests, health, indicators, market_data
from compute.results import ENGINE_VERSION


def create_app(context: AppContext) -> FastAPI:
    """The application that serves `context`; its parts run while the application does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(context.pool)
            for name, part in context.parts.items():
                context.running[name] = await stack.enter_async_context(part)
            yield
        context.running.clear()

    app = FastAPI(
        title="Roehub",
        version=ENGINE_VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.context = context
    app.state.readiness = readiness(context)
    envelope.install(app)
    # What is added last is entered first.
    app.add_middleware(BodyLimit, max_body_bytes=context.api.max_body_bytes)
    app.add_middleware(Measured, metrics=HttpMetrics(context.registry))
    for module in (backtests, indicators, market_data, health):
        app.include_router(module.router)
    openapi.describe(app)
    return app
