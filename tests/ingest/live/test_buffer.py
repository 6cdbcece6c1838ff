"""The insert buffer over the real store: when it flushes, what it holds, what it gives up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import SchemaOutdated, StoreRefused, StoreUnavailable
from ingest.live import buffer as buffering
from ingest.live.buffer import BufferSettings, InsertBuffer
from ingest.metrics import InsertMetrics
from ingest.rows import MINUTE_MS, Candle, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.live.stage import START_MS, until
from tests.ingest.live.virtual import VirtualTime, settled


class Case:
    """A buffer before a store that can be made to fail or to hang."""

    def __init__(
        self, store: CandleStore, symbol: str, *, market_id: int = 1, **settings: Any
    ) -> None:
        self.store = store
        self.instrument = Instrument(market_id, symbol)
        self.time = VirtualTime(START_MS)
        self.registry = CollectorRegistry()
        self.error: Exception | None = None
        self.batches: list[int] = []
        self.lost: list[tuple[Instrument, Period]] = []
        self.open = threading.Event()  # lets inserts through
        self.open.set()
        self.at_once = 0
        self.clocked: set[str] = set()
        """Threads that looked at the clock, as one does to count."""
        self.buffer = InsertBuffer(
            self._insert,
            InsertMetrics(self.registry),
            clock=self._clock,
            settings=BufferSettings(**settings),
            lost=lambda instrument, period: self.lost.append((instrument, period)),
            sleep=self.time.sleep,
            jitter=lambda: 0.0,
        )

    def _clock(self) -> int:
        self.clocked.add(threading.current_thread().name)
        return self.time()

    def _insert(self, table: pa.Table) -> int:
        self.at_once += 1
        assert self.at_once == 1
        try:
            self.open.wait(60)
            if self.error is not None:
                raise self.error
            count = self.store.insert(table)
            self.batches.append(table.num_rows)
            return count
        finally:
            self.at_once -= 1

    def add(
        self, first: int, end: int, *, instrument: Instrument | None = None, **values: Any
    ) -> None:
        for minute in range(first, end):
            given: dict[str, Any] = {"volume_base": 1.0, "trades_count": 1, **values}
            candle = Candle(
                instrument or self.instrument,
                START_MS + minute * MINUTE_MS,
                *(1.0, 2.0, 0.5, 1.5),
                **given,
            )
            assert self.buffer.add(candle, Origin("ws", self.time.now_ms))

    def value(self, name: str, market_id: int = 1, **labels: str) -> float:
        found = self.registry.get_sample_value(name, {"market_id": str(market_id), **labels})
        assert found is not None
        return found

    @property
    def stored(self) -> list[int]:
        period = Period(START_MS, START_MS + 10_000 * MINUTE_MS)
        minutes = self.store.minutes(self.instrument, period)
        assert self.store.duplicates(self.instrument, period) == 0
        return [(int(at) - START_MS) // MINUTE_MS for at in minutes]


@pytest.fixture
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def tell(case: Case, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        case.buffer.start()
        await story()
        case.open.set()
        await case.buffer.close(30)

    asyncio.run(asyncio.wait_for(told(), 60))


def test_a_batch_goes_when_its_first_row_is_old_enough(store: CandleStore) -> None:
    case = Case(store, "BUFAGE", flush_s=0.25)

    async def story() -> None:
        case.add(0, 1)
        await case.time.pass_s(0.2)
        case.add(1, 3)
        await case.time.pass_s(0.049)
        assert case.batches == []
        await case.time.pass_s(0.001)
        await until(lambda: case.batches == [3])
        await case.time.pass_s(10)  # nothing is inserted while there is nothing
        case.add(3, 4)
        await case.time.pass_s(0.25)
        await until(lambda: case.batches == [3, 1])

    tell(case, story)
    assert case.stored == [0, 1, 2, 3]
    assert case.value("insert_rows_total") == 4
    assert case.value("insert_batches_total") == 2
    # Receipt to start: 250, 50, 50 and 250 ms.
    assert case.value("ws_closed_to_insert_start_seconds_sum") == pytest.approx(0.6)
    assert case.value("ws_closed_to_insert_done_seconds_count") == 4


def test_a_batch_counts_in_the_thread_for_each_of_its_markets(store: CandleStore) -> None:
    case = Case(store, "BUFCOUNT", flush_s=0.25)
    other = Instrument(4, "BUFCOUNT")

    async def story() -> None:
        case.add(0, 3)
        await case.time.pass_s(0.1)
        case.add(0, 2, instrument=other)
        case.add(2, 3, instrument=other, volume_base=-1.0)
        case.buffer.refresh_metrics()
        assert (case.value("insert_buffer_rows"), case.value("insert_buffer_rows", 4)) == (3, 3)
        await case.time.pass_s(0.15)
        await until(lambda: len(case.buffer) == 0)
        case.buffer.refresh_metrics()

    tell(case, story)
    assert case.buffer.stored == 5
    for market_id, rows, refused, older_than_200_ms in ((1, 3, 0, 3), (4, 2, 1, 0)):
        assert case.value("insert_buffer_rows", market_id) == 0
        assert case.value("insert_rows_total", market_id) == rows
        assert case.value("insert_batches_total", market_id) == 1
        assert case.value("insert_refused_total", market_id) == refused
        assert case.value("ws_closed_to_insert_start_seconds_count", market_id) == rows
        within = case.value("ws_closed_to_insert_start_seconds_bucket", market_id, le="0.2")
        assert rows - within == older_than_200_ms
    assert case.clocked == {"insert 1"}  # the event loop has sockets to read


def test_a_batch_goes_when_it_is_full_and_one_at_a_time(store: CandleStore) -> None:
    case = Case(store, "BUFFULL", flush_s=3600, flush_rows=10)

    async def story() -> None:
        case.open.clear()
        case.add(0, 10)
        await until(lambda: case.at_once == 1)
        case.add(10, 40)
        await settled()
        case.open.set()
        await until(lambda: case.batches == [10, 30])
        case.add(40, 49)
        await settled()
        assert len(case.batches) == 2  # and waits again
        case.add(49, 50)
        await until(lambda: case.batches == [10, 30, 10])

    tell(case, story)
    assert case.stored == list(range(50))


def test_a_failed_batch_keeps_its_place_and_is_tried_ever_more_slowly(store: CandleStore) -> None:
    case = Case(store, "BUFFAIL", flush_s=0.25, flush_rows=5, backoff_s=(1.0, 4.0))

    async def failed(times: int) -> None:
        await until(lambda: case.value("insert_errors_total") == times)
        await settled()

    async def story() -> None:
        case.error = StoreUnavailable("down")
        case.add(0, 5)
        await failed(1)
        for at, rest_s in enumerate((1.0, 2.0, 4.0, 4.0)):
            case.add(5 + at, 6 + at)  # a full buffer does not hurry it
            await case.time.pass_s(rest_s - 0.001)
            assert case.value("insert_errors_total") == at + 1
            await case.time.pass_s(0.001)
            await failed(at + 2)
        case.error = None
        await case.time.pass_s(4.0)
        await until(lambda: case.batches == [9] and case.buffer.failures == 0)

    tell(case, story)
    assert case.stored == list(range(9))
    assert case.lost == []


def test_memory_is_bounded_and_what_is_dropped_is_told_when_the_store_is_back(
    store: CandleStore,
) -> None:
    case = Case(store, "BUFBOUND", flush_s=0.25, held_rows=10, insert_rows=4, backoff_s=(1.0, 1.0))

    async def story() -> None:
        case.error = StoreUnavailable("down")
        case.add(0, 10)
        await case.time.pass_s(0.25)
        await until(lambda: case.value("insert_errors_total") == 1)
        case.add(10, 25)
        assert len(case.buffer) == 10
        assert case.lost == []
        case.error = None
        await case.time.pass_s(1.0)
        await until(lambda: case.lost != [])
        while len(case.buffer):  # the rest is no full batch
            await case.time.pass_s(0.25)

    tell(case, story)
    assert case.value("insert_dropped_total") == 15
    assert case.stored == list(range(15, 25))
    assert case.lost == [(case.instrument, Period(START_MS, START_MS + 15 * MINUTE_MS))]


@pytest.mark.parametrize("values", [{"trades_count": 2**32}, {"volume_base": -1.0}])
def test_a_row_that_no_store_takes_does_not_hold_up_the_others(
    store: CandleStore, values: dict[str, Any]
) -> None:
    case = Case(store, f"BUF{next(iter(values))}", flush_rows=3)

    async def story() -> None:
        case.add(0, 1)
        case.add(1, 2, **values)
        case.add(2, 3)
        await until(lambda: case.batches == [2])

    tell(case, story)
    assert case.stored == [0, 2]
    assert case.value("insert_refused_total") == 1
    assert case.value("insert_errors_total") == 0


@pytest.mark.parametrize("kind", [StoreRefused, SchemaOutdated])
def test_rows_are_not_suspected_when_the_store_refuses_its_user(
    store: CandleStore, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    case = Case(store, f"BUF{kind.__name__.upper()}", flush_rows=3)
    looked: list[object] = []
    monkeypatch.setattr(buffering, "_fits", looked.append)

    async def story() -> None:
        case.error = kind("refused")
        case.add(0, 3)
        await until(lambda: case.buffer.failures == 1)
        case.error = None
        while len(case.buffer):
            await case.time.pass_s(0.25)

    tell(case, story)
    assert case.stored == [0, 1, 2]
    assert looked == []


def test_an_insert_that_hangs_does_not_hold_up_the_end(store: CandleStore) -> None:
    case = Case(store, "BUFHANG", flush_rows=2)

    async def story() -> None:
        case.open.clear()
        case.add(0, 2)
        await until(lambda: case.at_once == 1)
        case.add(2, 5)
        assert await case.buffer.close(0.05) == 5
        assert not case.buffer.add(
            Candle(case.instrument, START_MS, 1, 1, 1, 1, 1), Origin("ws", START_MS)
        )

    tell(case, story)
