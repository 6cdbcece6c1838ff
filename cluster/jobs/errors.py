"""Typed errors of grid jobs; `code` is the class on the wire, `details` what it carries."""

from __future__ import annotations

from uuid import UUID

from cluster.postgres.errors import RejectedRequest
from compute.errors import RoehubError


class JobNotFound(RoehubError):
    """No such job, or no longer."""

    code = "not_found"

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"Backtest job {job_id} not found", details={"job_id": str(job_id)})


class JobActive(RoehubError):
    """A queued or running job that was to be deleted."""

    code = "conflict"

    def __init__(self, job_id: UUID, state: str) -> None:
        super().__init__(
            f"Backtest job {job_id} is {state}; cancel it before deleting it",
            details={"error": "job_active", "job_id": str(job_id), "state": state},
        )


class IdempotencyConflict(RoehubError):
    """An idempotency key that was used for another request."""

    code = "conflict"

    def __init__(self, job_id: UUID) -> None:
        super().__init__(
            f"The idempotency key belongs to job {job_id}, which was another request; "
            f"send a new key",
            details={"error": "idempotency_key_reused", "job_id": str(job_id)},
        )


class LeaseLost(RoehubError):
    """A write of a runner that does not own the job any more; it must stop at once."""

    code = "conflict"

    def __init__(self, job_id: UUID, owner: str, attempt: int) -> None:
        super().__init__(
            f"{owner} lost the lease of job {job_id} (attempt {attempt})",
            details={"attempt": attempt, "job_id": str(job_id), "locked_by": owner},
        )


class QuotaExceeded(RejectedRequest):
    """A user has as many active jobs as allowed."""

    def __init__(self, max_active: int) -> None:
        super().__init__(
            f"Active backtest jobs quota exceeded (max={max_active})", "body", "quota_exceeded"
        )
        self.max_active = max_active
