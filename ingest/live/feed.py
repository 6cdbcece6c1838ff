"""Closed candles into Redis Streams, one stream an instrument (schema version 1).

A stream is `<prefix>.<instrument key>`, an entry's id the candle's open in ms and `-0`, so that a
stream only ever grows in time: a candle that is already there, or older than the newest, is not
delivered again. Publishing is best effort. A candle gets one try; consumers find what is missing
in the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
from redis.exceptions import RedisError, ResponseError

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import EPOCH
from ingest.metrics import FeedMetrics
from ingest.rows import MINUTE_MS, Candle, Origin, instrument_key

SCHEMA_VERSION: Final = b"1"
PREFIX: Final = "md.candles.1m"
MAXLEN: Final = 10_080  # a week of minutes
QUEUED: Final = 20_000
BATCH: Final = 256

log = logging.getLogger(__name__)


class Client(Protocol):
    """What is used of `redis.asyncio.Redis`."""

    def pipeline(self, transaction: bool = ...) -> Any: ...


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Names and sizes of the streams; `queued` candles wait at most, the oldest give way.

    Raises:
        InvalidInput: a blank prefix, or a size below 1.
    """

    prefix: str = PREFIX
    maxlen: int = MAXLEN
    queued: int = QUEUED

    def __post_init__(self) -> None:
        if not self.prefix.strip():
            raise InvalidInput("stream_prefix is blank; name one, like md.candles.1m")
        for name in ("maxlen", "queued"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} of the live feed must be > 0")


class Feed:
    """Candles on their way to Redis, sent between `start` and `close`; `publish` never waits."""

    def __init__(
        self,
        client: Client,
        metrics: FeedMetrics,
        *,
        clock: Callable[[], int],
        settings: FeedSettings | None = None,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._clock = clock
        self._settings = settings or FeedSettings()
        self._queue: deque[tuple[Candle, Origin]] = deque()
        self._sending = 0
        self._some = asyncio.Event()
        self._ending = False
        self._task: asyncio.Task[None] | None = None
        self.failing: str | None = None
        """Why the latest batch was not published; None when it was."""
        self.published = 0
        """Candles that Redis has taken."""

    def __len__(self) -> int:
        return len(self._queue) + self._sending

    def start(self) -> asyncio.Task[None]:
        """The task that publishes; it ends when the feed is closed and empty."""
        self._task = asyncio.create_task(self._run(), name="live feed")
        return self._task

    def publish(self, candle: Candle, origin: Origin) -> None:
        """Takes a candle; when too many wait, the oldest is dropped and counted."""
        if self._ending:
            return
        if len(self._queue) >= self._settings.queued:
            dropped, _ = self._queue.popleft()
            self._metrics.dropped.labels(dropped.instrument.market_id).inc()
            self._metrics.errors.labels(dropped.instrument.market_id).inc()
        self._queue.append((candle, origin))
        self._some.set()

    async def close(self, deadline_s: float) -> int:
        """Publishes what is queued, and returns how many candles it could not until then."""
        self._ending = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=deadline_s)
            self._task.cancel()
        return len(self)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._queue:
                if self._ending:
                    return
                self._some.clear()
                continue
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            self._sending = len(batch)
            await self._send(batch)
            self._sending = 0

    async def _send(self, batch: list[tuple[Candle, Origin]]) -> None:
        """One pipeline, one try."""
        began = time.perf_counter()
        prefix, maxlen = self._settings.prefix.encode(), self._settings.maxlen
        try:
            pipeline = self._client.pipeline(transaction=False)
            for candle, origin in batch:
                pipeline.xadd(
                    b"%b.%b" % (prefix, _key(candle.instrument)),
                    fields(candle, origin),
                    id=b"%d-0" % candle.ts_open_ms,
                    maxlen=maxlen,
                    approximate=True,
                )
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._failed(batch, error)
            return
        took_s = time.perf_counter() - began
        done_ms = self._clock()
        failures: list[Exception] = []
        metrics = self._metrics
        received_ms: dict[int, list[int]] = {}
        for (candle, origin), answer in zip(batch, answers, strict=True):
            market_id = candle.instrument.market_id
            if not isinstance(answer, Exception):
                received_ms.setdefault(market_id, []).append(origin.ingested_at_ms)
            elif _is_duplicate(answer):
                metrics.duplicates.labels(market_id).inc()
            else:
                metrics.errors.labels(market_id).inc()
                failures.append(answer)
        for market_id, received in received_ms.items():
            self.published += len(received)
            metrics.published.labels(market_id).inc(len(received))
            metrics.to_done.observe(market_id, (done_ms - np.array(received)) / 1000)
        for market_id in {candle.instrument.market_id for candle, _ in batch}:
            metrics.duration.labels(market_id).observe(took_s)
        self._note(str(failures[0]) if failures else None, len(failures))

    def _failed(self, batch: list[tuple[Candle, Origin]], error: Exception) -> None:
        for market_id, count in Counter(one.instrument.market_id for one, _ in batch).items():
            self._metrics.errors.labels(market_id).inc(count)
        self._note(str(error) or type(error).__name__, len(batch))

    def _note(self, reason: str | None, lost: int) -> None:
        """Logs when Redis begins to fail and when it works again, not every batch between."""
        if reason is not None and self.failing is None:
            log.warning("%d candles were not published: %s", lost, reason)
        elif reason is None and self.failing is not None:
            log.info("candles are published again")
        self.failing = reason


def fields(candle: Candle, origin: Origin) -> dict[bytes, bytes]:
    """An entry of the stream: texts by name, a missing volume is blank.

    In bytes, and from a cache what a minute's candles share: a thousand of them come at once, and
    the client takes longer to encode one than we to make it.
    """
    instrument = candle.instrument
    quote = candle.volume_quote
    return {
        b"schema_version": SCHEMA_VERSION,
        b"market_id": b"%d" % instrument.market_id,
        b"symbol": instrument.symbol.encode(),
        b"instrument_key": _key(instrument),
        b"ts_open": _time(candle.ts_open_ms),
        b"ts_close": _time(candle.ts_open_ms + MINUTE_MS),
        b"open": _number(candle.open),
        b"high": _number(candle.high),
        b"low": _number(candle.low),
        b"close": _number(candle.close),
        b"volume_base": _number(candle.volume_base),
        b"volume_quote": b"" if quote is None else _number(quote),
        b"source": origin.source.encode(),
        b"ingested_at": _time(origin.ingested_at_ms),
        b"ingest_id": (origin.ingest_id or "").encode(),
    }


def _number(value: float) -> bytes:
    return repr(float(value)).encode()


@lru_cache(4096)
def _key(instrument: Instrument) -> bytes:
    return instrument_key(instrument).encode()


@lru_cache(256)
def _time(ms: int) -> bytes:
    """ISO 8601 in UTC, always with milliseconds: texts of one length sort like times."""
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _is_duplicate(answer: Exception) -> bool:
    """Whether Redis refused an id that is not above the newest of the stream."""
    text = str(answer)
    return isinstance(answer, ResponseError) and (
        "equal or smaller" in text or text.startswith("WRONGID")
    )
