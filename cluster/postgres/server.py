"""A PostgreSQL server of our own over a directory, shared by the processes of this machine.

The first process that needs it starts it, the others join it, and it ends with the last one,
however that ends: see `keeper`. It listens on 127.0.0.1 only, on a port chosen at each start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.postgres import binaries, data
from cluster.postgres.data import DATABASE, HERE, NO_SPACE, USER, Directory
from cluster.postgres.errors import DatabaseFailed, DatabaseUnavailable, DiskFull
from cluster.postgres.settings import PostgresSettings, plain_dsn
from compute.errors import InvalidInput

HOST: Final = "127.0.0.1"
START_S: Final = 120.0  # recovery after a crash is part of a start
_KEEPER: Final = Path(__file__).with_name("keeper.py")
_LOG_BYTES: Final = 16 << 20
_PORTS_TRIED: Final = 5
_PORT_TAKEN: Final = "could not create any TCP/IP sockets"

_OPTIONS: Final = {
    "cluster_name": "roehub",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "huge_pages": "off",
    "jit": "off",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Keepers that this process started; kept so that their ends are collected.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes connections: its port, its pid and that of its keeper."""

    port: int
    server: int
    keeper: int


@contextmanager
def postgres(settings: PostgresSettings) -> Iterator[str]:
    """The DSN to work with: the one given, or that of our own server, started and migrated here.

    Raises:
        InvalidInput: only migrations have a DSN.
        What `embedded_postgres` and `schema.migrate` raise.
    """
    if settings.dsn is not None:
        yield plain_dsn(settings.dsn)
        return
    if not settings.embedded:
        raise InvalidInput(
            "POSTGRES_DSN is for migrations only; set STRATEGY_PG_DSN too, or unset both to use "
            "a server of our own"
        )
    from cluster.postgres.schema import migrate  # slow to import, and not needed to join

    with embedded_postgres(settings.directory) as dsn:
        migrate(dsn)
        yield dsn


