"""Reference data in a real store: seeds, whitelist, what a new version carries over."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from ingest.references import sync
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.references import InstrumentRow, ReferenceStore
from ingest.whitelist import Listed

NOW_MS = 1_750_000_000_000
MARKETS = (1, 2, 3, 4)


@pytest.fixture
def store(db: ClickHouse) -> ReferenceStore:
    return ReferenceStore(db)


def listed(*entries: str) -> list[Listed]:
    """Rows written like `1:AAA` and, for one that is not enabled, `1:AAA off`."""
    found = []
    for entry in entries:
        name, _, off = entry.partition(" ")
        found.append(Listed(Instrument.parse(name), not off))
    return found


def test_markets_are_seeded_once_and_a_disabled_one_is_left_alone(store: ReferenceStore) -> None:
    first = sync(store, [], MARKETS, NOW_MS)
    assert first.ref_market_inserted == 4
    bybit = store.markets()[2]
    assert (bybit.market_code, bybit.is_enabled, bybit.updated_at_ms) == (
        "bybit:spot",
        True,
        NOW_MS,
    )
    store.upsert_markets([replace(bybit, is_enabled=False, updated_at_ms=NOW_MS + 1)])
    assert sync(store, [], MARKETS, NOW_MS + 2).ref_market_inserted == 0
    assert [row.is_enabled for row in store.markets()] == [True, True, False, True]


def test_a_second_sync_of_the_same_list_writes_nothing(store: ReferenceStore) -> None:
    wanted = listed("1:REFA", "1:REFB off", "3:REFA")
    assert asdict(sync(store, wanted, MARKETS, NOW_MS)) | {"ref_market_inserted": 0} == {
        "ref_market_inserted": 0,
        "ref_instruments_rows_total": 3,
        "ref_instruments_upserted": 3,
        "ref_instruments_skipped_unchanged": 0,
        "enabled_count": 2,
        "disabled_count": 1,
    }
    again = sync(store, wanted, MARKETS, NOW_MS + 1)
    assert (again.ref_instruments_upserted, again.ref_instruments_skipped_unchanged) == (0, 3)
    rows = store.latest([one.instrument for one in wanted])
    states = {str(key): (row.status, row.is_tradable) for key, row in rows.items()}
    assert states == {
        "1:REFA": ("ENABLED", True), "1:REFB": ("DISABLED", False), "3:REFA": ("ENABLED", True),
    }  # fmt: skip


def test_switching_off_and_on_keeps_what_the_exchange_told(store: ReferenceStore) -> None:
    instrument = Instrument(2, "REFKEEP")
    sync(store, listed("2:REFKEEP"), MARKETS, NOW_MS)
    rich = InstrumentRow(
        instrument, "ENABLED", True, NOW_MS + 1, "REF", "KEEP", 0.01, 0.001, 5.0
    )  # fmt: skip
    store.upsert([rich])
    report = sync(store, listed("2:REFKEEP off"), MARKETS, NOW_MS + 2)
    assert report.ref_instruments_upserted == 1
    assert store.latest([instrument])[instrument] == replace(
        rich, status="DISABLED", is_tradable=False, updated_at_ms=NOW_MS + 2
    )
    assert instrument not in store.active()
    sync(store, listed("2:REFKEEP"), MARKETS, NOW_MS + 3)
    assert store.latest([instrument])[instrument] == replace(rich, updated_at_ms=NOW_MS + 3)


def test_a_clock_that_went_back_does_not_hide_the_change(store: ReferenceStore) -> None:
    instrument = Instrument(2, "REFCLOCK")
    sync(store, listed("2:REFCLOCK"), MARKETS, NOW_MS)
    sync(store, listed("2:REFCLOCK off"), MARKETS, NOW_MS - 60_000)
    assert store.latest([instrument])[instrument].status == "DISABLED"


def test_rows_removed_from_the_list_stay_as_they_are(store: ReferenceStore) -> None:
    sync(store, listed("4:REFGONE"), MARKETS, NOW_MS)
    sync(store, listed("4:REFOTHER"), MARKETS, NOW_MS + 1)
    assert {Instrument(4, "REFGONE"), Instrument(4, "REFOTHER")} <= set(store.active())


def test_an_unconfigured_market_refuses_the_whole_list(store: ReferenceStore) -> None:
    with pytest.raises(InvalidInput, match="names market 3, 4, which is not configured"):
        sync(store, listed("1:REFNEVER", "4:A", "3:A"), (1, 2), NOW_MS)
    assert store.latest([Instrument(1, "REFNEVER")]) == {}
