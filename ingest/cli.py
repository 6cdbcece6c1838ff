"""The commands of market data: what makes candles, and the group that loads and keeps them.

Every command imports what it needs when it runs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

import ingest.commands.catchup
import ingest.commands.history
import ingest.commands.references
import ingest.commands.services
import ingest.commands.stores

app = typer.Typer(
    name="ingest",
    help="Market data in: files, exchanges, the candle store.",
    no_args_is_help=True,
)
app.command("migrate")(ingest.commands.stores.migrate)
app.command("backfill-1m", context_settings={"allow_extra_args": True})(
    ingest.commands.history.backfill_1m
)
app.command("rest-catchup")(ingest.commands.catchup.rest_catchup)
app.command("coverage")(ingest.commands.stores.coverage)
app.command("quality")(ingest.commands.history.quality)
app.command("delete-candles")(ingest.commands.stores.delete_candles)
app.command("sync-instruments")(ingest.commands.references.sync_instruments)
app.command("enrich")(ingest.commands.references.enrich)
app.command("live")(ingest.commands.services.live)
app.command("schedule")(ingest.commands.services.schedule)


def synthetic(
    path: Annotated[Path, typer.Argument(help="Parquet file to write.", metavar="OUT.parquet")],
    bars: Annotated[int, typer.Option(min=1, help="Candles, gaps included.")] = 525_600,
    timeframe: Annotated[str, typer.Option(help="1m 5m 15m 1h 4h 1d")] = "1m",
    start: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="UTC.")
    ] = datetime(2024, 1, 1),
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal candles.")] = 1,
    symbol: Annotated[str, typer.Option(help="Name on the candles.")] = "SYNTHUSDT",
    market_id: Annotated[int, typer.Option(min=1, help="1 to 4, see docs/api/files.md.")] = 1,
    gaps: Annotated[bool, typer.Option(help="Leave out a few, like a real feed.")] = True,
) -> None:
    """Make candles: a seeded market with trends, ranges, storms, volume and gaps."""
    from compute.market.period import epoch_ms, instant
    from compute.market.timeframe import timeframe as supported
    from ingest.symbols import listed_instrument
    from ingest.synthetic import synthetic_candles, write_candles

    frame = supported(timeframe)
    instrument = listed_instrument(market_id, symbol)
    start_ms = epoch_ms(start.replace(tzinfo=UTC))
    candles = synthetic_candles(seed=seed, bars=bars, frame=frame, start_ms=start_ms, gaps=gaps)
    write_candles(path, candles, frame=frame, instrument=instrument, synthetic=True)
    last = instant(int(candles.ts_open_ms[-1]) + frame.ms)
    print(
        f"{path}: {len(candles)} SYNTHETIC candles of {instrument} {frame.code}, "
        f"{instant(start_ms)} to {last}"
    )
