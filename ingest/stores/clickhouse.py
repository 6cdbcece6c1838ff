"""A connection to the candle store: one interface over a server and over one in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from compute.errors import InvalidInput
from ingest.errors import SchemaOutdated, StoreFailed, StoreInUse, StoreRefused, StoreUnavailable
from ingest.stores.locks import opened_lock, took_lock
from ingest.stores.settings import ClickHouseSettings
from ingest.stores.turns import Turns

LOCK_NAME: Final = "roehub.lock"

CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_S: Final = 300

Parameters = Mapping[str, Any]
Returned = TypeVar("Returned")

# Error codes of ClickHouse. What may pass by itself: timeouts, broken connections, too many
# queries or parts, no memory, a table or a disk that is read-only, a Keeper that is away.
_PASSING: Final = frozenset({3, 159, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252, 279, 999})
_NO_SPACE: Final = 243
_NO_DATABASE: Final = 81
_NO_TABLE: Final = 60
_REFUSED_USER: Final = frozenset({192, 193, 194, 516})
# An answer without a code comes from what stands before the store, not from the store.
_BROKEN_OFF: Final = ("executing HTTP request", "(connection closed by server)")
_HTTP_DOWN: Final = re.compile(r"HTTP status (429|5\d\d)")

# With two threads to a query, a query over many fresh parts sometimes never ends: chDB 26.5 forgets
# to wake its threads (3 of 4 runs of half a minute that store and read months; none with one).
_EMBEDDED_SETTINGS: Final = {"max_threads": 1}

# The driver prints a traceback for every connection it cannot make; the errors here say it.
# So does the library under it for every attempt of its own.
for _name in ("clickhouse_connect", "urllib3"):
    logging.getLogger(_name).setLevel(logging.ERROR)

# One insert may reach over a whole history: 8 years are 96 monthly partitions, the default
# limit is 100. Versions of one key in one insert are left to merges and to the readers.
_INSERT_SETTINGS: Final = {"max_partitions_per_insert_block": 2000, "optimize_on_insert": 0}


class ClickHouse:
    """An open candle store; any thread may use it, at the same time as others.

    On a server every thread has its own client. The embedded store has one, used in turns, and
    belongs to the process that opened it: a forked child is refused, where it would hang.
    Values go to the store as parameters, `{name:Type}` in the text, never as text themselves.
    """

    def __init__(self, settings: ClickHouseSettings, owner: str) -> None:
        self.settings = settings
        self._pid = os.getpid()
        self._closed = False
        self._turns = Turns()
        self._local = threading.local()
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._lock = _locked(settings.path, owner) if settings.path is not None else None
        self._client: Client | None = None
        try:
            if settings.path is not None:
                self._client = self._embedded_client(settings.path)
            else:
                self._thread_client()
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def embedded(self) -> bool:
        """Whether the store lives in this process."""
        return self.settings.embedded

    @property
    def database(self) -> str:
        """Name of the database all tables are in."""
        return self.settings.database

    def command(self, sql: str, parameters: Parameters | None = None) -> None:
        """Runs a statement that returns no rows.

        Raises:
            StoreUnavailable: the store cannot be reached, or cannot do it now.
            SchemaOutdated: there is no such table or database.
            StoreFailed: the store refuses it for another reason.
        """
        self._attempt(lambda client: client.command(sql, parameters=_bound(parameters)))

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query; errors as with `command`. A time is best asked for as a number."""
        return self._attempt(
            lambda client: [
                tuple(row) for row in client.query(sql, parameters=_bound(parameters)).result_rows
            ]
        )

    def arrow(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """The rows of a query as an Arrow table, texts as strings; errors as with `command`."""
        try:
            return self._attempt(
                lambda client: client.query_arrow(
                    sql, parameters=_bound(parameters), use_strings=True
                )
            )
        except pa.ArrowInvalid as error:  # the answer has ended before its Arrow did
            raise StoreUnavailable(
                f"the store at {self.settings.place} cannot be used now: {_reason(error)}"
            ) from error

    def insert(self, table_name: str, table: pa.Table, *, urgent: bool = False) -> int:
        """The number of rows put into `table_name`, in one insert; errors as with `command`.

        An urgent one is next in the embedded store, where statements take turns. A server that
        fails in the middle may have stored some: an insert that is tried again may repeat rows,
        which the tables here are made for.
        """
        if table.num_rows:
            self._attempt(
                lambda client: client.insert_arrow(table_name, table, settings=_INSERT_SETTINGS),
                urgent,
            )
        return table.num_rows

    def create_database(self) -> None:
        """Makes the database if there is none; a user who may not, needs it to be there."""
        found = self._attempt(
            lambda client: client.command(
                "SELECT count() FROM system.databases WHERE name = {name:String}",
                parameters={"name": self.database},
                use_database=False,
            )
        )
        if found == 0:
            name = self.database.replace("\\", "\\\\").replace("`", "\\`")
            statement = f"CREATE DATABASE IF NOT EXISTS `{name}`"
            self._attempt(lambda client: client.command(statement, use_database=False))

    def ping(self) -> bool:
        """Whether the store answers a query now."""
        try:
            self._attempt(lambda client: client.command("SELECT 1", use_database=False))
        except StoreFailed:
            return False
        return True

    def close(self) -> None:
        """Lets the store go; running calls of other threads end first where it is embedded."""
        if self._pid != os.getpid():  # the parent's store is not a child's to close
            return
        with self._turns.turn(urgent=True):
            if self._closed:
                return
            self._closed = True
            for client in list(self._clients):
                client.close()
            self._client = None
            self._unlock()

    def _attempt(self, call: Callable[[Client], Returned], urgent: bool = False) -> Returned:
        """What `call` returns; what the driver raises becomes an error of ours."""
        if self._pid != os.getpid():
            raise StoreFailed(
                f"the store at {self.settings.place} was opened before this process was forked; "
                f"open it again here, or start the process with spawn"
            )
        try:
            if not self.embedded:
                return call(self._thread_client())
            with self._turns.turn(urgent):
                if self._closed or self._client is None:
                    raise _closed_error(self.settings)
                return call(self._client)
        except ClickHouseError as error:
            raise _store_error(self.settings, error) from error

    def _thread_client(self) -> Client:
        """This thread's client of the server."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            if self._closed:
                raise _closed_error(self.settings)
            client = self._server_client()
            self._local.client = client
            with self._turns.turn():
                self._clients.add(client)
        elif self._closed:
            raise _closed_error(self.settings)
        return client

    def _server_client(self) -> Client:
        settings = self.settings
        try:
            client = clickhouse_connect.get_client(
                host=settings.host,
                port=settings.port,
                username=settings.user,
                password=settings.password,
                interface="https" if settings.secure else "http",
                verify=settings.verify,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=QUERY_TIMEOUT_S,
                client_name="roehub",
                autogenerate_session_id=False,  # nothing here needs one, and one costs a queue
                dedicated_pool=True,
                show_clickhouse_errors="scrub",
            )
        except ClickHouseError as error:
            raise _store_error(settings, error) from error
        # Only now: with a database that is not there yet, even the handshake would fail.
        client.database = settings.database
        return client

    def _embedded_client(self, path: Path) -> Client:
        try:
            client = clickhouse_connect.get_client(
                interface="chdb",
                path=str(path),
                settings=_EMBEDDED_SETTINGS,
                show_clickhouse_errors="scrub",
            )
        except ClickHouseError as error:
            if "already initialized" in str(error):
                raise StoreInUse(
                    f"the store at {path} cannot be opened: this process has another one open, "
                    f"and can have one at a time; close that first or use another process"
                ) from error
            raise StoreFailed(f"the store at {path} cannot be opened: {_reason(error)}") from error
        self._clients.add(client)
        name = self.database.replace("\\", "\\\\").replace("`", "\\`")
        client.command(f"CREATE DATABASE IF NOT EXISTS `{name}`")
        client.database = self.database
        return client

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def open_clickhouse(settings: ClickHouseSettings, owner: str = "roehub ingest") -> ClickHouse:
    """The opened store of `settings`; a context manager. `owner` is what others read when the
    directory is taken.

    Raises:
        StoreInUse: the directory is open already, in another process or in this one.
        StoreUnavailable: the server does not answer.
        StoreRefused: the server refuses the user.
        InvalidInput: the directory cannot be made.
    """
    return ClickHouse(settings, owner)


def _locked(path: Path, owner: str) -> int:
    """The descriptor that holds the directory's lock; the text in the file says whose it is."""
    descriptor = opened_lock(path, LOCK_NAME, "the candle store")
    if not took_lock(descriptor):
        holder = _holder(descriptor)
        os.close(descriptor)
        raise StoreInUse(
            f"the store at {path} is used by {holder}; an embedded store belongs to one process: "
            f"stop that one, or keep the candles on a server (CH_HOST)"
        )
    note = json.dumps({"pid": os.getpid(), "owner": owner}).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, note, 0)
    return descriptor


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"{note['owner']} (pid {note['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _bound(parameters: Parameters | None) -> dict[str, Any] | None:
    return dict(parameters) if parameters else None


