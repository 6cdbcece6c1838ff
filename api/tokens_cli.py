"""`roehub token`: access tokens made, listed and revoked by whoever runs the database."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from cluster.cli import AsJson, expects_json

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

app = typer.Typer(
    name="token",
    help="Access tokens of programs, made in the database of the service.",
    no_args_is_help=True,
)
Owner = Annotated[
    str | None,
    typer.Option(
        "--user",
        help="Id of the user; default: the local operator, who is the user of `roehub up`.",
        show_default=False,
    ),
]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, run, or both by naming it twice; default: both."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it works.")] = 90,
    user: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Make an access token; stdout has the token and nothing else, and this once.

    export ROEHUB_TOKEN=$(roehub token create)
    """
    expects_json(context, as_json)
    from api.identity.access_tokens import make_token
    from api.identity.account import plain
    from api.identity.scopes import TOKEN_SCOPES
    from compute.errors import InvalidInput

    scopes = scope or list(TOKEN_SCOPES)
    unknown = [one for one in scopes if one not in TOKEN_SCOPES]
    if unknown or not 0 < len(name.strip()) <= 100:
        raise InvalidInput("--scope is read or run, --name has 1 to 100 characters")
    owner = _owner(user)

    async def made(connection: AsyncConnection) -> tuple[object, str]:
        await _checked(connection, owner, may_make=user is None)
        return await make_token(connection, owner, name.strip(), scopes, days)

    found, token = _transacted(made)
    record = plain(asdict(found))  # type: ignore[call-overload]
    if as_json:
        print(json.dumps({**record, "token": token}))
        return
    typer.echo(
        f"token {record['token_id']} of user {owner} may {' and '.join(record['scopes'])} until "
        f"{record['expires_at'][:10]}; it is shown this once",
        err=True,
    )
    print(token)


@app.command("list")
def listed(context: typer.Context, user: Owner = None, as_json: AsJson = False) -> None:
    """The access tokens of a user, oldest first."""
    expects_json(context, as_json)
    from api.identity.access_tokens import tokens_of
    from api.identity.account import plain

    owner = _owner(user)
    found = _transacted(lambda connection: tokens_of(connection, owner))
    records = [plain(asdict(token)) for token in found]
    if as_json:
        print(json.dumps({"items": records}))
        return
    if not records:
        print("no tokens")
    for one in records:
        end = f"revoked {one['revoked_at'][:10]}" if one["revoked_at"] else one["expires_at"][:10]
        print(f"{one['token_id']}  {','.join(one['scopes']):<16}  {end:<18}  {one['name']}")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token.", metavar="TOKEN_ID")],
    user: Owner = None,
) -> None:
    """Revoke an access token; it stops to work at once."""
    from api.identity.access_tokens import revoke_token
    from compute.errors import InvalidInput

    owner, token = _owner(user), _uuid(token_id, "TOKEN_ID")
    if not _transacted(lambda connection: revoke_token(connection, owner, token)):
        raise InvalidInput(f"user {owner} has no token {token}, or it was revoked before")
    print(f"token {token} is revoked")


def _owner(user: str | None) -> UUID:
    from api.identity.users import OPERATOR

    return OPERATOR if user is None else _uuid(user, "--user")


def _uuid(text: str, name: str) -> UUID:
    from compute.errors import InvalidInput

    try:
        return UUID(text.strip())
    except ValueError:
        raise InvalidInput(f"{name} is no UUID") from None


async def _checked(connection: AsyncConnection, owner: UUID, *, may_make: bool) -> None:
    """Returns when there is such a user; the local operator is made, but not in production."""
    from api.identity.users import get_user, operator
    from compute.errors import InvalidInput
    from configs.load import environment

    if may_make:
        if environment(os.environ) == "prod":
            raise InvalidInput("there is no local operator with ROEHUB_ENV=prod; name a --user")
        await operator(connection)
    elif await get_user(connection, owner) is None:
        raise InvalidInput(f"there is no user {owner}; a first login makes one")


def _transacted(work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    from api.identity.one_transaction import transacted
    from api.identity.settings import one_database
    from cluster.postgres.server import postgres
    from cluster.postgres.settings import PostgresSettings

    with postgres(PostgresSettings.from_environment(one_database(os.environ))) as dsn:
        return transacted(dsn, work)
