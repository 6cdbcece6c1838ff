"""The executor that searches on a card; everything exact is done by the one that it stands before.

The card proposes as the fast kernels of the processor do, with the same guard band behind it:
what is ranked, returned and reported comes from the exact engine on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from compute.control import Control, Meter
from compute.cuda.card import Card
from compute.cuda.memory import CardBusy, CardMemory
from compute.cuda.packing import packing_on
from compute.cuda.residence import Residence
from compute.cuda.stages import CardStage, Check, Each, served
from compute.executor import Executor, Query, Sink, Span
from compute.packing import Packing

P = TypeVar("P")


class CudaExecutor:
    """`inner`, whose searches of stages run on `card`; its other folds are left to it.

    A job that has begun to use the card holds it to its end, and other processes of this user wait:
    or, with `waits` false, such a job searches on the processor. One that finds no room on the card
    is refused, or it tells `say` and goes on with the processor. Not for several threads.
    """

    def __init__(
        self,
        inner: Executor,
        card: Card,
        *,
        waits: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._inner, self._card, self._waits, self._say = inner, card, waits, say
        self._residence: Residence | None = None
        self._left = self._searched = False
        self.name = inner.name

    @property
    def device(self) -> str:
        """What has searched the last job: the card if any of its searches ran there."""
        return f"cuda ({self._card.name})" if self._searched else self._inner.device

    @property
    def workers(self) -> int:
        """Cores of the inner executor."""
        return self._inner.workers

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """As the inner executor does."""
        self._inner.each(work, items)

    @contextmanager
    def job(self, check: Callable[[], None]) -> Iterator[Packing | None]:
        """A job's place on the card, and what packs its votes there where that pays."""
        self._searched = False
        with Residence(self._card) as residence:
            self._left = not self._waits and not _entered(residence)
            if self._left:
                yield None
                return
            self._residence = residence
            try:
                yield packing_on(residence, self.workers, check)
            finally:
                self._residence = None

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        """Merged parts of `query` over `spans`. Raises: Cancelled, CardMemory."""
        if self._left or not query.searches or not spans or not served(stage):
            return self._inner.fold(stage, query, spans, meter, control, sink)

        def check() -> None:
            control.check(stage.name)

        merged: list[P] = []

        def take(part: P, start: int, stop: int) -> None:
            if sink is not None:
                for block in getattr(part, "columns", None) or ():
                    sink(block)
            merged[:] = [query.merge([*merged, part])]
            meter.add((stop - start) * stage.units_per_position)

        with ExitStack() as alone:
            residence = self._residence or alone.enter_context(Residence(self._card))
            rest = self._taken(stage, query, spans, residence, check, take)
            if rest:
                self._left = self._residence is not None  # for the rest of the job
                residence.leave()
        if rest:
            part = self._inner.fold(stage, query, rest, meter, control, sink)
            return query.merge([*merged, part])
        return merged[0]

    def _taken(
        self, stage: Any, query: Query[P], spans: Sequence[Span], residence: Residence,
        check: Check, take: Callable[[P, int, int], None],
    ) -> Sequence[Span]:  # fmt: skip
        """Hands to `take` what the card finds; the spans that it has no room for."""
        done = 0
        try:
            placed = on_card(stage, residence, spans, self._inner.each, check)
            for start, stop in spans:
                take(query.part(placed, start, stop, check), start, stop)
                self._searched = True
                done += 1
        except CardMemory as error:
            if self._say is None:
                raise
            self._say(f"device auto: going on with the CPU, {error.message}")
        return spans[done:]


def _entered(residence: Residence) -> bool:
    """Whether the card was to be had at once."""
    try:
        residence.enter(None)
    except CardBusy:
        return False
    return True


def on_card(
    stage: Any, residence: Residence, spans: Sequence[Span], each: Each, check: Check
) -> CardStage:
    """`stage` on a card that nobody else uses now; `each` runs exact scores on threads."""
    residence.enter(check)
    return CardStage(stage, residence, joined_spans(spans), each)


def joined_spans(spans: Sequence[Span]) -> list[Span]:
    """`spans` with those that follow on each other joined."""
    runs: list[Span] = []
    for start, stop in spans:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs
