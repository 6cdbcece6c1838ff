"""Commands about reference data: the whitelist into the store, metadata of exchanges beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ingest.commands.options import (
    Config,
    Format,
    ReportFormat,
    Whitelist,
    clock_ms,
    expects_json,
    market_data,
    say,
    store,
    whitelist_path,
)

if TYPE_CHECKING:
    from ingest.enrichment import EnrichmentReport
    from ingest.exchanges.exchange import InstrumentMetadata
    from ingest.settings import MarketDataSettings
    from ingest.stores.references import ReferenceStore


def sync_instruments(
    context: typer.Context,
    config: Config = None,
    whitelist: Whitelist = None,
    report_format: Format = ReportFormat.text,
) -> None:
    """Seed the markets and bring the instruments in step with the whitelist."""
    as_json = expects_json(context, report_format)
    from ingest.references import sync
    from ingest.stores.references import ReferenceStore
    from ingest.whitelist import whitelist as listed

    settings = market_data(config)
    rows = listed(whitelist_path(whitelist), say)
    with store("roehub ingest sync-instruments") as db:
        report = sync(ReferenceStore(db), rows, settings.by_id, clock_ms())
    if as_json:
        print(json.dumps(asdict(report)))
        return
    for name, count in asdict(report).items():
        print(f"{name}: {count}")


def enrich(
    context: typer.Context,
    config: Config = None,
    report_format: Format = ReportFormat.text,
) -> None:
    """Ask the exchanges for assets and steps of the active instruments.

    Exit code 1 when an exchange did not answer; the others are done.
    """
    as_json = expects_json(context, report_format)
    import asyncio

    from ingest.stores.references import ReferenceStore

    settings = market_data(config)
    with store("roehub ingest enrich") as db:
        report = asyncio.run(_enriched(ReferenceStore(db), settings))
    if not report.instruments_total:
        say("no instrument is active; `roehub ingest sync-instruments` takes the whitelist over")
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        for name, value in asdict(report).items():
            print(f"{name}: {', '.join(value) or '-' if isinstance(value, tuple) else value}")
    if report.markets_failed:
        raise typer.Exit(1)


async def _enriched(references: ReferenceStore, settings: MarketDataSettings) -> EnrichmentReport:
    import asyncio

    from ingest.enrichment import enrich as enriched
    from ingest.http import HttpClients

    rest = {market_id: one.rest for market_id, one in settings.by_id.items()}
    async with HttpClients(rest, clock=clock_ms) as clients:

        async def published(market_id: int) -> Sequence[InstrumentMetadata]:
            client = clients.of(market_id)
            return await client.ask(client.exchange.metadata(client.market))

        return await enriched(references, published, clock_ms, asyncio.to_thread)
