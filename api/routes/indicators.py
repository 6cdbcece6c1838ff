"""Indicators: what there is, what a grid of them takes, tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from api.bodies import JsonBody, check_axes
from api.context import AppContext, Context
from api.envelope import JSON, errors, json_response
from api.indicators import registry_record
from api.openapi import body_of
from api.previews import PreviewTask, preview_candles
from api.running import BRIEF_PATIENCE_S, computed, threaded
from api.schemas import examples
from api.schemas.indicators import EstimateTotals, IndicatorList, PreviewSeries, TensorFacts
from api.sync import PREVIEW, TENSOR
from api.sync_tasks import TensorTask, encoded
from api.users import CurrentUser
from compute.indicator_requests import (
    ComputeRequest,
    EstimateRequest,
    indicator_estimate,
    parsed,
    tensor_job,
)
from compute.preview import PreviewRequest, preview_job

if TYPE_CHECKING:
    from api.market import Market
    from compute.market.candles import Candles

router = APIRouter(prefix="/indicators", tags=["indicators"])

_LISTED = "indicator_list"
_BODY = ("payload_too_large", "unsupported_media_type", "validation_error")


@router.get(
    "",
    summary="All indicators with bounds, defaults and voting rules",
    response_model=IndicatorList,
    responses=errors(),
)
async def listed(context: Context) -> Response:
    """The registry; it does not change while the service runs."""
    text = context.running.get(_LISTED)
    if text is None:
        text = encoded(await threaded(registry_record, context.indicator_defaults))
        context.running[_LISTED] = text
    return Response(text, media_type=JSON)


@router.post(
    "/estimate",
    summary="What a grid of indicators takes",
    response_model=EstimateTotals,
    responses=errors(*_BODY),
    openapi_extra=body_of(EstimateRequest, examples=examples.ESTIMATES),
)
async def estimate(context: Context, body: JsonBody) -> Response:
    """Counts variants and bytes; reads no candles."""
    return json_response(await threaded(_estimate, body, context))


def _estimate(body: object, context: AppContext) -> dict[str, object]:
    check_axes(parsed(EstimateRequest, body), context.api)
    return indicator_estimate(body, context.limits)


@router.post(
    "/compute",
    summary="Compute one indicator over stored minutes",
    response_model=TensorFacts,
    responses=errors("unauthorized", "forbidden", *_BODY, "too_many_requests", "unavailable"),
    openapi_extra=body_of(ComputeRequest, examples=examples.TENSORS),
)
async def compute(
    request: Request, user: CurrentUser, context: Context, body: JsonBody
) -> Response:
    """Computes every variant over every minute, and tells shape and time; no value leaves."""
    task = await threaded(_tensor_task, body, context)
    job = task.job
    return await computed(
        request,
        context,
        TENSOR,
        lambda market: (task, market.candle_store.candles(job.instrument, job.period)),
    )


@router.post(
    "/preview",
    summary="One setting of an indicator, to be drawn",
    response_model=PreviewSeries,
    responses=errors("unauthorized", "forbidden", *_BODY, "too_many_requests", "unavailable"),
    openapi_extra=body_of(PreviewRequest, examples=examples.PREVIEWS),
)
async def preview(
    request: Request, user: CurrentUser, context: Context, body: JsonBody
) -> Response:
    """Candles, the series of one setting and its votes, put together to as many points as wanted.

    Of an axis with several values the middle one is taken.
    """
    task = await threaded(_preview_task, body, context)

    def load(market: Market) -> tuple[PreviewTask, Candles]:
        candles, generated = preview_candles(task.job, market, context.api.max_candles)
        return replace(task, generated=generated), candles

    return await computed(request, context, PREVIEW, load, patience_seconds=BRIEF_PATIENCE_S)


def _preview_task(body: object, context: AppContext) -> PreviewTask:
    check_axes(parsed(PreviewRequest, body), context.api)
    return PreviewTask(preview_job(body, context.indicator_defaults))


def _tensor_task(body: object, context: AppContext) -> TensorTask:
    check_axes(parsed(ComputeRequest, body), context.api)
    return TensorTask(tensor_job(body, context.limits), context.limits)
