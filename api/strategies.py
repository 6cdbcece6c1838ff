"""Strategies as the service handles them: made from requests or rows, shown to their owners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncEngine

from api.backtests import SavedReport, report_task, variant_backtest
from api.context import AppContext
from api.errors import Conflict, NotFound, StorageFailed, invalid
from api.inspecting import FLAT_MAX, Place, chosen
from api.ranked import RANK_MAX
from api.running import threaded
from api.saved import Asked, StoredStrategy, StrategyId, asked
from api.users import User
from cluster.jobs.job import Job
from cluster.jobs.store import TopRow
from cluster.postgres.engine import typed
from cluster.postgres.errors import DatabaseFailed
from cluster.postgres.jsonb import storable
from compute.backtest import Backtest
from compute.errors import InvalidInput
from compute.indicator_requests import parsed
from compute.keys import canonical_json
from compute.market.instrument import MARKETS, Instrument
from compute.market.period import instant
from compute.market.timeframe import timeframe
from compute.request import Model
from live.strategies.requests import StrategyV1, StrategyV2
from live.strategies.run_store import RunStore
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, request_of, spec_of, variant_spec
from live.strategies.store import Draft, Sent, Strategy, StrategyStore

Record = dict[str, Any]
BOTH_OR_NEITHER: Final = "a clone needs exactly one of source_strategy_id and template"
ONE_NAME: Final = "a variant of a job is named by exactly one of rank, variant_key and flat_index"
STORAGE_FAILED: Final = "Strategy storage operation failed"


class CloneInstrument(Model):
    """Another instrument."""

    market_id: int = Field(
        description="1 binance spot, 2 binance futures, 3 bybit spot, 4 bybit futures."
    )
    symbol: str = Field(description="Symbol of the exchange; trimmed and upper-cased.")


class CloneOverrides(Model):
    """What the new strategy has instead; everything else is copied."""

    instrument_id: CloneInstrument | None = Field(
        None, description="Another instrument; key and market type follow from it."
    )
    timeframe: str | None = Field(None, description="1m, 5m, 15m, 1h, 4h or 1d.")


class _CloneFields(Model):
    source_strategy_id: StrategyId | None = Field(
        None, description="The strategy to copy; it must be the caller's."
    )
    overrides: CloneOverrides | None = Field(None, description="What is to be different.")


class CloneRequest(_CloneFields):
    """What a new strategy is made of: a strategy of one's own, or a whole specification."""

    template: StrategyV1 | StrategyV2 | None = Field(
        None, description="A specification, as POST /strategies takes it."
    )


class _Clone(_CloneFields):
    """A clone whose specification is yet to be read, which says better what is wrong with it."""

    template: dict[str, Any] | None = None


class JobRow(Model):
    """A row of a job's best, or a base variant of its grid."""

    job_id: StrategyId = Field(description="The job; it must be the caller's.")
    rank: Annotated[int, Field(ge=1, le=RANK_MAX)] | None = Field(
        None, description="Its rank, once the job has ended; 1 is the best."
    )
    variant_key: str | None = Field(None, description="Its key; good while the job runs, too.")
    flat_index: Annotated[int, Field(ge=0, le=FLAT_MAX)] | None = Field(
        None, description="A base variant, by its place in the grid: ranked or not, without stops."
    )


