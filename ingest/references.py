"""Reference data kept in step with the whitelist: markets seeded, instruments switched on and off.

A version of an instrument is written only when its state changes, and what the exchange has told
about it (assets, steps) goes over into the new version. An instrument that is no longer in the
whitelist stays as it is: `is_enabled=0` switches it off.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from compute.errors import InvalidInput
from ingest.stores.references import DISABLED, ENABLED, InstrumentRow, ReferenceStore
from ingest.whitelist import Listed


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What bringing the store in step came to."""

    ref_market_inserted: int
    ref_instruments_rows_total: int
    ref_instruments_upserted: int
    ref_instruments_skipped_unchanged: int
    enabled_count: int
    disabled_count: int


def sync(
    store: ReferenceStore, listed: Sequence[Listed], market_ids: Collection[int], now_ms: int
) -> SyncReport:
    """The report of seeding the markets and writing what the whitelist changes.

    `market_ids` are the configured markets.

    Raises:
        InvalidInput: the whitelist names a market that is not configured; nothing is written.
        StoreUnavailable: the store cannot be reached.
    """
    strange = sorted({one.instrument.market_id for one in listed} - set(market_ids))
    if strange:
        raise InvalidInput(
            f"the whitelist names market {', '.join(map(str, strange))}, which is not configured; "
            f"configured are {', '.join(map(str, sorted(market_ids)))}"
        )
    seeded = store.seed_markets(now_ms)
    known = store.latest([one.instrument for one in listed])
    changed: list[InstrumentRow] = []
    for one in listed:
        before = known.get(one.instrument)
        after = _row(one, before, now_ms)
        if before is None or (before.status, before.is_tradable) != (
            after.status, after.is_tradable,
        ):  # fmt: skip
            changed.append(after)
    store.upsert(changed)
    enabled = sum(one.enabled for one in listed)
    return SyncReport(
        ref_market_inserted=seeded,
        ref_instruments_rows_total=len(listed),
        ref_instruments_upserted=len(changed),
        ref_instruments_skipped_unchanged=len(listed) - len(changed),
        enabled_count=enabled,
        disabled_count=len(listed) - enabled,
    )


def _row(one: Listed, before: InstrumentRow | None, now_ms: int) -> InstrumentRow:
    """The next version of an instrument; never older than the one before it, or it would lose."""
    status = ENABLED if one.enabled else DISABLED
    if before is None:
        return InstrumentRow(one.instrument, status, one.enabled, now_ms)
    return replace(
        before,
        status=status,
        is_tradable=one.enabled,
        updated_at_ms=max(now_ms, before.updated_at_ms + 1),
    )
