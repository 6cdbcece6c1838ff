"""Which symbols go over which socket of a market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """Symbols of the sockets there are, in their order, empty for one to close; and of new ones."""

    changed: list[tuple[str, ...]]
    new: list[tuple[str, ...]]


def placed(sockets: Sequence[Sequence[str]], symbols: Sequence[str], most: int) -> Places:
    """The symbols, `most` a socket, where they are already if they may stay.

    A symbol moves only when its socket has too many: changing a socket means to open another.
    """
    wanted = set(symbols)
    kept: list[list[str]] = []
    taken: set[str] = set()
    for one in sockets:
        stay = [symbol for symbol in one if symbol in wanted and symbol not in taken][:most]
        taken.update(stay)
        kept.append(stay)
    left = [symbol for symbol in symbols if symbol not in taken]
    for stay in kept:
        if stay or not left:
            room = most - len(stay)
            stay += left[:room]
            left = left[room:]
    new = [tuple(left[at : at + most]) for at in range(0, len(left), most)]
    return Places([tuple(stay) for stay in kept], new)
