"""A run at work: its evaluation, and what each step of it is written down as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.results import ENGINE_VERSION
from ingest.rows import MINUTE_MS, floor_minute
from live.evaluation import Bar, Course, Evaluation
from live.gaps import Gap, Without
from live.ledger import Stored
from live.minutes import Minutes
from live.outcomes import Event, Outcome, ms_of
from live.output import Source, moment_text
from live.paper import SIDES, Account, Position, Trade
from live.strategies.runs import Run, RunStatus

SIGNALS: Final = {1: "long", -1: "short", 0: "neutral"}
_COURSE: Final = ("anchor_ms", "earliest_ms", "trading_from_ms")


@dataclass(slots=True)
class Member:
    """One run as its worker knows it; `run` is its row, `live` what it is evaluated with.

    `without` are the minutes since its anchor that it went on without; `versions` the engines that
    it ran on, each from a minute; `dropped` the candles of the feed that came too late for it.
    """

    run: RunStatus
    source: Source
    live: Evaluation
    without: Without
    gap: Gap | None = None
    versions: list[tuple[int, str]] = field(default_factory=list)
    dropped: int = 0

    @classmethod
    def resumed(cls, stored: Stored, source: Source, job: Backtest, course: Course) -> Member:
        """The run before the first minute of its course; its history has still to be replayed."""
        run = stored.run
        account = None if stored.account is None else Account.of_record(stored.account)
        gap = run.metadata_json.get("gap")
        known = (run.metadata_json.get("live") or {}).get("without")
        checkpoint_ms = ms_of(run.checkpoint_ts_open)
        if known is not None:
            without = Without.of_record(known)
        else:
            without = Without(
                course.anchor_ms if checkpoint_ms is None else checkpoint_ms + MINUTE_MS
            )
        return cls(
            run,
            source,
            Evaluation(job, course, account),
            without,
            None if gap is None else Gap.of_record(gap),
            _versions(run, course),
        )

    def lacking(self, minutes: Minutes, until_ms: int) -> NDArray[np.int64]:
        """The next minutes up to `until_ms` that it has seen and that are not among `minutes`."""
        gone = minutes.gone(max(self.live.next_ms, self.without.from_ms), until_ms)
        return gone[~self.without.among(gone)]

    def replay(self, minutes: Minutes, until_ms: int) -> None:
        """Goes through minutes up to `until_ms` again, of those that came later none."""
        here = minutes.between(self.live.next_ms, until_ms)
        late = self.without.among(here.ts_open_ms)
        self.live.replay(here.take(~late) if late.any() else here, until_ms)

    def seed(self, minutes: Minutes, until_ms: int) -> None:
        """Goes through history up to `until_ms` for the first time; nothing of it is traded on."""
        self.without = self.without.and_those(minutes.gone(self.live.next_ms, until_ms))
        self.live.replay(minutes.between(self.live.next_ms, until_ms), until_ms)

    @property
    def checkpoint_ms(self) -> int | None:
        """The last minute that was committed."""
        return ms_of(self.run.checkpoint_ts_open)

    @property
    def begun_ms(self) -> int:
        """The minute that it was started in: earlier ones are history, which nobody misses."""
        return begun_ms(self.run)

    def miss(self, gap: Gap) -> Outcome:
        """What is told of a gap that begins; the run stays where it is."""
        self.gap = gap
        at_ms = self.checkpoint_ms
        return Outcome(self.run, self.source, at_ms, self.metadata(), events=[gap.opened()])

    def advance(
        self, minutes: Minutes, until_ms: int, attempts: int, missed: Gap | None = None
    ) -> Outcome:
        """What the minutes up to `until_ms` make of it.

        `missed` is a gap that begins now; `attempts` were made to find its minutes.
        """
        before = self.live.account.vote
        events = self._waited(minutes, until_ms, attempts, missed)
        bars = self.live.advance(minutes.between(self.live.next_ms, until_ms), until_ms)
        for bar in bars:
            vote = self.live.trading.allowed(bar.step.vote)
            events += told(bar, vote, before, self.live.job.timeframe.ms)
            before = vote
        return Outcome(
            self.run,
            self.source,
            until_ms - MINUTE_MS if until_ms > self.live.course.anchor_ms else None,
            self.metadata(),
            self._states(),
            bars,
            self.live.account if bars else None,
            events,
            dropped=self.dropped,
        )

    def _waited(
        self, minutes: Minutes, until_ms: int, attempts: int, missed: Gap | None
    ) -> list[Event]:
        """What is told of a gap that begins or ends, or of minutes given up without one."""
        gone = minutes.gone(self.live.next_ms, until_ms)
        if not len(gone) and self.gap is None and missed is None:
            return []
        self.without = self.without.and_those(gone)
        from_ms = max(self.live.next_ms, self.begun_ms)
        lost = minutes.missing(from_ms, until_ms)
        gap = self.gap or missed
        if gap is None:
            gap = missed = Gap.found(minutes, from_ms, until_ms)
        if gap is None:
            return []
        told = [] if missed is None else [missed.opened()]
        gap = gap.passed(lost)
        self.gap = gap if until_ms < gap.to_ms else None
        return told if self.gap else [*told, gap.ended(attempts)]

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
                "engine_versions": self.versions,
                "without": self.without.record(),
            },
            **({} if self.gap is None else {"gap": self.gap.record()}),
        }  # fmt: skip

    def _states(self) -> list[str]:
        states = ["warming_up"] if self.run.state == "starting" else []
        waits = states or self.run.state == "warming_up"
        return [*states, "running"] if waits and self.live.warm else states


def begun_ms(run: RunStatus) -> int:
    """The minute that a run was started in."""
    return floor_minute(ms_of(run.started_at) or 0)


def course_of(run: Run) -> Course | None:
    """The course that a run was given when it was first taken up."""
    stored = run.metadata_json.get("live") or {}
    if not {"anchor_ms", "earliest_ms"} <= set(stored):
        return None
    return Course(*(stored.get(name) for name in _COURSE))  # type: ignore[arg-type]


def _versions(run: Run, course: Course) -> list[tuple[int, str]]:
    """The engines that a run has been on, this one the last."""
    stored = run.metadata_json.get("live") or {}
    found = [(ms, version) for ms, version in stored.get("engine_versions", [])]
    if not found and "engine_version" in stored:  # as it was written before
        found = [(course.anchor_ms, stored["engine_version"])]
    if not found or found[-1][1] != ENGINE_VERSION:
        last_ms = ms_of(run.checkpoint_ts_open)
        found.append((course.anchor_ms if last_ms is None else last_ms + MINUTE_MS, ENGINE_VERSION))
    return found


def told(bar: Bar, vote: int, before: int, frame_ms: int) -> list[Event]:
    """The events of a bar: a position that ended, one that began, a vote that changed."""
    step = bar.step
    found: list[Event] = []
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
