"""What runs are doing, to their owners as it happens: two Redis streams a user.

Best effort, after what is told was committed; the truth is in PostgreSQL. Schema version 1.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Protocol
from uuid import UUID

from redis.exceptions import RedisError, ResponseError

from compute.errors import InvalidInput
from compute.market.period import EPOCH
from live.metrics import OutputMetrics

METRIC_TYPES: Final = (
    "warmup_required_bars", "warmup_processed_bars", "warmup_satisfied", "checkpoint_ts_open",
    "lag_seconds", "run_state", "rollup_bucket_count_1m", "rollup_bucket_open_ts",
    "candles_processed_total", "dropped_non_contiguous_total", "rollup_bucket_closed",
    "gap_detected", "repair_missing_bars", "repair_attempt", "repair_continuous",
)  # fmt: skip
EVENT_TYPES: Final = (
    "run_state_changed", "run_stopped", "run_failed",
    "signal", "trade_open", "trade_close", "gap", "repair",
)  # fmt: skip
_SMALLER: Final = ("equal or smaller", "WRONGID")
_AT_ONCE: Final = 500  # records of a round trip

log = logging.getLogger(__name__)


class Client(Protocol):
    """What is used of `redis.asyncio.Redis`."""

    def pipeline(self, transaction: bool = ...) -> Any: ...


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Names of the streams, and about how many entries one keeps. Raises: InvalidInput."""

    metrics_stream_prefix: str = "strategy.metrics.v1.user"
    events_stream_prefix: str = "strategy.events.v1.user"
    metrics_maxlen: int = 10_000
    events_maxlen: int = 10_000

    def __post_init__(self) -> None:
        for name in ("metrics_stream_prefix", "events_stream_prefix"):
            if not getattr(self, name).strip():
                raise InvalidInput(f"{name} is blank")
        for name in ("metrics_maxlen", "events_maxlen"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} must be > 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Source:
    """What a record is about."""

    strategy_id: UUID
    run_id: UUID
    instrument_key: str
    timeframe: str
    user_id: UUID


@dataclass(frozen=True, slots=True)
class Told:
    """One record at `ts_ms`: an event with a payload, or a metric with a value (payload None)."""

    ts_ms: int
    source: Source
    kind: str
    value: str = ""
    payload: Mapping[str, object] | None = None

    @property
    def order(self) -> tuple[Any, ...]:
        """The contract's order of a batch; an event comes before the metrics of its moment."""
        about = self.source
        ids = about.strategy_id.int, about.run_id.int
        place = about.instrument_key, about.timeframe, about.user_id.int
        return self.ts_ms, self.payload is None, ids, place, self.kind

    def fields(self) -> dict[str, str]:
        """The entry of its stream, all texts."""
        about = self.source
        shared = {
            "schema_version": "1",
            "ts": moment_text(self.ts_ms),
            "strategy_id": str(about.strategy_id),
            "run_id": str(about.run_id),
        }
        tail = {"instrument_key": about.instrument_key, "timeframe": about.timeframe}
        if self.payload is None:
            return {**shared, "metric_type": self.kind, "value": self.value, **tail}
        return {**shared, "event_type": self.kind, "payload_json": _payload(self.payload), **tail}


def metric(ts_ms: int, source: Source, kind: str, value: object) -> Told:
    """A metric; `value` as the contract writes it: flags are 0 and 1, nothing is blank."""
    text = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    return Told(ts_ms, source, kind, value=text)


def event(ts_ms: int, source: Source, kind: str, payload: Mapping[str, object]) -> Told:
    """An event."""
    return Told(ts_ms, source, kind, payload=payload)


@lru_cache(maxsize=256)  # all runs are at the same few minutes
def moment_text(ms: int | None) -> str:
    """ISO 8601 in UTC with milliseconds; blank for None."""
    if ms is None:
        return ""
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Output:
    """Sends records; what cannot be sent is counted and forgotten."""

    def __init__(
        self, client: Client, metrics: OutputMetrics, settings: OutputSettings | None = None
    ) -> None:
        self._client, self._settings = client, settings or OutputSettings()
        self._metrics = metrics
        self._failing = False

    async def publish(self, records: Iterable[Told]) -> None:
        """Sends the records in their order, in few round trips. Raises nothing."""
        ordered = sorted(records, key=lambda record: record.order)
        for start in range(0, len(ordered), _AT_ONCE):
            await self._publish(ordered[start : start + _AT_ONCE])

    async def _publish(self, records: list[Told]) -> None:
        try:
            answers = await self._sent(records, "{}-*")
            late = [
                record for record, answer in zip(records, answers, strict=True) if _smaller(answer)
            ]
            if late:  # another process was ahead: they follow its records under the server's time
                self._metrics.late.inc(len(late))
                answers = [a for a in answers if not _smaller(a)] + await self._sent(late, "*")
        except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            answers = [error] * len(records)
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        self._metrics.published.inc(len(answers) - len(failures))
        self._metrics.errors.inc(len(failures))
        if failures and not self._failing:
            log.warning("%d records of runs were not published: %s", len(failures), failures[0])
        elif not failures and self._failing:
            log.info("records of runs are published again")
        self._failing = bool(failures)

    async def _sent(self, records: list[Told], entry_id: str) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        settings = self._settings
        for record in records:
            told = record.payload is not None
            prefix = settings.events_stream_prefix if told else settings.metrics_stream_prefix
            most = settings.events_maxlen if told else settings.metrics_maxlen
            pipeline.execute_command(
                "XADD",
                f"{prefix}.{record.source.user_id}",
                "MAXLEN",
                "~",
                most,
                entry_id.format(record.ts_ms),
                *chain.from_iterable(record.fields().items()),
            )
        return await pipeline.execute(raise_on_error=False)


def _payload(values: Mapping[str, object]) -> str:
    texts = {str(key): "" if value is None else str(value) for key, value in values.items()}
    return json.dumps(texts, sort_keys=True, separators=(",", ":"))


def _smaller(answer: object) -> bool:
    """Whether Redis refused an id that is not above the newest of its stream."""
    return isinstance(answer, ResponseError) and any(text in str(answer) for text in _SMALLER)
