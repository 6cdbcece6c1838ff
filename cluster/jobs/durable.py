"""Files that survive a crash whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from compute.errors import RoehubError

UNFINISHED: Final = ".part"
_STALE_SECONDS: Final = 3600.0


class ResultsUnwritable(RoehubError):
    """The directory of results is full, read-only or gone."""

    def __init__(self, path: Path, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(
            f"results cannot be written: {path}: {reason}; free some space on the volume of "
            f"ROEHUB_RESULTS_DIR, or name another directory there, and submit the job again",
            details={"error": "results_unwritable", "path": str(path), "reason": reason},
        )


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Writes files of one directory so that each is there whole, or not at all.

    All are written before the first is synced: one flush of the volume then serves many.
    Raises: ResultsUnwritable, having left nothing behind that has no final name.
    """
    if not contents:
        return
    unfinished: dict[Path, Path] = {}
    at = next(iter(contents))
    directory = at.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for at, content in contents.items():
            unfinished[at] = at.with_name(f".{at.name}.{token_hex(4)}{UNFINISHED}")
            unfinished[at].write_bytes(content)
        for temporary in unfinished.values():
            sync(temporary)
        for at, temporary in unfinished.items():
            temporary.replace(at)
        sync(directory)
    except OSError as error:
        raise ResultsUnwritable(at, error) from error
    finally:
        for temporary in unfinished.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Makes a file, or the names in a directory, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(directory: Path, older_seconds: float = _STALE_SECONDS) -> None:
    """Removes what writers that were killed left unfinished in a directory."""
    before = time.time() - older_seconds
    for path in directory.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
