"""Metadata of the exchanges beside the instruments: what makes a new version and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from compute.market.instrument import Instrument
from ingest.enrichment import EnrichmentReport, enrich, metadata_changes
from ingest.errors import ExchangeError
from ingest.exchanges.exchange import InstrumentMetadata
from ingest.references import sync
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.references import InstrumentRow, ReferenceStore
from ingest.whitelist import Listed

NOW_MS = 1_750_000_000_000
TOLD = InstrumentMetadata("BTCUSDT", "BTC", "USDT", 0.01, 0.00001, 5.0, True)
KNOWN = InstrumentRow(
    Instrument(1, "BTCUSDT"), "ENABLED", True, NOW_MS, "BTC", "USDT", 0.01, 0.00001, 5.0
)


def changes(known: InstrumentRow, told: InstrumentMetadata) -> list[InstrumentRow]:
    return metadata_changes([known], [told], NOW_MS + 1)


def test_the_same_again_is_no_version() -> None:
    assert changes(KNOWN, TOLD) == []
    assert changes(KNOWN, replace(TOLD, price_step=0.01 * (1 + 1e-13))) == []
    assert changes(KNOWN, replace(TOLD, symbol=" btcusdt ")) == []
    assert changes(KNOWN, replace(TOLD, symbol="ETHUSDT")) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_asset", "XBT"), ("quote_asset", "USDC"), ("price_step", 0.1), ("qty_step", 1e-6),
        ("min_notional", 10.0),
    ],
)  # fmt: skip
def test_a_field_that_differs_is_a_version_with_the_others_kept(field: str, value: Any) -> None:
    (row,) = changes(KNOWN, replace(TOLD, **{field: value}))
    assert row == replace(KNOWN, updated_at_ms=NOW_MS + 1, **{field: value})


@pytest.mark.parametrize("value", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_step_does_not_replace_one(value: float | None) -> None:
    assert changes(KNOWN, replace(TOLD, price_step=value, qty_step=value)) == []
    assert changes(KNOWN, replace(TOLD, base_asset=" ", quote_asset=None)) == []


def test_tiny_steps_are_told_apart() -> None:
    known = replace(KNOWN, price_step=1e-8)
    (row,) = changes(known, replace(TOLD, price_step=2e-8))
    assert row.price_step == 2e-8


def enriched(
    store: ReferenceStore,
    told: Mapping[int, Sequence[InstrumentMetadata] | Exception],
    now_ms: int = NOW_MS + 10,
) -> EnrichmentReport:
    async def published(market_id: int) -> Sequence[InstrumentMetadata]:
        answer = told[market_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return asyncio.run(enrich(store, published, lambda: now_ms, asyncio.to_thread))


def test_active_instruments_are_enriched_and_the_others_reported(db: ClickHouse) -> None:
    store = ReferenceStore(db)
    names = ["1:BTCUSDT", "1:GONEUSDT", "1:IDLEUSDT", "4:BTCUSDT"]
    listed = [Listed(Instrument.parse(name), True) for name in names]
    off = Listed(Instrument(1, "OFFUSDT"), False)
    sync(store, [*listed, off], (1, 2, 3, 4), NOW_MS)
    told = {
        1: [TOLD, replace(TOLD, symbol="IDLEUSDT", trading=False), replace(TOLD, symbol="OFFUSDT")],
        4: ExchangeError("bybit:futures /v5/market/instruments-info: down", market_id=4),
    }
    report = enriched(store, told)
    assert report == EnrichmentReport(
        instruments_total=4,
        markets_total=2,
        rows_upserted=2,
        symbols_missing_metadata=1,
        missing=("1:GONEUSDT",),
        not_trading=("1:IDLEUSDT",),
        markets_failed=("market 4: bybit:futures /v5/market/instruments-info: down",),
    )
    found = store.latest([Instrument(1, "BTCUSDT")])[Instrument(1, "BTCUSDT")]
    assert found == replace(KNOWN, updated_at_ms=NOW_MS + 10)
    assert off.instrument not in store.active()
    again = enriched(store, told, NOW_MS + 20)
    assert again.rows_upserted == 0


def test_an_instrument_disabled_meanwhile_does_not_come_back(db: ClickHouse) -> None:
    store = ReferenceStore(db)
    one = Listed(Instrument(3, "RACEUSDT"), True)
    sync(store, [one], (1, 2, 3, 4), NOW_MS)

    async def published(market_id: int) -> Sequence[InstrumentMetadata]:
        sync(store, [replace(one, enabled=False)], (1, 2, 3, 4), NOW_MS + 1)
        return [replace(TOLD, symbol="RACEUSDT")] if market_id == 3 else []

    asyncio.run(enrich(store, published, lambda: NOW_MS + 2, asyncio.to_thread))
    assert one.instrument not in store.active()
