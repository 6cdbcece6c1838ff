"""What Prometheus is told about market data, a class a subject; the registry is handed in.

Everything carries `market_id`. A batch of several markets counts once for each of them. Children
of the known markets exist from the start: the first error of a market is then an increase from 0,
which an alert sees, and not a series that was never there.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from compute.market.instrument import MARKETS, Instrument

JOBS: Final = ("sync_whitelist", "enrich", "startup_scan", "rest_insurance_catchup")
SCHEDULED_REASONS: Final = ("scheduler_bootstrap", "historical_backfill", "scheduler_tail")
CATCHUP_STATUSES: Final = ("ok", "failed", "skipped_no_seed")
WATCHED_STATUSES: Final = (403, 418, 429)
"""What an exchange answers that an alert waits for: the first one has to be an increase."""

_INSERT_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
_TO_START_S: Final = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2)
_TO_DONE_S: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5)
_PUBLISH_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
_FILL_S: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
_JOB_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 180)


class Latencies(Collector):
    """A histogram of seconds by market that takes the values of a batch at once, from any thread.

    The client's own takes them one by one: 10 000 rows with two values each are 200 ms, here 1 ms.
    """

    def __init__(
        self, name: str, about: str, buckets: tuple[float, ...], market_ids: Collection[int]
    ) -> None:
        self._name = name
        self._about = about
        self._bounds = np.array(buckets)
        self._bounds_text = [floatToGoString(bound) for bound in (*buckets, math.inf)]
        self._counts = {one: np.zeros(len(buckets) + 1, np.int64) for one in market_ids}
        self._sums = dict.fromkeys(market_ids, 0.0)
        self._lock = threading.Lock()

    def observe(self, market_id: int, seconds: NDArray[np.float64]) -> None:
        """Takes the values of one market, in any order."""
        # A bucket holds its upper bound, so the place sought is the one before equals.
        places = np.searchsorted(self._bounds, seconds, side="left")
        found = np.bincount(places, minlength=self._bounds.size + 1)
        with self._lock:
            self._counts[market_id] = self._counts.get(market_id, 0) + found
            self._sums[market_id] = self._sums.get(market_id, 0.0) + float(seconds.sum())

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Name and meaning, without samples."""
        yield HistogramMetricFamily(self._name, self._about, labels=["market_id"])

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The samples of every market."""
        family = HistogramMetricFamily(self._name, self._about, labels=["market_id"])
        with self._lock:
            found = [(one, self._counts[one].cumsum(), self._sums[one]) for one in self._counts]
        for market_id, counts, total in found:
            buckets = list(zip(self._bounds_text, counts.astype(float).tolist(), strict=True))
            family.add_metric([str(market_id)], buckets, total)
        yield family


class _Markets:
    """Makes metrics of one registry, with children for the markets that are known."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int]) -> None:
        self._registry = registry
        self._market_ids = sorted(market_ids)

    def counter(self, name: str, about: str) -> Counter:
        made = Counter(name, about, ["market_id"], registry=self._registry)
        for market_id in self._market_ids:
            made.labels(market_id)
        return made

    def gauge(self, name: str, about: str) -> Gauge:
        made = Gauge(name, about, ["market_id"], registry=self._registry)
        for market_id in self._market_ids:
            made.labels(market_id)
        return made

    def histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(name, about, ["market_id"], registry=self._registry, buckets=buckets)
        for market_id in self._market_ids:
            made.labels(market_id)
        return made

    def latencies(self, name: str, about: str, buckets: tuple[float, ...]) -> Latencies:
        made = Latencies(name, about, buckets, self._market_ids)
        self._registry.register(made)
        return made


