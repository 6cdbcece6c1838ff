"""`roehub live reconcile`: over the stores, or by the service that has the candles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

import live.cli
from api.jobs_cli import Token
from cluster.cli import AsJson, expects_json

if TYPE_CHECKING:
    from uuid import UUID


def reconcile(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")],
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Hold what a run did against the back-test of the candles that are stored now.

    Where a service on this machine has the candles, such as `roehub up`, it does the work.

    Exit codes: 0 they agree to the bit, or there is nothing to compare yet; 1 they do not, or a
    failure; 2 bad input.
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
    if found["badge"] == "different":
        raise typer.Exit(1)


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


def text_of(found: dict[str, Any]) -> str:
    """A report as lines."""
    if found["badge"] == "unchecked":
        return "the run has not traded on a stored bar yet"
    head = f"{found['bars']} bars and {found['trades']} trades until {found['until']}: " + (
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


live.cli.app.command()(reconcile)
