"""A job as it is stored, and the part of it that its owner is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

MODES: Final = ("saved", "template")
STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
ACTIVE: Final = ("queued", "running")
TERMINAL: Final = ("succeeded", "failed", "cancelled")
STAGES: Final = ("stage_a", "stage_b", "finalizing")

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hashes:
    """The stored hashes of a job."""

    request_hash: str
    grid_request_hash: str | None
    engine_params_hash: str
    backtest_runtime_config_hash: str


@dataclass(frozen=True, slots=True)
class Saved:
    """The stored strategy that a request's template was made of: its id, its specification with
    the hash of it, and the overrides as they were sent."""

    strategy_id: str
    spec: Record
    spec_hash: str
    overrides: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The columns of a list of jobs."""

    job_id: UUID
    user_id: UUID
    mode: str
    state: str
    stage: str
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    processed_units: int
    total_units: int

    @property
    def active(self) -> bool:
        """Queued or running."""
        return self.state in ACTIVE

    def item(self) -> Record:
        """The JSON-able item of a list."""
        return {
            "job_id": str(self.job_id),
            "mode": self.mode,
            "state": self.state,
            "stage": self.stage,
            "created_at": moment(self.created_at),
            "updated_at": moment(self.updated_at),
            "started_at": moment(self.started_at),
            "finished_at": moment(self.finished_at),
            "cancel_requested_at": moment(self.cancel_requested_at),
            "processed_units": self.processed_units,
            "total_units": self.total_units,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Listed):
    """The columns of a job's status."""

    progress_updated_at: datetime | None
    request_hash: str
    engine_params_hash: str
    backtest_runtime_config_hash: str
    spec_hash: str | None
    attempt: int
    max_attempts: int
    eta_seconds: float | None
    last_error: str | None
    last_error_json: Record | None

    def status(self) -> Record:
        """The JSON-able status; `eta_seconds` are those left of the stage it is in."""
        return self.item() | {
            "progress_updated_at": moment(self.progress_updated_at),
            "request_hash": self.request_hash,
            "engine_params_hash": self.engine_params_hash,
            "backtest_runtime_config_hash": self.backtest_runtime_config_hash,
            "spec_hash": self.spec_hash,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "eta_seconds": self.eta_seconds,
            "last_error": self.last_error,
            "last_error_json": self.last_error_json,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobStatus):
    """All columns: what a runner needs to compute the job without asking anything else."""

    request_json: Record
    effective_json: Record
    grid_request_hash: str | None
    spec_payload_json: Record | None
    candles_fingerprint: str
    plan_key: str
    plan_json: Record
    limits_json: Record
    results_dir: str
    keep_columns: bool
    result_digest: str | None
    idempotency_key: str | None
    locked_by: str | None
    locked_at: datetime | None
    lease_expires_at: datetime | None
    heartbeat_at: datetime | None

    @property
    def hashes(self) -> Hashes:
        """What `cluster.jobs.snapshot.backtest_of` takes beside `effective_json`."""
        return Hashes(
            request_hash=self.request_hash,
            grid_request_hash=self.grid_request_hash,
            engine_params_hash=self.engine_params_hash,
            backtest_runtime_config_hash=self.backtest_runtime_config_hash,
        )

    @property
    def identity(self) -> Record:
        """The fields of its result that name its stored strategy; none where it has a template."""
        if self.mode == "template":
            return {}
        return {
            "mode": self.mode,
            "strategy_id": self.request_json["strategy_id"],
            "spec_hash": self.spec_hash,
            "grid_request_hash": None,
        }

    @property
    def directory(self) -> Path:
        """Where the job's own results are written."""
        return Path(self.results_dir) / "jobs" / str(self.job_id)


@cache
def columns(kind: type[Listed]) -> tuple[str, ...]:
    """The columns that `kind` is made of."""
    return tuple(item.name for item in fields(kind))


def moment(at: datetime | None) -> str | None:
    """ISO 8601 text of a time in UTC, with `Z`."""
    if at is None:
        return None
    if at.tzinfo is not UTC:  # the driver's times are
        at = at.astimezone(UTC)
    return f"{at.isoformat().removesuffix('+00:00')}Z"