class SocketMetrics:
    """Sockets, their frames, and the candles in them."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self._market_ids = tuple(market_ids)
        self.connected = of.gauge("ws_connected", "Open sockets")
        self.reconnects = of.counter(
            "ws_reconnects_total", "Successful connects after the first of a connection"
        )
        self.rotations = of.counter(
            "ws_rotations_total", "Sockets replaced while they worked: age, or another symbol list"
        )
        self.messages = of.counter("ws_messages_total", "Frames received")
        self.errors = of.counter("ws_errors_total", "Connection and processing errors")
        self.idle = of.counter("ws_idle_total", "Sockets given up for a lack of closed candles")
        self.refused = of.counter(
            "ws_refused_symbols_total", "Subscriptions of a symbol that the exchange refused"
        )
        self.malformed = of.counter(
            "ws_malformed_total", "Frames and candles that could not be read, quarantined"
        )
        self.closed = of.counter("ws_closed_candles_total", "Closed candles received")
        self.not_closed = of.counter(
            "ignored_non_closed_total", "Frames holding unclosed 1m updates"
        )
        self.out_of_order = of.counter(
            "ws_out_of_order_total", "Closed candles older than the newest of their instrument"
        )
        self.duplicates = of.counter(
            "ws_duplicates_total", "Closed candles that repeat the newest of their instrument"
        )
        self.lag = of.gauge(
            "lag_to_now_s",
            "Seconds since the close of the newest candle, of the instrument that is furthest back",
        )
        self.staleness = Gauge(
            "instrument_staleness_s",
            "Seconds since the close of an instrument's newest candle",
            ["market_id", "symbol"],
            registry=registry,
        )

    def stale(self, seconds: Iterable[tuple[Instrument, float]]) -> None:
        """Replaces the lags by these; instruments that are not among them disappear."""
        self.staleness.clear()
        worst: dict[int, float] = {}
        for instrument, lag_s in seconds:
            self.staleness.labels(instrument.market_id, instrument.symbol).set(lag_s)
            worst[instrument.market_id] = max(lag_s, worst.get(instrument.market_id, -math.inf))
        for market_id in {*self._market_ids, *worst}:
            self.lag.labels(market_id).set(worst.get(market_id, 0.0))


class InsertMetrics:
    """Batches on their way into the store."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self.rows = of.counter("insert_rows_total", "Rows put into the store")
        self.batches = of.counter("insert_batches_total", "Batches put into the store")
        self.errors = of.counter("insert_errors_total", "Failed inserts; the batch is kept")
        self.duration = of.histogram("insert_duration_seconds", "One batch", _INSERT_S)
        self.to_start = of.latencies(
            "ws_closed_to_insert_start_seconds",
            "From a candle's receipt until its insert begins",
            _TO_START_S,
        )
        self.to_done = of.latencies(
            "ws_closed_to_insert_done_seconds",
            "From a candle's receipt until it is stored",
            _TO_DONE_S,
        )
        self.buffered = of.gauge("insert_buffer_rows", "Candles waiting to be stored")
        self.refused = of.counter(
            "insert_refused_total", "Candles left out of a batch, for the store can never take them"
        )
        self.dropped = of.counter(
            "insert_dropped_total",
            "Candles dropped because too many waited; the fill queue fetches them again",
        )

    def stored(
        self,
        market_ids: NDArray[np.int64],
        received_ms: NDArray[np.int64],
        started_ms: int,
        done_ms: int,
    ) -> None:
        """Counts a stored batch: market and receipt of each row, the times of its insert."""
        for market_id in set(market_ids.tolist()):
            received = received_ms[market_ids == market_id]
            self.rows.labels(market_id).inc(received.size)
            self.batches.labels(market_id).inc()
            self.duration.labels(market_id).observe((done_ms - started_ms) / 1000)
            self.to_start.observe(market_id, (started_ms - received) / 1000)
            self.to_done.observe(market_id, (done_ms - received) / 1000)


class FeedMetrics:
    """Candles on their way to Redis."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self.published = of.counter("redis_publish_total", "Candles published")
        self.errors = of.counter("redis_publish_errors_total", "Candles that were not published")
        self.duplicates = of.counter(
            "redis_publish_duplicates_total", "Candles whose stream had them, or a newer one"
        )
        self.dropped = of.counter(
            "redis_publish_dropped_total", "Candles dropped because the queue was full"
        )
        self.duration = of.histogram(
            "redis_publish_duration_seconds", "One pipeline of XADD", _PUBLISH_S
        )
        self.to_done = of.latencies(
            "ws_closed_to_publish_seconds",
            "From a candle's receipt until it is published",
            _TO_DONE_S,
        )


class FillMetrics:
    """Ranges fetched over REST by a fill queue."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self.tasks = of.counter("rest_fill_tasks_total", "Fills accepted")
        self.errors = of.counter("rest_fill_errors_total", "Attempts at a fill that failed")
        self.retries = of.counter("rest_fill_retries_total", "Fills that were put off to try again")
        self.dropped = of.counter(
            "rest_fill_dropped_total", "Fills given up: out of attempts, queue full, or shutdown"
        )
        self.active = of.gauge("rest_fill_active", "Running fills")
        self.pending = of.gauge("rest_fill_pending", "Fills that wait")
        self.duration = of.histogram("rest_fill_duration_seconds", "One fill", _FILL_S)


