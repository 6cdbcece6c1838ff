"""What exchanges publish about the active instruments, kept beside them in the store.

How a field is called in which market is the business of the exchange's module. What an exchange
does not trade, or does not list at all, stays active here: that is for an operator to decide, and
the report names it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from compute.market.instrument import Instrument
from ingest.errors import ExchangeError
from ingest.exchanges.exchange import InstrumentMetadata
from ingest.stores.references import InstrumentRow, ReferenceStore

TOLERANCE: Final = 1e-12
"""Relative difference of two steps that are one."""

_ASSETS: Final = ("base_asset", "quote_asset")
_NUMBERS: Final = ("price_step", "qty_step", "min_notional")

Published = Callable[[int], Awaitable[Sequence[InstrumentMetadata]]]
"""The instruments of a market, by its id, as its exchange publishes them."""

Blocking = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments in a thread."""


@dataclass(frozen=True, slots=True)
class EnrichmentReport:
    """What enriching came to; the instruments are written like `1:BTCUSDT`."""

    instruments_total: int
    markets_total: int
    rows_upserted: int
    symbols_missing_metadata: int
    missing: tuple[str, ...]
    not_trading: tuple[str, ...]
    markets_failed: tuple[str, ...]


def metadata_changes(
    rows: Sequence[InstrumentRow],
    published: Sequence[InstrumentMetadata],
    now_ms: int,
) -> list[InstrumentRow]:
    """New versions of those rows of one market that say something else than what is published.

    A field that is not published keeps what is known of it.
    """
    by_symbol = {one.symbol.strip().upper(): one for one in published}
    changed: list[InstrumentRow] = []
    for row in rows:
        told = by_symbol.get(row.instrument.symbol)
        if told is None:
            continue
        news: dict[str, str | float] = {}
        for name in _ASSETS:
            value = getattr(told, name)
            if value and value.strip() and value.strip() != getattr(row, name):
                news[name] = value.strip()
        for name in _NUMBERS:
            value = getattr(told, name)
            if _usable(value) and not _equal(getattr(row, name), value):
                news[name] = value
        if news:
            updated_at_ms = max(now_ms, row.updated_at_ms + 1)
            changed.append(replace(row, updated_at_ms=updated_at_ms, **news))  # type: ignore[arg-type]
    return changed


async def enrich(
    store: ReferenceStore, published: Published, clock: Callable[[], int], blocking: Blocking
) -> EnrichmentReport:
    """The report of asking the exchanges about all active instruments and writing what is new.

    A market whose exchange fails is left as it is and named; the others are done.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    active: list[Instrument] = await blocking(store.active)
    markets = sorted({instrument.market_id for instrument in active})
    told: dict[int, Sequence[InstrumentMetadata]] = {}
    failed: list[str] = []
    for market_id in markets:
        try:
            told[market_id] = await published(market_id)
        except ExchangeError as error:
            failed.append(f"market {market_id}: {error.message}")
    trading = {
        Instrument(market_id, one.symbol): one.trading
        for market_id, answer in told.items()
        for one in answer
    }
    changed: list[InstrumentRow] = await blocking(_written, store, told, clock)
    asked = [instrument for instrument in active if instrument.market_id in told]
    missing = [instrument for instrument in asked if instrument not in trading]
    idle = [instrument for instrument in asked if not trading.get(instrument, True)]
    return EnrichmentReport(
        instruments_total=len(active),
        markets_total=len(markets),
        rows_upserted=len(changed),
        symbols_missing_metadata=len(missing),
        missing=tuple(str(one) for one in missing),
        not_trading=tuple(str(one) for one in idle),
        markets_failed=tuple(failed),
    )


def _written(
    store: ReferenceStore,
    told: Mapping[int, Sequence[InstrumentMetadata]],
    clock: Callable[[], int],
) -> list[InstrumentRow]:
    """The rows that were written.

    The instruments are read anew: one that was disabled while the exchanges were asked must not
    come back with a version that was made of the old one.
    """
    rows = [row for row in store.instruments() if row.active]
    changed: list[InstrumentRow] = []
    for market_id, answer in told.items():
        of_market = [row for row in rows if row.instrument.market_id == market_id]
        changed += metadata_changes(of_market, answer, clock())
    store.upsert(changed)
    return changed


def _usable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _equal(known: float | None, value: float) -> bool:
    return known is not None and math.isclose(known, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
