"""Selection: the best N of a stage by the total order, in memory that does not grow with the stage.

Fast scores propose: whatever lies within the guard band of the cut, or above it, is rescored
exactly and ordered. Where more variants tie at the cut than a part may carry, a second pass streams
just those through a heap of N, ordered by exact metrics and by keys hashed only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.control import Control, Meter
from compute.distinct import Equals, distinct_ranked
from compute.executor import Executor, Sink, Span, scanned
from compute.ranking import (
    Ranking,
    Scores,
    cut_at,
    fast_merit,
    joined,
    margin,
    no_scores,
    order,
)
from compute.stage_a import columns

_EMPTY = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """Candidates of some spans: everything that can still make the cut, unless `dropped` says else.

    `dropped` is the largest merit that was left out of a band too full to carry, None for none
    (-inf is a merit like others); `eligible` counts the variants with enough trades, `most_trades`
    are those of the variant that has most.
    """

    index: NDArray[np.int64]
    merit: NDArray[np.float64]
    dropped: float | None = None
    eligible: int = 0
    columns: list[dict[str, NDArray[np.generic]]] | None = None
    most_trades: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """First pass: the candidates for the best `n` by fast merit."""

    searches = True

    n: int
    metric: str
    sizing: int
    min_trades: int
    wants_columns: bool = False

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Best:
        best = getattr(stage, "best", None)  # a card keeps its scores until they are wanted here
        if best is not None and (part := best(self, start, stop, check)) is not None:
            return part
        found: list[Best] = []
        bulk: list[dict[str, NDArray[np.generic]]] | None = [] if self.wants_columns else None
        floor, most_trades = -np.inf, 0
        for scores in stage.scores(start, stop, check):
            check()
            if bulk is not None:
                bulk.append(columns(scores))
            most_trades = max(most_trades, int(scores.trades.max(initial=0)))
            merits = fast_merit(self.metric, scores)
            enough = scores.trades >= self.min_trades
            hopeful = (
                enough & (merits >= floor) if self.min_trades or floor > -np.inf else slice(None)
            )
            found.append(
                Best(scores.index[hopeful], merits[hopeful], eligible=int(np.count_nonzero(enough)))
            )
            if sum(len(best.index) for best in found) > self.capacity:
                found = [self.merge(found)]
                if len(found[0].index) >= self.n:
                    cut = cut_at(found[0].merit, self.n)
                    floor = cut - margin(self.metric, self.sizing, cut)
        best = self.merge(found)
        return Best(best.index, best.merit, best.dropped, best.eligible, bulk, most_trades)

    @property
    def capacity(self) -> int:
        """Candidates one part may carry."""
        return 2 * self.n + 4096

    def merge(self, parts: Sequence[Best]) -> Best:
        if not parts:
            return Best(_EMPTY, np.empty(0))
        index = np.concatenate([part.index for part in parts])
        merits = np.concatenate([part.merit for part in parts])
        left = [part.dropped for part in parts if part.dropped is not None]
        eligible = sum(part.eligible for part in parts)
        if len(index) > self.capacity:
            cut = cut_at(merits, self.n)
            half = margin(self.metric, self.sizing, cut)
            inside = merits >= cut - half
            if np.count_nonzero(inside) > self.capacity:
                above = merits > cut + half
                band = np.flatnonzero(inside & ~above)
                kept = np.sort(
                    band[np.argsort(index[band])[: self.capacity - np.count_nonzero(above)]]
                )
                left_out = np.setdiff1d(band, kept, assume_unique=True)
                left.append(float(merits[left_out].max()))
                inside = above
                inside[kept] = True
            index, merits = index[inside], merits[inside]
        most_trades = max(part.most_trades for part in parts)
        return Best(index, merits, max(left, default=None), eligible, most_trades=most_trades)

    def nanoseconds(self, stage: Any) -> float:
        return stage.nanoseconds()


@dataclass(frozen=True, slots=True)
class Rescore:
    """Exact scores of chosen variants; spans are positions in `index`."""

    searches = False

    index: NDArray[np.int64]

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Scores:
        step = max(1, int(5e7 / stage.exact_nanoseconds()))
        parts = []
        for begin in range(start, stop, step):
            check()
            parts.append(stage.exact(self.index[begin : min(begin + step, stop)]))
        return joined(parts)

    def merge(self, parts: Sequence[Scores]) -> Scores:
        return joined(list(parts)) if parts else no_scores()

    def nanoseconds(self, stage: Any) -> float:
        return stage.exact_nanoseconds()


@dataclass(frozen=True, slots=True, eq=False)
class Ties:
    """Second pass: the best `n` by the total order among fast merits within [low, high]."""

    searches = False

    n: int
    low: float
    high: float
    ranking: Ranking

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Finalists:
        best = Finalists(no_scores(), [])
        step = max(1, int(5e7 / stage.exact_nanoseconds()))
        for scores in stage.scores(start, stop, check):
            check()
            merits = fast_merit(self.ranking.primary, scores)
            band = (merits >= self.low) & (merits <= self.high)
            index = scores.index[band & (scores.trades >= self.ranking.min_trades)]
            for begin in range(0, len(index), step):
                check()
                some = stage.exact(index[begin : begin + step])
                best = self._keep(
                    some.take(some.trades >= self.ranking.min_trades), best, stage.namer
                )
        return best

    def _keep(self, some: Scores, best: Finalists, keys: Callable[..., list[str]]) -> Finalists:
        """The best n of both by the total order; keys are hashed for ties alone and remembered."""
        known = dict(zip(best.scores.index.tolist(), best.keys, strict=True))

        def named(index: NDArray[np.int64]) -> list[str]:
            fresh = [i for i in index.tolist() if not known.get(i)]
            known.update(zip(fresh, keys(np.array(fresh, np.int64)), strict=True))
            return [known[i] for i in index.tolist()]

        scores = joined([best.scores, some])
        scores = scores.take(order(scores, self.ranking, named)[: self.n])
        return Finalists(scores, [known.get(i, "") for i in scores.index.tolist()])

    def merge(self, parts: Sequence[Finalists]) -> Finalists:
        return Finalists(
            joined([part.scores for part in parts]) if parts else no_scores(),
            [key for part in parts for key in part.keys],
        )

    def nanoseconds(self, stage: Any) -> float:
        # Where all tie, each is scored twice.
        return stage.nanoseconds() + stage.units_per_position * stage.exact_nanoseconds()


@dataclass(frozen=True, slots=True)
class Finalists:
    """Exact scores with the keys that were needed to order them ("" elsewhere)."""

    scores: Scores
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best of a stage in the total order, how many variants had enough trades, most trades.

    `equals` says of each row what it stands for when equal rows were asked to be one.
    """

    scores: Scores
    eligible: int
    most_trades: int
    equals: list[Equals] | None = None