class RestMetrics:
    """Requests to the exchanges, and what is written of their answers."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self.errors = Counter(
            "rest_errors_total",
            "Requests that failed; status_code is 0 where there was no answer",
            ["market_id", "status_code"],
            registry=registry,
        )
        for market_id in sorted(market_ids):
            for status in WATCHED_STATUSES:
                self.errors.labels(market_id, status)
        self.retries = of.counter("rest_retries_total", "Requests sent again")
        self.rate_limit_sleeps = of.counter(
            "rest_rate_limit_sleeps_total", "Pauses for the sake of an exchange's limits"
        )
        self.slices = of.counter("slices_total", "Slices of time fetched and written")
        self.rows_per_s = of.gauge("rows_per_s", "Rows written a second in the latest slice")
        self.skipped_existing = of.counter(
            "gap_rows_skipped_existing_total", "Fetched rows whose minute was stored already"
        )

    def failed(self, market_id: int, status: int) -> None:
        """An attempt at a request failed; `status` is 0 where there was no answer."""
        self.errors.labels(market_id, status).inc()

    def retried(self, market_id: int) -> None:
        """A request is sent again."""
        self.retries.labels(market_id).inc()

    def held_back(self, market_id: int, seconds: float) -> None:
        """A request waits for the sake of the exchange's limits."""
        self.rate_limit_sleeps.labels(market_id).inc()


class LiveMetrics:
    """All that a live worker counts; fills may be those of another part of the process."""

    def __init__(self, registry: CollectorRegistry, fills: FillMetrics | None = None) -> None:
        self.sockets = SocketMetrics(registry)
        self.inserts = InsertMetrics(registry)
        self.feed = FeedMetrics(registry)
        self.fills = fills or FillMetrics(registry)


class SchedulerMetrics:
    """Jobs of the scheduler and what they did."""

    def __init__(self, registry: CollectorRegistry, market_ids: Collection[int] = MARKETS) -> None:
        of = _Markets(registry, market_ids)
        self.runs = Counter("scheduler_job_runs_total", "Runs", ["job"], registry=registry)
        self.errors = Counter(
            "scheduler_job_errors_total", "Runs that failed", ["job"], registry=registry
        )
        self.duration = Histogram(
            "scheduler_job_duration_seconds", "One run", ["job"], registry=registry, buckets=_JOB_S
        )
        for job in JOBS:
            self.runs.labels(job)
            self.errors.labels(job)
            self.duration.labels(job)
        labels = ["market_id", "reason"]
        self.planned = Counter(
            "scheduler_tasks_planned_total", "Fills planned", labels, registry=registry
        )
        self.enqueued = Counter(
            "scheduler_tasks_enqueued_total",
            "Planned fills that were new to the queue",
            labels,
            registry=registry,
        )
        for market_id in sorted(market_ids):
            for reason in SCHEDULED_REASONS:
                self.planned.labels(market_id, reason)
                self.enqueued.labels(market_id, reason)
        self.scanned = of.counter(
            "scheduler_startup_scan_instruments_total", "Instruments looked at by the startup scan"
        )
        prefix = "scheduler_rest_catchup_"
        self.caught_up = Counter(
            f"{prefix}instruments_total",
            "Instruments caught up",
            ["market_id", "status"],
            registry=registry,
        )
        for market_id in sorted(market_ids):
            for status in CATCHUP_STATUSES:
                self.caught_up.labels(market_id, status)
        self.tail_minutes = of.counter(f"{prefix}tail_minutes_total", "Minutes of the tails")
        self.tail_rows = of.counter(f"{prefix}tail_rows_written_total", "Rows of the tails")
        self.days_scanned = of.counter(f"{prefix}gap_days_scanned_total", "Days looked through")
        self.days_with_gaps = of.counter(
            f"{prefix}gap_days_with_gaps_total", "Days that lacked minutes"
        )
        self.ranges_filled = of.counter(f"{prefix}gap_ranges_filled_total", "Gaps fetched")
        self.gap_rows = of.counter(f"{prefix}gap_rows_written_total", "Rows written into gaps")
