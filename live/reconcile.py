"""What a run did, held against the back-test of the candles that are stored now.

Both are the same code over the same minutes, so they agree to the bit; where they do not, the
minutes were others then, or the code was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.errors import NoMarketData
from compute.exact import REASONS
from compute.market.candles import Candles
from compute.market.period import Period
from ingest.rows import MINUTE_MS
from live.batch import Batch, batch
from live.evaluation import Course
from live.output import moment_text

MOST: Final = 100
"""Differences that a report lists, the first ones; all are counted."""
BADGES: Final = ("exact", "different", "unchecked")
MONEY: Final = (
    "entry_fill", "exit_fill", "entry_quote", "exit_quote", "entry_fee", "exit_fee", "gross", "net",
    "locked",
)  # fmt: skip
BAR: Final = np.dtype([("ms", "i8"), ("vote", "i1"), ("equity", "f8"), ("digest", "i8")])
TRADE: Final = np.dtype(
    [("entry_ms", "i8"), ("exit_ms", "i8"), ("side", "i1"), ("reason", "U16")]
    + [(name, "f8") for name in MONEY]
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A bar or trade that is another in the back-test, and why; `cause` is one of `live.causes`."""

    kind: str
    ts: str
    live: Any
    backtest: Any
    cause: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How far a run agrees with its back-test, up to `until_ms`; `differing` counts all.

    `until_ms` is None where there is nothing to compare yet.
    """

    run_id: UUID
    until_ms: int | None = None
    bars: int = 0
    trades: int = 0
    differing: int = 0
    differences: Sequence[Difference] = ()

    @property
    def exact(self) -> bool:
        """Whether there is no difference at all."""
        return self.differing == 0

    @property
    def badge(self) -> str:
        """One of `BADGES`."""
        if self.until_ms is None:
            return "unchecked"
        return "exact" if self.exact else "different"

    def record(self) -> dict[str, Any]:
        """The JSON-able report."""
        return {
            "run_id": str(self.run_id),
            "badge": self.badge,
            "until": None if self.until_ms is None else moment_text(self.until_ms),
            "bars": self.bars,
            "trades": self.trades,
            "differing": self.differing,
            "differences": [asdict(one) for one in self.differences],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What a run did, as it is stored: arrays of `BAR` and `TRADE`, in their order."""

    bars: NDArray[np.void]
    trades: NDArray[np.void]

    def until(self, close_ms: int, frame_ms: int) -> Done:
        """What it did on bars that closed by then."""
        opened_ms = close_ms - frame_ms
        return Done(
            self.bars[self.bars["ms"] <= opened_ms],
            self.trades[self.trades["exit_ms"] <= opened_ms],
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """Bars and trades up to `until_ms` that were compared, and the first that differ, by time:
    each `kind`, `ms`, `live`, `backtest`. Plain values, so that JSON holds it."""

    until_ms: int | None
    bars: int = 0
    trades: int = 0
    differing: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What a run did on its course, to be compared with the back-test of `job`; can be pickled."""

    job: Backtest
    course: Course
    done: Done

    @property
    def period(self) -> Period:
        """The minutes that it needs."""
        return Period(self.course.anchor_ms, int(self.done.bars["ms"][-1]) + self.job.timeframe.ms)

    def compared(self, minutes: Candles) -> Compared:
        """The comparison over the stored `minutes` of `period`, as far as they reach: a candle may
        be traded on a moment before it is stored. Raises: NoMarketData, InvalidCandles.
        """
        start_ms, frame_ms = self.course.trading_from_ms, self.job.timeframe.ms
        assert start_ms is not None
        if not len(minutes):
            raise NoMarketData(f"the store has no candle of {self.job.instrument} any more")
        stored_ms = int(minutes.ts_open_ms[-1]) + MINUTE_MS
        until_ms = min(self.period.end_ms, stored_ms // frame_ms * frame_ms)
        if until_ms < start_ms:
            return Compared(None)
        done = self.done.until(until_ms, frame_ms)
        expected = batch(self.job, self.course, minutes, until_ms)
        bars, trades = _bar_differences(done, expected), _trade_differences(done, expected)
        found = sorted([*bars[0], *trades[0]], key=lambda one: one["ms"])[:MOST]
        return Compared(until_ms, len(done.bars), len(done.trades), bars[1] + trades[1], found)


def _bar_differences(done: Done, expected: Batch) -> tuple[list[dict[str, Any]], int]:
    """(the first bars that differ, how many do)."""
    theirs = np.zeros(len(expected.bar_ms), BAR)
    theirs["ms"], theirs["vote"] = expected.bar_ms, expected.votes
    theirs["equity"] = expected.replay.equity
    times = np.union1d(done.bars["ms"], theirs["ms"])
    (mine, here), (other, there) = _placed(done.bars, times), _placed(theirs, times)
    voted = mine["vote"] != other["vote"]
    differing = np.flatnonzero((here != there) | voted | (mine["equity"] != other["equity"]))
    found: list[dict[str, Any]] = []
    for i in differing[:MOST]:
        kind = "vote" if voted[i] else "equity"
        if here[i] and there[i]:
            found.append(_found(kind, times[i], mine[kind][i].item(), other[kind][i].item()))
        else:
            both = ((mine, here), (other, there))
            had = [[rows["vote"][i].item(), rows["equity"][i].item()] if is_[i] else None
                   for rows, is_ in both]  # fmt: skip
            found.append(_found("bar", times[i], *had))
    return found, len(differing)


def _placed(
    bars: NDArray[np.void], times: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """(a bar for each of `times`, whether it is one of `bars`)."""
    here = np.isin(times, bars["ms"])
    rows = np.zeros(len(times), BAR)
    rows[here] = bars
    return rows, here


def _trade_differences(done: Done, expected: Batch) -> tuple[list[dict[str, Any]], int]:
    """(the first trades that differ, how many do), one by one in their order, to the bit."""
    trades, start = expected.replay.trades, expected.replay.start
    theirs = np.zeros(len(trades), TRADE)
    theirs["entry_ms"] = expected.bar_ms[np.asarray(trades.entry_bar, np.int64) - start]
    theirs["exit_ms"] = expected.bar_ms[np.asarray(trades.exit_bar, np.int64) - start]
    theirs["side"] = trades.side
    theirs["reason"] = np.array(REASONS)[np.asarray(trades.reason, np.int64)]
    for name in MONEY:
        theirs[name] = getattr(trades, name)
    mine = done.trades
    both = min(len(mine), len(theirs))
    differing = [
        *np.flatnonzero(mine[:both] != theirs[:both]),
        *range(both, max(len(mine), len(theirs))),
    ]
    found: list[dict[str, Any]] = []
    for i in differing[:MOST]:
        ours, other = (_trade(some[i]) if i < len(some) else None for some in (mine, theirs))
        ms = (mine if i < len(mine) else theirs)["exit_ms"][i]
        found.append(_found("trade", ms, ours, other))
    return found, len(differing)


def _trade(row: Any) -> dict[str, Any]:
    at = {f"{end}_bar": moment_text(int(row[f"{end}_ms"])) for end in ("entry", "exit")}
    return at | {name: row[name].item() for name in ("side", "reason", *MONEY)}


def _found(kind: str, ms: Any, live: Any, backtest: Any) -> dict[str, Any]:
    return {"kind": kind, "ms": int(ms), "live": live, "backtest": backtest}
