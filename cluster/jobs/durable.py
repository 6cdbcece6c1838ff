"""Files that survive a crash whole or not at all: written beside their place, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Final

from cluster.postgres.settings import DATA_DIR
from compute.errors import InvalidInput, RoehubError

UNFINISHED: Final = ".part"
_MARK: Final = ".roehub"
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


def results_directory(environ: Mapping[str, str]) -> Path:
    """The directory of results, made where it is missing and tried out.

    ROEHUB_RESULTS_DIR names it, by default `results` under ROEHUB_DATA_DIR; with several machines
    it is a mount that all of them share. Raises: InvalidInput.
    """
    root = Path(environ.get("ROEHUB_DATA_DIR", "").strip() or DATA_DIR)
    path = Path(environ.get("ROEHUB_RESULTS_DIR", "").strip() or root / "results")
    path = path.expanduser().absolute()
    try:
        mark(path)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvalidInput(
            f"results cannot be written to {path}: {error.strerror or error}; let "
            "ROEHUB_RESULTS_DIR name a directory that can be written"
        ) from error
    return path


def mark(directory: Path) -> None:
    """Makes a directory of results, and marks it as one. Raises: OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARK).touch()


def there(directory: Path) -> bool:
    """Whether a directory that was marked is still that one: a mount that is gone leaves an empty
    directory behind, in which nothing that was promised to jobs can be found or kept."""
    return (directory / _MARK).is_file()


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


def file_time(directory: Path) -> float:
    """The time that a file of a directory gets now: that of the volume, not of this process.

    Raises: OSError.
    """
    with TemporaryFile(dir=directory) as file:
        return os.fstat(file.fileno()).st_mtime


def sweep(directory: Path, older_seconds: float = _STALE_SECONDS) -> None:
    """Removes what writers that were killed left unfinished in a directory."""
    unfinished = list(directory.glob(f".*{UNFINISHED}"))
    if not unfinished:
        return
    with suppress(OSError):  # nothing depends on it, and the volume may be full
        before = file_time(directory) - older_seconds
        for path in unfinished:
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
