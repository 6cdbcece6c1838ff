"""A run within its request: slot, candles, worker, deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio.to_thread
from fastapi import Request, Response

from api.context import AppContext
from api.envelope import JSON
from api.market import market_of
from api.metrics import started
from compute.errors import Cancelled

if TYPE_CHECKING:
    from api.market import Market
    from api.sync_tasks import Task
    from compute.market.candles import Candles

BRIEF_PATIENCE_S: Final = 20.0
"""Of a run that takes but a moment itself: it waits rather than be refused."""

Returned = TypeVar("Returned")


async def threaded(call: Callable[..., Returned], *arguments: Any) -> Returned:
    """What `call` returns, made on a thread: it may take longer than an event loop can wait."""
    return await anyio.to_thread.run_sync(call, *arguments)


async def computed(
    request: Request,
    context: AppContext,
    kind: str,
    load: Callable[[Market], tuple[Task, Candles]],
    *,
    patience_seconds: float = 0.0,
) -> Response:
    """The response of the task over the candles that `load` gives.

    Where all places are taken it waits for one for `patience_seconds`.

    Raises: TooManyRequests, Unavailable, StorageFailed, NoMarketData, Cancelled, and whatever the
    task raises.
    """
    market = market_of(context.market)
    found = await answered(
        request,
        context,
        kind,
        lambda: market.read(lambda: load(market)),
        patience_seconds=patience_seconds,
    )
    return Response(found, media_type=JSON)


async def answered(
    request: Request,
    context: AppContext,
    kind: str,
    load: Callable[[], Awaitable[tuple[Task, Candles]]],
    *,
    patience_seconds: float = 0.0,
) -> bytes:
    """The JSON of the task over the candles that `load` gives, once there is a slot for it.

    Raises: TooManyRequests, Cancelled, whatever `load` and the task raise.
    """
    deadline = started(request.scope) + context.sync.sync_deadline_seconds
    await context.pool.room(patience_seconds)
    with context.pool.slot(kind) as slot:
        try:
            async with asyncio.timeout(deadline - asyncio.get_running_loop().time()):
                task, candles = await load()
        except TimeoutError:
            raise Cancelled("deadline_exceeded", "candles") from None
        return await slot.result(
            task, candles, deadline=deadline, disconnected=request.is_disconnected
        )
