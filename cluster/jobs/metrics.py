"""What Prometheus is told about a runner; the registry is handed in."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cluster.jobs.job import STAGES

_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 15, 30, 60, 300, 900)
_PREFIX: Final = "backtest_job_runner"


class RunnerMetrics:
    """Jobs claimed and how they ended, how long they and their stages took, spans by origin."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, about: str) -> Counter:
            return Counter(f"{_PREFIX}_{name}", about, registry=registry)

        self.claim = counter("claim", "Jobs claimed.")
        self.ended = {
            status: counter(status, f"Jobs that ended as {status}.")
            for status in (
                "succeeded",
                "failed",
                "cancelled",
                "lease_lost",
                "released",
                "executor_lost",
                "crashed",
            )
        }
        self.spans_computed = counter("spans_computed", "Spans computed by claimed jobs.")
        self.spans_reused = counter("spans_reused", "Spans that had been committed before.")
        self.job_seconds = Histogram(
            f"{_PREFIX}_job_duration_seconds",
            "From claim to end of a job in this runner.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            f"{_PREFIX}_stage_duration_seconds",
            "Duration of a stage of a job.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        self.active = Gauge(
            f"{_PREFIX}_active_claimed_jobs", "Jobs held by this runner.", registry=registry
        )
