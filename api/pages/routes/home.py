"""The first page: what there is, what was done last, and where to begin."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api.context import AppContext
from api.pages.coverage import held, instruments, is_bare, sample_panel
from api.pages.rendering import page
from api.pages.routes.strategies import last_strategies
from api.pages.visitor import Somebody
from api.routes.jobs import jobs_of
from api.routes.strategies import service_of
from cluster.jobs.listing import ALL
from compute.report.facts import MARKETS
from ingest.sample import INSTRUMENT as SAMPLE

router = APIRouter()
_LAST: Final = 5
_SHOWN: Final = 6
"""Most instruments whose candles are told; a store may have hundreds."""


@router.get("/")
async def home(request: Request, user: Somebody) -> Response:
    """What is stored and the last jobs and strategies of a user; of a stranger what this is."""
    context: AppContext = request.app.state.context
    values: dict[str, Any] = {"jobs": [], "strategies": [], "load": None, "stored": None}
    if user is not None and "jobs" in context.running:
        values["jobs"] = (await (await jobs_of(request)).page(user, ALL, _LAST, None)).record()[
            "items"
        ]
        if context.market is not None and await is_bare(context):
            values |= sample_panel(context)
        elif context.market is not None:
            values["stored"] = await context.market.read(lambda: _stored(context))
    if user is not None and "strategies" in context.running:
        values["strategies"] = await last_strategies(service_of(request), user, _LAST)
    return page(request, "home.html", user, values)


def _stored(context: AppContext) -> dict[str, Any]:
    """The first instruments that have candles, and how many more there are; blocks."""
    assert context.market is not None
    found = instruments(context)
    shown = [held(context.market.candle_store, one) for one in found[:_SHOWN]]
    return {
        "items": [one for one in shown if one is not None],
        "more": len(found) - len(shown),
        "markets": MARKETS,
        "sample": SAMPLE,
    }
