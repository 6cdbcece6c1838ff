"""The local operator: who runs the service on his own machine is logged in by a file of his."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.identity.access_tokens import MAX_DAYS, forget_named, make_token
from api.identity.one_transaction import transacted
from api.identity.operator_file import OperatorFile, write_operator_file
from api.identity.scopes import ALL_SCOPES
from api.identity.users import OPERATOR, operator
from cluster.postgres.errors import DatabaseFailed

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

TOKEN_NAME: Final = "roehub up"


@contextmanager
def local_operator(dsn: str, path: Path, url: str) -> Iterator[None]:
    """While inside, a file at `path` has a token of the local operator for the service at `url`.

    It is another one each time, and the one before is forgotten: a service that was killed leaves
    no more than a dead file, and one that is started often has one token.
    """
    write_operator_file(path, OperatorFile(url, transacted(dsn, _token)))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(DatabaseFailed):  # it may be stopping, too; the next start forgets it
            transacted(dsn, _forgotten)


async def _token(connection: AsyncConnection) -> str:
    await operator(connection)
    await forget_named(connection, OPERATOR, TOKEN_NAME)
    _, token = await make_token(connection, OPERATOR, TOKEN_NAME, ALL_SCOPES, MAX_DAYS)
    return token


async def _forgotten(connection: AsyncConnection) -> None:
    await forget_named(connection, OPERATOR, TOKEN_NAME)
