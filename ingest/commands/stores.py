"""Commands about the store itself: its schema, and what is in it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.commands.options import (
    End,
    Format,
    MarketId,
    ReportFormat,
    Start,
    Symbol,
    chosen_instrument,
    chosen_period,
    clock_ms,
    expects_json,
    say,
    store,
)

if TYPE_CHECKING:
    from compute.market.instrument import Instrument


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
    """What is in the store: instruments, first and last minute, what is missing between.

    --market-id alone lists the instruments of that market.
    """
    as_json = expects_json(context, report_format)
    chosen = None
    if market_id is not None and symbol is None:
        from ingest.exchanges.registry import market

        market(market_id)  # an unknown one is refused
    elif symbol is not None:
        chosen = chosen_instrument(market_id, symbol)
    from ingest.coverage import coverage as coverage_of
    from ingest.stores.candles import CandleStore

    with store("roehub ingest coverage") as db:
        candles = CandleStore(db)
        wanted = candles.instruments() if chosen is None else [chosen]
        if market_id is not None:
            wanted = [one for one in wanted if one.market_id == market_id]
        found = [one for instrument in wanted if (one := coverage_of(candles, instrument))]
        place = db.settings.place
    if as_json:
        print(json.dumps({"store": place, "instruments": [one.record() for one in found]}))
        return
    if not found:
        what = "" if market_id is None else f" of {chosen or f'market {market_id}'}"
        named = f"--market-id {market_id or 'ID'} --symbol {chosen.symbol if chosen else 'SYMBOL'}"
        cure = f"`roehub ingest backfill-1m {named} --parquet FILE`"
        print(f"the store at {place} has no candles{what}; load some with {cure}")
        return
    lines = [["instrument", "first", "last", "minutes", "missing", "covered"]]
    for one in found:
        first, last, minutes, missing, share = list(one.record().values())[2:]
        lines.append(
            [str(one.instrument), first, last, str(minutes), str(missing), f"{share:.2f}%"]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        texts = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        print("  ".join([*texts, *numbers]))


def delete_candles(
    context: typer.Context,
    market_id: MarketId = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is.")] = False,
    report_format: Format = ReportFormat.text,
) -> None:
    """Count what the store has of an instrument in a range, and with --yes delete it.

    Without --start and --end all of it. Candles, the raw rows they were made of, and what the gap
    ledger knows of the range go; they may be loaded or fetched again.
    """
    as_json = expects_json(context, report_format, "without --yes it counts what is left")
    instrument = chosen_instrument(market_id, symbol)
    period = chosen_period(start, end)
    from ingest.reports import json_text, text
    from ingest.signals import stoppable
    from ingest.stores.candles import CandleStore
    from ingest.stores.deletion import delete_candles as deletion

    notice = "a deletion that has not begun is left, one that has goes on to its end"
    with stoppable(notice) as check, store("roehub ingest delete-candles") as db:
        candles = CandleStore(db)
        report = deletion(candles, instrument, period, clock=clock_ms, dry=not yes, check=check)
        bounds, place = candles.bounds(instrument), db.settings.place
    print(json_text(report) if as_json else text(report))
    if report.nothing:
        say(f"nothing to delete: the store at {place} {_covers(instrument, bounds)}")
    elif not yes:
        say("nothing was deleted; the same command with --yes deletes what is counted here")


def _covers(instrument: Instrument, bounds: tuple[int, int] | None) -> str:
    from compute.market.period import Period

    if bounds is None:
        return f"has no candle of {instrument}"
    return f"has candles of {instrument} in {Period(bounds[0], bounds[1] + 60_000)}"
