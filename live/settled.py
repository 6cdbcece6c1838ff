"""Which minutes are settled: there, known to be absent, or waited for long enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compute.market.period import Period
from compute.market.timeframe import Timeframe
from ingest.rows import MINUTE_MS

PATIENCE_MS: Final = 600_000
"""How long after the close of its bar a missing minute is waited for."""


def given_up_ms(timeframe: Timeframe, now_ms: int) -> int:
    """Minutes before this one are waited for no longer."""
    return (now_ms - PATIENCE_MS) // timeframe.ms * timeframe.ms


def settled_until(
    there: NDArray[np.int64], absent: Sequence[Period], next_ms: int, waited_ms: int
) -> int:
    """The first minute from `next_ms` on that is not settled yet; `next_ms` itself if it is not.

    `there` i8[n] are the opens of minutes from `next_ms` on, ascending, `absent` ranges that have
    none. Those before `waited_ms` that are neither are waited for no longer.
    """
    stop_ms = max(int(there[-1]) + MINUTE_MS if len(there) else next_ms, waited_ms, next_ms)
    stop_ms = max([stop_ms, *(gap.end_ms for gap in absent)])
    known = np.zeros((stop_ms - next_ms) // MINUTE_MS, np.bool_)
    known[(there - next_ms) // MINUTE_MS] = True
    known[: max(0, waited_ms - next_ms) // MINUTE_MS] = True
    for gap in absent:
        first, last = ((edge - next_ms) // MINUTE_MS for edge in (gap.start_ms, gap.end_ms))
        known[max(0, first) : max(0, last)] = True
    unknown = np.flatnonzero(~known)
    return next_ms + (int(unknown[0]) if len(unknown) else len(known)) * MINUTE_MS
