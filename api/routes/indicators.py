"""Indicators: what there is, what a grid of them takes, tensors."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.bodies import JsonBody, check_axes
from api.context import AppContext, Context
from api.envelope import JSON, errors, json_response
from api.indicators import registry_record
from api.openapi import body_of
from api.running import computed, threaded
from api.schemas import examples
from api.schemas.indicators import EstimateTotals, IndicatorList, TensorFacts
from api.sync import TENSOR
from api.sync_tasks import TensorTask, encoded
from api.users import CurrentUser
from compute.indicator_requests import (
    ComputeRequest,
    EstimateRequest,
    indicator_estimate,
    parsed,
    tensor_job,
)

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


def _tensor_task(body: object, context: AppContext) -> TensorTask:
    check_axes(parsed(ComputeRequest, body), context.api)
    return TensorTask(tensor_job(body, context.limits), context.limits)
