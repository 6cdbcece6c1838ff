"""Minutes of an exchange into the store: only closed ones, only missing ones, and what is not to
be had is written down.

Before each slice of a range the store says which minutes it has; only the others are stored, so
the version that came first stays, unless `force` asks for a newer one. What an exchange was asked
for and did not give goes to the gap ledger. After `absent_after` answers without it that are
`absent_apart_ms` apart, and not before it is `absent_age_ms` old, such a minute counts as one that
the exchange does not have, and is asked for again by force only: see
docs/decisions/absent-minutes.md.

A minute counts as closed when the exchange's own clock, as its answers tell it, is `settle_ms`
past its end: a fast clock here must not take a minute that still runs, and the exchange may still
correct the one that has just ended. Nothing remembered here matters: a process that dies is simply
run again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import numpy as np

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.errors import ExchangeError
from ingest.http import HttpClient, HttpClients
from ingest.klines import first_minute, pages
from ingest.progress import Progress
from ingest.rows import DAY_MS, MINUTE_MS, Candle, Origin, floor_minute, table_of
from ingest.slices import slices
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import EXCHANGE_ABSENT, FILLED, MISSING, Gap, GapLedger
from ingest.stores.listings import ListingStore
from ingest.stores.versions import newer_ms

T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]
"""Calls a function that blocks, somewhere else; `asyncio.to_thread` does."""

LISTING_KEPT_MS: Final = DAY_MS
"""An instrument that has not begun to trade is asked about again after that."""
_DATE_STEP_MS: Final = 999  # what the seconds of an exchange's clock may hide


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Rows an insert and days a slice at most, and when minutes count as closed and as absent."""

    batch_rows: int = 10_000
    max_days: int = 7
    settle_ms: int = 3_000
    absent_after: int = 3
    absent_age_ms: int = 3_600_000
    absent_apart_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What fetching ranges came to.

    `slices` were looked through. `rows_skipped_existing` came on a page beside the wanted ones,
    `ranges` are the missing ranges inside UTC days, of which `ranges_filled` have every minute now.
    `minutes_left` were asked for in vain, `minutes_absent` not asked for: the exchange does not
    have them. `minutes_open` had not settled yet by the exchange's clock.
    """

    started_at_ms: int
    finished_at_ms: int
    slices: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_skipped_existing: int = 0
    batches_written: int = 0
    ranges: int = 0
    ranges_filled: int = 0
    minutes_left: int = 0
    minutes_absent: int = 0
    minutes_open: int = 0


class Fetcher:
    """Fetches for any number of tasks of one event loop; ranges that overlap take turns."""

    def __init__(
        self,
        db: ClickHouse,
        clients: HttpClients,
        *,
        clock: Callable[[], int],
        earliest_ms: Callable[[int], int] = lambda _: 0,
        settings: FetchSettings | None = None,
        run: Run = asyncio.to_thread,
        ingest_id: str | None = None,
        told: Callable[[Instrument, Filled], None] = lambda *_: None,
    ) -> None:
        self.candles = CandleStore(db)
        self.ledger = GapLedger(db)
        self.clock = clock
        self.run = run
        self.settings = settings or FetchSettings()
        self._listings = ListingStore(db)
        self._clients = clients
        self._earliest_ms = earliest_ms
        self._ingest_id = ingest_id or str(uuid.uuid4())
        self._told = told  # of every fill that is done, for metrics
        self._turns = _Turns()

    def closed_ms(self) -> int:
        """The end of the minutes that are closed by the clock here."""
        return floor_minute(self.clock() - self.settings.settle_ms)

    def known_first_ms(self, instrument: Instrument) -> int:
        """Where the history of an instrument begins as far as the store knows; blocks."""
        known = self._listings.listing(instrument)
        first_ms = None if known is None else known.first_ms
        return max(first_ms or 0, self._earliest_ms(instrument.market_id))

    async def first_ms(self, instrument: Instrument) -> int:
        """Where the history of an instrument begins, asked for once and kept.

        It is not before what the settings call the market's earliest time; for an instrument of
        which the exchange has nothing yet it is now.

        Raises:
            ExchangeError: the exchange did not say.
        """
        known = await self.run(self._listings.listing, instrument)
        now_ms = self.clock()
        stale = (
            known is not None
            and known.first_ms is None
            and now_ms - known.updated_at_ms >= LISTING_KEPT_MS
        )
        if known is None or stale:
            first_ms = await first_minute(self._clients.of(instrument.market_id), instrument)
            await self.run(self._listings.record, instrument, first_ms, now_ms)
        else:
            first_ms = known.first_ms
        if first_ms is None:
            return floor_minute(now_ms)
        return max(first_ms, self._earliest_ms(instrument.market_id))

    async def fill(
        self,
        instrument: Instrument,
        ranges: Period | Sequence[Period],
        *,
        force: bool = False,
        as_gaps: bool = False,
        closed_ms: int | None = None,
        progress: Progress | None = None,
    ) -> Filled:
        """What fetching the missing minutes of the ranges came to.

        With `force` every minute is fetched, absent or not, and stored as a newer version.
        `as_gaps` also keeps filled ranges in the ledger, which else holds what could not be had.
        Minutes before `closed_ms` are closed whatever any clock says.

        Raises:
            ExchangeError: a request failed for good; what came before it is stored.
            StoreFailed: the store failed; what was stored stays.
        """
        wanted = [ranges] if isinstance(ranges, Period) else ranges
        async with self._turns.turn(instrument, wanted):
            work = _Filling(self, self._clients.of(instrument.market_id), instrument, force)
            work.as_gaps, work.progress, work.least_closed_ms = as_gaps, progress, closed_ms
            done = await work.done(wanted)
        self._told(instrument, done)
        return done

    def origin(self, instrument: Instrument, period: Period, force: bool) -> Origin:
        """The origin of rows written now; forced ones must be newer than what is there."""
        now_ms = self.clock()
        if force:
            now_ms = newer_ms(self.candles.db, instrument, period, now_ms)
        return Origin("rest", now_ms, self._ingest_id)


class _Turns:
    """Fills of one instrument whose ranges overlap run one after the other, as they came.

    Each looks at the store when the one before it is through, so that no minute is fetched twice.
    """

    def __init__(self) -> None:
        self._taken: dict[Instrument, dict[asyncio.Event, Sequence[Period]]] = {}

    @asynccontextmanager
    async def turn(self, instrument: Instrument, ranges: Sequence[Period]) -> AsyncIterator[None]:
        """Lasts while the ranges are this fill's alone."""
        taken = self._taken.setdefault(instrument, {})
        before = [
            over
            for over, theirs in taken.items()
            if any(gaps.overlap(one, other) for one in ranges for other in theirs)
        ]
        over = asyncio.Event()
        taken[over] = ranges
        try:
            for one in before:
                await one.wait()
            yield
        finally:
            over.set()
            del taken[over]
            if not taken:
                self._taken.pop(instrument, None)


