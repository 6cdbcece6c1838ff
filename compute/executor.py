"""Executors: score spans of a stage and keep the best, wherever the cores are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compute.control import Control, Meter

if TYPE_CHECKING:
    from compute.packing import Packing

P = TypeVar("P")
Span = tuple[int, int]
Sink = Callable[[dict[str, NDArray[np.generic]]], None]


class Query(Protocol[P]):
    """What is asked of a stage: a pure function of a span, and a merge.

    `merge` is associative and does not depend on the order of spans. `columns` of a part (bulk
    output, may be None) go to the sink and are not merged.
    """

    @property
    def searches(self) -> bool:
        """Whether a part costs what `stage.scores` of its span costs, and little beside."""
        ...

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> P: ...

    def merge(self, parts: Sequence[P]) -> P: ...

    def nanoseconds(self, stage: Any) -> float:
        """Model cost of one position of a span on a reference core."""
        ...


class Executor(Protocol):
    """Where a stage is scored; the answer never depends on which one, or on its size."""

    name: str

    @property
    def device(self) -> str:
        """What searches: "cpu", or the name of a card."""
        ...

    @property
    def workers(self) -> int:
        """Cores that score at the same time."""
        ...

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        """Merged parts of `query` over `spans`. Raises Cancelled when asked to stop."""
        ...

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Runs `work` over `items` on this process's threads; the first error is raised."""
        ...

    def job(self, check: Callable[[], None]) -> AbstractContextManager[Packing | None]:
        """The folds of one back-test: what they share stays where they compute until it is left.

        Gives what packs its votes, None for the processor. `check` is called while it waits.
        """
        ...


class LocalExecutor:
    """Threads of this process; the kernels release the GIL."""

    name = "local"
    device = "cpu"

    def __init__(self, threads: int) -> None:
        self.workers = max(1, threads)
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="roehub")

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads after what they are doing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        def check() -> None:
            control.check(stage.name)

        check()
        merged: P | None = None
        waiting = iter(spans)
        pending: dict[Future[P], Span] = {}
        try:
            while True:
                while len(pending) < 2 * self.workers and (span := next(waiting, None)) is not None:
                    pending[self._pool.submit(query.part, stage, *span, check)] = span
                if not pending:
                    break
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    start, stop = pending.pop(future)
                    part = future.result()
                    if sink is not None and (columns := getattr(part, "columns", None)) is not None:
                        for block in columns:
                            sink(block)
                    merged = query.merge([part] if merged is None else [merged, part])
                    meter.add((stop - start) * stage.units_per_position)
                check()
        finally:
            for future in pending:
                future.cancel()
            wait(pending)
        return merged if merged is not None else query.merge([])

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        if len(items) < 2 or self.workers == 1:
            for item in items:
                work(item)
            return
        futures = [self._pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def job(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()


def lattice(stage: Any, shortest_ns: float = 2e6, longest_ns: float = 5e8) -> list[Span]:
    """Fixed spans of a stage from its model cost alone: about 32 of them, 2 ms to 0.5 s each.

    What a machine measures never moves a cut, so the spans of a plan can be named and stored.
    """
    if stage.total == 0:
        return []
    cost = stage.nanoseconds()
    length = min(max(stage.total * cost / 32, shortest_ns), longest_ns) / cost
    step = max(1, round(length))
    return [(at, min(at + step, stage.total)) for at in range(0, stage.total, step)]


def scanned(
    blocks: Sequence[Callable[[], Any]],
    ask: Callable[[Any], Query[P]],
    executor: Executor,
    meter: Meter,
    control: Control,
    sink: Sink | None = None,
) -> list[P]:
    """The merged part of each block under the query that `ask` has for it; one alive at a time."""

    def part(stage: Any) -> P:
        return executor.fold(stage, ask(stage), lattice(stage), meter, control, sink)

    return [part(build()) for build in blocks]
