"""Batches: how many consecutive spans one task takes, from what tasks have cost so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compute.executor import Span

TASK_SECONDS = 0.5


class Batches:
    """Hands out `spans` in order, about half a second a time, fewer towards the end.

    The spans themselves are never cut or moved: where a batch ends shows in no result.
    """

    def __init__(self, spans: Sequence[Span], position_seconds: float, slots: int) -> None:
        self._spans = spans
        self._at = 0
        self._slots = max(1, slots)
        self._position_seconds = position_seconds
        self._measured = False

    def take(self) -> Sequence[Span]:
        """The next spans, at least one; empty when all have been taken."""
        left = len(self._spans) - self._at
        longest = -(-left // self._slots)  # every slot gets a share of what is left
        seconds = 0.0
        end = self._at
        while end < self._at + longest:
            start, stop = self._spans[end]
            seconds += (stop - start) * self._position_seconds
            if end > self._at and seconds > TASK_SECONDS:
                break
            end += 1
        taken = self._spans[self._at : end]
        self._at = end
        return taken

    def learn(self, positions: int, seconds: float) -> None:
        """Takes note of a finished task; the newest counts half."""
        if positions <= 0:
            return
        each = seconds / positions
        self._position_seconds = each if not self._measured else (self._position_seconds + each) / 2
        self._measured = True


class Work:
    """Batches of one fold that are to be sent, and those that are under way."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.pending: dict[Any, Sequence[Span]] = {}
        self._lost: list[Sequence[Span]] = []

    def take(self) -> Sequence[Span]:
        """The next to be sent; empty when all have been."""
        return self._lost.pop() if self._lost else self.batches.take()

    def again(self, references: Sequence[Any]) -> None:
        """Sends again what nobody will answer."""
        self._lost += [self.pending.pop(reference) for reference in references]
