"""Closed one-minute candles from Redis Streams, read as a consumer group.

An entry is a candle to be quick about; the store has the truth. Entries are acknowledged after what
they led to was committed; those of a consumer that died are taken over. Streams that cannot be read
cost speed alone, for whoever waits for a minute asks the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from redis.exceptions import RedisError, ResponseError

from compute.errors import InvalidInput
from compute.market.period import Period, epoch_ms
from ingest.rows import MINUTE_MS

GROUP: Final = "strategy.live_runner.v1"
PREFIX: Final = "md.candles.1m"
_VALUES: Final = ("open", "high", "low", "close", "volume_base")
_FIELDS: Final = (
    "schema_version", "market_id", "symbol", "instrument_key", "ts_open", "ts_close", *_VALUES,
    "volume_quote", "source", "ingested_at", "ingest_id",
)  # fmt: skip
FAILURES: Final = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
_CLAIM_SECONDS: Final = 1.0
"""Claims are not made more often than this."""

log = logging.getLogger(__name__)

Candle = tuple[float, float, float, float, float]
"""Open, high, low, close, volume of a minute."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How streams are read. `block_ms` 0 does not wait; every `claim_idle_ms` it is looked for what
    other consumers left. Raises: InvalidInput.
    """

    stream_prefix: str = PREFIX
    consumer_group: str = GROUP
    read_count: int = 200
    block_ms: int = 100
    claim_idle_ms: int = 30_000

    def __post_init__(self) -> None:
        for name in ("stream_prefix", "consumer_group"):
            if not getattr(self, name).strip():
                raise InvalidInput(f"{name} is blank")
        if self.read_count <= 0:
            raise InvalidInput(f"read_count must be > 0, got {self.read_count}")
        for name in ("block_ms", "claim_idle_ms"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A candle of an instrument, and the entry of the stream that it came in."""

    instrument_key: str
    entry_id: str
    ts_open_ms: int
    candle: Candle


class InvalidEntry(ValueError):
    """An entry that is no candle of its stream."""


