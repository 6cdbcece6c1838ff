"""What a job of a request will take: the checks of its creation, and its plan, without a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from api.bodies import check_axes
from api.context import AppContext
from api.market import MINUTE, Market, no_market_data
from api.running import BRIEF_PATIENCE_S, computed, threaded
from api.sync import ESTIMATE
from cluster.columns import MAX_ROWS
from cluster.estimates import Estimate, bars_of, timeline_bars, untimed
from cluster.jobs.snapshot import check_top_k
from compute.backtest import Backtest, resolve
from compute.cautions import GENERATED, ignored
from compute.control import Control, Report
from compute.market.timeline import load_window
from compute.request import parse_request
from compute.settings import Limits

if TYPE_CHECKING:
    from compute.executor import LocalExecutor
    from compute.market.candles import Candles


def job_backtest(body: Mapping[str, Any], context: AppContext) -> Backtest:
    """The back-test that a job of `body`, in template mode, would run.

    Raises: InvalidRequest, InvalidGrid, GuardExceeded, RejectedRequest, another InvalidInput.
    """
    request = parse_request(body)
    check_axes(request, context.api)
    check_top_k(request, context.defaults)
    return resolve(request, context.defaults, context.indicator_defaults)


async def estimate(job: Backtest, market: Market, context: AppContext) -> Estimate:
    """The `Estimate` of a job without its seconds; of the candles only the ends are looked at.

    Raises: NoMarketData, another InvalidInput; StorageFailed.
    """
    load = load_window(job.period, job.timeframe, job.warmup_bars, MINUTE)

    def looked_at() -> tuple[int, bool]:
        found = market.candle_store.bounds(job.instrument, load.end_ms, load.start_ms)
        if found is None or found[1] + MINUTE.ms <= job.period.start_ms:
            raise no_market_data(job.instrument, job.period, market.bounds(job.instrument))
        return found[0], market.generated(job)

    first_ms, generated = await market.read(looked_at)
    bars, traded = bars_of(job, first_ms)
    workers = context.cpu.threads()
    found = await threaded(_sized, job, bars, traded, context.limits, workers)
    return replace(found, cautions=[*([GENERATED] if generated else []), *ignored(job)])


async def timed_estimate(request: Request, job: Backtest, context: AppContext) -> Response:
    """The estimate of a job with its seconds, found by a worker within this request and kept.

    Raises: TooManyRequests, Unavailable, StorageFailed, NoMarketData, another InvalidInput.
    """

    def load(market: Market) -> tuple[EstimateTask, Candles]:
        return EstimateTask(job, context.limits, market.generated(job)), market.candles(job)

    answer = await computed(request, context, ESTIMATE, load, patience_seconds=BRIEF_PATIENCE_S)
    context.measured.keep(job, json.loads(bytes(answer.body)))
    return answer


def _sized(job: Backtest, bars: int, traded: int, limits: Limits, workers: int) -> Estimate:
    return untimed(job, bars, traded, limits, workers, columns=job.grid.total <= MAX_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class EstimateTask:
    """The estimate of a job with its seconds, timed on its own candles by a worker."""

    job: Backtest
    limits: Limits
    generated: bool = False

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        from api.sync_tasks import bars_of as timeline_of
        from compute.cautions import cautions
        from compute.probe import forecast

        bars = timeline_of(self.job, candles, generated=self.generated)
        found = _sized(self.job, *timeline_bars(bars), self.limits, executor.workers)
        found = replace(found, cautions=cautions(self.job, bars))
        if found.refusal is None:
            made = forecast(self.job, bars, found.plan, executor.workers, control=control)
            found = replace(found, forecast=made)
        return found.record()
