"""One `roehub up` for each directory of data."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from compute.errors import InvalidInput

LOCK_NAME: Final = "roehub-up.lock"


class AlreadyUp(InvalidInput):
    """Another `roehub up` has the directory."""


@contextmanager
def only_one(directory: Path, place: dict[str, Any]) -> Iterator[None]:
    """Holds the directory; others are told `place`, which has `pid` and `url`.

    The kernel drops the lock of a process that is killed.
    Raises: AlreadyUp; InvalidInput for a directory that cannot be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(
            f"the directory {directory} cannot be used: {error.strerror}; name another with "
            "ROEHUB_DATA_DIR"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _already(directory, os.pread(lock, 4096, 0)) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(place).encode(), 0)
        yield
    finally:
        os.close(lock)


def _already(directory: Path, content: bytes) -> AlreadyUp:
    try:
        told = json.loads(content)
        who = f"pid {told['pid']}, API at {told['url']}"
        stop = f"stop it (kill {told['pid']})"
    except (ValueError, KeyError, TypeError):
        who, stop = "it is starting", "stop it"
    return AlreadyUp(
        f"roehub up runs over {directory} already ({who}); use it with roehub submit, or {stop}, "
        "or name another directory with ROEHUB_DATA_DIR",
        details={"directory": str(directory)},
    )