@contextmanager
def embedded_postgres(path: Path, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """The DSN of the server over `path`, which runs at least until the context is left.

    `options` are settings of `postgresql.conf` for a server that is started here; one that runs
    already keeps its own.

    Raises:
        ForeignDirectory: the directory is not ours, not usable, or its server not started by us.
        OtherVersion: the data are of another major version.
        DiskFull: no space for the database.
        DatabaseUnavailable: the server of another process does not answer.
        DatabaseFailed: it does not start; the message holds the reason from its log.
    """
    directory = data.made(path.absolute())
    until = time.monotonic() + START_S
    users = _used(directory, until)
    try:
        found = _running(directory, options or {}, until)
        password = directory.password.read_text("utf-8").strip()
        yield f"postgresql://{USER}:{password}@{HOST}:{found.port}/{DATABASE}"
    finally:
        _leave(directory, users)


def running(path: Path) -> Running | None:
    """The server over `path` while it takes connections, None while there is none."""
    found = _announced(Directory(path.absolute()))
    if found is None:
        return None
    return found if _lives(found.keeper) and _listens(found.port) else None


def _announced(directory: Directory) -> Running | None:
    """What the keeper wrote, if it wrote anything yet."""
    try:
        return Running(**json.loads(directory.state.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _used(directory: Directory, until: float) -> int:
    """The users lock, held in common; waits for the end of a server that is stopping."""
    users = os.open(directory.users_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(users, fcntl.LOCK_SH):
            if time.monotonic() > until:
                raise DatabaseUnavailable(
                    f"the server over {directory.path} does not end; see {directory.log}"
                )
            time.sleep(0.02)
    except BaseException:
        os.close(users)
        raise
    return users


def _leave(directory: Directory, users: int) -> None:
    """Gives the server up; returns when it has ended, if nobody else uses it."""
    last = _locked(users, fcntl.LOCK_EX)
    if last:
        fcntl.flock(users, fcntl.LOCK_UN)
    os.close(users)
    until = time.monotonic() + START_S
    while last and time.monotonic() < until:
        keeper = os.open(directory.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(keeper, fcntl.LOCK_EX):
                break
        finally:
            os.close(keeper)
        time.sleep(0.02)
    _children[:] = [child for child in _children if child.poll() is None]


def _running(directory: Directory, options: Mapping[str, str], until: float) -> Running:
    """The server, started here when no keeper holds the lock."""
    lock = os.open(directory.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            if _locked(lock, fcntl.LOCK_EX):
                return _started(directory, lock, options)
            if (found := running(directory.path)) is not None:
                return found
            if time.monotonic() > until:
                raise DatabaseUnavailable(
                    f"the server over {directory.path} belongs to another process "
                    f"({_holder(directory)}) and does not answer; see {directory.log}, stop that "
                    "process, or name a server with STRATEGY_PG_DSN"
                )
            time.sleep(0.05)
    finally:
        os.close(lock)


def _started(directory: Directory, lock: int, options: Mapping[str, str]) -> Running:
    programs, account = binaries.programs(), binaries.account()
    directory.state.unlink(missing_ok=True)
    durable = options.get("fsync") != "off"
    data.ready(directory, account, programs, durable=durable)
    if directory.log.exists() and directory.log.stat().st_size > _LOG_BYTES:
        directory.log.replace(directory.log.with_suffix(".log.1"))
    said = ""
    for _ in range(_PORTS_TRIED):
        port = _free_port()
        settings = {**_OPTIONS, **options, "port": str(port)}
        command = [str(programs / "postgres"), "-D", HERE]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        order: dict[str, Any] = {"command": command, "port": port, "keeper_fd": lock}
        order |= {"data": str(directory.data), "state": str(directory.state)}
        order |= {"users": str(directory.users_lock), "uid": account.uid, "gid": account.gid}
        said = _keeper_started(directory, order)
        if (found := running(directory.path)) is not None:
            return found
        if _PORT_TAKEN not in said:
            break
    raise _failure(directory, said)


def _keeper_started(directory: Directory, order: dict[str, Any]) -> str:
    """Starts a keeper and waits until its server is ready or has failed; what the log got."""
    libraries = os.environ.get("LD_LIBRARY_PATH")  # of this Python, if it needs any
    environment = data.ENVIRONMENT | ({"LD_LIBRARY_PATH": libraries} if libraries else {})
    ready, starter = os.pipe()
    with open(directory.log, "ab") as log:
        os.fchmod(log.fileno(), 0o600)
        offset = log.seek(0, os.SEEK_END)
        try:
            command = [sys.executable, "-I", "-S", str(_KEEPER)]
            child = subprocess.Popen(
                [*command, json.dumps({**order, "starter_fd": starter})],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                pass_fds=(starter, order["keeper_fd"]),
                start_new_session=True,
            )
        finally:
            os.close(starter)
        _children.append(child)
    try:
        os.read(ready, 1)  # nothing is ever written: the other end is closed
    finally:
        os.close(ready)
    with open(directory.log, "rb") as log:
        log.seek(offset)
        return log.read().decode("utf-8", "replace")


def _failure(directory: Directory, said: str) -> DatabaseFailed:
    if NO_SPACE in said:
        return DiskFull(
            f"the database does not start: no space is left in {directory.path}; make room there"
        )
    if _PORT_TAKEN in said:
        return DatabaseUnavailable(
            f"the database does not start: {_PORTS_TRIED} ports of {HOST} that were free a moment "
            "before were taken; try again"
        )
    reasons = re.findall(r"(?:FATAL|PANIC|ERROR|Error):\s*(.+)", said)
    reason = reasons[-1] if reasons else said.strip()[-300:] or "it says nothing"
    return DatabaseFailed(
        f"the database in {directory.path} does not start: {reason}; see {directory.log}, or name "
        "a server with STRATEGY_PG_DSN"
    )


def _holder(directory: Directory) -> str:
    """The pid to name of a server that does not answer."""
    if (found := _announced(directory)) is not None:
        return f"pid {found.keeper}"
    with contextlib.suppress(OSError, IndexError):
        lines = (directory.data / "postmaster.pid").read_text("utf-8").splitlines()
        return f"pid {lines[0]}"
    return "still starting"


def _locked(number: int, kind: int) -> bool:
    try:
        fcntl.flock(number, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in "ZX"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2.0):
            return True
    except OSError:
        return False
