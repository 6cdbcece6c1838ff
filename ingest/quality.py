"""Quality of stored candles: what is there, what is not, and what looks odd.

A report covers a period of one instrument. It is computed month by month, so memory does not grow
with the period, and kept in `quality_reports`, where the newest of an instrument is its state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from compute.errors import NoMarketData
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.reports import record
from ingest.rows import DAY_MS, MINUTE_MS, TIME, floor_minute
from ingest.slices import slices
from ingest.stores.candles import CandleStore
from ingest.stores.gaps import GapLedger

SHOWN: Final = 20
"""Gaps, runs and outliers that a report names; it counts all of them."""
ZERO_RUN_MINUTES: Final = 60
"""Minutes without volume in a row, from which on they are a run worth naming."""
OUTLIER_RATIO: Final = 30.0
OUTLIER_LEAST: Final = 0.01
_PART_DAYS: Final = 31

_SCHEMA: Final = pa.schema(
    [
        ("market_id", pa.uint16()),
        ("symbol", pa.string()),
        ("period_start", TIME),
        ("period_end", TIME),
        *((name, pa.uint64()) for name in ("expected_minutes", "present_minutes")),
        *((name, pa.uint64()) for name in ("missing_minutes", "gaps", "duplicates")),
        *((name, pa.uint64()) for name in ("zero_volume_runs", "outliers")),
        ("fingerprint", pa.string()),
        ("report", pa.string()),
        ("created_at", TIME),
    ]
)


@dataclass(frozen=True, slots=True)
class Range:
    """So many minutes in a row."""

    start_ms: int
    minutes: int


@dataclass(frozen=True, slots=True)
class Outlier:
    """A candle that stands out of its day.

    `kind` is `range` for its own height, log(high / low), and `jump` for the step from the close
    of the minute before, where that is stored; `size` is that, and `usual` the median of it on the
    day.
    """

    ts_open_ms: int
    kind: str
    size: float
    usual: float


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Coverage, gaps, duplicates, minutes without volume and outliers of a period.

    A gap is a range of missing minutes, over midnight too. `absent_minutes` of the missing are
    those that the exchange does not have. `duplicates` are raw rows beyond the first of their
    minute, as repeated loads leave them; the newest counts. An outlier is more than `OUTLIER_RATIO`
    times the median of its day and more than `OUTLIER_LEAST`. `synthetic_minutes` a generator made.
    The longest gaps and runs and the largest outliers are named, ascending in time; the others are
    `…_not_shown`.
    """

    instrument_id: Instrument
    time_range: Period
    created_at_ms: int
    expected_minutes: int
    present_minutes: int
    missing_minutes: int
    absent_minutes: int
    coverage_pct: float
    gaps: int
    longest_gap_minutes: int
    duplicates: int
    zero_volume_minutes: int
    zero_volume_runs: int
    outliers: int
    synthetic_minutes: int
    fingerprint: str
    gaps_shown: list[Range]
    gaps_not_shown: int
    zero_volume_runs_shown: list[Range]
    zero_volume_runs_not_shown: int
    outliers_shown: list[Outlier]
    outliers_not_shown: int


def quality(
    store: CandleStore,
    instrument: Instrument,
    *,
    clock: Callable[[], int],
    period: Period | None = None,
    shown: int | None = SHOWN,
) -> QualityReport:
    """The quality of an instrument's candles, from the first to the last one if no period is given.
    Of gaps, runs and outliers so many are named as are `shown`; None is all.

    Raises:
        NoMarketData: no candle is stored.
        StoreFailed: the store failed.
    """
    now_ms = clock()
    whole = _asked(store, instrument, period, floor_minute(now_ms))
    here: list[Period] = []
    silent: list[Period] = []
    outliers: list[Outlier] = []
    present = 0
    last: tuple[int, float] | None = None
    for part in slices(whole, _PART_DAYS):
        candles = store.candles(instrument, part)
        times = candles.ts_open_ms
        present += len(times)
        here += gaps.runs(times)
        silent += gaps.runs(times[candles.volume == 0])
        if len(times):
            outliers += _outliers(candles, last)
            last = int(times[-1]), float(candles.close[-1])
    missing = gaps.without([whole], here)
    zero = [one for one in gaps.merged(silent) if one.duration_ms >= ZERO_RUN_MINUTES * MINUTE_MS]
    absent = GapLedger(store.db).absent(instrument, whole)
    expected = whole.duration_ms // MINUTE_MS
    return QualityReport(
        instrument_id=instrument,
        time_range=whole,
        created_at_ms=now_ms,
        expected_minutes=expected,
        present_minutes=present,
        missing_minutes=gaps.minutes_in(missing),
        absent_minutes=sum(gaps.minutes_in(gaps.within(missing, one)) for one in absent),
        coverage_pct=100 * present / expected,
        gaps=len(missing),
        longest_gap_minutes=max((gaps.minutes_in([one]) for one in missing), default=0),
        duplicates=store.duplicates(instrument, whole),
        zero_volume_minutes=gaps.minutes_in(silent),
        zero_volume_runs=len(zero),
        outliers=len(outliers),
        synthetic_minutes=store.synthetic(instrument, whole),
        fingerprint=store.fingerprint(instrument, whole),
        gaps_shown=_longest(missing, shown),
        gaps_not_shown=_left(missing, shown),
        zero_volume_runs_shown=_longest(zero, shown),
        zero_volume_runs_not_shown=_left(zero, shown),
        outliers_shown=_largest(outliers, shown),
        outliers_not_shown=_left(outliers, shown),
    )


