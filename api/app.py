"""The service: its routes over a context, and the context of this environment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from api import envelope, openapi
from api.bodies import BodyLimit
from api.context import AppContext
from api.metrics import HttpMetrics, Measured
from api.pages.app import create_pages, has_page, told
from api.pages.front import Front
from api.readiness import readiness
from api.routes import backtests, health, indicators, market_data
from compute.results import ENGINE_VERSION

if TYPE_CHECKING:
    from api.identity.settings import IdentitySettings
    from cluster.jobs.settings import JobSettings
    from live.strategies.settings import StrategySettings


def create_app(context: AppContext) -> FastAPI:
    """The application that serves `context`; its parts run while the application does.

    Paths of jobs are there when there is a part called `jobs`, those of strategies with one called
    `strategies`, those of users with users.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if context.engine is not None:
                stack.push_async_callback(context.engine.dispose)
            if context.market is not None:
                stack.push_async_callback(context.market.sample.end)
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
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.state.readiness = readiness(context)
    envelope.install(app)
    pages = create_pages(context, lambda: app.openapi())
    # What is added last is entered first.
    app.add_middleware(Front, pages=pages, has_page=partial(has_page, pages), told=told)
    app.add_middleware(BodyLimit, max_body_bytes=context.api.max_body_bytes)
    app.add_middleware(Measured, metrics=HttpMetrics(context.registry))
    for module in (backtests, indicators, market_data, health):
        app.include_router(module.router)
    if context.identity is not None:
        from api.routes import access_tokens, account, auth, chats, exchange_keys, two_factor

        for module in (auth, access_tokens, account, chats, two_factor, exchange_keys):
            app.include_router(module.router)
    if "jobs" in context.parts:
        from api.routes import job_pictures, job_results, job_variant, jobs

        for module in (jobs, job_results, job_pictures, job_variant):
            app.include_router(module.router)
    if "strategies" in context.parts:
        from api.routes import runs, strategies

        app.include_router(strategies.router)
        app.include_router(runs.router)
    app.add_api_route("/", _home, include_in_schema=False)
    openapi.describe(app)
    return app


async def _home() -> RedirectResponse:
    """A program that was given the address alone is told what there is."""
    return RedirectResponse("/docs")


@contextmanager
def service(
    environ: Mapping[str, str], owner: str = "roehub api", development: bool = True
) -> Iterator[AppContext]:
    """The context that configuration and environment describe; its stores are open inside.

    Without servers in the environment the stores are embedded ones under ROEHUB_DATA_DIR. `owner`
    is what others read when the directory of the candles is taken. Without `development` there is
    no development login in any environment.

    Raises: InvalidConfig, InvalidInput, StoreInUse, StoreUnavailable, DatabaseFailed.
    """
    from api.identity.settings import IdentitySettings, one_database
    from cluster.jobs.settings import JobSettings
    from cluster.postgres.engine import engine
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from configs.load import config, environment
    from ingest.stores.ready import ready_store
    from ingest.stores.settings import ClickHouseSettings
    from live.strategies.settings import StrategySettings

    users = IdentitySettings.from_environment(environ, environment(environ))
    strategies = config("strategy", environ).settings(StrategySettings)
    jobs = config("backtest", environ).settings(JobSettings)
    database = PostgresSettings.from_environment(one_database(environ))
    with ExitStack() as stack:
        store = stack.enter_context(
            ready_store(ClickHouseSettings.from_environment(environ), owner)
        )
        context = configured(environ)
        context.use_store(store)
        dsn = stack.enter_context(postgres(database))
        check_schema(dsn)
        context.engine = engine(dsn, application="roehub api")
        add_users(context, users, development=development)
        if jobs.enabled:
            from cluster.jobs.durable import results_directory

            add_jobs(context, jobs, dsn, results_directory(environ))
        if strategies.enabled:
            add_strategies(context, strategies, dsn)
        yield context


def configured(environ: Mapping[str, str]) -> AppContext:
    """The context of the configuration alone, without a store and without jobs.

    Raises: InvalidConfig, InvalidInput.
    """
    from api.settings import ApiSettings, SyncSettings
    from compute.indicators.defaults import check_defaults, indicator_defaults
    from compute.settings import Cpu, Defaults, Limits, Search
    from configs.load import config

    file, indicators_file = config("backtest", environ), config("indicators", environ)
    known = indicator_defaults(indicators_file.document, str(indicators_file.path))
    check_defaults(known.values())
    return AppContext(
        sync=file.settings(SyncSettings),
        api=file.settings(ApiSettings),
        defaults=file.settings(Defaults),
        limits=file.settings(Limits),
        cpu=file.settings(Cpu),
        search=file.settings(Search),
        indicator_defaults=known,
    )


def add_users(context: AppContext, settings: IdentitySettings, *, development: bool) -> None:
    """Gives `context`, which has a database, its users; the development login where it may be."""
    from api.identity.service import Identity
    from api.users import development_login, nobody

    assert context.engine is not None
    fallback = development_login(settings.environment) if development else nobody
    context.use_identity(Identity(context.engine, settings, context.now_ms, fallback=fallback))


def add_jobs(context: AppContext, settings: JobSettings, dsn: str, results_dir: Path) -> None:
    """Gives `context`, whose engine is that of `dsn`, a directory of results and the part that
    serves jobs."""
    from api.jobs import Jobs
    from api.jobs_account import JobAccount

    settings.check_defaults(context.defaults)
    context.results_dir = results_dir
    context.parts["jobs"] = Jobs(context, dsn, settings)
    context.account_parts["jobs"] = JobAccount()


def add_strategies(context: AppContext, settings: StrategySettings, dsn: str) -> None:
    """Gives `context`, whose engine is that of `dsn`, the parts that serve strategies and the
    events of their runs, and strategies to saved mode."""
    from api.run_feed import RunFeed
    from api.strategies import StrategyService
    from api.strategies_account import StrategyAccount

    assert context.engine is not None
    service = StrategyService(context, context.engine, settings)
    context.strategies = service.lookup
    context.parts["strategies"] = nullcontext(service)
    context.parts["run_feed"] = RunFeed(context.engine, dsn)
    context.account_parts["strategies"] = StrategyAccount()


def check_schema(dsn: str) -> None:
    """Looks whether the database has the tables of this version. Raises: SchemaOutdated."""
    import asyncio

    from cluster.postgres.engine import engine
    from cluster.postgres.schema import require_schema

    async def checked() -> None:
        found = engine(dsn, connections=1, application="roehub api")
        try:
            await require_schema(found)
        finally:
            await found.dispose()

    asyncio.run(checked())


def end_streams(context: AppContext) -> None:
    """Ends the answers that would last as long as the service does."""
    jobs = context.running.get("jobs")
    if jobs is not None:
        jobs.feed.close()
    runs = context.running.get("run_feed")
    if runs is not None:
        runs.close()