def ranked(
    blocks: Sequence[Callable[[], Any]],
    n: int,
    ranking: Ranking,
    executor: Executor,
    meter: Meter,
    control: Control,
    sink: Sink | None = None,
) -> Ranked:
    """The best `n` of a stage by the total order of `ranking`.

    `blocks` build the disjoint parts of the stage. One is alive at a time and each pass asks anew,
    so that a builder may keep its part where there is one, and must not where there are several.
    """
    if ranking.distinct:
        return Ranked(*distinct_ranked(blocks, n, ranking, executor, meter, control, sink))
    sizing = 0
    keys: Any = None

    def scan(stage: Any) -> Scan:
        nonlocal sizing, keys
        sizing, keys = stage.terms.sizing, stage.namer
        return Scan(n, ranking.primary, sizing, ranking.min_trades, sink is not None)

    found = scanned(blocks, scan, executor, meter, control, sink)
    best = Scan(n, ranking.primary, sizing, ranking.min_trades).merge(found)
    low, high = -np.inf, np.inf
    if len(best.index) > n:
        cut = cut_at(best.merit, n)
        half = margin(ranking.primary, sizing, cut)
        low, high = cut - half, cut + half
    crowded = best.dropped is not None and best.dropped >= low
    certain = best.index[best.merit > high] if crowded else best.index[best.merit >= low]
    exact = [no_scores()]
    for build in blocks:
        exact.append(rescored(build(), certain, executor, meter, control))
    if crowded:
        ties = Ties(n - len(certain), low, high, ranking)
        passed = scanned(blocks, lambda _: ties, executor, meter.again("ties"), control)
        exact += [part.scores for part in passed]
    scores = joined(exact)
    scores = scores.take(scores.trades >= ranking.min_trades)
    top = scores.take(order(scores, ranking, keys)[:n])
    return Ranked(top, best.eligible, best.most_trades)


def rescored(
    stage: Any, index: NDArray[np.int64], executor: Executor, meter: Meter, control: Control
) -> Scores:
    """Exact scores of those of `index` that `stage` holds; the order of rows is not kept."""
    mine = np.sort(index[stage.holds(index)])
    step = max(1, int(2e6 / stage.exact_nanoseconds()), -(-len(mine) // 64))
    spans: list[Span] = [(at, min(at + step, len(mine))) for at in range(0, len(mine), step)]
    counted = meter.part("exact", len(mine), stage.units_per_position)
    return executor.fold(stage, Rescore(mine), spans, counted, control)
