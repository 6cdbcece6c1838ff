"""Distinct selection: one row per vote (Stage A) or per list of trades (Stage B).

Equal rows are told by their tags. The first pass finds the cut among groups; the second takes the
census of the groups that can make it: how many rows, over which parameters, and which of them has
the smallest key, for that is the row the total order puts first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.control import Control, Meter
from compute.errors import GuardExceeded
from compute.executor import Executor, Sink, scanned
from compute.quantities import spaced
from compute.ranking import (
    SCORE_FIELDS,
    Ranking,
    Scores,
    cut_at,
    fast_merit,
    joined,
    margin,
    merit,
    no_scores,
    order,
)
from compute.stage_a import columns

# Groups that tie at a cut and must all be held: about 100 MB of them.
MAX_GROUPS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Candidate groups of some spans by fast merit."""

    tag: NDArray[np.uint64]
    merit: NDArray[np.float64]
    eligible: int = 0
    columns: list[dict[str, NDArray[np.generic]]] | None = None
    most_trades: int = 0


@dataclass(frozen=True, slots=True)
class ScanGroups:
    """First pass: the groups that can be among the best `n`."""

    searches = False  # it tags every candidate, on the threads of the processor

    n: int
    ranking: Ranking
    sizing: int
    wants_columns: bool = False

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Groups:
        found: list[Groups] = []
        bulk: list[dict[str, NDArray[np.generic]]] | None = [] if self.wants_columns else None
        floor, most_trades = -np.inf, 0
        for scores in stage.scores(start, stop, check):
            check()
            if bulk is not None:
                bulk.append(columns(scores))
            most_trades = max(most_trades, int(scores.trades.max(initial=0)))
            merits = fast_merit(self.ranking.primary, scores)
            enough = scores.trades >= self.ranking.min_trades
            hopeful = np.flatnonzero(enough & (merits >= floor))
            tags = stage.tags(scores.take(hopeful), check)
            found.append(Groups(tags, merits[hopeful], int(np.count_nonzero(enough))))
            found = [self.merge(found)]
            floor = self.floor(found[0].merit)
        return Groups(found[0].tag, found[0].merit, found[0].eligible, bulk, most_trades)

    def floor(self, merits: NDArray[np.float64]) -> float:
        """Merit below which no group makes the cut."""
        if len(merits) <= self.n:
            return -np.inf
        cut = cut_at(merits, self.n)
        return cut - margin(self.ranking.primary, self.sizing, cut)

    def merge(self, parts: Sequence[Groups]) -> Groups:
        if not parts:
            return Groups(np.empty(0, np.uint64), np.empty(0))
        tag = np.concatenate([part.tag for part in parts])
        merits = np.concatenate([part.merit for part in parts])
        best = np.lexsort((-merits, tag))
        first = np.ones(len(best), np.bool_)
        first[1:] = tag[best][1:] != tag[best][:-1]
        tag, merits = tag[best][first], merits[best][first]
        inside = merits >= self.floor(merits)
        if (held := int(np.count_nonzero(inside))) > MAX_GROUPS:
            raise GuardExceeded(
                f"a distinct ranking has to hold {spaced(held)} different rows that tie at the"
                f" cut, at most {spaced(MAX_GROUPS)}; set ranking.min_trades, choose another"
                " primary metric or leave ranking.distinct out",
                details={"error": "max_distinct_groups_exceeded", "groups": held},
            )
        eligible = sum(part.eligible for part in parts)
        most_trades = max(part.most_trades for part in parts)
        return Groups(tag[inside], merits[inside], eligible, most_trades=most_trades)

    def nanoseconds(self, stage: Any) -> float:
        return 2 * stage.nanoseconds()


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """Groups with exact scores of one member each; `index` of the scores has the smallest key.

    `low`, `high` i8[m, axes] bound the members' places on the sorted axes of `Stage.places`.
    """

    scores: Scores
    tag: NDArray[np.uint64]
    count: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    keys: list[str]

    def take(self, rows: NDArray[np.intp]) -> Census:
        """The chosen groups."""
        return Census(
            self.scores.take(rows), self.tag[rows], self.count[rows], self.low[rows],
            self.high[rows], [self.keys[i] for i in rows.tolist()],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """Second pass: the census of all groups with a fast merit of at least `low`."""

    searches = False

    n: int
    low: float
    ranking: Ranking

    def part(self, stage: Any, start: int, stop: int, check: Callable[[], None]) -> Census:
        found: list[Census] = []
        for scores in stage.scores(start, stop, check):
            check()
            merits = fast_merit(self.ranking.primary, scores)
            some = scores.take((merits >= self.low) & (scores.trades >= self.ranking.min_trades))
            if len(some):
                found.append(self._census(stage, some, check))
                found = [self.merge(found)]
        return self.merge(found)

    def _census(self, stage: Any, some: Scores, check: Callable[[], None]) -> Census:
        tags = stage.tags(some, check)
        _, first, group, count = np.unique(
            tags, return_index=True, return_inverse=True, return_counts=True
        )
        exact: list[Scores] = []
        step = max(1, int(5e7 / stage.exact_nanoseconds()))
        for begin in range(0, len(first), step):
            check()
            exact.append(stage.exact(some.index[first[begin : begin + step]]))
        places = stage.namer.places(some.index)
        low = np.full((len(first), places.shape[1]), np.iinfo(np.int64).max)
        high = np.full(low.shape, -1)
        np.minimum.at(low, group, places)
        np.maximum.at(high, group, places)
        least: list[tuple[str, int]] = [("~", -1)] * len(first)
        for g, index, key in zip(
            group.tolist(), some.index.tolist(), stage.namer(some.index), strict=True
        ):
            least[g] = min(least[g], (key, index))
        scores = joined(exact)
        scores = Scores(
            np.array([index for _, index in least], np.int64),
            *(getattr(scores, name) for name in SCORE_FIELDS[1:]),
        )
        return Census(scores, tags[first], count, low, high, [key for key, _ in least])

    def merge(self, parts: Sequence[Census]) -> Census:
        parts = [part for part in parts if len(part.tag)]
        if not parts:
            none = np.empty((0, 0), np.int64)
            return Census(no_scores(), np.empty(0, np.uint64), none[:, 0:0].ravel(), none, none, [])
        tag = np.concatenate([part.tag for part in parts])
        keys = np.array([key for part in parts for key in part.keys])
        by_tag = np.lexsort((keys, tag))
        starts = np.flatnonzero(np.concatenate(([True], tag[by_tag][1:] != tag[by_tag][:-1])))
        first = by_tag[starts]
        count = np.concatenate([part.count for part in parts])[by_tag]
        low = np.concatenate([part.low for part in parts])[by_tag]
        high = np.concatenate([part.high for part in parts])[by_tag]
        merged = Census(
            joined([part.scores for part in parts]).take(first),
            tag[first],
            np.add.reduceat(count, starts),
            np.minimum.reduceat(low, starts),
            np.maximum.reduceat(high, starts),
            keys[first].tolist(),
        )
        return self._pruned(merged)

    def _pruned(self, census: Census) -> Census:
        """Without the groups that n others beat; ties stay, their smallest key may come yet."""
        if len(census.tag) <= 2 * self.n:
            return census
        merits = merit(self.ranking.primary, census.scores)
        return census.take(np.flatnonzero(merits >= cut_at(merits, self.n)))

    def nanoseconds(self, stage: Any) -> float:
        return 2 * stage.nanoseconds()


@dataclass(frozen=True, slots=True)
class Equals:
    """Rows equal to a chosen one, itself included, and the span of each parameter among them."""

    count: int
    axes: dict[str, list[Any]]


def distinct_ranked(
    blocks: Sequence[Callable[[], Any]],
    n: int,
    ranking: Ranking,
    executor: Executor,
    meter: Meter,
    control: Control,
    sink: Sink | None = None,
) -> tuple[Scores, int, int, list[Equals]]:
    """(best `n` groups by the total order, eligible variants, most trades, what a group holds)."""
    sizing = 0
    namer: Any = None

    def scan(stage: Any) -> ScanGroups:
        nonlocal sizing, namer
        sizing, namer = stage.terms.sizing, stage.namer
        return ScanGroups(n, ranking, sizing, sink is not None)

    found = scanned(blocks, scan, executor, meter, control, sink)
    groups = ScanGroups(n, ranking, sizing)
    merged = groups.merge(found)
    query = Count(n, groups.floor(merged.merit), ranking)
    counted = scanned(blocks, lambda _: query, executor, meter.again("census"), control)
    census = query.merge(counted)
    key_of = dict(zip(census.scores.index.tolist(), census.keys, strict=True))
    rows = order(census.scores, ranking, lambda index: [key_of[i] for i in index.tolist()])[:n]
    census = census.take(rows)
    equals = [
        Equals(int(count), namer.ranges(low, high))
        for count, low, high in zip(census.count, census.low, census.high, strict=True)
    ]
    return census.scores, merged.eligible, merged.most_trades, equals
