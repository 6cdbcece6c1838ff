"""The executor that searches on a card; everything exact is done by the one that it stands before.

The card proposes as the fast kernels of the processor do, with the same guard band behind it:
what is ranked, returned and reported comes from the exact engine on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from compute.control import Control, Meter
from compute.cuda.card import Card
from compute.cuda.memory import held
from compute.cuda.stages import CardStage, Check, Each, served
from compute.executor import Executor, Query, Sink, Span

P = TypeVar("P")


class CudaExecutor:
    """`inner`, whose searches of stages run on `card`; its other folds are left to it.

    Whoever folds holds the card: other processes of this user wait. Not for several threads.
    """

    def __init__(self, inner: Executor, card: Card) -> None:
        self._inner, self._card = inner, card
        self.name = inner.name
        self.device = f"cuda ({card.name})"

    @property
    def workers(self) -> int:
        """Cores of the inner executor."""
        return self._inner.workers

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """As the inner executor does."""
        self._inner.each(work, items)

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        """Merged parts of `query` over `spans`. Raises: Cancelled, CardMemory."""
        if not query.searches or not spans or not served(stage):
            return self._inner.fold(stage, query, spans, meter, control, sink)

        def check() -> None:
            control.check(stage.name)

        merged: list[P] = []
        with on_card(stage, self._card, spans, self._inner.each, check) as placed:
            for start, stop in spans:
                part = query.part(placed, start, stop, check)
                if sink is not None:
                    for block in getattr(part, "columns", None) or ():
                        sink(block)
                merged = [query.merge([*merged, part])]
                meter.add((stop - start) * stage.units_per_position)
        return merged[0]


@contextmanager
def on_card(
    stage: Any, card: Card, spans: Sequence[Span], each: Each, check: Check
) -> Iterator[CardStage]:
    """`stage` on `card`, which is held meanwhile; `each` runs exact scores on threads."""
    with held(card.lock, check):
        try:
            yield CardStage(stage, card, joined_spans(spans), each)
        finally:
            card.release()


def joined_spans(spans: Sequence[Span]) -> list[Span]:
    """`spans` with those that follow on each other joined."""
    runs: list[Span] = []
    for start, stop in spans:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs
