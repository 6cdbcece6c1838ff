"""What live worker and scheduler ask for, done with the store and the exchanges."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import catchup
from ingest.commands.options import clock_ms
from ingest.enrichment import EnrichmentReport, enrich
from ingest.errors import ExchangeError
from ingest.exchanges.exchange import InstrumentMetadata
from ingest.fetching import Fetcher, FetchSettings, Filled
from ingest.http import HttpClients
from ingest.limiter import Clock
from ingest.live.fills import FillTask
from ingest.live.threads import Threads
from ingest.metrics import RestMetrics
from ingest.references import SyncReport, sync
from ingest.rows import DAY_MS, MINUTE_MS, floor_day
from ingest.scheduler import CatchUp, History
from ingest.settings import MarketDataSettings
from ingest.slices import slices
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.references import ReferenceStore
from ingest.whitelist import whitelist

THREADS: Final = 4
SERVER_ROWS: Final = 10_000
EMBEDDED_ROWS: Final = 2000
"""Rows an insert where statements take turns: a live candle may have to wait for one of them."""

log = logging.getLogger(__name__)


class Duties:
    """The jobs of the scheduler and the look-ups of the worker; calls of the store in threads."""

    def __init__(
        self,
        db: ClickHouse,
        settings: MarketDataSettings,
        listed: Path | None,
        clients: HttpClients,
        metrics: RestMetrics,
        clock: Clock = clock_ms,
    ) -> None:
        self.candles = CandleStore(db)
        self._db = db
        self._references = ReferenceStore(db)
        self._settings = settings
        self._listed = listed
        self._clients = clients
        self._metrics = metrics
        self._threads = Threads(THREADS, "store")
        self._fetcher = Fetcher(
            db,
            clients,
            clock=clock,
            earliest_ms=lambda market_id: settings.market(market_id).rest.earliest_ms,
            settings=FetchSettings(
                batch_rows=EMBEDDED_ROWS if db.embedded else SERVER_ROWS,
                max_days=settings.backfill.max_days_per_insert,
            ),
            run=self._threads.run,
            told=self._count,
        )

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.close()

    async def sync_whitelist(self) -> SyncReport:
        """Seeds markets, reads the whitelist and writes what has changed."""
        report = await self._threads.run(self._synced)
        log.info(
            "whitelist: %d instruments, %d enabled, %d changed",
            report.ref_instruments_rows_total,
            report.enabled_count,
            report.ref_instruments_upserted,
        )
        return report

    async def enrich(self) -> EnrichmentReport:
        """Fetches the metadata of the active instruments; failed markets are a failure after all
        others are done."""
        report = await enrich(self._references, self._published, clock_ms, self._threads.run)
        if report.missing:
            log.warning("not listed by their exchange: %s", ", ".join(report.missing))
        if report.not_trading:
            log.warning("not trading at their exchange: %s", ", ".join(report.not_trading))
        if report.markets_failed:
            raise ExchangeError("; ".join(report.markets_failed), retryable=True)
        return report

    def active_now(self) -> list[Instrument]:
        """The active instruments of configured markets; blocks."""
        known = self._settings.by_id
        return [one for one in self._references.active() if one.market_id in known]

    async def active(self) -> list[Instrument]:
        """The active instruments of configured markets."""
        return await self._threads.run(self.active_now)

    def known_beginning(self, instrument: Instrument) -> int:
        """Where the history of an instrument begins as far as the store knows; blocks.

        The fill of it asks the exchange, so that years before the listing are not paged through.
        """
        return self._fetcher.known_first_ms(instrument)

    async def history(self, instrument: Instrument) -> History:
        """What is stored of an instrument, and where its history begins."""
        stored = await self._threads.run(self.candles.bounds, instrument)
        return History(stored, await self._fetcher.first_ms(instrument))

    async def catch_up(self, instrument: Instrument) -> CatchUp:
        """Fetches the tail and the gaps of an instrument. Raises: NoSeed."""
        report = await catchup.catch_up(self._fetcher, instrument)
        tail_ms = (report.tail_end_ms or 0) - (report.tail_start_ms or 0)
        return CatchUp(
            tail_minutes=tail_ms // MINUTE_MS,
            tail_rows_written=report.tail_rows_written,
            gap_days_scanned=report.gap_days_scanned,
            gap_days_with_gaps=report.gap_days_with_gaps,
            gap_ranges_filled=report.gap_ranges_filled,
            gap_rows_written=report.gap_rows_written,
        )

    async def fill(self, task: FillTask) -> FillTask | None:
        """Fetches the missing minutes of a task, of a long one a slice; what is left of it then.

        History comes newest first, and none from before the listing: if the rest never comes, what
        is stored still begins with its first minute, and what is before that is planned again. Of
        other fills the oldest minutes come first: the last stored one has all before it.

        Raises:
            ExchangeError: a request failed, or minutes that ended by the clock here have not
                settled by the exchange's; what came is stored, and trying again fetches the rest.
            StoreFailed: the store failed; what was stored stays.
            StoreRefused, SchemaOutdated: the store is to be mended; nothing is lost by waiting.
        """
        part, left = await self._cut(task)
        if part is None:
            return None
        # Minutes of a gap are closed whatever a clock says, for a later one has come.
        gap = task.reason == "gap"
        closed_ms = part.end_ms if gap else None
        filled = await self._fetcher.fill(task.instrument, part, as_gaps=gap, closed_ms=closed_ms)
        if filled.minutes_open:
            raise ExchangeError(
                f"{filled.minutes_open} minutes of {task.instrument} still run or settle by the"
                " clock of the exchange",
                market_id=task.instrument.market_id,
                retryable=True,
            )
        return None if left is None else replace(task, period=left)

    async def _cut(self, task: FillTask) -> tuple[Period | None, Period | None]:
        """What of a task is to be fetched now, and later."""
        period, max_days = task.period, self._fetcher.settings.max_days
        if task.urgent:
            part = next(slices(period, max_days))
            return part, _between(part.end_ms, period.end_ms)
        first_ms = max(period.start_ms, await self._fetcher.first_ms(task.instrument))
        begin_ms = max(first_ms, floor_day(period.end_ms - 1) - (max_days - 1) * DAY_MS)
        return _between(begin_ms, period.end_ms), _between(first_ms, begin_ms)

    async def trouble(self) -> str | None:
        """What keeps the store from answering, None when nothing does."""
        answers = await self._threads.run(self._db.ping)
        return None if answers else f"the store at {self._db.settings.place} does not answer"

    def _count(self, instrument: Instrument, filled: Filled) -> None:
        """Tells the metrics of a fill."""
        market_id = instrument.market_id
        self._metrics.slices.labels(market_id).inc(filled.slices)
        self._metrics.skipped_existing.labels(market_id).inc(filled.rows_skipped_existing)
        seconds = (filled.finished_at_ms - filled.started_at_ms) / 1000
        if filled.rows_written and seconds > 0:
            self._metrics.rows_per_s.labels(market_id).set(filled.rows_written / seconds)

    def _synced(self) -> SyncReport:
        if self._listed is None:
            raise InvalidInput("no whitelist was named")
        rows = whitelist(self._listed, log.warning)
        return sync(self._references, rows, self._settings.by_id, clock_ms())

    async def _published(self, market_id: int) -> Sequence[InstrumentMetadata]:
        client = self._clients.of(market_id)
        return await client.ask(client.exchange.metadata(client.market))


def _between(start_ms: int, end_ms: int) -> Period | None:
    return Period(start_ms, end_ms) if start_ms < end_ms else None
