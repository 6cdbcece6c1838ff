"""The one way this package compiles: serial, GIL-free, cached on disk, no fast-math.

The cache directory is chosen before Numba is imported and is keyed by the text of every kernel
module that others may inline: Numba itself notices an edit only in the file that defines a kernel.
Indicator files are left out of the key, so that editing one recompiles one.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
_PACKAGE = Path(__file__).parent
_GROUPS = ("ma", "volatility", "momentum", "trend", "volume", "structure")


def shared_sources() -> list[Path]:
    """Kernel modules whose text keys the cache: all of `compute` but the indicator files."""
    files = []
    for path in _PACKAGE.rglob("*.py"):
        parts = path.relative_to(_PACKAGE).parts
        if len(parts) > 2 and parts[0] == "indicators" and parts[1] in _GROUPS:
            continue
        text = path.read_text(encoding="utf-8")
        if "@kernel" in text or "@inlined" in text:
            files.append(path)
    return sorted(files)


def cache_directory() -> Path:
    """Directory of compiled kernels: base (environment or user cache) / key of the sources."""
    digest = hashlib.sha256(version("numba").encode())
    for path in shared_sources():
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    base = os.environ.get("ROEHUB_NUMBA_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    root = Path(base) if base else Path.home() / ".cache" / "roehub" / "numba"
    key = digest.hexdigest()[:16]
    return root if root.name == key else root / key  # a child process inherits the keyed path


CACHE_DIR = cache_directory()
if "numba" not in sys.modules:
    os.environ["NUMBA_CACHE_DIR"] = str(CACHE_DIR)

import numba  # noqa: E402
import numba.extending  # noqa: E402

numba.config.CACHE_DIR = str(CACHE_DIR)  # type: ignore[attr-defined]


def kernel(function: _F) -> _F:
    """Compiled `function`: nogil, serial, disk-cached, IEEE arithmetic, NumPy division."""
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)  # type: ignore[return-value]


def inlined(function: _F) -> _F:
    """A small piece of a kernel, pasted into its callers before compilation.

    A call that LLVM does not inline passes every array as seven words and counts references: up to
    five times the cost of the loop it stands in.
    """
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)  # type: ignore[return-value]


def emitted(function: Callable[..., Any]) -> Any:
    """A piece of a kernel that writes its own LLVM code: `function` gives signature and writer."""
    return numba.extending.intrinsic(function)
