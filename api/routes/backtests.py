"""Searches that are answered within their request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from api.backtests import SavedReport, TemplateReport, backtest_task, report_task
from api.bodies import JsonBody
from api.context import Context
from api.envelope import errors, json_response
from api.estimates import estimate as estimate_of
from api.estimates import job_backtest, timed_estimate
from api.market import market_of
from api.openapi import body_of
from api.running import computed, threaded
from api.saved import SavedRequest, asked
from api.schemas import examples
from api.schemas.backtests import BacktestResult, EstimateBody, Report, RuntimeDefaults
from api.users import CurrentUser
from compute.request import BacktestRequest
from compute.settings import Defaults

if TYPE_CHECKING:
    from api.market import Market
    from api.sync_tasks import BacktestTask
    from compute.market.candles import Candles

router = APIRouter(prefix="/backtests", tags=["backtests"])

_RUN = errors(
    "unauthorized",
    "forbidden",
    "not_found",
    "payload_too_large",
    "unsupported_media_type",
    "validation_error",
    "too_many_requests",
    "unavailable",
)


@router.post(
    "",
    summary="Search a grid and wait for the answer",
    response_model=BacktestResult,
    response_model_exclude_unset=True,
    responses=_RUN,
    openapi_extra=body_of(BacktestRequest, SavedRequest, examples=examples.BACKTESTS),
)
async def search(request: Request, user: CurrentUser, context: Context, body: JsonBody) -> Response:
    """Computes a small grid within the request: half of the budgets of a job, and a deadline.

    Exactly one of `strategy_id` and `template` says what is run. A client that hangs up stops it.
    """
    wanted = await asked(body, user, context.strategies)
    task = await threaded(backtest_task, wanted, context)

    def load(market: Market) -> tuple[BacktestTask, Candles]:
        return replace(task, generated=market.generated(task.job)), market.candles(task.job)

    return await computed(request, context, "backtest", load)


@router.post(
    "/variant-report",
    summary="Tell one variant in full",
    response_model=Report,
    responses=_RUN,
    openapi_extra=body_of(TemplateReport, SavedReport, examples=examples.REPORTS),
)
async def variant_report(
    request: Request, user: CurrentUser, context: Context, body: JsonBody
) -> Response:
    """Scores one variant exactly as a search does, and tells its 25 rows and its trades.

    Instrument, timeframe and range come from the context, everything else from the variant.
    """
    wanted = await asked(body, user, context.strategies, SavedReport)
    task = await threaded(report_task, wanted, context)
    return await computed(
        request, context, "report", lambda market: (task, market.candles(task.job))
    )


@router.post(
    "/estimate",
    summary="What a job will take",
    response_model=EstimateBody,
    responses=_RUN,
    openapi_extra=body_of(BacktestRequest, SavedRequest, examples=examples.BACKTESTS),
)
async def estimate(
    request: Request,
    user: CurrentUser,
    context: Context,
    body: JsonBody,
    timed: Annotated[
        bool,
        Query(description="Whether its seconds are found, too: a piece of it is run for that."),
    ] = False,
) -> Response:
    """Holds a request to all that the creation of a job would hold it to, and counts what it takes.

    A guard that would refuse it is told in the answer, everything else as the creation tells it.
    """
    sent = await asked(body, user, context.strategies)
    job = await threaded(job_backtest, sent.body, context)
    if timed:
        return await timed_estimate(request, job, context)
    return json_response((await estimate_of(job, market_of(context.market), context)).record())


@router.get(
    "/runtime-defaults",
    summary="What a request that is silent gets",
    response_model=RuntimeDefaults,
    responses=errors("unauthorized", "forbidden"),
)
async def runtime_defaults(user: CurrentUser, context: Context) -> Response:
    """The defaults of this service, as they were when it started."""
    return json_response(defaults_record(context.defaults))


def defaults_record(defaults: Defaults) -> dict[str, object]:
    """The defaults as JSON; market ids are texts there."""
    fees = defaults.fee_pct_default_by_market_id
    return {
        "warmup_bars_default": defaults.warmup_bars_default,
        "top_k_default": defaults.top_k_default,
        "preselect_default": defaults.preselect_default,
        "top_trades_n_default": defaults.top_trades_n_default,
        "ranking": {
            "primary_metric_default": defaults.primary_metric_default,
            "secondary_metric_default": defaults.secondary_metric_default,
        },
        "execution": {
            "init_cash_quote_default": defaults.init_cash_quote_default,
            "fixed_quote_default": defaults.fixed_quote_default,
            "safe_profit_percent_default": defaults.safe_profit_percent_default,
            "slippage_pct_default": defaults.slippage_pct_default,
            "fee_pct_default_by_market_id": {str(market): fee for market, fee in fees.items()},
        },
        "jobs": {"top_k_persisted_default": defaults.top_k_persisted_default},
    }
