"""The button of a service without candles: it stores the sample, and shows how far that is."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.context import Context
from api.market import market_of
from api.pages.coverage import has_sample, sample_panel
from api.pages.rendering import part
from api.pages.routes.build import SentForm
from api.pages.visitor import Visitor

router = APIRouter()


@router.post("/_partial/sample")
async def begun(user: Visitor, context: Context, form: SentForm) -> Response:
    """Begins to store the sample, unless that is under way."""
    market_of(context.market).sample.begin(context.now_ms())
    return part("_sample.html", sample_panel(context, here=True))


@router.get("/_partial/sample")
async def followed(user: Visitor, context: Context, here: bool = False) -> Response:
    """How far it is, and the way to the form when it is there; `here` it was asked for."""
    load = market_of(context.market).sample
    is_stored = not load.is_on and await has_sample(context)
    return part("_sample.html", sample_panel(context, here=here, is_stored=is_stored))
