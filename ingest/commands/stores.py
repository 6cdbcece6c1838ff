"""Commands about the store itself: its schema, and what is in it."""

from __future__ import annotations

import json
import os

import typer

from ingest.commands.options import (
    Format,
    MarketId,
    ReportFormat,
    Symbol,
    chosen_instrument,
    expects_json,
    store,
)


def migrate(context: typer.Context, report_format: Format = ReportFormat.text) -> None:
    """Bring the store's tables to this version; safe to run again.

    The embedded store is migrated by every command that opens it, a server (CH_*) only by this.
    """
    as_json = expects_json(context, report_format)
    from ingest.stores.clickhouse import open_clickhouse
    from ingest.stores.migrate import migrate as migrated
    from ingest.stores.settings import ClickHouseSettings

    settings = ClickHouseSettings.from_environment(os.environ)
    with open_clickhouse(settings, "roehub ingest migrate") as db:
        applied = migrated(db)
    if as_json:
        print(json.dumps({"store": settings.place, "applied": applied}))
        return
    for name in applied:
        print(f"applied {name}")
    print(f"the store at {settings.place} is up to date")


def coverage(
    context: typer.Context,
    market_id: MarketId = None,
    symbol: Symbol = None,
    report_format: Format = ReportFormat.text,
) -> None:
    """What is in the store: instruments, first and last minute, minutes missing between."""
    as_json = expects_json(context, report_format)
    chosen = None
    if market_id is not None or symbol is not None:
        chosen = chosen_instrument(market_id, symbol)
    from ingest.coverage import coverage as coverage_of
    from ingest.stores.candles import CandleStore

    with store("roehub ingest coverage") as db:
        candles = CandleStore(db)
        wanted = candles.instruments() if chosen is None else [chosen]
        found = [one for instrument in wanted if (one := coverage_of(candles, instrument))]
        place = db.settings.place
    if as_json:
        print(json.dumps({"store": place, "instruments": [one.record() for one in found]}))
        return
    if not found:
        what = "" if chosen is None else f" of {chosen}"
        cure = "`roehub ingest backfill-1m --market-id ID --symbol SYMBOL --parquet FILE`"
        print(f"the store at {place} has no candles{what}; load some with {cure}")
        return
    rows = [[str(value) for value in list(one.record().values())[2:]] for one in found]
    names = [str(one.instrument) for one in found]
    lines = [["instrument", "first", "last", "minutes", "missing"]]
    lines += [[name, *row] for name, row in zip(names, rows, strict=True)]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    for line in lines:
        numbers = [line[i].rjust(widths[i]) for i in (3, 4)]
        print("  ".join([*(line[i].ljust(widths[i]) for i in range(3)), *numbers]))
