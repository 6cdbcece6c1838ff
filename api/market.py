"""Market data as requests need it: read from the store on a thread, never in the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from api.errors import StorageFailed, Unavailable
from api.sampling import SampleLoad
from compute.errors import NoMarketData
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import load_window
from ingest.errors import SchemaOutdated, StoreFailed, StoreInUse
from ingest.stores.candles import CandleStore
from ingest.stores.references import ReferenceStore

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.market.candles import Candles
    from compute.market.timeline import Timeline
    from ingest.stores.clickhouse import ClickHouse

MINUTE: Final = TIMEFRAMES["1m"]

Returned = TypeVar("Returned")


class Market:
    """The candle store, the sample on its way into it, and how many requests may read it at a time;
    made once for a service."""

    def __init__(self, db: ClickHouse, max_reads: int = 8) -> None:
        self.db = db
        self.candle_store = CandleStore(db)
        self.references = ReferenceStore(db)
        self.sample = SampleLoad(self.candle_store, self.read)
        self._limiter = anyio.CapacityLimiter(max_reads)

    async def read(self, call: Callable[[], Returned]) -> Returned:
        """What `call` returns, made on a thread. Raises: StorageFailed where the store fails.

        A request that is cancelled does not wait for the answer.
        """

        def guarded() -> Returned:
            with readable():
                return call()

        return await anyio.to_thread.run_sync(
            guarded, abandon_on_cancel=True, limiter=self._limiter
        )

    def candles(self, job: Backtest) -> Candles:
        """The one-minute candles that `job` is computed over; blocks. Raises: NoMarketData."""
        load = load_window(job.period, job.timeframe, job.warmup_bars, MINUTE)
        found = self.candle_store.candles(job.instrument, load)
        if len(found) == 0 or int(found.ts_open_ms[-1]) + MINUTE.ms <= job.period.start_ms:
            raise no_market_data(job.instrument, job.period, self.bounds(job.instrument))
        return found

    def generated(self, job: Backtest) -> bool:
        """Whether a generator made some of the candles of `job`; blocks."""
        load = load_window(job.period, job.timeframe, job.warmup_bars, MINUTE)
        return self.candle_store.synthetic(job.instrument, load) > 0

    def timeline(self, job: Backtest) -> Timeline:
        """The bars of `job`; blocks. Raises: NoMarketData, InvalidCandles."""
        from api.sync_tasks import bars_of

        return bars_of(job, self.candles(job), generated=self.generated(job))

    def bounds(self, instrument: Instrument) -> tuple[int, int] | None:
        """First and last stored minute of an instrument; blocks."""
        return self.candle_store.bounds(instrument)


@contextmanager
def readable() -> Iterator[None]:
    """Failures of the candle store inside as the API names them. Raises: StorageFailed."""
    try:
        yield
    except (StoreFailed, StoreInUse, SchemaOutdated) as error:
        raise StorageFailed(error.message) from error


def market_of(market: Market | None) -> Market:
    """The market, where there is one. Raises: Unavailable."""
    if market is None:
        raise Unavailable(
            "this service has no candle store; start it with one (CH_HOST, or ROEHUB_DATA_DIR)",
            details={"error": "compute_not_configured"},
        )
    return market


def no_market_data(
    instrument: Instrument, period: Period, bounds: tuple[int, int] | None
) -> NoMarketData:
    """What there is instead of the candles that were asked for."""
    asked = f"no market data for requested range {period}"
    if bounds is None:
        return NoMarketData(f"{asked}; the store has no candle of {instrument}")
    first_ms, last_ms = bounds
    return NoMarketData(
        f"{asked}; the store has candles of {instrument} in"
        f" [{instant(first_ms)}, {instant(last_ms + MINUTE.ms)}), not necessarily without gaps:"
        " move the time range inside"
    )
