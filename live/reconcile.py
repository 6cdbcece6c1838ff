"""What a run did, held against the back-test of the candles that are stored now.

Both are the same code over the same minutes, so they agree to the bit; where they do not, the
minutes were others then, or the code was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.backtest import Backtest
from compute.market.candles import Candles
from compute.market.period import Period
from compute.results import ENGINE_VERSION
from ingest.rows import MINUTE_MS
from live.batch import Batch, batch
from live.evaluation import Course
from live.ledger import moment_of, ms_of
from live.member import course_of
from live.output import moment_text
from live.strategies.runs import Run
from live.tables import BARS, RECONCILIATIONS, TRADES

MOST: Final = 100
"""Differences that a report lists; all are counted."""
CAUSES: Final = ("late candle", "changed candle", "code version", "unexplained")


@dataclass(frozen=True, slots=True)
class Difference:
    """A bar or trade that is another in the back-test, and why; `cause` is one of `CAUSES`."""

    kind: str
    ts: str
    live: Any
    backtest: Any
    cause: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How far a run agrees with its back-test, up to its last bar; `differing` counts all."""

    run_id: UUID
    until_ms: int | None
    bars: int
    trades: int
    differing: int
    differences: Sequence[Difference]

    @property
    def exact(self) -> bool:
        """Whether there is no difference at all."""
        return self.differing == 0

    def record(self) -> dict[str, Any]:
        """The JSON-able report."""
        return {
            "run_id": str(self.run_id),
            "exact": self.exact,
            "until": None if self.until_ms is None else moment_text(self.until_ms),
            "bars": self.bars,
            "trades": self.trades,
            "differing": self.differing,
            "differences": [asdict(one) for one in self.differences],
        }


