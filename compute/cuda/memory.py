"""Memory of a card, counted before it is used; whoever computes on it holds it alone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compute.errors import RoehubError
from compute.quantities import size_text

RESERVE_BYTES = 256 << 20
"""Left free for what the driver takes besides arrays: code, stacks of threads."""
_FEW = 4096  # positions that keep a card busy: below these a stage gives up keeping all planes
_POLL_SECONDS = 0.05


class CardMemory(RoehubError):
    """A card cannot hold even a small part of a search."""

    code = "unavailable"


class CardBusy(RoehubError):
    """Somebody else holds the card."""

    code = "unavailable"


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a stage on a card: of each plane, of each position, of what all positions share."""

    planes: int
    plane_bytes: int
    position_bytes: int
    shared_bytes: int

    def total(self, planes: int, positions: int) -> int:
        """Bytes of so many planes and positions at a time."""
        return self.shared_bytes + planes * self.plane_bytes + positions * self.position_bytes


@dataclass(frozen=True, slots=True)
class Room:
    """What a stage may take: `resident` keeps all planes, else each launch brings its own."""

    bytes: int
    resident: bool
    positions: int


def room(needs: Needs, free_bytes: int, positions: int, reserve_bytes: int = RESERVE_BYTES) -> Room:
    """The `Room` of launches of at most `positions`."""
    size = free_bytes - reserve_bytes
    fitting = (size - needs.total(needs.planes, 0)) // needs.position_bytes
    if fitting >= min(positions, _FEW):
        return Room(size, True, min(positions, fitting))
    return Room(size, False, positions)


def refused(needs: Needs, planes: int, free_bytes: int) -> CardMemory:
    """The refusal of a launch of a single position with `planes`."""
    need = needs.total(planes, 1)
    return CardMemory(
        f"the card has {size_text(max(free_bytes, 0))} for the search, one variant alone needs "
        f"{size_text(need)} ({planes} vote planes of {size_text(needs.plane_bytes)}); shorten the "
        "time range, free memory on the card (nvidia-smi shows who holds it), or use --device cpu",
        details={"error": "card_memory", "need_bytes": need, "free_bytes": free_bytes},
    )


@contextmanager
def held(path: Path, check: Callable[[], None] | None) -> Iterator[None]:
    """Holds the lock file of a card; waits for other processes, calling `check` meanwhile.

    Raises: CardBusy where there is no `check`.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            if check is not None:
                check()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if check is None:
                    raise CardBusy("another process searches on the card") from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)  # which unlocks it, as the end of the process does
