"""The limits of a host, in time that only passes when somebody sleeps."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.exchanges.exchange import Usage, WeightLimit
from ingest.limiter import LeftAlone, Limiter
from ingest.settings import LimiterSettings
from tests.ingest.exchange_servers.hours import Hours

T0 = 1_709_251_200_000  # a whole minute


def limiter(hours: Hours, *, share: float = 0.8, at_once: int = 4) -> Limiter:
    settings = LimiterSettings("autodetect", share, at_once)
    return Limiter(settings, clock=hours, sleep=hours.sleep)


async def send(one: Limiter, weight: int, usage: Usage | None = None, date_ms: int | None = None):
    async with one.slot(weight) as ticket:
        one.observe(ticket, usage, date_ms)


def test_no_more_requests_are_under_way_than_allowed() -> None:
    hours, most, now = Hours(T0), 0, 0
    one = limiter(hours, at_once=3)

    async def request() -> None:
        nonlocal most, now
        async with one.slot(1):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            now -= 1

    async def run() -> None:
        await asyncio.gather(*(request() for _ in range(20)))

    asyncio.run(run())
    assert most == 3
    assert hours.slept == []


def test_weight_stays_below_its_share_of_each_window() -> None:
    hours = Hours(T0 + 20_000)
    one = limiter(hours, at_once=1)
    one.learn(WeightLimit(100, 60))
    sent: list[int] = []

    async def run() -> None:
        for _ in range(20):
            async with one.slot(10):
                sent.append(hours.now_ms)

    asyncio.run(run())
    assert one.budget == 80
    windows = [ms // 60_000 for ms in sent]
    assert [windows.count(w) for w in sorted(set(windows))] == [8, 8, 4]
    # The first of a window goes as soon as it begins.
    assert sent[8] % 60_000 == 0


def test_a_clock_that_is_set_back_holds_nobody_up() -> None:
    hours = Hours(T0 + 20_000)
    one = limiter(hours, at_once=1)
    one.learn(WeightLimit(100, 60))

    async def run() -> None:
        await send(one, 80)
        one.pause(5)
        hours.now_ms -= 3_600_000
        await send(one, 80)

    asyncio.run(run())
    assert sum(hours.slept) == pytest.approx(5)


def test_weight_that_others_used_counts() -> None:
    hours = Hours(T0)
    one = limiter(hours, at_once=1)
    one.learn(WeightLimit(100, 60))

    async def run() -> None:
        await send(one, 1, Usage(75))
        await send(one, 5)  # 75 + 5 is just within 80
        assert hours.slept == []
        await send(one, 1)
        assert hours.now_ms == T0 + 60_000

    asyncio.run(run())


def test_an_answer_of_the_window_before_does_not_count_in_this_one() -> None:
    hours = Hours(T0 + 59_000)
    one = limiter(hours)
    one.learn(WeightLimit(100, 60))

    async def run() -> None:
        async with one.slot(1) as late:
            hours.now_ms = T0 + 61_000
            async with one.slot(1):
                pass
            one.observe(late, Usage(80), None)
        await send(one, 60)
        assert hours.slept == []

    asyncio.run(run())


@pytest.mark.parametrize("skew_ms", [-7_300, 7_300])
def test_windows_follow_the_clock_of_the_exchange(skew_ms: int) -> None:
    hours = Hours(T0 + 30_000)
    one = limiter(hours, at_once=1)
    one.learn(WeightLimit(100, 60))
    theirs: list[int] = []

    async def run() -> None:
        for _ in range(40):
            async with one.slot(10) as ticket:
                at_ms = hours.now_ms + skew_ms
                theirs.append(at_ms)
                one.observe(ticket, None, at_ms // 1000 * 1000)  # Date is in whole seconds

    asyncio.run(run())
    windows = [ms // 60_000 for ms in theirs]
    assert max(windows.count(w) for w in windows) <= 8
    # A window is entered within a second of its begin, never before it.
    begins = [ms for before, ms in pairwise(theirs) if ms - before > 1_000]
    assert len(begins) == 4
    assert all(0 <= ms % 60_000 <= 1_000 for ms in begins)


def test_a_pause_holds_for_everyone_and_the_longest_wins() -> None:
    hours = Hours(T0)
    one = limiter(hours)
    waits: list[float] = []

    async def run() -> None:
        one.pause(30)
        one.pause(5)
        async with one.slot(1, waits.append):
            assert hours.now_ms == T0 + 30_000

    asyncio.run(run())
    assert waits == [30.0]


def test_a_ban_for_days_is_an_error_at_once() -> None:
    hours = Hours(T0)
    one = limiter(hours)
    one.pause(3 * 86_400)

    async def run() -> None:
        await send(one, 1)

    with pytest.raises(LeftAlone, match="259200 s") as caught:
        asyncio.run(run())
    assert caught.value.retry_after_s == 259_200
    assert hours.slept == []


def test_a_limit_told_by_answers_pauses_until_its_reset() -> None:
    hours = Hours(T0 + 250)
    one = limiter(hours)

    async def run() -> None:
        await send(one, 1, Usage(5, 10, T0 + 1_000))
        await send(one, 1)
        assert hours.slept == []
        await send(one, 1, Usage(8, 10, T0 + 1_000))
        await send(one, 1)
        assert hours.now_ms == T0 + 1_000

    asyncio.run(run())


def test_a_request_heavier_than_the_share_goes_alone() -> None:
    hours = Hours(T0)
    one = limiter(hours, at_once=1)
    one.learn(WeightLimit(10, 60))

    async def run() -> None:
        await send(one, 20)
        await send(one, 1)

    asyncio.run(run())
    assert hours.now_ms == T0 + 60_000


@given(
    weights=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    limit=st.integers(20, 200),
    share=st.sampled_from([0.5, 0.7, 1.0]),
    at_once=st.integers(1, 5),
    start=st.integers(0, 59_999),
)
def test_no_window_ever_holds_more_than_its_share(
    weights: list[int], limit: int, share: float, at_once: int, start: int
) -> None:
    hours = Hours(T0 + start)
    one = limiter(hours, share=share, at_once=at_once)
    one.learn(WeightLimit(limit, 60))
    used: dict[int, int] = {}
    heaviest: dict[int, int] = {}

    async def request(weight: int) -> None:
        async with one.slot(weight) as ticket:
            window = hours.now_ms // 60_000
            used[window] = used.get(window, 0) + weight
            heaviest[window] = max(heaviest.get(window, 0), weight)
            one.observe(ticket, Usage(used[window]), None)

    async def run() -> None:
        await asyncio.gather(*(request(weight) for weight in weights))

    asyncio.run(run())
    assert sum(used.values()) == sum(weights)
    for window, weight in used.items():
        assert weight <= max(int(limit * share), heaviest[window])
