"""The scheduler in virtual time: what runs when, what is planned, what errors do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import NoSeed, StoreUnavailable
from ingest.live.fills import FillQueue, FillSettings, FillTask
from ingest.metrics import FillMetrics, SchedulerMetrics
from ingest.rows import MINUTE_MS
from ingest.scheduler import CatchUp, History, Scheduler, SchedulerSettings, planned
from tests.ingest.live.virtual import VirtualTime, settled

NOW_MS = 1_700_000_040_000
EARLIEST_MS = NOW_MS - 1000 * MINUTE_MS
ONE, TWO, THREE = Instrument(1, "AUSDT"), Instrument(3, "BUSDT"), Instrument(4, "CUSDT")


def minute(number: int) -> int:
    return EARLIEST_MS + number * MINUTE_MS


class Duties:
    """Jobs that note when they ran."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.instruments: list[Instrument] = [ONE, TWO]
        self.stored: dict[Instrument, tuple[int, int] | None] = {}
        self.fail: dict[str, Exception] = {}
        self.ran: list[tuple[float, str]] = []
        self.together = 0
        self.most_together = 0
        self.hold: asyncio.Event | None = None

    async def _note(self, name: str) -> None:
        self.ran.append(((self.time.now_ms - NOW_MS) / 1000, name))
        if name in self.fail:
            raise self.fail[name]

    def times(self, name: str) -> list[float]:
        return [at for at, one in self.ran if one == name]

    async def sync_whitelist(self) -> None:
        await self._note("sync")

    async def enrich(self) -> None:
        await self._note("enrich")

    async def active(self) -> Sequence[Instrument]:
        await self._note("active")
        return self.instruments

    async def history(self, instrument: Instrument) -> History:
        await self._note(f"history {instrument}")
        return History(self.stored.get(instrument), EARLIEST_MS)

    async def catch_up(self, instrument: Instrument) -> CatchUp:
        await self._note(f"catch up {instrument}")
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0))
        finally:
            self.together -= 1
        return CatchUp(5, 4, 3, 2, 1, 6)


