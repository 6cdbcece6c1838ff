"""Where the candles are kept: a ClickHouse server, or one in this process over a directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from compute.errors import InvalidInput

DATA_DIR: Final = "~/.local/share/roehub"

# Every name that speaks of a server. CLICKHOUSE_DB is none: other software sets it to its own.
_SERVER_NAMES: Final = (
    "CH_HOST",
    "CH_PORT",
    "CH_USER",
    "CH_PASSWORD",
    "CH_SECURE",
    "CH_VERIFY",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
)


@dataclass(frozen=True, slots=True)
class ClickHouseSettings:
    """A server to connect to, or, with a `path`, the directory of a store in this process.

    Raises:
        InvalidInput: a blank host, user or database, or a port outside 1 to 65535.
    """

    host: str = "localhost"
    port: int = 8123
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "market_data"
    secure: bool = False
    verify: bool = True
    path: Path | None = None

    def __post_init__(self) -> None:
        names = {name: getattr(self, name) for name in ("host", "user", "database")}
        check_server("the candle store", names, self.port)

    @property
    def embedded(self) -> bool:
        """Whether the store lives in this process."""
        return self.path is not None

    @property
    def place(self) -> str:
        """The store as messages name it, without a password."""
        if self.path is not None:
            return str(self.path)
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}/{self.database}"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The store that environment variables name; without any, the embedded one.

        A server: CH_HOST, CH_PORT, CH_USER (or CLICKHOUSE_USER), CH_PASSWORD (or
        CLICKHOUSE_PASSWORD), CH_DATABASE, CH_SECURE, CH_VERIFY. The embedded store lies under
        ROEHUB_DATA_DIR. A variable that is set but blank counts as not set.

        Raises:
            InvalidInput: a variable whose value cannot be meant.
        """
        given = {name: value for name, value in environ.items() if value.strip()}
        database = given.get("CH_DATABASE", "market_data").strip()
        if not any(name in given for name in _SERVER_NAMES):
            root = Path(given.get("ROEHUB_DATA_DIR", DATA_DIR)).expanduser().absolute()
            return cls(database=database, path=root / "clickhouse")
        return cls(
            host=given.get("CH_HOST", "localhost").strip(),
            port=whole(given, "CH_PORT", 8123),
            user=given.get("CH_USER", given.get("CLICKHOUSE_USER", "default")).strip(),
            password=given.get("CH_PASSWORD", given.get("CLICKHOUSE_PASSWORD", "")),
            database=database,
            secure=_flag(given, "CH_SECURE", False),
            verify=_flag(given, "CH_VERIFY", True),
        )


def check_server(what: str, names: Mapping[str, str], port: int) -> None:
    """Refuses a blank name, or a port outside 1 to 65535, of the server that `what` names."""
    for name, text in names.items():
        if not text.strip():
            raise InvalidInput(f"{name} of {what} is blank; give it or leave it out")
    if not 1 <= port <= 65535:
        raise InvalidInput(f"port of {what} is {port}; it must be 1 to 65535")


def whole(given: Mapping[str, str], name: str, default: int) -> int:
    """A variable's whole number, >= 0. Raises: InvalidInput."""
    text = given.get(name, str(default)).strip()
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"{name} is {text!r}; it must be a whole number, like {default}")
    return int(text)


def _flag(given: Mapping[str, str], name: str, default: bool) -> bool:
    text = given.get(name, "1" if default else "0").strip()
    if text not in ("0", "1"):
        raise InvalidInput(f"{name} is {text!r}; it must be 0 or 1")
    return text == "1"
