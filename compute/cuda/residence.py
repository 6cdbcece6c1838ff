"""The place of one back-test on a card: held from first use to the end, with what stays there."""

from __future__ import annotations

import threading
import traceback
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from numpy.typing import NDArray

from compute.cuda.card import Card
from compute.cuda.memory import held


class Residence:
    """Arrays of one back-test on `card`. The card is taken at first use and given back at the end.

    An array is put there once and stays as long as this process has it: both stages read the
    planes that the first one brought.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._kept: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self._leaving = ExitStack()
        self._entering = threading.Lock()
        self._inside = False

    def __enter__(self) -> Residence:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _let_go(error)
        self.leave()

    def leave(self) -> None:
        """Gives the card back, empty but for what callers still hold."""
        self.keep_only(())
        self._leaving.close()
        self._inside = False

    def enter(self, check: Callable[[], None] | None) -> None:
        """Takes the card; while others hold it `check` is called, which may raise.

        Raises: CardBusy where there is no `check`.
        """
        with self._entering:
            if not self._inside:
                self._leaving.enter_context(held(self.card.lock, check))
                self._leaving.callback(self.card.release)
                self._inside = True

    def put(self, array: NDArray[Any]) -> Any:
        """`array` on the card, put there once. Raises: MemoryError."""
        number = id(array)
        found = self._kept.get(number)
        if found is not None and found[0]() is array:
            return found[1]
        placed = self.card.put(array)
        # An array that is gone leaves its number to another one: its copy goes with it.
        gone = weakref.ref(array, lambda ref: self._forget(number, ref))
        self._kept[number] = (gone, placed)
        return placed

    def _forget(self, number: int, gone: weakref.ref[Any]) -> None:
        if number in self._kept and self._kept[number][0] is gone:
            del self._kept[number]

    def keep_only(self, arrays: Iterable[NDArray[Any]]) -> int:
        """Drops the copies of all other arrays; the bytes of those that stay."""
        wanted = {id(array) for array in arrays}
        self._kept = {key: kept for key, kept in list(self._kept.items()) if key in wanted}
        return sum(int(placed.nbytes) for _, placed in list(self._kept.values()))


def _let_go(error: BaseException | None) -> None:
    """Empties the frames that `error` came through: their arrays would outlive the search."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
