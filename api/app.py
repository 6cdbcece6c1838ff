"""The service: its routes over a context, and the context of this environment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from api import envelope
from api.context import AppContext
from api.routes import health
from compute.results import ENGINE_VERSION


def create_app(context: AppContext) -> FastAPI:
    """The application that serves `context`; its parts run while the application does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
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
    envelope.install(app)
    app.include_router(health.router)
    return app