@dataclass(slots=True)
class _Filling:
    """One fill while it runs: what waits to be written, and the tally."""

    fetcher: Fetcher
    client: HttpClient
    instrument: Instrument
    force: bool
    as_gaps: bool = False
    progress: Progress | None = None
    least_closed_ms: int | None = None
    lacking: list[Period] = field(default_factory=list)
    """What the slice lacked; with `force` more than that is fetched."""
    buffer: list[Candle] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    tally: Filled = field(default_factory=lambda: Filled(0, 0))

    async def done(self, ranges: Iterable[Period]) -> Filled:
        started_ms = self.fetcher.clock()
        settings = self.fetcher.settings
        for part in (one for whole in ranges for one in slices(whole, settings.max_days)):
            missing, known = await self.fetcher.run(self._missing, part)
            self._count(slices=1, ranges=len(gaps.cut_at_midnights(missing)))
            window = self.client.exchange.kline_limit(self.client.market)
            for group in gaps.grouped(missing, window):
                await self._fetch(group, known)
        await self._flush()
        return replace(self.tally, started_at_ms=started_ms, finished_at_ms=self.fetcher.clock())

    def _missing(self, part: Period) -> tuple[list[Period], list[Gap]]:
        """The ranges to fetch of a slice, and what the ledger says of it."""
        known = self.fetcher.ledger.gaps(self.instrument, part)
        self.lacking = missing = self.fetcher.candles.missing(self.instrument, part)
        if self.force:
            whole = gaps.whole_minutes(part)
            return [whole] if whole else [], known
        absent = [gap.period for gap in known if gap.state == EXCHANGE_ABSENT]
        left = gaps.without(missing, absent)
        self._count(minutes_absent=gaps.minutes_in(missing) - gaps.minutes_in(left))
        return left, known

    async def _fetch(self, group: Sequence[Period], known: Sequence[Gap]) -> None:
        """Fetches ranges that share a window, and notes what became of them."""
        window = Period(group[0].start_ms, group[-1].end_ms)
        wanted = {ms for one in group for ms in range(one.start_ms, one.end_ms, MINUTE_MS)}
        got: list[int] = []
        try:
            async for page in pages(self.client, self.instrument, window):
                closed_ms = self._closed_ms()
                here = [c for c in page if c.ts_open_ms < closed_ms]
                new = [c for c in here if c.ts_open_ms in wanted]
                got += [c.ts_open_ms for c in new]
                self._count(rows_read=len(here), rows_skipped_existing=len(here) - len(new))
                self.buffer += new
                if len(self.buffer) >= self.fetcher.settings.batch_rows:
                    await self._flush()
        except ExchangeError as error:
            self._note(group, got, known, error.message)
            await self._flush()
            raise
        self._note(group, got, known, None)
        if self.progress is not None:
            self.progress.add(len(wanted))

    def _closed_ms(self) -> int:
        """The end of the minutes that are closed by the clock of the exchange."""
        ahead_ms = self.client.ahead_ms
        now_ms = self.fetcher.clock() - ahead_ms + (_DATE_STEP_MS if ahead_ms else 0)
        closed_ms = floor_minute(now_ms - self.fetcher.settings.settle_ms)
        return max(closed_ms, self.least_closed_ms or closed_ms)

    def _note(
        self, group: Sequence[Period], got: list[int], known: Sequence[Gap], error: str | None
    ) -> None:
        """Notes for the ledger what of `group` came and what did not."""
        now_ms = self.fetcher.clock()
        came = gaps.runs(np.array(got, np.int64))
        # A minute that still ran when it was asked for is not a gap.
        closed_ms = self._closed_ms()
        asked = gaps.cut_at_midnights(
            _ending(one, closed_ms) for one in group if one.start_ms < closed_ms
        )
        left = gaps.cut_at_midnights(gaps.without(asked, came))
        filled = sum(not gaps.within(left, one) for one in asked)
        open_minutes = gaps.minutes_in(list(group)) - gaps.minutes_in(asked)
        self._count(
            ranges_filled=filled, minutes_left=gaps.minutes_in(left), minutes_open=open_minutes
        )
        # Forced minutes that are stored are no gap, though the exchange has them no more.
        left = [part for lack in self.lacking for part in gaps.within(left, lack)]
        for part, before in _with_ledger(left, known):
            tried = 0 if error is not None else 1
            if tried and before is not None and self._too_soon(before, now_ms):
                continue
            attempts = tried + (0 if before is None else before.attempts)
            self.gaps.append(
                Gap(
                    part,
                    self._state(part, attempts, now_ms),
                    attempts,
                    error,
                    _later_ms(now_ms, before),
                )
            )
        for part, before in _with_ledger(came, known):
            if before is None and not self.as_gaps:
                continue
            attempts = 1 + (0 if before is None else before.attempts)
            self.gaps.append(Gap(part, FILLED, attempts, None, _later_ms(now_ms, before)))

    def _too_soon(self, before: Gap, now_ms: int) -> bool:
        """Whether an answer says no more than the one that was counted last."""
        since_ms = now_ms - before.updated_at_ms  # negative: a clock was set back
        counted = before.state == MISSING and before.attempts > 0 and before.last_error is None
        return counted and 0 <= since_ms < self.fetcher.settings.absent_apart_ms

    def _state(self, part: Period, attempts: int, now_ms: int) -> str:
        settings = self.fetcher.settings
        old = part.end_ms <= now_ms - settings.absent_age_ms
        return EXCHANGE_ABSENT if old and attempts >= settings.absent_after else MISSING

    async def _flush(self) -> None:
        """Writes what waits; the ledger comes after the rows that it calls filled."""
        if self.buffer:
            rows = await self.fetcher.run(self._written, self.buffer)
            self._count(rows_written=rows, batches_written=1)
            self.buffer = []
        if self.gaps:
            noted, self.gaps = self.gaps, []
            await self.fetcher.run(self.fetcher.ledger.record, self.instrument, noted)

    def _written(self, candles: Sequence[Candle]) -> int:
        period = Period(candles[0].ts_open_ms, candles[-1].ts_open_ms + MINUTE_MS)
        origin = self.fetcher.origin(self.instrument, period, self.force)
        return self.fetcher.candles.insert(table_of(candles, origin))

    def _count(self, **more: int) -> None:
        self.tally = replace(
            self.tally, **{name: getattr(self.tally, name) + n for name, n in more.items()}
        )


def _ending(period: Period, end_ms: int) -> Period:
    """The period, ending at `end_ms` at the latest."""
    return Period(period.start_ms, min(period.end_ms, end_ms))


def _with_ledger(ranges: Sequence[Period], known: Sequence[Gap]) -> list[tuple[Period, Gap | None]]:
    """The ranges in parts, each with what the ledger says of it."""
    found: list[tuple[Period, Gap | None]] = []
    for gap in known:
        found += [(part, gap) for part in gaps.within(ranges, gap.period)]
    rest = gaps.without(ranges, [gap.period for gap in known])
    return found + [(part, None) for part in rest]


def _later_ms(now_ms: int, before: Gap | None) -> int:
    """A time of change that counts over the one before, whatever the clock says."""
    return now_ms if before is None else max(now_ms, before.updated_at_ms + 1)
