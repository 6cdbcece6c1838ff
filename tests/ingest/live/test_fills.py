"""The fill queue: what runs when, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import ExchangeError, StoreUnavailable
from ingest.live.fills import Fill, FillQueue, FillSettings, FillTask
from ingest.metrics import FillMetrics
from ingest.rows import MINUTE_MS
from tests.ingest.live.virtual import VirtualTime, settled

ONE, TWO = Instrument(1, "AUSDT"), Instrument(1, "BUSDT")
LONG_AGO = 1_600_000_020_000


def task(instrument: Instrument = ONE, start: int = 0, minutes: int = 1) -> FillTask:
    start_ms = LONG_AGO + start * MINUTE_MS
    return FillTask(instrument, Period(start_ms, start_ms + minutes * MINUTE_MS), "gap")


class Gate:
    """A fill that waits until it is let through, and notes who runs together."""

    def __init__(self) -> None:
        self.began: list[FillTask] = []
        self.running: list[FillTask] = []
        self.gates: dict[FillTask, asyncio.Future[None]] = {}

    async def __call__(self, task: FillTask) -> None:
        assert task.instrument not in [one.instrument for one in self.running]
        self.began.append(task)
        self.running.append(task)
        self.gates[task] = asyncio.get_running_loop().create_future()
        try:
            await self.gates[task]
        finally:
            self.running.remove(task)

    async def let(self, task: FillTask, error: Exception | None = None) -> None:
        gate = self.gates.pop(task)
        if error is None:
            gate.set_result(None)
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


def test_ranges_of_one_instrument_take_turns_and_others_do_not_wait() -> None:
    case = Case(workers=3)
    first, second, other = task(ONE, 0), task(ONE, 5), task(TWO, 0)

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
    case = Case(workers=2)
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


def test_a_failed_fill_is_tried_again_later_and_given_up_at_last() -> None:
    case = Case(retries=2, backoff_s=(2.0, 3.0))

    async def story() -> None:
        case.queue.add(task())
        await settled()
        for pause_s in (2.0, 3.0):
            await case.gate.let(task(), StoreUnavailable("down"))
            assert case.gate.running == []
            await case.time.pass_s(pause_s - 0.001)
            assert case.gate.running == []
            assert not case.queue.add(task())  # it is still known while it rests
            await case.time.pass_s(0.001)
            assert case.gate.running == [task()]
        await case.gate.let(task(), StoreUnavailable("down"))
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


def test_a_full_queue_refuses() -> None:
    case = Case(waiting=2)

    async def story() -> None:
        assert [case.queue.add(task(ONE, n)) for n in range(3)] == [True, True, False]

    run(case, story)
