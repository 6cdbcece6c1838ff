"""The command that fetches from the exchanges what the store does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
    clock_ms,
    expects_json,
    market_data,
    moment_ms,
    say,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from compute.market.instrument import Instrument
    from ingest.catchup import CatchUpReport, CatchUpSummary, Work
    from ingest.fetching import Fetcher
    from ingest.settings import MarketDataSettings
    from ingest.stores.clickhouse import ClickHouse


def rest_catchup(
    context: typer.Context,
    market_id: MarketId = None,
    symbol: Symbol = None,
    all_from_ref_instruments: Annotated[
        bool,
        typer.Option("--all-from-ref-instruments", help="Every active instrument of the store."),
    ] = False,
    with_history: Annotated[
        bool,
        typer.Option(
            "--with-history", help="Also what the exchange has before the first stored minute."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Fetch stored minutes again; the newer version counts."),
    ] = False,
    start: Start = None,
    end: End = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows an insert at most.")] = 10_000,
    config: Config = None,
    report_format: Format = ReportFormat.text,
) -> None:
    """Fetch what is missing: minutes since the last stored one, and every gap before it.

    --start and --end bound what --force fetches again. Exit codes: 0 done, 1 a failure, 2 bad
    input; of --all-from-ref-instruments 2 also when an instrument failed, or has no candle yet.
    """
    as_json = expects_json(context, report_format)
    import asyncio

    from compute.errors import InvalidInput

    bounds = moment_ms("--start", start), moment_ms("--end", end)
    if bounds != (None, None) and not force:
        raise InvalidInput("--start and --end bound what --force fetches again; add --force")
    if force and with_history:
        raise InvalidInput("--force and --with-history are two runs; name one of them")
    chosen = None
    if not all_from_ref_instruments:
        chosen = chosen_instrument(market_id, symbol)
    elif market_id is not None or symbol is not None:
        raise InvalidInput("--all-from-ref-instruments names the instruments; drop the others")
    settings = market_data(config)
    if chosen is not None:
        settings.market(chosen.market_id)

    def work(fetcher: Fetcher) -> Work:
        from ingest.catchup import catch_up, catch_up_whole, refetch

        async def one(instrument: Instrument) -> CatchUpReport:
            if force:
                return await refetch(
                    fetcher, instrument, start_ms=bounds[0], end_ms=bounds[1], say=say
                )
            caught_up = catch_up_whole if with_history else catch_up
            return await caught_up(fetcher, instrument, say=say)

        return one

    with store("roehub ingest rest-catchup") as db:
        instruments = [chosen] if chosen is not None else _active(db)
        report = asyncio.run(
            _caught_up(db, settings, instruments, batch_size, work, alone=chosen is not None)
        )
    _tell(report, as_json)


def _tell(report: CatchUpReport | CatchUpSummary, as_json: bool) -> None:
    """Prints a report, before it what went wrong. Raises: Exit, when something did."""
    from ingest.catchup import CatchUpSummary
    from ingest.reports import json_text, text

    whole = True
    if isinstance(report, CatchUpSummary):
        whole = report.instruments_ok == report.instruments_total
        for line in _errors(report):
            say(line)
    print(json_text(report) if as_json else text(_brief(report)))
    if not whole:
        raise typer.Exit(2)


def _errors(summary: CatchUpSummary) -> list[str]:
    """What went wrong, a sentence once however many instruments it is about."""
    about: dict[str, list[tuple[Instrument, str]]] = {}
    for one in summary.outcomes:
        if one.error is not None:
            sentence = one.error.replace(str(one.instrument_id), "…")
            sentence = sentence.replace(one.instrument_id.symbol, "…")
            about.setdefault(sentence, []).append((one.instrument_id, one.error))
    return [
        found[0][1]
        if len(found) == 1
        else f"{len(found)} instruments, {found[0][0]} the first: {sentence}"
        for sentence, found in about.items()
    ]


def _brief(report: CatchUpReport | CatchUpSummary) -> CatchUpReport | CatchUpSummary:
    """The report for people, who have read the errors already."""
    from dataclasses import replace

    from ingest.catchup import CatchUpSummary

    if not isinstance(report, CatchUpSummary):
        return report
    return replace(report, outcomes=[replace(one, error=None) for one in report.outcomes])


def _active(db: ClickHouse) -> list[Instrument]:
    from ingest.stores.references import ReferenceStore

    found = ReferenceStore(db).active()
    if not found:
        say("no instrument is active; `roehub ingest sync-instruments` takes the whitelist over")
    return found


async def _caught_up(
    db: ClickHouse,
    settings: MarketDataSettings,
    instruments: Sequence[Instrument],
    batch_rows: int,
    work: Callable[[Fetcher], Work],
    *,
    alone: bool,
) -> CatchUpReport | CatchUpSummary:
    """The report of the one instrument, or the summary of all."""
    import asyncio

    from ingest.catchup import catch_up_all, patient
    from ingest.fetching import Fetcher, FetchSettings
    from ingest.http import HttpClients

    rest = {market_id: one.rest for market_id, one in settings.by_id.items()}
    ingestion = settings.ingestion
    async with HttpClients(rest, clock=clock_ms) as clients:
        fetcher = Fetcher(
            db,
            clients,
            clock=clock_ms,
            earliest_ms=lambda market_id: rest[market_id].earliest_ms,
            settings=FetchSettings(
                batch_rows=batch_rows, max_days=settings.backfill.max_days_per_insert
            ),
            run=patient(asyncio.to_thread, say=say),
        )
        if alone:
            return await work(fetcher)(instruments[0])
        return await catch_up_all(
            instruments,
            work(fetcher),
            at_once=ingestion.rest_concurrency_instruments,
            delay_s=ingestion.rest_inter_instrument_delay_s,
            say=say,
        )