@dataclass(slots=True, eq=False)
class StrategyService:
    """The strategies of the service, over the database of its context."""

    context: AppContext
    engine: AsyncEngine
    settings: StrategySettings
    store: StrategyStore = field(init=False)
    runs: RunStore = field(init=False)

    def __post_init__(self) -> None:
        self.store, self.runs = StrategyStore(self.engine), RunStore(self.engine)

    @property
    def rules(self) -> SpecRules:
        """What specifications are held to."""
        return SpecRules(self.settings, self.context.defaults)

    async def lookup(self, strategy_id: UUID) -> StoredStrategy | None:
        """A strategy as saved mode wants it; None where there is none."""
        with stored():
            found = await self.store.get(strategy_id)
        if found is None:
            return None
        return StoredStrategy(found.strategy_id, found.user_id, found.spec_json, found.spec_hash)

    async def create(self, body: object, user: User, key: str | None) -> tuple[Strategy, bool]:
        """(the strategy, whether it is new) of a specification.

        Raises: InvalidInput, QuotaExceeded, IdempotencyConflict.
        """
        spec = await threaded(spec_of, body, self.rules)
        draft = Draft(spec, payload=_kinds(spec))
        return await self._made(draft, user, await threaded(_sent, "create", body, key))

    async def clone(self, body: object, user: User, key: str | None) -> tuple[Strategy, bool]:
        """(the strategy, whether it is new) of another one, or of a whole specification.

        Raises: InvalidInput, StrategyNotFound, ForeignStrategy, QuotaExceeded,
        IdempotencyConflict.
        """
        request = parsed(_Clone, body)
        if (request.source_strategy_id is None) == (request.template is None):
            raise invalid(
                BOTH_OR_NEITHER, "invalid_source", "body.source_strategy_id", "body.template"
            )
        changes = _changes(request.overrides)
        copied: str | None = None
        lineage: Record | None = None
        if request.template is not None:
            sent, at = {**request.template}, "body.template"
            if changes:  # what is replaced is checked, too
                await threaded(spec_of, sent, self.rules, at)
        else:
            assert request.source_strategy_id is not None
            with stored():
                found = await self.store.owned(request.source_strategy_id, user.user_id)
            sent, at = request_of(found.spec_json), "body"
            copied = str(found.strategy_id)
            lineage = {"kind": "strategy", "strategy_id": copied}
            if (found.spec_json.get("source") or {}).get("synthetic"):
                lineage["synthetic"] = True  # its settings were found on made-up candles, still
        if "instrument_id" in changes:
            sent = {k: v for k, v in sent.items() if k not in ("instrument_key", "market_type")}
        spec = await threaded(spec_of, {**sent, **changes}, self.rules, at, lineage)
        draft = Draft(
            spec,
            "strategy_cloned",
            {"source_strategy_id": copied, "override_keys": sorted(changes)},
        )
        return await self._made(draft, user, await threaded(_sent, "clone", body, key))

    async def save(self, body: object, user: User, key: str | None) -> tuple[Strategy, bool]:
        """(the strategy, whether it is new) of a variant: a row of a job, or one in full.

        Raises: InvalidInput, NotFound, Forbidden, Conflict, QuotaExceeded, IdempotencyConflict.
        """
        if isinstance(body, Mapping) and "job_id" in body:
            job, source, made_up = await self._of_job(parsed(JobRow, body), user)
        else:
            sent = await threaded(storable, body)
            wanted = await asked(sent, user, self.context.strategies, SavedReport)
            job, source = await threaded(_of_variant, wanted, self.context)
            made_up = None
        if made_up is None:  # no job has its candles; the store may know
            made_up = await self._generated(job)
        if made_up:
            source["synthetic"] = True
        spec = variant_spec(job, self.settings, source=source)
        draft = Draft(spec, payload=_kinds(spec))
        return await self._made(draft, user, await threaded(_sent, "save", body, key))

    async def _generated(self, job: Backtest) -> bool:
        """Whether a generator made candles that a back-test is over, as far as the store says."""
        market = self.context.market
        if market is None:
            return False
        try:
            return await market.read(lambda: market.generated(job))
        except StorageFailed:
            return False

    async def _of_job(self, row: JobRow, user: User) -> tuple[Backtest, Record, bool | None]:
        """(the back-test of one variant of a job, where it is from, whether a generator made its
        candles)."""
        names = ("rank", "variant_key", "flat_index")
        if sum(getattr(row, name) is not None for name in names) != 1:
            raise invalid(ONE_NAME, "mode_conflict", *(f"body.{name}" for name in names))
        jobs = self.context.running.get("jobs")
        if jobs is None:
            raise NotFound(
                "this service has no jobs; send the variant itself",
                details={"error": "jobs_not_enabled", "job_id": str(row.job_id)},
            )
        if row.flat_index is not None:
            base = await chosen(jobs, row.job_id, user, Place(flat_index=row.flat_index), "body")
            made = await self._variant(base.job, base.payload)
            source = _job_source(base.job, made) | {"flat_index": base.flat_index}
            return made, source, await jobs.generated(base.job)
        job, rows = await jobs.top(row.job_id, user, None)
        if row.rank is not None and job.active:
            raise Conflict(
                f"job {job.job_id} is {job.state} and its ranks may change; name the row by its"
                " variant_key, or wait",
                details={"error": "ranks_not_final", "job_id": str(job.job_id),
                         "state": job.state},
            )  # fmt: skip
        wanted = row.model_dump(include={"rank", "variant_key"}, exclude_none=True)
        found = next((one for one in rows if _is(one, wanted)), None)
        if found is None:
            raise NotFound(
                f"job {job.job_id} has no such row", details={"job_id": str(job.job_id), **wanted}
            )
        made = await self._variant(job, found.payload)
        source = _job_source(job, made)
        if source["variant_key"] != found.variant_key:
            raise StorageFailed(
                f"row {found.rank} of job {job.job_id} is another variant than its payload says",
                STORAGE_FAILED,
            )
        if not job.active:
            source["rank"] = found.rank
        return made, source, await jobs.generated(job)

    async def _variant(self, job: Job, payload: Record) -> Backtest:
        return await threaded(variant_backtest, job.effective_json, payload, self.context.defaults)

    async def _made(self, draft: Draft, user: User, sent: Sent | None) -> tuple[Strategy, bool]:
        with stored():
            return await self.store.create(
                draft, user.user_id, most=self.settings.max_strategies_per_user, sent=sent
            )


