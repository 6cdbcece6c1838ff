"""Details: chosen rows of an outcome replayed in full, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from compute.control import Control
from compute.executor import Executor
from compute.pipeline import Clock, Outcome, Run
from compute.replay import Replay, replay

T = TypeVar("T")


def replayed(
    outcome: Outcome,
    rows: Sequence[int],
    executor: Executor,
    visit: Callable[[int, Replay], T],
    *,
    held_out: bool = False,
    control: Control | None = None,
) -> list[T]:
    """What `visit(row, replay)` returns for each of `rows` of `outcome.top`, in their order.

    Rows are walked on the executor's threads and forgotten after the visit; `held_out` walks the
    part of the slice that ranking did not see. Raises: Cancelled between rows.
    """
    run = Run(outcome.job, outcome.timeline, executor, control or Control(), Clock())
    start, stop = (run.stop, outcome.timeline.stop) if held_out else (run.start, run.stop)
    found: dict[int, T] = {}
    for first, last in run.batches(len(rows), start, stop):
        batch = rows[first:last]
        flat = np.array([outcome.flat(row) for row in batch], np.int64)
        bases, position = np.unique(flat, return_inverse=True)
        votes, vote_rows = run.gathered(bases, start, stop)
        close = run.close(start, stop)
        close_ts_ms = outcome.timeline.close_ts_ms[start:stop]

        def walk(
            place: int,
            batch=batch, position=position, votes=votes, vote_rows=vote_rows,
            close=close, close_ts_ms=close_ts_ms,
        ) -> None:  # fmt: skip
            run.control.check("report")
            row = batch[place]
            long, short = votes.aggregated(vote_rows[position[place]])
            sl, tp = outcome.job.risk.pair(outcome.risk_index(row))
            walked = replay(
                close, close_ts_ms, long, short, run.terms, sl_pct=sl, tp_pct=tp, start=start
            )
            found[row] = visit(row, walked)

        executor.each(walk, range(len(batch)))
    return [found[row] for row in rows]
