"""Typed errors of grid jobs; `code` is the class on the wire, `details` what it carries."""

from __future__ import annotations

from uuid import UUID

from compute.errors import InvalidRequest, RoehubError


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


class RejectedRequest(InvalidRequest):
    """A request with one fault that only the service can find; `path` and `kind` say where and
    what."""

    def __init__(self, message: str, path: str, kind: str) -> None:
        super().__init__(message, [{"path": path, "code": kind, "message": message}])
        self.path = path
        self.kind = kind


class QuotaExceeded(RejectedRequest):
    """A user has as many active jobs as allowed."""

    def __init__(self, max_active: int) -> None:
        super().__init__(
            f"Active backtest jobs quota exceeded (max={max_active})", "body", "quota_exceeded"
        )
        self.max_active = max_active