def _of_variant(wanted: Asked, context: AppContext) -> tuple[Backtest, Record]:
    """(the back-test of a variant sent in full, where it is from)."""
    job = report_task(wanted, context).job
    source = {"kind": "variant", **_keys(job)}
    if wanted.strategy is not None:
        source["strategy_id"] = str(wanted.strategy.strategy_id)
    return job, source


def _job_source(job: Job, made: Backtest) -> Record:
    return {
        "kind": "job",
        "job_id": str(job.job_id),
        **_keys(made),
        "candles_fingerprint": job.candles_fingerprint,
    }


def _keys(job: Backtest) -> Record:
    """The identity of the one variant of a back-test, and the range that it was found in."""
    keys = job.key_template()
    return {
        "variant_key": keys.variant_key(0, 0),
        "indicator_variant_key": keys.indicator_key(0),
        "time_range": {
            "start": instant(job.period.start_ms),
            "end": instant(job.period.end_ms),
        },
    }


def _is(row: TopRow, wanted: Mapping[str, object]) -> bool:
    return all(getattr(row, name) == value for name, value in wanted.items())


def _kinds(spec: Record) -> Record:
    return {name: spec[name] for name in ("schema_version", "spec_kind")}


def _changes(overrides: CloneOverrides | None) -> Record:
    """The members of a specification that overrides replace. Raises: InvalidRequest."""
    found: Record = {}
    if overrides is None:
        return found
    if overrides.timeframe is not None:
        try:
            found["timeframe"] = timeframe(overrides.timeframe).code
        except InvalidInput as error:
            raise invalid(error.message, "invalid_value", "body.overrides.timeframe") from None
    if overrides.instrument_id is not None:
        market_id, symbol = overrides.instrument_id.market_id, overrides.instrument_id.symbol
        at = "body.overrides.instrument_id"
        if market_id not in MARKETS:
            raise invalid(f"there is no market {market_id}", "invalid_value", f"{at}.market_id")
        try:
            symbol = Instrument(market_id, symbol).symbol
        except InvalidInput as error:
            raise invalid(error.message, "invalid_value", f"{at}.symbol") from None
        found["instrument_id"] = {"market_id": market_id, "symbol": symbol}
    return found


def _sent(operation: str, body: object, key: str | None) -> Sent | None:
    if key is None:
        return None
    document = canonical_json({"operation": operation, "body": body})
    return Sent(key, sha256(document).hexdigest())


@contextmanager
def stored() -> Iterator[None]:
    """Failures of the database inside as the API names them. Raises: StorageFailed."""
    try:
        with typed():
            yield
    except DatabaseFailed as error:
        raise StorageFailed(error.message, STORAGE_FAILED) from error
