"""Where jobs, users and strategies are kept: a PostgreSQL server, or one of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from compute.errors import InvalidInput

DATA_DIR: Final = "~/.local/share/roehub"
RUNTIME_NAME: Final = "STRATEGY_PG_DSN"
MIGRATIONS_NAME: Final = "POSTGRES_DSN"
_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """A server to connect to by `dsn`, or, without one, the directory of a server of our own.

    `migrations_dsn` is the user that may change tables; None where it is our own server.

    Raises:
        InvalidInput: a DSN that is not `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
    """

    directory: Path
    dsn: str | None = field(default=None, repr=False)
    migrations_dsn: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in ((RUNTIME_NAME, self.dsn), (MIGRATIONS_NAME, self.migrations_dsn)):
            if value is not None:
                plain_dsn(value, name)

    @property
    def embedded(self) -> bool:
        """Whether the server is our own."""
        return self.dsn is None and self.migrations_dsn is None

    @property
    def place(self) -> str:
        """The server as messages name it, without a password."""
        given = self.dsn or self.migrations_dsn
        return str(self.directory) if given is None else place(given)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The server that STRATEGY_PG_DSN names; without it, our own under ROEHUB_DATA_DIR.

        POSTGRES_DSN is the user of migrations, by default the same. A variable that is set but
        blank counts as not set.

        Raises:
            InvalidInput: a variable whose value cannot be meant.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        root = Path(given.get("ROEHUB_DATA_DIR", DATA_DIR)).expanduser()
        dsn = given.get(RUNTIME_NAME)
        return cls(root / "postgres", dsn, given.get(MIGRATIONS_NAME, dsn))


def plain_dsn(dsn: str, name: str = "DSN") -> str:
    """A DSN as asyncpg and libpq read it: `postgresql://…`, without a driver's name.

    Raises:
        InvalidInput: no DSN; the message does not repeat it, it may hold a password.
    """
    try:
        parts = urlsplit(dsn)
        known = parts.scheme in _SCHEMES and (parts.port or 5432) > 0
    except ValueError:
        known, parts = False, None
    if not known or parts is None or not (parts.hostname or parts.query):
        raise InvalidInput(
            f"{name} must be like postgresql://USER:PASSWORD@HOST:5432/DATABASE; "
            "unset it to use a server of our own"
        )
    return "postgresql://" + dsn.partition("://")[2]


def place(dsn: str) -> str:
    """The server of a DSN as messages name it, without user and password."""
    parts = urlsplit(dsn)
    port = "" if parts.port is None else f":{parts.port}"
    return f"postgresql://{parts.hostname or ''}{port}{parts.path}"
