"""Markets, instruments and listings over the real engine, in process and over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compute.market.instrument import Instrument
from ingest.exchanges.registry import MARKETS
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.listings import Listing, ListingStore
from ingest.stores.references import DISABLED, ENABLED, InstrumentRow, ReferenceStore


@pytest.fixture(scope="module")
def store(either: ClickHouse) -> ReferenceStore:
    return ReferenceStore(either)


def row(instrument: Instrument, at: int, enabled: bool = True) -> InstrumentRow:
    return InstrumentRow(instrument, ENABLED if enabled else DISABLED, enabled, at)


def test_markets_are_seeded_once_and_left_alone(store: ReferenceStore) -> None:
    assert store.seed_markets(1_000) == len(MARKETS)
    assert store.seed_markets(2_000) == 0
    seeded = store.markets()
    assert [market.market_id for market in seeded] == [1, 2, 3, 4]
    assert {market.market_id: market.market_code for market in seeded} == {
        market_id: market.code for market_id, market in MARKETS.items()
    }
    store.upsert_markets([replace(seeded[1], is_enabled=False, updated_at_ms=3_000)])
    assert store.seed_markets(4_000) == 0
    assert [market.is_enabled for market in store.markets()] == [True, False, True, True]
    assert store.markets()[1].updated_at_ms == 3_000


def test_a_disabled_instrument_does_not_come_back(store: ReferenceStore) -> None:
    """Its older, enabled version is still stored."""
    instrument = Instrument(1, "GONEUSDT")
    store.upsert([row(instrument, 10)])
    assert instrument in store.active()
    store.upsert([row(instrument, 20, enabled=False)])
    store.upsert([row(instrument, 15)])  # late and older
    assert instrument not in store.active()
    assert store.search(1, "GONE") == []
    assert store.latest([instrument]) == {instrument: row(instrument, 20, enabled=False)}


def test_active_means_enabled_and_tradable(store: ReferenceStore) -> None:
    halted = InstrumentRow(Instrument(2, "HALTUSDT"), ENABLED, False, 1)
    unknown = InstrumentRow(Instrument(2, "NEWUSDT"), "UNKNOWN", True, 1)
    store.upsert([halted, unknown])
    assert not {halted.instrument, unknown.instrument} & set(store.active())


def test_metadata_comes_back_as_it_went_in_nulls_too(store: ReferenceStore) -> None:
    full = InstrumentRow(
        Instrument(3, "FULLUSDT"), ENABLED, True, 1_700_000_000_123, "FULL", "USDT", 0.01, 1e-8, 5.0
    )
    bare = row(Instrument(3, "NONEUSDT"), 1_700_000_000_123)
    store.upsert([full, bare])
    assert store.latest([full.instrument, bare.instrument]) == {
        full.instrument: full,
        bare.instrument: bare,
    }


def test_active_instruments_are_in_order(store: ReferenceStore) -> None:
    mixed = [Instrument(m, s) for m, s in ((4, "AUSDT"), (3, "ZUSDT"), (3, "BUSDT"), (1, "QUSDT"))]
    store.upsert([row(instrument, 1) for instrument in mixed])
    active = store.active()
    assert active == sorted(active)
    assert set(mixed) <= set(active)


def test_a_long_list_of_instruments_is_asked_for_at_once(store: ReferenceStore) -> None:
    """Longer than a URL may be: over HTTP it travels as a form."""
    many = [Instrument(2, f"MANY-{number}-'{{x:String}}") for number in range(3000)]
    store.upsert([row(instrument, 1) for instrument in many])
    assert set(store.latest([*many, Instrument(1, many[0].symbol)])) == set(many)
    assert store.latest([]) == {}


def test_a_prefix_is_only_a_prefix(store: ReferenceStore) -> None:
    listed = [Instrument(4, symbol) for symbol in ("P_1USDT", "P%2USDT", "PA3USDT", "P'4USDT")]
    store.upsert([row(instrument, 1) for instrument in listed])
    assert store.search(4, " p_ ") == [listed[0]]
    assert store.search(4, "P%") == [listed[1]]
    assert store.search(4, "P'") == [listed[3]]
    assert store.search(4, "P") == sorted(listed)
    assert store.search(4, "P", limit=2) == sorted(listed)[:2]
    assert store.search(70_000, "P") == []


def test_a_listing_is_kept_and_may_say_there_is_none(either: ClickHouse) -> None:
    listings, instrument = ListingStore(either), Instrument(3, "LIST-USDT")
    assert listings.listing(instrument) is None
    listings.record(instrument, None, 1_000)
    assert listings.listing(instrument) == Listing(None, 1_000)
    listings.record(instrument, 1_600_000_020_000, 2_000)
    listings.record(instrument, None, 1_500)
    assert listings.listing(instrument) == Listing(1_600_000_020_000, 2_000)
    assert listings.listing(Instrument(4, "LIST-USDT")) is None