class Feed:
    """Reads the streams of instruments as one consumer; `client` decodes answers to text."""

    def __init__(self, client: Any, consumer: str, settings: FeedSettings | None = None) -> None:
        self._client, self._consumer = client, consumer
        self._settings = settings or FeedSettings()
        self._known: set[str] = set()
        self._claimed: dict[str, float] = {}
        self.read = self.malformed = 0
        """Entries so far."""

    async def entries(self, keys: Collection[str]) -> list[Entry]:
        """New candles of these instruments, by time. Raises: FAILURES."""
        if not keys:
            return []
        await self._join(keys)
        wait = self._settings.block_ms or None
        try:
            found = await self._client.xreadgroup(
                self._settings.consumer_group,
                self._consumer,
                {self._stream(key): ">" for key in sorted(keys)},
                count=self._settings.read_count,
                block=wait,
            )
        except ResponseError as error:
            if "NOGROUP" in str(error):  # the server lost its data
                self._known.clear()
                return []
            raise
        by_stream = found.items() if isinstance(found, Mapping) else found or ()
        return await self._candles([(name, entry) for name, some in by_stream for entry in some])

    async def inherited(self, keys: Collection[str]) -> list[Entry]:
        """What was left of these instruments, now and again; see `left`. Raises: FAILURES."""
        found: list[Entry] = []
        for key in sorted(keys):
            if time.monotonic() >= self._claimed.get(key, 0.0):
                found += await self.left(key)
        return found

    async def left(self, key: str) -> list[Entry]:
        """Candles of an instrument that any consumer was given and has not acknowledged.

        It is for the runner that holds the lease: nobody else deals with them. Consumers that are
        silent and have none left are deleted.

        Raises: FAILURES.
        """
        await self._join([key])
        settings, start, found = self._settings, "0-0", []
        pause = max(_CLAIM_SECONDS, settings.claim_idle_ms / 1000)
        self._claimed[key] = time.monotonic() + pause
        stream, group = self._stream(key), settings.consumer_group
        while True:
            start, some, *_ = await self._client.xautoclaim(
                stream, group, self._consumer, 0, start, count=settings.read_count
            )
            found += [(stream, entry) for entry in some if entry[1] is not None]
            if start == "0-0":
                break
        for one in await self._client.xinfo_consumers(stream, group):
            silent = one["idle"] >= settings.claim_idle_ms
            if one["name"] != self._consumer and silent and not one["pending"]:
                await self._client.xgroup_delconsumer(stream, group, one["name"])
        return await self._candles(found)

    async def recent(self, key: str, period: Period) -> list[Entry]:
        """The candles of `period` that the stream of an instrument still has. Raises: FAILURES."""
        stream = self._stream(key)
        last = f"{period.end_ms - 1}"  # ids are the opens of minutes
        found = await self._client.xrange(stream, f"{period.start_ms}", last)
        return _candles_of(key, found)

    async def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Says that these were dealt with. Raises: FAILURES."""
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(self._stream(entry.instrument_key), []).append(entry.entry_id)
        pipeline = self._client.pipeline(transaction=False)
        for stream, some in ids.items():
            pipeline.xack(stream, self._settings.consumer_group, *some)
        await pipeline.execute()

    async def _join(self, keys: Collection[str]) -> None:
        """Makes the group of streams that are new to us; it begins with entries to come."""
        for key in sorted(set(keys) - self._known):
            try:
                await self._client.xgroup_create(
                    self._stream(key), self._settings.consumer_group, id="$", mkstream=True
                )
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._known.add(key)

    async def _candles(self, found: Sequence[tuple[str, Any]]) -> list[Entry]:
        """The candles among entries; what is none is told, acknowledged and dropped."""
        self.read += len(found)
        candles: list[Entry] = []
        for stream, (entry_id, fields) in found:
            key = stream.removeprefix(f"{self._settings.stream_prefix}.")
            try:
                candles.append(Entry(key, entry_id, *candle_of(key, fields)))
            except InvalidEntry as error:
                self.malformed += 1
                log.warning("entry %s of %s is dropped: %s", entry_id, stream, error)
                await self._client.xack(stream, self._settings.consumer_group, entry_id)
        return sorted(candles, key=lambda entry: (entry.ts_open_ms, entry.entry_id))

    def _stream(self, key: str) -> str:
        return f"{self._settings.stream_prefix}.{key}"


def _candles_of(key: str, found: Sequence[Any]) -> list[Entry]:
    """The candles among entries of a stream, without what is none."""
    candles: list[Entry] = []
    for entry_id, fields in found:
        with contextlib.suppress(InvalidEntry):
            candles.append(Entry(key, entry_id, *candle_of(key, fields)))
    return candles


def candle_of(key: str, fields: Mapping[str, str]) -> tuple[int, Candle]:
    """(open in ms, candle) of an entry of instrument `key`. Raises: InvalidEntry."""
    lacking = [name for name in _FIELDS if name not in fields]
    if lacking:
        raise InvalidEntry(f"it lacks {', '.join(lacking)}")
    if fields["schema_version"] != "1":
        raise InvalidEntry(f"schema_version is {fields['schema_version'][:20]!r}, not 1")
    if fields["instrument_key"] != key or fields["symbol"] != key.rpartition(":")[2]:
        raise InvalidEntry(f"it is of {fields['instrument_key'][:60]!r}")
    try:
        times = [datetime.fromisoformat(fields[name]) for name in ("ts_open", "ts_close")]
        ts_open_ms, ts_close_ms = (epoch_ms(time) for time in times)
        values = np.array([float(fields[name]) for name in _VALUES])
    except (ValueError, TypeError, InvalidInput) as error:
        raise InvalidEntry(str(error)) from None
    if ts_open_ms % MINUTE_MS or ts_close_ms != ts_open_ms + MINUTE_MS:
        raise InvalidEntry(f"{fields['ts_open']} to {fields['ts_close']} is no minute")
    if not np.isfinite(values).all() or (values[:4] <= 0).any() or values[4] < 0:
        raise InvalidEntry("its values are those of no candle")
    open_, high, low, close, volume = values.tolist()
    return ts_open_ms, (open_, high, low, close, volume)
