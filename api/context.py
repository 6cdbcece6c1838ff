"""What the service works with; the composition root makes it, routes get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from api.identity.account import AccountPart
from api.market import Market
from api.measured import Measured
from api.saved import Strategies, no_strategies
from api.settings import ApiSettings, SyncSettings
from api.streams import OpenStreams
from api.sync import SyncPool
from api.sync_metrics import SyncMetrics
from api.users import Login, nobody
from compute.settings import Cpu, Defaults, Limits, Search

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from api.identity.service import Identity
    from compute.indicators.defaults import IndicatorDefaults
    from ingest.live.worker import Worker
    from ingest.stores.clickhouse import ClickHouse


@dataclass(slots=True)
class Ingestion:
    """That this service follows the exchanges itself; `worker` does it, from when it has begun."""

    worker: Worker | None = None

    def begun(self, worker: Worker) -> None:
        """Notes who does it now."""
        self.worker = worker


@dataclass(slots=True)
class AppContext:
    """Settings and connections of one service.

    `store` is the opened candle store, None where there is none; `ingestion` is what brings candles
    into it from within this service, None where nothing does; `engine` reaches PostgreSQL, None
    where jobs and strategies are off. `parts` are entered when the service starts and left when it
    stops, in their order; what each yields is found under its name in `running`. `login` says who a
    request comes from, by the users of `identity` where there are some; `strategies` finds stored
    ones. `account_parts` is what else is stored of a user, by its name in an export. `measured`
    remembers what jobs took here. `now_ms` is the wall clock.
    """

    sync: SyncSettings
    api: ApiSettings = field(default_factory=ApiSettings)
    defaults: Defaults = field(default_factory=Defaults)
    limits: Limits = field(default_factory=Limits)
    cpu: Cpu = field(default_factory=Cpu)
    search: Search = field(default_factory=Search)
    indicator_defaults: Mapping[str, IndicatorDefaults] = field(default_factory=dict)
    login: Login = nobody
    identity: Identity | None = None
    account_parts: dict[str, AccountPart] = field(default_factory=dict)
    store: ClickHouse | None = None
    market: Market | None = field(init=False, default=None)
    ingestion: Ingestion | None = None
    pool: SyncPool = field(init=False)
    streams: OpenStreams = field(init=False)
    engine: AsyncEngine | None = None
    strategies: Strategies = no_strategies
    results_dir: Path | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    parts: dict[str, AbstractAsyncContextManager[Any]] = field(default_factory=dict)
    running: dict[str, Any] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    now_ms: Callable[[], int] = lambda: int(time() * 1000)

    def __post_init__(self) -> None:
        if self.store is not None:
            self.use_store(self.store)
        self.streams = OpenStreams(self.api.max_event_streams_per_user)
        self.pool = SyncPool(self.sync, self.cpu.threads(), SyncMetrics(self.registry))

    @property
    def candle_source(self) -> Literal["here", "nobody", "elsewhere"]:
        """Who brings new candles: this service; nobody, for it has the store to itself; others."""
        if self.ingestion is not None:
            return "here"
        ours = self.store is not None and self.store.settings.embedded
        return "nobody" if ours else "elsewhere"

    def use_identity(self, identity: Identity) -> None:
        """Knows users by `identity` from now on."""
        self.identity = identity
        self.login = identity.authentication

    def use_store(self, store: ClickHouse) -> None:
        """Reads candles from `store` from now on."""
        self.store = store
        self.market = Market(store, self.api.max_store_reads)


async def app_context(request: Request) -> AppContext:
    """The context of the service that answers `request`; async, so that it costs no thread."""
    return request.app.state.context


Context = Annotated[AppContext, Depends(app_context)]
