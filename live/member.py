"""A run at work: its evaluation, and what each step of it is written down as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from compute.backtest import Backtest
from compute.market.candles import Candles
from compute.results import ENGINE_VERSION
from ingest.rows import MINUTE_MS
from live.evaluation import Bar, Course, Evaluation
from live.ledger import Outcome, ms_of
from live.output import Source, moment_text
from live.paper import SIDES, Account, Position, Trade
from live.strategies.runs import Run

SIGNALS: Final = {1: "long", -1: "short", 0: "neutral"}
_COURSE: Final = ("anchor_ms", "earliest_ms", "trading_from_ms")


@dataclass(slots=True)
class Member:
    """One run as its worker knows it; `run` is its row, `live` what it is evaluated with."""

    run: Run
    source: Source
    live: Evaluation

    @classmethod
    def resumed(cls, run: Run, source: Source, job: Backtest, account: Account | None) -> Member:
        """The run before its next minute; its history has still to be replayed."""
        course = course_of(run) or Course.begun(job, ms_of(run.started_at) or 0)
        return cls(run, source, Evaluation(job, course, account))

    @property
    def checkpoint_ms(self) -> int | None:
        """The last minute that was committed."""
        return ms_of(self.run.checkpoint_ts_open)

    def advance(self, minutes: Candles, until_ms: int) -> Outcome:
        """What the minutes up to `until_ms` make of it."""
        before = self.live.account.vote
        bars = self.live.advance(minutes, until_ms)
        events: list[tuple[str, Mapping[str, Any]]] = []
        for bar in bars:
            vote = self.live.trading.allowed(bar.step.vote)
            events += told(bar, vote, before, self.live.job.timeframe.ms)
            before = vote
        return Outcome(
            self.run,
            self.source,
            until_ms - MINUTE_MS,
            self.metadata(),
            self._states(),
            bars,
            self.live.account if bars else None,
            events,
        )

    def metadata(self) -> dict[str, Any]:
        """Warm-up, rollup and course, as users see them and a restart reads them."""
        live, frame = self.live, self.live.job.timeframe
        bars, need = live.bars, live.job.warmup_bars
        opened = live.next_ms // frame.ms * frame.ms
        course = live.course
        return {
            "warmup": {
                "algorithm": "warmup_bars", "bars": need, "processed_bars": min(bars, need),
                "satisfied": live.warm,
            },
            "rollup": {
                "timeframe": frame.code,
                "bucket_open_ts": moment_text(opened) if live.pending else None,
                "bucket_count_1m": live.pending,
            },
            "live": {
                **{name: getattr(course, name) for name in _COURSE},
                "engine_version": ENGINE_VERSION,
            },
        }  # fmt: skip

    def _states(self) -> list[str]:
        states = ["warming_up"] if self.run.state == "starting" else []
        waits = states or self.run.state == "warming_up"
        return [*states, "running"] if waits and self.live.warm else states


def course_of(run: Run) -> Course | None:
    """The course that a run was given when it was first taken up."""
    stored = run.metadata_json.get("live") or {}
    if not {"anchor_ms", "earliest_ms"} <= set(stored):
        return None
    return Course(*(stored.get(name) for name in _COURSE))  # type: ignore[arg-type]


def told(bar: Bar, vote: int, before: int, frame_ms: int) -> list[tuple[str, Mapping[str, Any]]]:
    """The events of a bar: a position that ended, one that began, a vote that changed."""
    step = bar.step
    found: list[tuple[str, Mapping[str, Any]]] = []
    at = {"bar_ts": moment_text(step.bar_ms), "close_ts": moment_text(step.bar_ms + frame_ms)}
    if vote != before:
        found.append(("signal", {**at, "signal": SIGNALS[vote], "price": bar.close}))
    if step.closed is not None:
        found.append(("trade_close", {**at, **_closed(step.closed), "equity": step.equity}))
    if step.opened is not None:
        found.append(("trade_open", {**at, **_opened(step.opened), "equity": step.equity}))
    return found


def _closed(trade: Trade) -> dict[str, Any]:
    return {
        "trade_id": trade.number, "side": SIDES[trade.side], "price": trade.exit_fill,
        "reason": trade.reason, "net_pnl_quote": trade.net,
    }  # fmt: skip


def _opened(position: Position) -> dict[str, Any]:
    return {
        "side": SIDES[position.side], "price": position.fill, "qty_base": position.quantity,
        "entry_quote_amount": position.quote,
    }  # fmt: skip
