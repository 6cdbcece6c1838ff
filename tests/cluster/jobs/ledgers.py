"""A ledger in memory, and executors that keep a record of what they were asked to compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.jobs.spans import SpanRow
from compute.control import Control, Meter
from compute.executor import Executor, Query, Sink, Span


class MemoryLedger:
    """Committed spans by fold; commits can be made to fail after some."""

    def __init__(self, fail_after: int | None = None, error: Exception | None = None) -> None:
        self.rows: dict[tuple[int, int], SpanRow] = {}
        self.commits: list[list[SpanRow]] = []
        self.fail_after, self.error = fail_after, error

    def committed(self, plan_key: str, fold: int) -> list[SpanRow]:
        return sorted(
            (row for row in self.rows.values() if row.fold == fold), key=lambda row: row.start_at
        )

    def commit(self, rows: Sequence[SpanRow]) -> None:
        if self.fail_after is not None and len(self.commits) >= self.fail_after:
            raise self.error or RuntimeError("the ledger is gone")
        self.commits.append(list(rows))
        self.rows.update({(row.fold, row.start_at): row for row in rows})


class Recorder:
    """Passes folds on to `inner` and remembers the spans of each; may stop in the middle.

    `stop_after` spans of the whole run have come back, `stop` is called.
    """

    def __init__(
        self, inner: Executor, stop_after: int | None = None, stop: Callable[[], None] | None = None
    ) -> None:
        self.name, self._inner = inner.name, inner
        self.folds: list[list[Span]] = []
        self.stop_after, self.stop = stop_after, stop
        self.delivered = 0

    @property
    def device(self) -> str:
        return self._inner.device

    @property
    def workers(self) -> int:
        return self._inner.workers

    @property
    def spans(self) -> int:
        """All spans that were asked for."""
        return sum(map(len, self.folds))

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        self._inner.each(work, items)

    def job(self, check: Callable[[], None]) -> Any:
        return self._inner.job(check)

    def fold(
        self, stage: Any, query: Query[Any], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> Any:  # fmt: skip
        self.folds.append(list(spans))

        def counted(block: Any) -> None:
            if sink is not None:
                sink(block)
            self.delivered += 1
            if self.delivered == self.stop_after and self.stop is not None:
                self.stop()

        return self._inner.fold(stage, query, spans, meter, control, counted)
