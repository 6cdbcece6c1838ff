"""Seconds that a job may take, guessed from what was measured of others on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from compute.backtest import Backtest

Record = Mapping[str, Any]
_MOST: Final = 64


class Measured:
    """The newest measured seconds of each kind of job, with the work that they were for."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], tuple[dict[str, float], dict[str, float]]] = {}

    def keep(self, job: Backtest, record: Record) -> None:
        """Remembers an estimate with seconds; one without is let go."""
        if record["seconds"] is None:
            return
        kind = _kind(job)
        self._found.pop(kind, None)
        self._found[kind] = (record["seconds"], _work(job, record))
        if len(self._found) > _MOST:
            del self._found[next(iter(self._found))]

    def guess(self, job: Backtest, record: Record) -> float | None:
        """Seconds of `job`, in proportion to what was measured last of jobs like it.

        Where nothing was measured of its indicators and timeframe, the last of others counts; None
        where nothing was measured that ranks as it does.
        """
        kind = _kind(job)
        alike = [one for one in self._found if one[:2] == kind[:2]]
        if not alike:
            return None
        seconds, measured = self._found[kind if kind in self._found else alike[-1]]
        work = _work(job, record)
        return sum(seconds[name] * work[name] / measured[name] for name in seconds)


def _kind(job: Backtest) -> tuple[Any, ...]:
    """How a job ranks, which decides what is done for each variant; then what it reads."""
    named = tuple(part.indicator_id for part in job.grid.indicators)
    return job.distinct, job.primary_metric, job.timeframe.code, named


def _work(job: Backtest, record: Record) -> dict[str, float]:
    """How much there is to do in each step, at least one of it."""
    bars = record["ranked_bars"]
    counts = {
        "planes": sum(one["long"] + one["short"] for one in record["planes"].values()),
        "stage_a": record["stage_a_variants_total"],
        "stage_b": record["stage_b_variants_total"],
        "exact": record["preselect"],
        "reports": min(job.top_k, record["stage_b_variants_total"]),
    }
    return {name: float(max(1, count * bars)) for name, count in counts.items()}
