"""`roehub live reconcile` and `replay`: what a run did, and what one would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

import live.cli
from api.jobs_cli import Token
from cluster.cli import AsJson, expects_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from compute.backtest import Backtest
    from live.replay import Replay

EXIT_CODES: Final = {"exact": 0, "different": 1, "unchecked": 4}
"""Of `reconcile`, by what it found."""


def reconcile(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")],
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Hold what a run did against the back-test of the candles that are stored now.

    Where a service on this machine has the candles, such as `roehub up`, it does the work.

    Exit codes: 0 they agree to the bit; 1 they do not, or a failure; 2 bad input; 4 unchecked, for
    there is nothing to compare yet.
    """
    expects_json(context, as_json)
    from uuid import UUID

    from compute.errors import InvalidInput
    from ingest.errors import StoreInUse

    try:
        wanted = UUID(run_id)
    except ValueError:
        raise InvalidInput(f"a run has an id like a UUID, got {run_id!r}") from None
    try:
        found = live.cli.reconciled(wanted)
    except StoreInUse as taken:
        found = _by_service(wanted, token, taken)
    print(json.dumps(found, allow_nan=False) if as_json else text_of(found))
    raise typer.Exit(EXIT_CODES[found["badge"]])


def _by_service(run_id: UUID, token: str | None, taken: Exception) -> dict[str, Any]:
    """The report by the service that runs here. Raises: `taken` where none answers."""
    import asyncio
    import os

    from api.client import Client, ServiceUnreachable
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings

    with postgres(PostgresSettings.from_environment(os.environ)) as dsn:
        strategy_id = asyncio.run(_strategy_of(dsn, run_id))
    try:
        with Client(token=token) as client:
            return client.reconcile(str(strategy_id), str(run_id))
    except ServiceUnreachable:
        raise taken from None


async def _strategy_of(dsn: str, run_id: UUID) -> UUID:
    from cluster.postgres.engine import engine
    from live.checks import strategy_of

    opened = engine(dsn, connections=1, application="roehub live")
    try:
        return await strategy_of(opened, run_id)
    finally:
        await opened.dispose()


def replay(
    strategy: Annotated[
        Path,
        typer.Argument(
            help="JSON file: what POST /strategies takes, or what GET gives.", metavar="STRATEGY"
        ),
    ],
    candles: Annotated[
        Path, typer.Option(help="File of one-minute candles, Parquet or CSV.", metavar="FILE")
    ],
) -> None:
    """Trade a strategy over recorded minutes as the live runner would, without any service.

    Says what its user would be told, then whether that is what the back-test does.

    Exit codes: 0 done, 2 bad input, 1 it is not the back-test's, which would be a defect.
    """
    from compute.cautions import GENERATED
    from compute.errors import InvalidInput
    from ingest.candle_files import read_candles
    from live.replay import Replay

    job = _job_of(strategy)
    file = read_candles(candles, instrument=job.instrument)
    if file.frame.code != "1m":
        raise InvalidInput(f"{candles} holds candles of {file.frame.code}; live is made of 1m")
    if file.synthetic:
        print(f"WARNING: {GENERATED.message}")
    run = Replay(job, file.candles)
    for kind, payload in run.events():
        print(event_text(kind, payload))
    _print_end(run)


def _print_end(run: Replay) -> None:
    from live.output import moment_text

    found = run.compared()
    until = moment_text(found.until_ms)
    head = f"{_counted(found.bars, found.trades)} until {until}, equity {run.equity:,.2f}"
    if found.differing:
        print(f"{head}: {found.differing} are not the back-test's, the first {found.found[0]}")
        raise typer.Exit(1)
    print(f"{head}: exactly those of the back-test")


def _job_of(path: Path) -> Backtest:
    """The back-test of a strategy in a file. Raises: InvalidInput."""
    from cluster.inputs import read_request
    from compute.settings import Defaults
    from configs.load import config
    from live.strategies.settings import StrategySettings
    from live.strategies.spec import SpecRules, request_of, spec_of

    rules = SpecRules(
        config("strategy").settings(StrategySettings), config("backtest").settings(Defaults)
    )
    body: Any = read_request(path)
    if isinstance(body, dict) and "spec" in body:
        body = request_of(body["spec"])
    return live.cli.strategy_job()(spec_of(body, rules))


def event_text(kind: str, payload: Mapping[str, Any]) -> str:
    """An event as a line."""
    words = {
        "signal": "signal {signal} at {price:.8g}",
        "trade_open": "open {side} at {price:.8g}",
        "trade_close": "close {side} at {price:.8g}, {reason}, net {net_pnl_quote:+,.2f}",
    }
    return f"{payload['close_ts'].removesuffix('.000Z')}Z  " + words[kind].format(**payload)


def text_of(found: dict[str, Any]) -> str:
    """A report as lines."""
    if found["badge"] == "unchecked":
        return "unchecked: the run has not traded on a stored bar yet"
    head = f"{_counted(found['bars'], found['trades'])} until {found['until']}: " + (
        "exactly those of the back-test"
        if found["badge"] == "exact"
        else f"{found['differing']} differ"
    )
    lines = [
        f"  {one['ts']}  {one['kind']}: live {one['live']}, back-test {one['backtest']}"
        f" – {one['cause']}" + (f" ({one['detail']})" if one["detail"] else "")
        for one in found["differences"]
    ]
    hidden = found["differing"] - len(lines)
    return "\n".join([head, *lines, *([f"  … and {hidden} more"] if hidden > 0 else [])])


def _counted(bars: int, trades: int) -> str:
    numbers = ((bars, "bar"), (trades, "trade"))
    return " and ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in numbers)


live.cli.app.command()(reconcile)
live.cli.app.command()(replay)
