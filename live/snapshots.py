"""What is told of committed outcomes: metrics where they changed, events, messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from ingest.rows import MINUTE_MS
from live.ledger import Committed, ms_of
from live.output import EVENT_TYPES, Told, event, metric, moment_text


class Publisher(Protocol):
    """Sends records and raises nothing."""

    async def publish(self, records: Sequence[Told]) -> None: ...


class Listener(Protocol):
    """Is told events and does not wait."""

    def tell(self, record: Told) -> None: ...


class Snapshots:
    """Turns outcomes into records; remembers what was told last of each run."""

    def __init__(self, publisher: Publisher, listener: Listener | None = None) -> None:
        self._publisher, self._listener = publisher, listener
        self._last: dict[UUID, dict[str, Any]] = {}
        self._processed: dict[UUID, int] = {}

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
                self._last.pop(run.run_id, None)
                self._processed.pop(run.run_id, None)
        await self._publisher.publish(records)

    def _changed(self, committed: Committed, ts_ms: int, now_ms: int) -> list[Told]:
        """Those metrics of a run whose value is another than the last one told."""
        run_id, source = committed.run.run_id, committed.outcome.source
        values = self._values(committed, now_ms)
        known = self._last.setdefault(run_id, {})
        fresh = {name: value for name, value in values.items() if known.get(name) != value}
        known.update(fresh)
        return [metric(ts_ms, source, name, value) for name, value in fresh.items()]

    def _values(self, committed: Committed, now_ms: int) -> dict[str, Any]:
        run, outcome = committed.run, committed.outcome
        metadata = outcome.metadata
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
        done = self._processed.get(run.run_id, 0) + (checkpoint_ms - before_ms) // MINUTE_MS
        self._processed[run.run_id] = done
        repaired = next((payload for kind, payload in outcome.events if kind == "repair"), None)
        return values | {
            "rollup_bucket_closed": bool(outcome.bars),
            "candles_processed_total": done,
            "gap_detected": repaired is not None,
            "repair_missing_bars": 0 if repaired is None else repaired["missing_minutes"],
            "repair_attempt": 0 if repaired is None else repaired["attempts"],
            "repair_continuous": True,
        }