class Case:
    """A scheduler with its duties, its queue and its metrics."""

    def __init__(self, **settings: Any) -> None:
        self.time = VirtualTime(NOW_MS)
        self.duties = Duties(self.time)
        self.registry = CollectorRegistry()
        self.filled: list[FillTask] = []
        self.stop = asyncio.Event()
        self.queue = FillQueue(
            self._fill,
            FillMetrics(self.registry),
            clock=self.time,
            settings=FillSettings(settle_ms=0),
            sleep=self.time.sleep,
        )
        self.scheduler = Scheduler(
            self.duties,
            self.queue,
            SchedulerMetrics(self.registry),
            clock=self.time,
            settings=SchedulerSettings(
                **{"sync_whitelist_s": 60, "enrich_s": 400, "rest_insurance_catchup_s": 100}
                | settings
            ),
            sleep=self.time.sleep,
        )

    async def _fill(self, task: FillTask) -> None:
        self.filled.append(task)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def tell(case: Case, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        task = asyncio.create_task(case.scheduler.run(case.stop))
        await settled()
        await story()
        case.stop.set()
        await asyncio.wait_for(task, 30)

    asyncio.run(told())


def test_the_start_in_order_then_every_job_after_its_interval() -> None:
    case = Case()

    async def story() -> None:
        await case.time.pass_s(450)

    tell(case, story)
    duties = case.duties
    assert [name for at, name in duties.ran if at == 0] == [
        "sync", "enrich", "active", f"history {ONE}", f"history {TWO}",
    ]  # fmt: skip
    assert duties.times("sync") == [0, 60, 120, 180, 240, 300, 360, 420]
    assert duties.times("enrich") == [0, 400]
    assert duties.times(f"catch up {ONE}") == [100, 200, 300, 400]
    assert case.value("scheduler_job_runs_total", job="sync_whitelist") == 8
    assert case.value("scheduler_job_runs_total", job="startup_scan") == 1
    assert case.value("scheduler_job_runs_total", job="rest_insurance_catchup") == 4
    assert case.value("scheduler_job_duration_seconds_count", job="enrich") == 2
    assert case.value("scheduler_startup_scan_instruments_total", market_id="3") == 1


def test_the_scan_plans_all_reasons_and_the_hourly_pass_history_only() -> None:
    case = Case(tail_lookback_minutes=10)
    case.duties.stored = {ONE: (minute(200), minute(900)), TWO: None}

    async def story() -> None:
        assert case.scheduler.started
        assert case.filled == [
            FillTask(ONE, Period(minute(990), NOW_MS), "scheduler_tail"),
            FillTask(ONE, Period(EARLIEST_MS, minute(200)), "historical_backfill"),
            FillTask(ONE, Period(minute(901), minute(990)), "historical_backfill"),
            FillTask(TWO, Period(EARLIEST_MS, NOW_MS), "scheduler_bootstrap"),
        ]
        case.filled.clear()
        await case.time.pass_s(100)
        assert {task.reason for task in case.filled} == {
            "historical_backfill",
            "scheduler_bootstrap",
        }

    tell(case, story)
    labels = {"market_id": "1", "reason": "scheduler_tail"}
    assert case.value("scheduler_tasks_planned_total", **labels) == 1
    assert case.value("scheduler_tasks_enqueued_total", **labels) == 1


def test_a_plan_that_is_in_the_queue_already_is_planned_and_not_enqueued() -> None:
    case = Case()
    gate = asyncio.Event()

    async def hold(task: FillTask) -> None:
        await gate.wait()

    case.queue._fill = hold
    case.duties.instruments = [ONE]
    case.duties.stored = {ONE: (minute(200), minute(999))}

    async def story() -> None:
        await case.time.pass_s(250)

    tell(case, story)
    labels = {"market_id": "1", "reason": "historical_backfill"}
    assert case.value("scheduler_tasks_planned_total", **labels) == 3
    assert case.value("scheduler_tasks_enqueued_total", **labels) == 1


def test_errors_are_counted_and_stop_nothing() -> None:
    case = Case()
    case.duties.instruments = [ONE, TWO, THREE]
    case.duties.fail = {
        "sync": StoreUnavailable("down"),
        "enrich": RuntimeError("a fault of ours"),
        f"history {ONE}": StoreUnavailable("down"),
        f"catch up {TWO}": NoSeed("no candle"),
        f"catch up {THREE}": StoreUnavailable("down"),
    }

    async def story() -> None:
        await case.time.pass_s(105)

    tell(case, story)
    for job in ("sync_whitelist", "enrich", "startup_scan", "rest_insurance_catchup"):
        runs = case.value("scheduler_job_runs_total", job=job)
        assert case.value("scheduler_job_errors_total", job=job) == runs >= 1
    assert {task.instrument for task in case.filled} == {TWO, THREE}  # planned all the same
    name = "scheduler_rest_catchup_instruments_total"
    assert case.value(name, market_id="1", status="ok") == 1
    assert case.value(name, market_id="3", status="skipped_no_seed") == 1
    assert case.value(name, market_id="4", status="failed") == 1
    assert case.value("scheduler_rest_catchup_tail_minutes_total", market_id="1") == 5
    assert case.value("scheduler_rest_catchup_gap_rows_written_total", market_id="1") == 6


def test_a_job_that_fails_is_tried_again_soon_and_then_ever_more_rarely() -> None:
    case = Case(rest_insurance_catchup_s=10_000, sync_whitelist_s=200, enrich_s=25)
    case.duties.instruments = [ONE]
    case.duties.fail = {
        name: StoreUnavailable("down") for name in ("sync", "enrich", f"history {ONE}")
    }

    async def story() -> None:
        await case.time.pass_s(100)
        assert case.filled == []
        case.duties.fail.clear()
        await case.time.pass_s(300)

    tell(case, story)
    duties = case.duties
    assert duties.times("sync") == [0, 10, 30, 70, 150, 350]
    assert duties.times("enrich")[:6] == [0, 10, 30, 55, 80, 105]  # never later than its interval
    assert duties.times(f"history {ONE}") == [0, 10, 30, 70, 150]  # until it has succeeded
    assert [task.instrument for task in case.filled] == [ONE]


def test_who_fails_alone_does_not_have_all_others_asked_again() -> None:
    case = Case(rest_insurance_catchup_s=100, sync_whitelist_s=1e6, enrich_s=1e6)
    case.duties.instruments = [ONE, TWO]
    case.duties.fail = {f"catch up {TWO}": StoreUnavailable("down")}

    async def story() -> None:
        await case.time.pass_s(305)
        case.duties.fail[f"catch up {ONE}"] = StoreUnavailable("down")
        await case.time.pass_s(200)

    tell(case, story)
    assert case.duties.times(f"catch up {ONE}") == [100, 200, 300, 400, 410, 430, 470]


def test_instruments_that_come_with_a_later_whitelist_are_planned_by_the_scan() -> None:
    case = Case(rest_insurance_catchup_s=10_000)
    case.duties.instruments, case.duties.fail = [], {"sync": StoreUnavailable("down")}

    async def story() -> None:
        await case.time.pass_s(5)
        case.duties.instruments = [ONE]
        case.duties.fail.clear()
        await case.time.pass_s(100)

    tell(case, story)
    assert case.duties.times(f"history {ONE}") == [10]
    assert [task.instrument for task in case.filled] == [ONE]


def test_what_fails_alike_is_told_once_with_when_it_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(rest_insurance_catchup_s=3600, sync_whitelist_s=1e6, enrich_s=1e6)
    names = [f"{letter}USDT" for letter in "ABCDEFGH"]
    case.duties.instruments = [Instrument(n, name) for n in (1, 3) for name in names]
    gone = {
        f"history {one}": StoreUnavailable(f"kline for {one.symbol}: no network")
        for one in case.duties.instruments
    }
    case.duties.fail = dict(gone)

    async def story() -> None:
        case.duties.fail.clear()
        await case.time.pass_s(3600)

    with caplog.at_level("INFO", "ingest.scheduler"):
        tell(case, story)
    lines = [one.getMessage() for one in caplog.records]
    assert [one for one in lines if "could not be planned: " in one] == [
        f"{n}:AUSDT could not be planned: kline for AUSDT: no network;"
        " others of its market that fail alike are only counted"
        for n in (1, 3)
    ]
    assert (
        "job startup_scan failed, again in 10 s: 16 of 16 instruments could not be planned" in lines
    )
    assert [one for one in lines if "again" in one and "all" in one.split()] == [
        f"all instruments of market {n} can be planned again" for n in (1, 3)
    ]


def test_the_hourly_pass_takes_so_many_instruments_at_once_and_rests_between() -> None:
    case = Case(concurrency=2, inter_instrument_delay_s=2.0, sync_whitelist_s=10_000)
    case.duties.instruments = [Instrument(1, f"S{n}") for n in range(5)]

    async def story() -> None:
        await case.time.pass_s(110)

    tell(case, story)
    assert case.duties.most_together == 2
    times = [case.duties.times(f"catch up {one}")[0] for one in case.duties.instruments]
    assert times == [100, 100, 102, 102, 104]


def test_a_stop_does_not_wait_for_a_job_that_runs() -> None:
    case = Case()
    case.duties.hold = asyncio.Event()

    async def story() -> None:
        await case.time.pass_s(100)
        assert case.duties.together == 2

    tell(case, story)
    assert case.duties.together == 0


def test_a_stop_during_the_start() -> None:
    case = Case()

    async def sync() -> None:
        await asyncio.Event().wait()

    case.duties.sync_whitelist = sync  # type: ignore[method-assign]

    async def story() -> None:
        assert await case.scheduler.trouble() == "the jobs of the start are not through"

    tell(case, story)
    assert case.duties.ran == []


@given(
    stored=st.none() | st.tuples(st.integers(-50, 1100), st.integers(0, 400)),
    lookback=st.integers(1, 2000),
)
def test_planned_ranges_do_not_overlap_and_lie_outside_what_is_stored(
    stored: tuple[int, int] | None, lookback: int
) -> None:
    bounds = None if stored is None else (minute(stored[0]), minute(sum(stored)))
    tasks = planned(ONE, History(bounds, EARLIEST_MS), NOW_MS, lookback)
    wanted = set(range(EARLIEST_MS, NOW_MS, MINUTE_MS))
    if bounds is not None:
        wanted -= set(range(bounds[0], bounds[1] + 1, MINUTE_MS))
    asked: list[int] = []
    for task in tasks:
        asked += range(task.period.start_ms, task.period.end_ms, MINUTE_MS)
    assert asked == sorted(set(asked))
    assert set(asked) <= wanted
    assert wanted - set(asked) <= {EARLIEST_MS}  # a single first minute may be left out
    assert bounds is not None or wanted == set(asked)
    tail_ms = NOW_MS - lookback * MINUTE_MS
    assert all(task.period.start_ms >= tail_ms for task in tasks if task.urgent)


def test_nothing_is_planned_before_history_may_begin() -> None:
    assert planned(ONE, History(None, NOW_MS), NOW_MS, 10) == []
