"""Settings of grid jobs: section `backtest.jobs` of the configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from compute.errors import InvalidInput

if TYPE_CHECKING:
    from compute.settings import Defaults


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How jobs are limited, leased, watched and kept. Raises: InvalidInput."""

    SECTIONS: ClassVar = ("backtest.jobs",)

    enabled: bool
    top_k_persisted_default: int
    max_active_jobs_per_user: int
    claim_poll_seconds: float
    lease_seconds: float
    heartbeat_seconds: float
    parallel_workers: int
    snapshot_seconds: float | None = None
    snapshot_variants_step: int | None = None
    max_attempts: int = 5
    retention_days: float = 30.0

    def __post_init__(self) -> None:
        for name in (
            "top_k_persisted_default",
            "max_active_jobs_per_user",
            "claim_poll_seconds",
            "lease_seconds",
            "heartbeat_seconds",
            "parallel_workers",
            "snapshot_seconds",
            "snapshot_variants_step",
            "max_attempts",
            "retention_days",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} must be > 0, got {value}")
        if not self.heartbeat_seconds < self.lease_seconds / 2:
            raise InvalidInput(
                f"heartbeat_seconds must be below half of lease_seconds, so that one lost "
                f"heartbeat loses no lease; got {self.heartbeat_seconds:g} and "
                f"{self.lease_seconds:g}"
            )

    def check_defaults(self, defaults: Defaults) -> None:
        """Refuses a default `top_k` that no job could keep. Raises: InvalidInput."""
        if self.enabled and defaults.top_k_default > self.top_k_persisted_default:
            raise InvalidInput(
                f"top_k_default must be <= jobs.top_k_persisted_default, got "
                f"{defaults.top_k_default} > {self.top_k_persisted_default}"
            )
