"""The fill queue: what runs when, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import (
    ExchangeError,
    SchemaOutdated,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
)
from ingest.live.fills import Fill, FillQueue, FillSettings, FillTask, Reason
from ingest.metrics import FillMetrics
from ingest.rows import MINUTE_MS
from tests.ingest.live.virtual import VirtualTime, settled

ONE, TWO = Instrument(1, "AUSDT"), Instrument(1, "BUSDT")
LONG_AGO = 1_600_000_020_000


def task(
    instrument: Instrument = ONE, start: int = 0, minutes: int = 1, reason: Reason = "gap"
) -> FillTask:
    start_ms = LONG_AGO + start * MINUTE_MS
    return FillTask(instrument, Period(start_ms, start_ms + minutes * MINUTE_MS), reason)


def history(instrument: Instrument = ONE, start: int = 0, minutes: int = 1000) -> FillTask:
    return task(instrument, start, minutes, "bootstrap")


def overlap(one: FillTask, other: FillTask) -> bool:
    mine, theirs = one.period, other.period
    return one.instrument == other.instrument and (
        mine.start_ms < theirs.end_ms and theirs.start_ms < mine.end_ms
    )


class Gate:
    """A fill that waits until it is let through, and notes who runs together."""

    def __init__(self) -> None:
        self.began: list[FillTask] = []
        self.running: list[FillTask] = []
        self.gates: dict[FillTask, asyncio.Future[FillTask | None]] = {}

    async def __call__(self, task: FillTask) -> FillTask | None:
        assert not any(overlap(task, one) for one in self.running)
        self.began.append(task)
        self.running.append(task)
        self.gates[task] = asyncio.get_running_loop().create_future()
        try:
            return await self.gates[task]
        finally:
            self.running.remove(task)

    async def let(
        self, task: FillTask, error: Exception | None = None, left: FillTask | None = None
    ) -> None:
        gate = self.gates.pop(task)
        if error is None:
            gate.set_result(left)
        else:
            gate.set_exception(error)
        await settled()


class Case:
    """A queue with its time, gate and metrics."""

    def __init__(self, fill: Fill | None = None, **settings: object) -> None:
        self.registry = CollectorRegistry()
        self.time = VirtualTime()
        self.gate = Gate()
        self.queue = FillQueue(
            fill or self.gate,
            FillMetrics(self.registry),
            clock=self.time,
            settings=FillSettings(**settings),  # type: ignore[arg-type]
            sleep=self.time.sleep,
            jitter=lambda: 0.0,
        )

    def value(self, name: str) -> float:
        found = self.registry.get_sample_value(name, {"market_id": "1"})
        assert found is not None
        return found


def run(case: Case, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        case.queue.start()
        try:
            await story()
        finally:
            await case.queue.close()

    asyncio.run(told())


def test_equal_tasks_are_one_until_it_is_done() -> None:
    case = Case()

    async def story() -> None:
        assert case.queue.add(task())
        assert not case.queue.add(task())
        await settled()
        assert not case.queue.add(task())  # while it runs, too
        await case.gate.let(task())
        await case.queue.idle()
        assert case.queue.add(task())

    run(case, story)
    assert case.value("rest_fill_tasks_total") == 2


def test_ranges_that_overlap_take_turns_and_others_do_not_wait() -> None:
    case = Case(workers=3)
    first, second, other = task(ONE, 0, 10), task(ONE, 9), task(ONE, 10)

    async def story() -> None:
        for one in (first, second, other):
            case.queue.add(one)
        await settled()
        assert case.gate.running == [first, other]
        assert case.value("rest_fill_active") == 2
        await case.gate.let(first)
        assert case.gate.running == [other, second]
        await case.gate.let(second)
        await case.gate.let(other)
        await case.queue.idle()
        assert case.value("rest_fill_active") == 0
        assert case.value("rest_fill_pending") == 0

    run(case, story)


def test_no_more_run_than_there_are_workers_and_they_are_served_in_order() -> None:
    case = Case(workers=2, urgent_workers=0)
    tasks = [task(Instrument(1, f"S{n}USDT")) for n in range(6)]

    async def story() -> None:
        for one in tasks:
            case.queue.add(one)
        for at, one in enumerate(tasks):
            await settled()
            assert len(case.gate.running) == min(2, 6 - at)
            await case.gate.let(one)
        assert case.gate.began == tasks

    run(case, story)


def test_urgent_fills_go_before_history_and_have_a_worker_of_their_own() -> None:
    case = Case(workers=1)
    one, two = history(ONE), history(TWO)

    async def story() -> None:
        case.queue.add(one)
        case.queue.add(two)
        await settled()
        assert case.gate.running == [one]
        case.queue.add(task(ONE, 1000, reason="reconnect_tail"))
        case.queue.add(task(TWO, 1000, reason="scheduler_tail"))
        await settled()
        assert case.gate.running == [one, task(ONE, 1000, reason="reconnect_tail")]
        await case.gate.let(one)
        assert case.gate.running[1:] == [task(TWO, 1000, reason="scheduler_tail")]
        await case.gate.let(task(ONE, 1000, reason="reconnect_tail"))
        assert len(case.gate.running) == 1  # the worker for urgent ones leaves history alone
        await case.gate.let(task(TWO, 1000, reason="scheduler_tail"))
        assert case.gate.running == [two]

    run(case, story)


def test_what_is_left_of_a_history_goes_behind_those_that_wait() -> None:
    case = Case(workers=1, urgent_workers=0, retries=0)
    inside = task(ONE, 500)

    async def story() -> None:
        case.queue.add(history(ONE))
        case.queue.add(history(TWO))
        await settled()
        case.queue.add(inside)
        await settled()
        assert case.gate.running == [history(ONE)]  # the gap may be among what it fetches
        assert not case.queue.add(history(ONE))
        assert not case.queue.add(history(ONE, 0, 400))  # planned when a part was stored
        await case.gate.let(history(ONE), left=history(ONE, 0, 900))
        assert case.gate.running == [inside]
        await case.gate.let(inside)
        assert case.gate.running == [history(TWO)]
        await case.gate.let(history(TWO))
        assert case.gate.running == [history(ONE, 0, 900)]
        await case.gate.let(history(ONE, 0, 900), StoreUnavailable("down"))
        await case.time.pass_s(2.0)
        assert case.gate.running == [history(ONE, 0, 900)]  # what is left, not all of it again
        await case.gate.let(history(ONE, 0, 900))
        await case.queue.idle()
        assert case.queue.add(history(ONE, 0, 400))

    run(case, story)
    assert case.value("rest_fill_tasks_total") == 4


def test_a_full_queue_gives_up_the_oldest_and_history_first() -> None:
    case = Case(workers=1, urgent_workers=0, waiting=4)
    running, old, new = history(ONE), history(ONE, 2000), history(TWO)
    gaps = [task(TWO, 5000 + n) for n in range(5)]

    async def story() -> None:
        case.queue.add(running)
        await settled()
        assert all(case.queue.add(one) for one in (old, new, gaps[0]))
        assert not case.queue.add(history(TWO, 9000))
        assert [case.queue.add(gap) for gap in gaps[1:]] == [True] * 4
        assert len(case.queue) == 4
        await case.gate.let(running)
        for gap in gaps[2:]:  # the first two have given way as the histories had
            assert case.gate.running == [gap]
            await case.gate.let(gap)
        await case.queue.idle()
        assert case.queue.add(gaps[0])

    run(case, story)
    assert case.value("rest_fill_dropped_total") == 1 + 4 + 1  # the last at the end of the story
    assert case.value("rest_fill_pending") == 0


def test_a_fill_that_was_given_up_while_it_rested_does_not_come_back() -> None:
    case = Case(workers=1, urgent_workers=0, waiting=1, settle_ms=0)

    async def story() -> None:
        case.queue.add(task(ONE))
        await settled()
        await case.gate.let(task(ONE), StoreUnavailable("down"))
        assert case.queue.add(task(TWO))
        await settled()
        await case.gate.let(task(TWO))
        await case.time.pass_s(5.0)
        assert case.gate.running == []
        await case.queue.idle()

    run(case, story)


def test_what_an_operator_or_time_mends_is_tried_until_then() -> None:
    for error in (
        StoreUnavailable("down"),
        StoreRefused("wrong password"),
        SchemaOutdated("no table"),
        StoreFailed("no rights"),
        ExchangeError("busy", retryable=True),
    ):
        case = Case(retries=1)

        async def story(case: Case = case, error: Exception = error) -> None:
            case.queue.add(task())
            await settled()
            for _ in range(50):
                await case.gate.let(task(), error)
                assert case.gate.running == []
                await case.time.pass_s(120.0)
            await case.gate.let(task())
            await case.queue.idle()

        run(case, story)
        assert max(case.time.slept) == 120.0
        assert case.value("rest_fill_dropped_total") == 0


def test_an_exchange_that_is_gone_is_told_once_and_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(workers=2)
    both = [task(ONE), task(TWO)]

    async def story() -> None:
        for one in both:
            case.queue.add(one)
        await settled()
        for _ in range(4):
            for one in both:
                reason = f"kline for {one.instrument.symbol}: gone"
                await case.gate.let(one, ExchangeError(reason, retryable=True))
            await case.time.pass_s(16.0)
        for one in both:
            await case.gate.let(one)
        await case.queue.idle()

    with caplog.at_level("INFO", "ingest.live.fills"):
        run(case, story)
    failed, mended = (one.getMessage() for one in caplog.records)
    assert failed.startswith("fill gap of 1:AUSDT")
    assert failed.endswith("failed, again in 2.0 s: kline for AUSDT: gone")
    assert mended == "fills of market 1 succeed again"
    assert case.value("rest_fill_errors_total") == 8


def test_a_failed_fill_is_tried_again_later_and_given_up_at_last() -> None:
    case = Case(retries=2, backoff_s=(2.0, 3.0))

    async def story() -> None:
        case.queue.add(task())
        await settled()
        for pause_s in (2.0, 3.0):
            await case.gate.let(task(), RuntimeError("a fault of ours"))
            assert case.gate.running == []
            await case.time.pass_s(pause_s - 0.001)
            assert case.gate.running == []
            assert not case.queue.add(task())  # it is still known while it rests
            await case.time.pass_s(0.001)
            assert case.gate.running == [task()]
        await case.gate.let(task(), RuntimeError("a fault of ours"))
        await case.queue.idle()

    run(case, story)
    assert case.value("rest_fill_errors_total") == 3
    assert case.value("rest_fill_retries_total") == 2
    assert case.value("rest_fill_dropped_total") == 1


def test_a_rest_holds_up_nobody() -> None:
    case = Case(workers=1)

    async def story() -> None:
        case.queue.add(task(ONE, 0))
        case.queue.add(task(ONE, 9))
        await settled()
        await case.gate.let(task(ONE, 0), ExchangeError("busy", retryable=True))
        assert case.gate.running == [task(ONE, 9)]

    run(case, story)


def test_what_cannot_get_better_is_not_tried_again() -> None:
    for error in (ExchangeError("no such symbol", retryable=False), InvalidInput("no")):
        case = Case()

        async def story(case: Case = case, error: Exception = error) -> None:
            case.queue.add(task())
            await settled()
            await case.gate.let(task(), error)
            await case.queue.idle()

        run(case, story)
        assert case.value("rest_fill_retries_total") == 0


def test_a_minute_that_has_just_closed_gets_time_to_settle() -> None:
    case = Case(settle_ms=3000)
    now_ms = case.time.now_ms  # a whole minute
    fresh = FillTask(ONE, Period(now_ms - MINUTE_MS, now_ms), "reconnect_tail")
    future = FillTask(TWO, Period(now_ms, now_ms + 9 * MINUTE_MS), "gap")  # our clock is slow

    async def story() -> None:
        await case.time.pass_s(1.0)
        case.queue.add(fresh)
        case.queue.add(future)
        await case.time.pass_s(1.999)
        assert case.gate.began == []
        await case.time.pass_s(0.001)
        assert case.gate.began == [fresh]
        await case.time.pass_s(1.0)
        assert case.gate.began == [fresh, future]

    run(case, story)


def test_closing_drops_what_waits_and_stops_what_runs() -> None:
    case = Case(workers=1)

    async def story() -> None:
        for start in range(3):
            case.queue.add(task(ONE, start))
        case.queue.add(FillTask(TWO, Period(0, case.time.now_ms), "gap"))  # rests
        await settled()
        assert await case.queue.close() == 4
        assert case.gate.running == []
        assert not case.queue.add(task(ONE, 7))
        await case.queue.idle()

    run(case, story)
    assert case.value("rest_fill_dropped_total") == 4
    assert case.value("rest_fill_active") == 0
    assert case.value("rest_fill_pending") == 0
