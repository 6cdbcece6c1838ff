"""The arena: one workload's votes, made once, for the engine's stages and the baseline alike."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.account import Terms, terms
from compute.bits import unpack
from compute.control import Control
from compute.executor import LocalExecutor, lattice
from compute.pipeline import Clock, Run
from compute.planes import Each
from compute.ranking import Ranking, Scores, fast_merit, joined
from compute.route import Route, route
from compute.stage_a import StageA
from compute.stage_b import StageB, calm_table
from compute.votes import Votes
from tests.benchmarks import baseline
from tests.benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Mode:
    """What is asked of the engine: an account, a metric, and how much of every variant."""

    name: str
    sizing: str = "all_in"
    metric: str = "total_return_pct"
    columns: bool = False

    @property
    def ranking(self) -> Ranking:
        return Ranking(self.metric)

    @property
    def drawdown(self) -> bool:
        """The search goes by the equity of every bar."""
        return self.ranking.searches_drawdown

    @property
    def sums(self) -> bool:
        """Wins and profits of every variant are wanted, not only return and trades."""
        return self.columns or self.metric == "profit_factor"


SCORE: Final = Mode("score")
COLUMNS: Final = Mode("columns", columns=True)
PROFIT_FACTOR: Final = Mode("profit_factor", metric="profit_factor")
FIXED: Final = Mode("fixed_quote", sizing="fixed_quote")
LOCK: Final = Mode("profit_lock", sizing="strategy_compound_profit_lock")
DRAWDOWN: Final = Mode("drawdown", metric="max_drawdown_pct")
MODES: Final = (SCORE, COLUMNS, PROFIT_FACTOR, FIXED, LOCK, DRAWDOWN)


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """What the baseline reads: votes i1[R, T] of the rows in use, rows i4[n, K] of the variants."""

    votes: NDArray[np.int8]
    rows: NDArray[np.int32]

    def signal(self, i: int) -> list[int]:
        """The vote that all indicators of variant i share, bar by bar; for the oracle."""
        columns = self.votes[self.rows[i]]
        agreed = np.where((columns == columns[0]).all(axis=0), columns[0], 0)
        return agreed.tolist()


class Arena:
    """Planes, route and closes of a workload; stages of every mode are cut from them."""

    def __init__(self, workload: Workload, threads: int) -> None:
        self.workload = workload
        self.job = workload.job
        self.executor = LocalExecutor(threads)
        self.timeline = workload.timeline()
        self.run = Run(self.job, self.timeline, self.executor, Control(), Clock())
        self.votes: Votes = self.planes()
        self.route: Route = route(self.job.grid, self.votes)
        self.close = self.run.close(self.run.start, self.run.stop)

    def close_executor(self) -> None:
        """Ends the arena's threads."""
        self.executor.close()

    @property
    def bars(self) -> int:
        return len(self.close)

    @property
    def variants(self) -> int:
        return self.job.grid.total

    def planes(self) -> Votes:
        """The votes of all variants, made anew."""
        return self.run.votes(self.run.start, self.run.stop)

    def terms(self, mode: Mode) -> Terms:
        """The terms as the engine takes them."""
        return terms(**self.oracle_terms(mode))

    def account(self, mode: Mode) -> baseline.Account:
        """The terms as the baseline takes them."""
        return baseline.account(**self.oracle_terms(mode))

    def oracle_terms(self, mode: Mode) -> dict[str, Any]:
        """The terms as the oracle takes them."""
        return {
            **self.job.execution.params(),
            "sizing_mode": mode.sizing,
            "direction_mode": self.job.direction_mode,
        }

    def stage_a(self, mode: Mode = SCORE) -> StageA:
        """Stage A over the whole grid."""
        return StageA(
            self.job.grid, self.votes, self.route, self.close, self.terms(mode), mode.ranking,
            self.run.key_template, mode.columns,
        )  # fmt: skip

    def stage_b(
        self, flat: NDArray[np.int64], mode: Mode = SCORE, each: Each | None = None
    ) -> StageB:
        """Stage B of base variants `flat`; its table of calm bars is made here, as in a run.

        `each` runs the parts of that table; by default the arena's threads do.
        """
        costs = self.terms(mode)
        calm = calm_table(self.close, costs, self.run.levels, each or self.executor.each)
        return StageB(
            flat, self.job.grid.local_rows(flat), self.votes, self.close, costs, self.run.levels,
            mode.ranking, self.run.key_template, calm,
        )  # fmt: skip

    def best(self, n: int) -> NDArray[np.int64]:
        """Flat indices of the `n` base variants with the largest return, best first."""
        scores = scored(self.stage_a(), self.executor.workers)
        merits = fast_merit("total_return_pct", scores)
        return scores.index[np.argsort(-merits, kind="stable")[:n]]

    def sample(self, n: int, seed: int = 3) -> NDArray[np.int64]:
        """`n` base variants picked at random, ascending."""
        random = np.random.default_rng(seed)
        return np.sort(random.choice(self.variants, min(n, self.variants), replace=False))

    def ballots(self, flat: NDArray[np.int64]) -> Ballots:
        """Votes of some base variants, bar by bar."""
        rows = self.job.grid.local_rows(flat)
        tables: list[NDArray[np.int8]] = []
        places = np.empty_like(rows)
        at = 0
        for k in range(rows.shape[1]):
            used, places[:, k] = np.unique(rows[:, k], return_inverse=True)
            places[:, k] += at
            at += len(used)
            tables += [self._codes(k, int(row)) for row in used]
        return Ballots(np.array(tables), places)

    def _codes(self, indicator: int, row: int) -> NDArray[np.int8]:
        planes = self.votes.planes
        long = unpack(planes[self.votes.long_id[indicator][row]], self.bars).astype(np.int8)
        short = unpack(planes[self.votes.short_id[indicator][row]], self.bars).astype(np.int8)
        return long - short

    def levels_pct(self) -> tuple[list[float | None], list[float | None]]:
        """(SL, TP) axes in percent."""
        return list(self.job.risk.sl), list(self.job.risk.tp)


def scored(stage: Any, threads: int) -> Scores:
    """All fast scores of a stage, ascending by index."""
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda span: joined(list(stage.scores(*span))), lattice(stage))
        scores = joined(list(parts))
    return scores.take(np.argsort(scores.index, kind="stable"))


def scan(stage: Any, pool: ThreadPoolExecutor, threads: int) -> int:
    """Variants scored: every span of the stage's lattice, on one thread or the pool's."""

    def part(span: tuple[int, int]) -> int:
        return sum(len(scores) for scores in stage.scores(*span))

    spans: Sequence[tuple[int, int]] = lattice(stage)
    return sum(map(part, spans) if threads == 1 else pool.map(part, spans))
