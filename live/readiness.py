"""Whether what a runner stands on is there, with patience for what is gone for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

Check = Callable[[], Awaitable[str | None]]
"""What keeps a part from working, in words; None when nothing does."""

PATIENCE_S: Final = 15.0
_ANSWER_S: Final = 1.5
"""Less than whoever asks would wait for all checks."""


class Patient:
    """A check that fails when it has done so for `patience_s`, or was never good."""

    def __init__(
        self,
        check: Check,
        patience_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check, self._clock = check, clock
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._failing_since: float | None = None
        self._was_good = False
        self._asked: asyncio.Task[str | None] | None = None

    async def reason(self) -> str | None:
        """What is wrong for that long; a check that still runs is not started again."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(self._answer())
        done, _ = await asyncio.wait((self._asked,), timeout=_ANSWER_S)
        reason = self._asked.result() if done else f"no answer within {_ANSWER_S:g} s"
        if reason is None:
            self._was_good, self._failing_since = True, None
            return None
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        lasts = now - self._failing_since >= self._patience_s
        return reason if lasts or not self._was_good else None

    async def _answer(self) -> str | None:
        try:
            return await self._check()
        except Exception as error:
            return str(error) or type(error).__name__
