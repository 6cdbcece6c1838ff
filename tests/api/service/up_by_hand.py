"""`roehub` whose wall clock is a number in a file: `python -m tests.api.service.up_by_hand up …`.

The file, named by CLOCK, holds milliseconds that a test moves; nothing else of the product is
another. What it starts has the clock of the machine, and so has the database, but for the look of
live runners at whether both clocks agree.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Self

FILE = "ROEHUB_TESTS_CLOCK"
_FORMAT = struct.Struct("<q")


class HandClock:
    """A clock in a file, that stands where it was put; a context manager."""

    def __init__(self, path: Path, now_ms: int | None = None) -> None:
        if now_ms is not None:
            path.write_bytes(_FORMAT.pack(now_ms))
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory.close()

    def __call__(self) -> int:
        return _FORMAT.unpack_from(self._memory)[0]

    def put(self, now_ms: int) -> None:
        """Makes it say `now_ms`."""
        _FORMAT.pack_into(self._memory, 0, now_ms)


if __name__ == "__main__":
    clock = HandClock(Path(os.environ[FILE]))
    time.time_ns = lambda: clock() * 1_000_000
    from api.cli import main
    from live.leases import Leases

    async def now_ms(_: Leases) -> int:
        return clock()

    Leases.now_ms = now_ms  # type: ignore[method-assign]
    main()