def keep(store: CandleStore, report: QualityReport) -> None:
    """Stores a report beside the candles."""
    row: dict[str, Any] = {
        "market_id": report.instrument_id.market_id,
        "symbol": report.instrument_id.symbol,
        "period_start": report.time_range.start_ms,
        "period_end": report.time_range.end_ms,
        "report": json.dumps(record(report), allow_nan=False),
        "created_at": report.created_at_ms,
    }
    row |= {name: getattr(report, name) for name in _SCHEMA.names if name not in row}
    store.db.insert("quality_reports", pa.Table.from_pylist([row], schema=_SCHEMA))


def kept(store: CandleStore, instrument: Instrument, limit: int = 1) -> list[dict[str, Any]]:
    """The records of the newest `limit` reports of an instrument, newest first."""
    rows = store.db.rows(
        "SELECT report FROM quality_reports "
        "WHERE market_id = {market_id:UInt64} AND symbol = {symbol:String} "
        "ORDER BY created_at DESC LIMIT {limit:UInt32}",
        {"market_id": instrument.market_id, "symbol": instrument.symbol, "limit": limit},
    )
    return [json.loads(row[0]) for row in rows]


def _asked(
    store: CandleStore, instrument: Instrument, period: Period | None, closed_ms: int
) -> Period:
    """The whole minutes to report on. Raises: NoMarketData."""
    bounds = store.bounds(instrument)
    if bounds is None:
        raise NoMarketData(
            f"{instrument} has no stored candle; load some with `roehub ingest backfill-1m`"
        )
    if period is None:
        return Period(bounds[0], bounds[1] + MINUTE_MS)
    # What is to come is not missing yet.
    end_ms = min(period.end_ms, max(closed_ms, bounds[1] + MINUTE_MS))
    whole = (
        gaps.whole_minutes(Period(period.start_ms, end_ms)) if period.start_ms < end_ms else None
    )
    if whole is None:
        raise NoMarketData(f"no minute has closed yet in {period}")
    return whole


def _outliers(candles: Candles, last: tuple[int, float] | None) -> list[Outlier]:
    """The outliers of ascending candles; `last` is the open and the close of the one before."""
    times = candles.ts_open_ms
    closes = candles.close.astype(np.float64)
    height = np.log(candles.high.astype(np.float64) / candles.low)
    before_ms, before = last or (int(times[0]), closes[0])
    jump = np.abs(np.diff(np.log(closes), prepend=np.log(before)))
    # Over a gap a price may go anywhere: a step is one from minute to minute.
    near = np.diff(times, prepend=before_ms) == MINUTE_MS
    return [
        Outlier(int(opens[row]), kind, float(sizes[row]), usual)
        for kind, opens, sizes in (("range", times, height), ("jump", times[near], jump[near]))
        for row, usual in _standing_out(opens, sizes)
    ]


def _standing_out(
    times: NDArray[np.int64], sizes: NDArray[np.float64]
) -> Iterator[tuple[int, float]]:
    """Rows that are far above the median of their day, and that median."""
    bounds = np.flatnonzero(np.diff(times // DAY_MS, prepend=-1, append=-1))
    for start, stop in pairwise(bounds.tolist()):
        usual = float(np.median(sizes[start:stop]))
        least = max(OUTLIER_LEAST, OUTLIER_RATIO * usual)
        for row in np.flatnonzero(sizes[start:stop] > least):
            yield int(start + row), usual


def _left(found: Sequence[object], shown: int | None) -> int:
    return 0 if shown is None else max(0, len(found) - shown)


def _longest(ranges: list[Period], shown: int | None) -> list[Range]:
    chosen = sorted(ranges, key=lambda one: -one.duration_ms)[:shown]
    return [
        Range(one.start_ms, one.duration_ms // MINUTE_MS)
        for one in sorted(chosen, key=lambda one: one.start_ms)
    ]


def _largest(outliers: list[Outlier], shown: int | None) -> list[Outlier]:
    chosen = sorted(outliers, key=lambda one: -one.size)[:shown]
    return sorted(chosen, key=lambda one: (one.ts_open_ms, one.kind))
