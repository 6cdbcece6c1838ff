"""Why a run differs from its back-test: other minutes, or another engine.

Each bar has the digest of its minutes. The first one whose minutes are others in the store by now
accounts for what differs from it on, for indicators and money carry it on; what differs before is
of an engine that the run was on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.market.candles import Candles
from compute.market.period import Period
from compute.results import ENGINE_VERSION
from ingest.rows import MINUTE_MS
from ingest.slices import slices
from live.digests import Digests
from live.minutes import Minutes
from live.output import moment_text
from live.reconcile import Compared, Comparison, Difference

CAUSES: Final = (
    "late candle", "changed candle", "repair", "missing candle", "code version", "unexplained",
)  # fmt: skip
_AT_ONCE_DAYS: Final = 30  # minutes whose versions are looked at in one go
_REPAIRS: Final = ("rest", "file")  # sources of candles that were not there, or not right, live

Written = Callable[[Period], Sequence[tuple[int, int, int, str]]]
"""(minute, when it was stored last, versions, source of the newest) of a period, ascending."""
Absent = Callable[[Period], Sequence[Period]]
"""The minutes of a period that the exchange does not have."""


def explained(
    compared: Compared,
    comparison: Comparison,
    minutes: Candles,
    live: Mapping[str, Any],
    written: Written,
    absent: Absent,
) -> list[Difference]:
    """The differences with their causes. `live` is what the run's metadata say of it; `written`
    and `absent` may block, and are asked only where a candle is another one."""
    if not compared.found:
        return []
    frame_ms = comparison.job.timeframe.ms
    changed, of_minutes = _changed(compared, comparison, minutes), ("", "")
    if changed is not None:
        gone_on = [Period(*edges) for edges in (live.get("without") or {}).get("ranges", ())]
        of_minutes = _of_minutes(changed, minutes, gone_on, written, absent)
    engines = live.get("engine_versions", ())
    other = next(((ms, one) for ms, one in engines if one != ENGINE_VERSION), None)
    told: list[Difference] = []
    for one in compared.found:
        close_ms = one["ms"] + frame_ms
        if changed is not None and changed.end_ms <= close_ms:
            cause, detail = of_minutes
        elif other is not None and other[0] < close_ms:
            since = moment_text(other[0])
            cause = "code version"
            detail = f"it ran on {other[1]} from {since} on, this is {ENGINE_VERSION}"
        else:
            cause, detail = "unexplained", ""
        values = one["live"], one["backtest"], cause, detail
        told.append(Difference(one["kind"], moment_text(one["ms"]), *values))
    return told


def _changed(compared: Compared, comparison: Comparison, minutes: Candles) -> Period | None:
    """The minutes of the first bar that are not those that it was made of."""
    assert compared.until_ms is not None
    frame_ms = comparison.job.timeframe.ms
    bars = comparison.done.until(compared.until_ms, frame_ms).bars
    closes = bars["ms"] + frame_ms
    mine, stored = bars["digest"], Digests().closed(minutes, closes)
    differing = np.flatnonzero((mine != stored) & (mine != 0))
    if not len(differing):
        return None
    i = int(differing[0])
    start_ms = comparison.course.anchor_ms if i == 0 else int(closes[i - 1])
    return Period(start_ms, int(closes[i]))


def _of_minutes(
    period: Period,
    minutes: Candles,
    gone_on: Sequence[Period],
    written: Written,
    absent: Absent,
) -> tuple[str, str]:
    """The cause of other minutes in `period`, and which one. The run has `gone_on` without some."""
    stored = Minutes(minutes, [*gone_on, *absent(period)])
    late = _inside(stored.between(period.start_ms, period.end_ms).ts_open_ms, gone_on)
    if len(late):
        ms = int(late[0])
        ((*_, source),) = written(Period(ms, ms + MINUTE_MS)) or (("",),)
        cause = "repair" if source in _REPAIRS else "late candle"
        return cause, f"the minute of {moment_text(ms)} was stored after the run went on without it"
    missing = stored.missing(period.start_ms, period.end_ms)
    if len(missing):
        return "missing candle", f"the store has no candle of {moment_text(int(missing[0]))}"
    again = [row for part in slices(period, _AT_ONCE_DAYS) for row in written(part) if row[2] > 1]
    if again:
        ms, _, _, source = max(again, key=lambda row: row[1])
        cause = "repair" if source in _REPAIRS else "changed candle"
        return cause, f"the minute of {moment_text(ms)} was stored again with other values"
    edges = moment_text(period.start_ms), moment_text(period.end_ms)
    return "changed candle", f"a minute of {edges[0]} to {edges[1]} is another one"


def _inside(times: NDArray[np.int64], periods: Sequence[Period]) -> NDArray[np.int64]:
    """Those of `times` that lie in one of the periods."""
    inside = np.zeros(len(times), np.bool_)
    for one in periods:
        inside |= (times >= one.start_ms) & (times < one.end_ms)
    return times[inside]
