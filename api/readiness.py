"""Whether the parts of the service can do their work, asked of each once at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from api.context import AppContext

CHECK_S: Final = 2.0

Check = Callable[[], Awaitable[str | None]]
"""What keeps a part from working, in words; None when nothing does."""


class Readiness:
    """The checks of a service; a check that still runs is not started again."""

    def __init__(self, checks: dict[str, Check], check_s: float = CHECK_S) -> None:
        self._checks = checks
        self._check_s = check_s
        self._running: dict[str, asyncio.Task[str | None]] = {}

    async def record(self) -> dict[str, Any]:
        """`{status, checks}`; the status is ready when every part is ok."""
        reasons = await asyncio.gather(*(self._reason(name) for name in self._checks))
        found = {name: reason or "ok" for name, reason in zip(self._checks, reasons, strict=True)}
        return {"status": "not ready" if any(reasons) else "ready", "checks": found}

    async def _reason(self, name: str) -> str | None:
        task = self._running.get(name)
        if task is None or task.done():
            task = self._running[name] = asyncio.ensure_future(_reason(self._checks[name]))
        done, _ = await asyncio.wait((task,), timeout=self._check_s)
        return task.result() if done else f"no answer within {self._check_s:g} s"


async def _reason(check: Check) -> str | None:
    try:
        return await check()
    except Exception as error:
        return str(error) or type(error).__name__


def readiness(context: AppContext) -> Readiness:
    """The checks of what `context` has: candle store, PostgreSQL, directory of results."""
    checks: dict[str, Check] = {"candle_store": lambda: _candle_store(context)}
    if context.engine is not None:
        checks["postgres"] = lambda: _postgres(context)
    if context.results_dir is not None:
        directory = context.results_dir
        checks["results_dir"] = lambda: _results_dir(directory)
    return Readiness(checks)


async def _candle_store(context: AppContext) -> str | None:
    market = context.market
    if market is None:
        return "there is none"
    alive = await market.read(market.db.ping)
    return None if alive else f"the store at {market.db.settings.place} does not answer"


async def _postgres(context: AppContext) -> str | None:
    from sqlalchemy import text

    assert context.engine is not None
    async with context.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return None


async def _results_dir(directory: Path) -> str | None:
    # On a thread: a mount whose server is gone answers never.
    return await anyio.to_thread.run_sync(_usable, directory, abandon_on_cancel=True)


def _usable(directory: Path) -> str | None:
    from cluster.jobs.durable import there

    if not there(directory):
        return f"{directory} is not the directory of results any more; is it mounted?"
    usable = os.access(directory, os.W_OK | os.X_OK)
    return None if usable else f"{directory} is no directory that can be written to"