def _closed_error(settings: ClickHouseSettings) -> StoreFailed:
    return StoreFailed(f"the store at {settings.place} is closed; open it again")


def _store_error(
    settings: ClickHouseSettings, error: ClickHouseError
) -> StoreFailed | InvalidInput:
    """The driver's error as one of ours."""
    code = error.code if isinstance(error, Error) else None
    text = _reason(error)
    if code in (_NO_TABLE, _NO_DATABASE):
        return SchemaOutdated(
            f"the store at {settings.place} lacks tables; run `roehub ingest migrate` ({text})"
        )
    if code in _REFUSED_USER:
        return StoreRefused(
            f"the store at {settings.place} refuses user {settings.user}; "
            f"check CH_USER and CH_PASSWORD ({text})"
        )
    if code is None and not settings.embedded and _transport(text):
        return StoreUnavailable(
            f"the store at {settings.place} cannot be used now: check CH_HOST and CH_PORT, and "
            f"that the server runs, or unset CH_* to keep candles on this machine ({text})"
        )
    if code == _NO_SPACE:
        elsewhere = " or move it (ROEHUB_DATA_DIR)" if settings.embedded else ""
        return StoreUnavailable(
            f"the disk of the store at {settings.place} is full: free some space{elsewhere}, and "
            f"run this again ({text})"
        )
    if code in _PASSING:
        return StoreUnavailable(f"the store at {settings.place} cannot be used now: {text}")
    return StoreFailed(f"the store at {settings.place} refused a statement: {text}")


def _transport(text: str) -> bool:
    """Whether an error without a ClickHouse code came from the way there."""
    return any(one in text for one in _BROKEN_OFF) or _HTTP_DOWN.search(text) is not None


def _reason(error: BaseException) -> str:
    """What went wrong in one line: of a broken connection, what broke it."""
    lines: Sequence[str] = str(error).strip().splitlines()
    text = lines[0][:500] if lines else type(error).__name__
    if "executing HTTP request" in text:
        inner = error
        while inner.__cause__ is not None or inner.__context__ is not None:
            inner = inner.__cause__ or inner.__context__ or inner
        text = f"{text} ({inner})"
    return text
