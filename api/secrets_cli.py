"""`roehub secrets`: the secrets of a service are made and replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api.identity.rotation import Rotation
    from api.identity.settings import IdentitySettings

app = typer.Typer(
    name="secrets",
    help="The secrets that logins and stored keys are protected with.",
    no_args_is_help=True,
)


@app.command()
def generate(
    out: Annotated[
        Path | None, typer.Option(help="A new file, readable by you alone; stdout without it.")
    ] = None,
) -> None:
    """Make the secrets of a new service, as lines of an environment file.

    TELEGRAM_BOT_TOKEN is not among them: BotFather has it. Whoever loses the two key-encryption
    keys loses every stored second factor and exchange key.
    """
    from compute.errors import InvalidInput

    text = "".join(f"{name}={value}\n" for name, value in new_secrets().items())
    if out is None:
        print(text, end="")
        return
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidInput(f"{out} is there already; its secrets may be in use") from None
    typer.echo(f"wrote {out}", err=True)


def new_secrets() -> dict[str, str]:
    """Fresh values of all secrets that we make ourselves, by the name of their variable."""
    import base64
    import secrets

    from api.identity.settings import EXCHANGE_KEYS_KEK, JWT_SECRET, TWO_FACTOR_KEK

    keks = (TWO_FACTOR_KEK, EXCHANGE_KEYS_KEK)
    return {JWT_SECRET: secrets.token_urlsafe(48)} | {
        name: base64.b64encode(secrets.token_bytes(32)).decode() for name in keks
    }


@app.command()
def rotate(
    context: typer.Context,
    batch: Annotated[int, typer.Option(help="Secrets to a transaction.", min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON to stdout, nothing else.")] = False,
) -> None:
    """Put every stored secret under the present key-encryption keys; safe to run again.

    First give the service both keys: the new one as IDENTITY_2FA_KEK_B64, the one before as
    IDENTITY_2FA_KEK_B64_PREVIOUS, and likewise for IDENTITY_EXCHANGE_KEYS_KEK_B64. After this
    command the one before may go. The secrets stay encrypted, only their keys are wrapped anew.
    Exit code 1 when something cannot be read with these keys.
    """
    context.ensure_object(dict)["json"] = as_json
    from api.identity.settings import IdentitySettings, one_database
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings
    from configs.load import environment

    settings = IdentitySettings.from_environment(os.environ, environment(os.environ))
    with postgres(PostgresSettings.from_environment(one_database(os.environ))) as dsn:
        done = _rotated(dsn, settings, batch)
    if as_json:
        print(json.dumps({"complete": done.complete, "columns": done.record()}))
    else:
        for name, count in done.counts.items():
            print(
                f"{name}: {count.rewrapped} under the new key, {count.current} before,"
                f" {count.unreadable} unreadable"
            )
            if count.late:
                print(f"{name}: {count.late} came under another key meanwhile; give every service"
                      " the new one, then run this again")  # fmt: skip
        print("the previous keys are no longer needed" if done.complete else "keep all keys")
    if not done.complete:
        raise typer.Exit(1)


def _rotated(dsn: str, settings: IdentitySettings, batch: int) -> Rotation:
    import asyncio

    from api.identity.envelope import EXCHANGE_KEYS, TOTP, Vault
    from api.identity.rotation import rotate
    from cluster.postgres.engine import engine, typed
    from cluster.postgres.schema import require_schema

    vaults = Vault(TOTP, settings.two_factor), Vault(EXCHANGE_KEYS, settings.exchange_keys)

    async def run() -> Rotation:
        found = engine(dsn, connections=1, application="roehub secrets rotate")
        try:
            await require_schema(found)
            with typed():
                return await rotate(found, *vaults, batch)
        finally:
            await found.dispose()

    return asyncio.run(run())
