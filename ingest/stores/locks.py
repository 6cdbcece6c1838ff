"""Lock files of the directories that belong to one process.

The lock is the kernel's, so it goes with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from compute.errors import InvalidInput


def opened_lock(directory: Path, name: str, what: str) -> int:
    """The descriptor of a lock file in `directory`, which is made; nobody else may read it.

    Raises:
        InvalidInput: the directory of `what` cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, what, error) from error


def is_directory(path: Path, what: str) -> bool:
    """Whether the directory of `what` is there; it is not made.

    Raises:
        InvalidInput: this user may not even see it.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unusable(path, what, error) from error


def _unusable(directory: Path, what: str, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"the directory {directory} of {what} cannot be used: {error.strerror}; "
        f"make it writable or name another with ROEHUB_DATA_DIR"
    )


def took_lock(descriptor: int) -> bool:
    """Whether this process has the lock now; it keeps it while the descriptor is open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
