"""From the last stored minute to a stream's beginning, over a real store that fails at times."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import StoreUnavailable
from ingest.live.fills import FillTask
from ingest.live.tails import INSTRUMENTS_AT_ONCE, RETRY_S, Tails, last_minutes
from ingest.rows import MINUTE_MS, Origin, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.candle_tables import candle_of
from tests.ingest.live.virtual import VirtualTime

T0 = 1_769_990_400_000


def ms(minute: int) -> int:
    return T0 + minute * MINUTE_MS


def tail(instrument: Instrument, start: int, end: int) -> FillTask:
    return FillTask(instrument, Period(ms(start), ms(end)), "reconnect_tail")


class Case:
    """Tails over a store; look-ups fail while `down`, and wait for `open`."""

    def __init__(self, db: ClickHouse) -> None:
        self.store = CandleStore(db)
        self.time = VirtualTime()
        self.found: list[FillTask] = []
        self.asked: list[tuple[int, int]] = []
        """Of each look-up the number of instruments and the minute."""
        self.down = False
        self.open = threading.Event()
        self.open.set()
        self.tails = Tails(self._lasts, lambda _: ms(-60), self.found.append, sleep=self.time.sleep)

    def seed(self, instrument: Instrument, *minutes: int) -> None:
        candles = [candle_of(instrument, ms(minute)) for minute in minutes]
        self.store.insert(table_of(candles, Origin("ws", T0)))

    def _lasts(self, some: Sequence[Instrument], before_ms: int) -> Mapping[Instrument, int]:
        self.open.wait(60)
        self.asked.append((len(some), (before_ms - T0) // MINUTE_MS))
        if self.down:
            raise StoreUnavailable("down")
        return last_minutes(self.store, some, before_ms)

    async def failed(self) -> None:
        """Returns after one more look-up has failed, and rests."""
        rests = len(self.time.slept)
        await self.time.pass_s(RETRY_S[1])
        while len(self.time.slept) == rests:
            await asyncio.sleep(0.001)

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        async def told() -> None:
            running = asyncio.create_task(self.tails.run())
            try:
                await asyncio.wait_for(story(), 60)
            finally:
                running.cancel()
                self.tails.close()

        asyncio.run(told())


@pytest.fixture
def case(db: ClickHouse) -> Case:
    return Case(db)


def test_from_the_last_stored_minute_or_the_earliest_to_the_stream(case: Case) -> None:
    hole, none, whole = (Instrument(1, f"TAIL{name}") for name in ("HOLE", "NONE", "WHOLE"))
    case.seed(hole, 1, 2, 7)
    case.seed(whole, 4)

    async def story() -> None:
        case.tails.add([hole, none, whole], ms(5))
        await case.tails.idle()

    case.tell(story)
    bootstrap = FillTask(none, Period(ms(-60), ms(5)), "bootstrap")
    assert case.found == [tail(hole, 3, 5), bootstrap]


def test_reconnects_while_look_ups_fail_are_one_entry_an_instrument(case: Case) -> None:
    one, two = Instrument(1, "TAILONE"), Instrument(1, "TAILTWO")
    case.seed(one, 0, 1)
    case.seed(two, 0, 1)
    case.down = True

    async def story() -> None:
        case.tails.add([one, two], ms(10))
        for minute in range(11, 500):
            case.tails.add([one], ms(minute))
            if minute % 100 == 0:
                await case.failed()
        await case.failed()
        assert len(case.tails) == 2
        case.seed(one, 10, 30)  # what a stream brought does not hide the hole before it
        case.down = False
        await case.time.pass_s(RETRY_S[1])
        await case.tails.idle()
        assert len(case.tails) == 0

    case.tell(story)
    assert case.found == [tail(one, 2, 499), tail(two, 2, 10)]
    assert set(case.asked) == {(2, 10)}


def test_a_stream_that_begins_during_a_look_up_is_looked_up_after_it(case: Case) -> None:
    one = Instrument(1, "TAILMEAN")
    case.seed(one, 0)
    case.open.clear()

    async def story() -> None:
        case.tails.add([one], ms(3))
        while len(case.tails):
            await asyncio.sleep(0.001)
        case.tails.add([one], ms(9))
        case.seed(one, 4)
        case.open.set()
        await case.tails.idle()

    case.tell(story)
    assert case.found == [tail(one, 1, 3), tail(one, 5, 9)]


def test_a_look_up_that_fails_joins_what_was_added_during_it(case: Case) -> None:
    one = Instrument(1, "TAILJOIN")
    case.seed(one, 0)
    case.open.clear()
    case.down = True

    async def story() -> None:
        case.tails.add([one], ms(3))
        while len(case.tails):
            await asyncio.sleep(0.001)
        case.tails.add([one], ms(9))
        case.open.set()
        await case.failed()
        while not len(case.tails):
            await asyncio.sleep(0.001)
        case.seed(one, 4)
        case.down = False
        await case.time.pass_s(RETRY_S[1])
        await case.tails.idle()

    case.tell(story)
    assert case.found == [tail(one, 1, 9)]


def test_many_instruments_are_looked_up_a_batch_at_a_time_the_oldest_first(case: Case) -> None:
    many = [Instrument(1, f"TAIL{n:03d}") for n in range(INSTRUMENTS_AT_ONCE + 20)]

    async def story() -> None:
        case.tails.add(many[:10], ms(8))
        case.tails.add(many[10:], ms(4))
        await case.tails.idle()

    case.tell(story)
    assert case.asked == [(INSTRUMENTS_AT_ONCE, 4), (10, 4), (10, 8)]
    assert sorted(task.instrument for task in case.found) == many
