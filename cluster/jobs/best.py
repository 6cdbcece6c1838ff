"""The best variants of a job, while it runs and at its end, as rows of its top."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from cluster.jobs.settings import JobSettings
from cluster.jobs.store import TopRow
from compute.backtest import Backtest
from compute.pipeline import Outcome
from compute.ranking import Ranking, Scores, joined, order, total_return_pct
from compute.results import payload
from compute.selection import Best

_LEAST_SECONDS: Final = 1.0
_SHARE: Final = 0.02
"""Snapshots take at most this share of the time, however small their step is."""


def final_rows(document: Mapping[str, Any]) -> list[TopRow]:
    """The rows of a finished result."""
    return [
        TopRow(
            rank=rank,
            variant_key=variant["variant_key"],
            indicator_variant_key=variant["indicator_variant_key"],
            variant_index=variant["variant_index"],
            total_return_pct=variant["total_return_pct"],
            payload=variant["payload"],
        )
        for rank, variant in enumerate(document["variants"], start=1)
    ]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One variant, as `compute.results.payload` asks an outcome for it."""

    job: Backtest
    base: int
    risk: int

    def flat(self, row: int) -> int:
        return self.base

    def risk_index(self, row: int) -> int:
        return self.risk


class Snapshots:
    """Shows the best variants that Stage B has found so far, now and then.

    These are provisional: of the candidates that the merged spans have left, the `top_k` with the
    greatest fast merit, scored exactly and put in the total order. Later spans may beat them, and
    ties at the cut may still be decided otherwise. A snapshot is due `snapshot_seconds` or
    `snapshot_variants_step` variants after the last one; where it equals that one it is not shown.
    A distinct ranking keeps groups instead of variants until its census, and shows none.
    """

    def __init__(
        self, job: Backtest, settings: JobSettings, show: Callable[[Sequence[TopRow]], None]
    ) -> None:
        self._job, self._show = job, show
        self._seconds, self._step = settings.snapshot_seconds, settings.snapshot_variants_step
        self._ranking = Ranking(
            job.primary_metric, job.secondary_metric, job.min_trades, job.distinct
        )
        self._keys = job.key_template()
        self._earlier: Scores | None = None  # the best of the stage's earlier blocks
        self._now: Scores | None = None
        self._shown: bytes | None = None
        self._at, self._done, self._cost = time.monotonic(), 0, 0.0

    def block_started(self) -> None:
        """Another block of the stage; its ranks follow those of the ones before."""
        self._earlier, self._now = self._now, None

    def stage_started(self) -> None:
        """Counting begins anew."""
        self._at, self._done = time.monotonic(), 0

    def part_merged(self, stage: Any, merged: Any, done: int) -> None:
        """Shows a snapshot when one is due; `done` variants of the stage have been scored."""
        if not isinstance(merged, Best) or not self._due(done):
            return
        began = time.monotonic()
        self._now = self._best(stage, merged)
        places = self._now.index.tobytes()
        if places != self._shown and len(self._now):
            self._shown = places
            self._show(self._rows(stage.named, self._now))
        self._at, self._done = time.monotonic(), done
        self._cost = self._at - began

    def _due(self, done: int) -> bool:
        waited = time.monotonic() - self._at
        if waited < max(_LEAST_SECONDS, self._cost / _SHARE):
            return False
        late = self._seconds is not None and waited >= self._seconds
        return late or (self._step is not None and done - self._done >= self._step)

    def _best(self, stage: Any, merged: Best) -> Scores:
        n = self._job.top_k
        rows = np.argsort(-merged.merit, kind="stable")[:n]
        scores = stage.exact(np.sort(merged.index[rows]))
        if self._earlier is not None:
            scores = joined([self._earlier, scores])
        scores = scores.take(scores.trades >= self._job.min_trades)
        return scores.take(order(scores, self._ranking, stage.namer)[:n])

    def _rows(self, shortlist: NDArray[np.int64], scores: Scores) -> list[TopRow]:
        returns = total_return_pct(scores.equity)
        rows: list[TopRow] = []
        for at, index in enumerate(scores.index.tolist()):
            rank, risk = divmod(index, self._job.risk.total)
            flat = int(shortlist[rank])
            chosen = cast(Outcome, _Chosen(self._job, flat, risk))
            rows.append(
                TopRow(
                    rank=at + 1,
                    variant_key=self._keys.variant_key(flat, risk),
                    indicator_variant_key=self._keys.indicator_key(flat),
                    variant_index=index,
                    total_return_pct=float(returns[at]),
                    payload=payload(chosen, 0),
                )
            )
        return rows
