"""What is told of committed outcomes: metrics where they changed, events, messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from compute.market.timeframe import TIMEFRAMES
from ingest.rows import MINUTE_MS
from live.outcomes import Committed, ms_of
from live.output import EVENT_TYPES, Told, event, metric, moment_text


class Publisher(Protocol):
    """Sends records and raises nothing."""

    async def publish(self, records: Sequence[Told]) -> None: ...


class Listener(Protocol):
    """Is told events and does not wait."""

    def tell(self, record: Told) -> None: ...


class Snapshots:
    """Turns outcomes into records; remembers what was told last of the runs of each instrument."""

    def __init__(self, publisher: Publisher, listener: Listener | None = None) -> None:
        self._publisher, self._listener = publisher, listener
        self._told: dict[str, dict[UUID, _Told]] = {}

    def forget(self, instrument_key: str) -> None:
        """Forgets runs that this process does not advance any more."""
        self._told.pop(instrument_key, None)

    async def tell(self, changes: Sequence[Committed], now_ms: int) -> None:
        """Publishes what was committed. Raises nothing."""
        records: list[Told] = []
        for committed in changes:
            run, outcome = committed.run, committed.outcome
            source = outcome.source
            ts_ms = ms_of(run.updated_at) or now_ms
            told = [
                event(ts_ms, source, kind, payload)
                for kind, payload in committed.events
                if kind in EVENT_TYPES
            ]
            records += told
            records += self._changed(committed, ts_ms, now_ms)
            if self._listener is not None:
                for record in told:
                    self._listener.tell(record)
            if not run.active:
                self._told[source.instrument_key].pop(run.run_id, None)
        await self._publisher.publish(records)

    def _changed(self, committed: Committed, ts_ms: int, now_ms: int) -> list[Told]:
        """Those metrics of a run whose value is another than the last one told."""
        source = committed.outcome.source
        of_instrument = self._told.setdefault(source.instrument_key, {})
        about = of_instrument.setdefault(committed.run.run_id, _Told())
        values, known = _values(committed, about, now_ms), about.values
        fresh = {name: value for name, value in values.items() if known.get(name) != value}
        known.update(fresh)
        return [metric(ts_ms, source, name, value) for name, value in fresh.items()]


@dataclass(slots=True)
class _Told:
    """What was told of a run last, and how many minutes it went through here."""

    values: dict[str, Any] = field(default_factory=dict)
    processed: int = 0


def _values(committed: Committed, about: _Told, now_ms: int) -> dict[str, Any]:
    run, outcome = committed.run, committed.outcome
    metadata = outcome.metadata or {}
    checkpoint_ms = outcome.checkpoint_ms
    values: dict[str, Any] = {
        "checkpoint_ts_open": moment_text(checkpoint_ms),
        "lag_seconds": 0 if checkpoint_ms is None else max(0, now_ms - checkpoint_ms) // 1000,
        "run_state": run.state,
    }
    warmup, rollup = metadata.get("warmup"), metadata.get("rollup")
    if warmup and rollup:
        values |= {
            "warmup_required_bars": warmup["bars"],
            "warmup_processed_bars": warmup["processed_bars"],
            "warmup_satisfied": bool(warmup["satisfied"]),
            "rollup_bucket_count_1m": rollup["bucket_count_1m"],
            "rollup_bucket_open_ts": rollup["bucket_open_ts"] or "",
        }
    before_ms = ms_of(outcome.run.checkpoint_ts_open)
    if checkpoint_ms is None or before_ms is None or checkpoint_ms <= before_ms:
        return values
    about.processed += (checkpoint_ms - before_ms) // MINUTE_MS
    repaired = next((payload for kind, payload in outcome.events if kind == "repair"), None)
    frame_ms = TIMEFRAMES[outcome.source.timeframe].ms
    buckets = [(ms + MINUTE_MS) // frame_ms for ms in (before_ms, checkpoint_ms)]
    return values | {
        "rollup_bucket_closed": buckets[0] < buckets[1],
        "candles_processed_total": about.processed,
        "dropped_non_contiguous_total": outcome.dropped,
        "gap_detected": repaired is not None,
        "repair_missing_bars": 0 if repaired is None else repaired["missing_minutes"],
        "repair_attempt": 0 if repaired is None else repaired["attempts"],
        "repair_continuous": True,
    }
