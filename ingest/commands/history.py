"""The commands about stored history: candle files into the store, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.commands.options import (
    Config,
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
    market_data,
    rows_of,
    say,
    store,
)


def backfill_1m(
    context: typer.Context,
    market_id: MarketId = None,
    symbol: Symbol = None,
    parquet: Annotated[
        list[Path] | None,
        typer.Option(
            "--parquet",
            "--file",
            help="Parquet, CSV or ZIP (an exchange's archive), or a directory; may be repeated.",
            show_default=False,
        ),
    ] = None,
    start: Start = None,
    end: End = None,
    batch_size: Annotated[str, typer.Option(help="Rows an insert; none: no limit.")] = "100000",
    naive_is_utc: Annotated[
        bool, typer.Option("--naive-is-utc", help="Take times without a zone for UTC.")
    ] = False,
    config: Config = None,
    report_format: Format = ReportFormat.text,
) -> None:
    """Load one-minute candles of an instrument from files into the store.

    Without --start and --end all that the files hold. A second run stores equal candles once more,
    and changes nothing. Exit codes: 0 loaded, 1 the store failed, 2 bad arguments or files.
    """
    as_json = expects_json(context, report_format)
    if context.args:
        from compute.errors import InvalidInput

        raise InvalidInput(f"{context.args[0]}: repeat --parquet for each file")
    instrument = chosen_instrument(market_id, symbol)
    period = chosen_period(start, end)
    batch_rows = rows_of(batch_size)
    market_data(config).market(instrument.market_id)
    from ingest.backfill import backfill
    from ingest.signals import stoppable
    from ingest.stores.candles import CandleStore

    with stoppable() as check, store("roehub ingest backfill-1m") as db:
        report = backfill(
            CandleStore(db),
            instrument,
            parquet or [],
            clock=clock_ms,
            period=period,
            batch_rows=batch_rows,
            naive_is_utc=naive_is_utc,
            say=say,
            check=check,
        )
    _print(report, as_json)


def quality(
    context: typer.Context,
    market_id: MarketId = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Name every gap, run and outlier, not 20 of each.")
    ] = False,
    report_format: Format = ReportFormat.text,
) -> None:
    """Coverage, gaps, duplicates, silent stretches and outliers of an instrument; printed and kept.

    Without --start and --end from the first candle to the last one.
    """
    as_json = expects_json(context, report_format, "no report was kept")
    instrument = chosen_instrument(market_id, symbol)
    period = chosen_period(start, end)
    from ingest.quality import SHOWN, keep
    from ingest.quality import quality as quality_of
    from ingest.stores.candles import CandleStore

    with store("roehub ingest quality") as db:
        candles = CandleStore(db)
        shown = None if everything else SHOWN
        report = quality_of(candles, instrument, clock=clock_ms, period=period, shown=shown)
        keep(candles, report)
    _print(report, as_json)


def _print(report: Any, as_json: bool) -> None:
    from ingest.reports import json_text, text

    print(json_text(report) if as_json else text(report))
