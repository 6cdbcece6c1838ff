"""Probe: what a back-test will cost here, from a small piece of it timed on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.control import Control
from compute.executor import lattice
from compute.grid import Axis, Grid, IndicatorGrid
from compute.market.timeline import Timeline
from compute.pipeline import Clock, Run
from compute.plan import Plan
from compute.ranking import fast_merit
from compute.route import route
from compute.stage_a import StageA
from compute.stage_b import StageB, calm_table
from compute.votes import grid_layouts, grid_votes

PROBE_BARS: Final = 65_536
_PROBE_NS: Final = 2e8
_PLANE_ROWS: Final = 32
_VARIANTS: Final = 4_096
_REPORT_NS: Final = 60.0  # a bar of a replayed row: account, curve, 25 rows
_DISTINCT_PASSES: Final = 3  # the census of equal rows costs about two passes more


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of each step of a run on `workers` cores, and the spans of its stages."""

    seconds: dict[str, float]
    spans: dict[str, int]
    workers: int

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class _Sized:
    """As much of a stage as its lattice looks at."""

    total: int
    cost: float

    def nanoseconds(self) -> float:
        return self.cost


class _Serial:
    """The thread that asks."""

    name = "probe"
    device = "cpu"
    workers = 1

    def __init__(self, control: Control) -> None:
        self.control = control

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        for item in items:
            self.control.check("probe")
            work(item)

    def job(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def fold(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("a probe times stages, it ranks nothing")


def forecast(
    job: Backtest,
    timeline: Timeline,
    sizes: Plan,
    workers: int,
    *,
    columns: bool = True,
    control: Control | None = None,
) -> Forecast:
    """The `Forecast` of `job` with the sizes of `sizes`, timed on (a part of) `timeline`.

    Costs per bar are taken to be even: a longer run than the probe is extrapolated.
    Raises: Cancelled.
    """
    short = _shortened(timeline)
    control = control or Control()
    run = Run(job, short, _Serial(control), control, Clock())
    scale = max(1, sizes.slice_bars) / max(1, run.stop - run.start)
    planes = sum(_plane_seconds(run, part) for part in job.grid.indicators)
    stage, best = _stage_a(run, columns)
    each_a = _seconds(lambda: list(stage.scores(0, stage.total))) / stage.total
    pairs = _stage_b(run, stage, best)
    each_b = _seconds(lambda: list(pairs.scores(0, pairs.total))) / pairs.total
    few = best[: max(1, int(_PROBE_NS / 4 / stage.exact_nanoseconds()))]
    each_exact = _seconds(lambda: stage.exact(few)) / len(few)
    rows = min(job.top_k, sizes.stage_b_total)
    parts = 2 if job.holdout_fraction else 1
    passes = _DISTINCT_PASSES if job.distinct else 1
    long = np.broadcast_to(1.0, sizes.slice_bars)
    seconds = {
        "planes": planes * scale / workers,
        "stage_a": passes * each_a * sizes.stage_a_total * scale / workers,
        "stage_b": passes * each_b * sizes.preselect * scale / workers,
        "exact": each_exact * (sizes.preselect + (1 + parts) * rows) * scale / workers,
        "reports": parts * rows * sizes.slice_bars * _REPORT_NS * 1e-9,
    }
    spans = {
        "stage_a": _spans(replace(stage, close=long), _box_totals(sizes, job)),
        "stage_b": _spans(replace(pairs, close=long), [sizes.preselect]),
    }
    return Forecast(seconds, spans, workers)


def narrowed(grid: Grid, most: int) -> Grid:
    """A grid of at most about `most` variants: the middle of every axis, neighbours kept."""
    longest = max(grid.sizes)
    while longest > 1 and math.prod(min(size, longest) for size in grid.sizes) > most:
        longest -= max(1, longest // 16)

    def cut(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(_middle(axis, longest) for axis in axes)

    return Grid(
        tuple(
            IndicatorGrid(part.definition, part.output, cut(part.compute), cut(part.signals))
            for part in grid.indicators
        )
    )


def _middle(axis: Axis, most: int) -> Axis:
    start = (len(axis) - min(len(axis), most)) // 2
    return Axis(axis.name, axis.values[start : start + most])


def _shortened(timeline: Timeline) -> Timeline:
    """The timeline, or its first bars where it is long."""
    stop = min(timeline.stop, timeline.start + PROBE_BARS)
    start = max(0, timeline.start - PROBE_BARS)
    if stop == timeline.stop and start == 0:
        return timeline
    candles = timeline.candles.slice(start, stop)
    return replace(timeline, candles=candles, start=timeline.start - start, stop=stop - start)


def _plane_seconds(run: Run, part: IndicatorGrid) -> float:
    """Seconds to build all vote planes of one indicator on one thread."""
    live = set(part.definition.output(part.output).axes)
    total = math.prod(len(axis) for axis in part.compute if axis.name in live)
    own = Grid((part,))
    # Rows apart are as dear as neighbours, and no indicator is cheap at one end of an axis alone.
    chosen = np.unique(np.linspace(0, part.compute_total - 1, _PLANE_ROWS).astype(np.int64))
    layouts = grid_layouts(own, {0: chosen})

    def build() -> None:
        grid_votes(layouts, run.series, run.start, run.stop, run.executor.each, lambda: None)

    return _seconds(build) * total / layouts[0].n_live


def _stage_a(run: Run, columns: bool) -> tuple[StageA, NDArray[np.int64]]:
    """(Stage A over a small grid, its flat indices, best first)."""
    stage = _small_stage(run, _VARIANTS, columns)
    affordable = int(_PROBE_NS / stage.nanoseconds())
    if affordable < stage.total:
        stage = _small_stage(run, max(2, affordable), columns)
    best: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
    for scores in stage.scores(0, stage.total):
        best.append((fast_merit(run.ranking.primary, scores), scores.index))
    merits = np.concatenate([merit for merit, _ in best])
    flat = np.concatenate([index for _, index in best])
    return stage, flat[np.argsort(-merits, kind="stable")]


def _small_stage(run: Run, most: int, columns: bool) -> StageA:
    grid = narrowed(run.job.grid, most)
    votes = grid_votes(
        grid_layouts(grid), run.series, run.start, run.stop, run.executor.each, lambda: None
    )
    close = run.close(run.start, run.stop)
    return StageA(
        grid, votes, route(grid, votes), close, run.terms, run.ranking, run.key_template, columns
    )


def _stage_b(run: Run, stage: StageA, best: NDArray[np.int64]) -> StageB:
    """Stage B over as many of the best as the probe's time allows."""

    calm = calm_table(stage.close, run.terms, run.levels)

    def over(flat: NDArray[np.int64]) -> StageB:
        return StageB(
            flat, stage.grid.local_rows(flat), stage.votes, stage.close, run.terms, run.levels,
            run.ranking, run.key_template, calm,
        )  # fmt: skip

    most = max(1, int(_PROBE_NS / over(best[:1]).nanoseconds()))
    return over(best[: min(most, len(best))])


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of `work`, once it has run: compiled, its memory touched."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _box_totals(sizes: Plan, job: Backtest) -> list[int]:
    return [
        sizes.stage_a_total
        if box is None
        else sizes.stage_a_total // job.grid.sizes[box.axis] * (box.high - box.low)
        for box in sizes.boxes
    ]


def _spans(stage: Any, totals: Sequence[int]) -> int:
    """Number of spans a stage's lattice has, over parts of the given totals."""
    return sum(len(lattice(_Sized(total, stage.nanoseconds()))) for total in totals)
