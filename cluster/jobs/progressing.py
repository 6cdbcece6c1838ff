"""How far a job is: units of its stages, and the seconds the one under way will still take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cluster.jobs.job import STAGES
from cluster.pace import Pace
from compute.control import Progress

_TELLING_SECONDS: Final = 1.0
"""A rate of less than this says more about the start of a stage than about the rest of it."""


@dataclass(frozen=True, slots=True)
class Told:
    """Progress of a stage as it is stored; `eta_seconds` is None while nobody can say."""

    stage: str
    done: int
    total: int
    eta_seconds: float | None


@dataclass(slots=True)
class _Stage:
    total: int
    done: int = 0
    before: int = 0  # units that were there already: they tell nothing of the pace
    told: int = -1
    pace: Pace = field(default_factory=lambda: Pace(_TELLING_SECONDS))


@dataclass(slots=True)
class Course:
    """The stages that a run has come to. Told by the run, read by whoever writes progress.

    Further passes of a stage (exact scores, ties, the census) count as its end: the contract's
    units are variants, and these have been scored by then.
    """

    clock: Callable[[], float] = time.monotonic
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stage(self) -> str:
        """The stage under way."""
        with self._lock:
            return max(self._stages, key=STAGES.index, default=STAGES[0])

    def done(self, stage: str) -> int:
        """Units done of a stage."""
        with self._lock:
            return self._stages[stage].done if stage in self._stages else 0

    def __call__(self, now: Progress) -> None:
        """Takes note; a report of `compute.control`."""
        if now.stage not in STAGES:
            return
        with self._lock:
            stage = self._stages.get(now.stage)
            if stage is None:
                stage = self._stages[now.stage] = _Stage(now.total)
            stage.done = max(stage.done, min(now.done, now.total))

    def reused(self, stage: str, units: int) -> None:
        """Some units of a stage were computed earlier; the pace is measured from here on."""
        with self._lock:
            if stage in self._stages:
                self._stages[stage].before += units

    def news(self) -> list[Told]:
        """What changed since it was written, in the order of stages."""
        with self._lock:
            return [
                Told(name, stage.done, stage.total, self._eta(stage))
                for name, stage in sorted(self._stages.items(), key=lambda s: STAGES.index(s[0]))
                if stage.done != stage.told
            ]

    def written(self, told: Told) -> None:
        """What `news` told has been stored."""
        with self._lock:
            self._stages[told.stage].told = told.done

    def _eta(self, stage: _Stage) -> float | None:
        if stage.done >= stage.total:
            return 0.0
        total = stage.total - stage.before
        return stage.pace.left(stage.done - stage.before, total, self.clock())
