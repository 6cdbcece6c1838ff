"""A query that brings every span's part to the driver; workers import it, and nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from compute.executor import Query

Piece = tuple[int, int, Any]
"""Start and stop of a span, and its part."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Parts on their way: executors hand `columns` to the sink, span by span, and merge nothing."""

    columns: Sequence[Piece] | None


@dataclass(frozen=True, slots=True)
class Spanwise:
    """`query`, with its parts delivered through the executor's sink as `Piece`s.

    What a fold of it returns is empty. The part inside a piece keeps bulk columns of its own.
    """

    query: Query[Any]

    @property
    def searches(self) -> bool:
        return self.query.searches

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Delivered:
        return Delivered([(start, stop, self.query.part(stage, start, stop, check))])

    def merge(self, parts: Sequence[Delivered]) -> Delivered:
        return Delivered(None)

    def nanoseconds(self, stage: Any) -> float:
        return self.query.nanoseconds(stage)
