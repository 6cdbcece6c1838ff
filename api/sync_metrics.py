"""What Prometheus is told about runs within requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 30, 60, 300)


class SyncMetrics:
    """Runs by kind and outcome, their seconds, how many there are now, processes replaced."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.runs = Counter(
            "roehub_sync_runs",
            "Runs within requests by outcome: done, refused, failed or why they stopped.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "roehub_sync_run_seconds",
            "Seconds that a run held its slot.",
            ["kind"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.active = Gauge("roehub_sync_runs_active", "Runs being computed.", registry=registry)
        self.replaced = Counter(
            "roehub_sync_workers_replaced", "Worker processes that were ended.", registry=registry
        )
