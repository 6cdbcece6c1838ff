"""Why no candle comes to a run, told of what is stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest

from api.context import AppContext, Ingestion
from api.errors import StorageFailed
from api.run_candles import OLD_MS, is_quiet, waits_for
from compute.market.instrument import Instrument
from ingest.stores.clickhouse import ClickHouse
from live.strategies.runs import Run
from live.strategies.store import Strategy
from tests.api.service.market import MINUTES, START_MS, context_of, store, store_directory

__all__ = ["store", "store_directory"]

AT = datetime(2026, 1, 1, tzinfo=UTC)
END_MS = START_MS + MINUTES * 60_000


def strategy(symbol: str, market_id: int = 1) -> Strategy:
    spec = {
        "instrument_id": {"market_id": market_id, "symbol": symbol},
        "instrument_key": f"binance:spot:{symbol}",
    }
    return Strategy(
        strategy_id=UUID(int=1), user_id=UUID(int=2), name="", spec_json=spec, spec_hash="",
        created_at=AT, is_deleted=False,
    )  # fmt: skip


def told(context: AppContext, symbol: str) -> str | None:
    return asyncio.run(waits_for(context, strategy(symbol)))


def test_what_is_stored_says_what_a_run_waits_for(
    store: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(now_ms: int) -> AppContext:
        return context_of(store, now_ms=lambda: now_ms)

    fresh = at(END_MS + OLD_MS)
    assert told(fresh, "BTCUSDT") is None
    old = told(at(END_MS + OLD_MS + 1), "BTCUSDT")
    assert old is not None
    assert old.startswith("The newest candle of binance:spot:BTCUSDT is of 2026-01-13T23:59:00Z:")
    none = told(fresh, "XYZUSDT")
    assert none is not None
    assert none.startswith("No candles of binance:spot:XYZUSDT are stored. Nobody fetches")
    assert "roehub ingest" not in none  # the store is in use
    assert "made-up" in (told(fresh, "SYNTHUSDT") or "")
    assert told(context_of(None), "XYZUSDT") is None  # nobody knows

    async def away(*_: object) -> None:
        raise StorageFailed("away")

    monkeypatch.setattr("api.market.Market.read", away)
    assert told(fresh, "XYZUSDT") is None


def test_a_service_that_ingests_says_how_far_that_is(store: ClickHouse) -> None:
    context = context_of(store, now_ms=lambda: END_MS, ingestion=Ingestion())

    def said() -> str:
        return told(context, "XYZUSDT") or ""

    assert "is about to begin" in said()
    streams: dict[Instrument, str | None] = {}
    worker = Mock(follows=streams.__contains__, unreached=streams.get, is_unread=True)
    assert context.ingestion is not None
    context.ingestion.begun(worker)
    assert "is about to begin" in said()  # its list is still being read
    worker.is_unread = False
    assert "binance:spot:XYZUSDT is not among them: add a line" in said()
    streams[Instrument(1, "XYZUSDT")] = None
    assert "This service follows it; candles come by themselves. A run" in said()
    streams[Instrument(1, "XYZUSDT")] = "stream.example:9443 cannot be reached (no route)"
    assert "no stream comes now: stream.example:9443 cannot be reached (no route)." in said()
    assert "`" not in said()  # what it could name runs


@pytest.mark.parametrize(
    ("state", "checkpoint_s", "started_s", "quiet"),
    [
        ("starting", None, 60, False), ("starting", None, 61, True),
        ("running", 240, 9999, False), ("running", 241, 9999, True),
        ("running", 9999, 180, False),  # nothing of before its start is missed
        ("stopping", 9999, 9999, False), ("stopped", 9999, 9999, False),
    ],
)  # fmt: skip
def test_a_run_is_quiet_when_its_next_minute_should_be_there(
    state: str, checkpoint_s: int | None, started_s: int, quiet: bool
) -> None:
    def ago(seconds: int) -> datetime:
        return AT - timedelta(seconds=seconds)

    values: dict[str, Any] = {name: UUID(int=1) for name in ("run_id", "user_id", "strategy_id")}
    run = Run(
        **values, state=state, started_at=ago(started_s), updated_at=AT, stopped_at=None,
        checkpoint_ts_open=None if checkpoint_s is None else ago(checkpoint_s), last_error=None,
        metadata_json={},
    )  # fmt: skip
    assert is_quiet(run, int(AT.timestamp() * 1000)) is quiet