@dataclass(frozen=True, slots=True)
class History:
    """The candles of now: `candles` from the store, `written` when a minute was stored last and
    how many versions of it there are, in ms; both may block."""

    candles: Callable[[Period], Candles]
    written: Callable[[Period], Sequence[tuple[int, int, int]]]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a run did, as it is stored."""

    bars: Sequence[Any]
    trades: Sequence[Any]


async def done_by(connection: AsyncConnection, run_id: UUID) -> _Done:
    """Bars and closed trades of a run."""
    bars = select(BARS).where(BARS.c.run_id == run_id).order_by(BARS.c.bar_ts)
    trades = select(TRADES).where(TRADES.c.run_id == run_id).order_by(TRADES.c.number)
    return _Done(list(await connection.execute(bars)), list(await connection.execute(trades)))


def reconciled(run: Run, done: _Done, job: Backtest, history: History) -> Reconciliation:
    """`Reconciliation` of a run with `job`, its strategy. Blocks; raises what `history` raises."""
    course = course_of(run)
    if course is None or course.trading_from_ms is None or not done.bars:
        return Reconciliation(run.run_id, None, 0, 0, 0, ())
    frame_ms = job.timeframe.ms
    last_ms = (ms_of(done.bars[-1].bar_ts) or 0) + frame_ms
    candles = history.candles(Period(course.anchor_ms, last_ms))
    expected = batch(job, course, candles, last_ms)
    found = [*_bar_differences(done, expected), *_trade_differences(done, expected)]
    explained = _explained(found[:MOST], run, done, history, course, frame_ms)
    return Reconciliation(
        run.run_id, last_ms, len(done.bars), len(done.trades), len(found), explained
    )


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    bar_ms: int
    live: Any
    backtest: Any


def _bar_differences(done: _Done, expected: Batch) -> list[_Found]:
    ours = {ms_of(row.bar_ts) or 0: (row.vote, row.equity) for row in done.bars}
    theirs = {
        int(ms): (int(vote), float(equity))
        for ms, vote, equity in zip(
            expected.bar_ms, expected.votes, expected.replay.equity, strict=True
        )
    }
    found: list[_Found] = []
    for ms in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(ms), theirs.get(ms)
        if mine == other:
            continue
        if mine is None or other is None:
            found.append(_Found("bar", ms, mine, other))
        elif mine[0] != other[0]:
            found.append(_Found("vote", ms, mine[0], other[0]))
        else:
            found.append(_Found("equity", ms, mine[1], other[1]))
    return found


_MONEY: Final = (
    "entry_fill", "exit_fill", "entry_quote", "exit_quote", "entry_fee", "exit_fee", "gross", "net",
    "locked",
)  # fmt: skip


def _trade_differences(done: _Done, expected: Batch) -> list[_Found]:
    """Trades one by one, in their order; money is compared to the bit."""
    from compute.exact import REASONS

    trades, start = expected.replay.trades, expected.replay.start
    theirs = [
        {
            "side": int(trades.side[i]),
            "entry_bar": moment_text(int(expected.bar_ms[trades.entry_bar[i] - start])),
            "exit_bar": moment_text(int(expected.bar_ms[trades.exit_bar[i] - start])),
            "reason": REASONS[trades.reason[i]],
            **{name: float(getattr(trades, name)[i]) for name in _MONEY},
        }
        for i in range(len(trades))
    ]
    ours = [
        {
            "side": row.side,
            "entry_bar": moment_text(ms_of(row.entry_bar_ts)),
            "exit_bar": moment_text(ms_of(row.exit_bar_ts)),
            "reason": row.reason,
            **{name: getattr(row, name) for name in _MONEY},
        }
        for row in done.trades
    ]
    found: list[_Found] = []
    for i in range(max(len(ours), len(theirs))):
        mine = ours[i] if i < len(ours) else None
        other = theirs[i] if i < len(theirs) else None
        if mine != other:
            at = (mine or other or {})["exit_bar"]
            ms = int(np.datetime64(at.removesuffix("Z"), "ms").astype(np.int64))
            found.append(_Found("trade", ms, mine, other))
    return found


def _explained(
    found: Sequence[_Found],
    run: Run,
    done: _Done,
    history: History,
    course: Course,
    frame_ms: int,
) -> list[Difference]:
    """The differences with their cause: the first minute that was stored after it was needed."""
    if not found:
        return []
    stop_ms = max(one.bar_ms for one in found) + frame_ms
    written = history.written(Period(course.anchor_ms, stop_ms))
    committed = sorted(
        ((ms_of(row.bar_ts) or 0) + frame_ms, ms_of(row.committed_at) or 0) for row in done.bars
    )
    culprits = _too_late(written, committed)
    version = (run.metadata_json.get("live") or {}).get("engine_version")
    explained: list[Difference] = []
    for one in found:
        culprit = next((c for c in culprits if c[0] < one.bar_ms + frame_ms), None)
        if culprit is not None:
            cause = "changed candle" if culprit[1] > 1 else "late candle"
            detail = f"the minute of {moment_text(culprit[0])} was stored after it was needed"
        elif version != ENGINE_VERSION:
            cause, detail = "code version", f"it ran on {version}, this is {ENGINE_VERSION}"
        else:
            cause, detail = "unexplained", ""
        explained.append(
            Difference(one.kind, moment_text(one.bar_ms), one.live, one.backtest, cause, detail)
        )
    return explained


def _too_late(
    written: Sequence[tuple[int, int, int]], committed: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """(minute, versions) of those that were written after the bar they belong to was committed."""
    closes = np.array([close for close, _ in committed], np.int64)
    times = [at for _, at in committed]
    late: list[tuple[int, int]] = []
    for minute_ms, written_ms, versions in written:
        at = int(np.searchsorted(closes, minute_ms + MINUTE_MS))
        if at < len(times) and written_ms > times[at]:
            late.append((minute_ms, versions))
    return sorted(late)


async def keep(engine: AsyncEngine, found: Reconciliation) -> None:
    """Stores the report of a run instead of the one before."""
    values: Mapping[str, Any] = {
        "checked_at": func.clock_timestamp(),
        "until_ts": None if found.until_ms is None else moment_of(found.until_ms),
        "bars": found.bars,
        "trades": found.trades,
        "differences": found.differing,
        "report_json": found.record(),
    }
    query = insert(RECONCILIATIONS).values(run_id=found.run_id, **values)
    async with engine.begin() as connection:
        await connection.execute(
            query.on_conflict_do_update(index_elements=["run_id"], set_=dict(values))
        )


async def kept(
    connection: AsyncConnection, run_id: UUID
) -> tuple[datetime, Mapping[str, Any]] | None:
    """(when, report) of the last check of a run, None where there was none."""
    query = select(RECONCILIATIONS.c.checked_at, RECONCILIATIONS.c.report_json).where(
        RECONCILIATIONS.c.run_id == run_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.checked_at, row.report_json)
