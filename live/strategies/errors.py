"""Typed errors of strategies and runs; `code` is the class on the wire, `details` what it has."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cluster.postgres.errors import RejectedRequest
from compute.errors import InvalidInput, RoehubError


class InvalidStrategy(InvalidInput):
    """A specification that breaks a rule; the message says which."""


class StrategyNotFound(RoehubError):
    """No such strategy, or it was deleted."""

    code = "not_found"

    def __init__(self, strategy_id: UUID) -> None:
        super().__init__(
            f"there is no strategy {strategy_id}, or it was deleted",
            details={"strategy_id": str(strategy_id)},
        )


class ForeignStrategy(RoehubError):
    """A strategy of somebody else."""

    code = "forbidden"

    def __init__(self, strategy_id: UUID) -> None:
        super().__init__(
            f"strategy {strategy_id} belongs to another user",
            details={"strategy_id": str(strategy_id)},
        )


class RunNotFound(RoehubError):
    """A strategy without such a run."""

    code = "not_found"

    def __init__(self, strategy_id: UUID, run_id: UUID) -> None:
        super().__init__(
            f"strategy {strategy_id} has no run {run_id}",
            details={"run_id": str(run_id), "strategy_id": str(strategy_id)},
        )


class Refused(RoehubError):
    """What cannot be done in the state things are in; `error` is the specific code."""

    code = "conflict"

    def __init__(self, error: str, message: str, **details: Any) -> None:
        shown = {name: str(v) if isinstance(v, UUID) else v for name, v in details.items()}
        super().__init__(message, details={"error": error, **shown})


def _ends(state: str) -> str:
    """What ends an active run."""
    if state == "stopping":
        return "it ends when a runner sees that (`roehub live`, or `roehub up --live`)"
    return "stop it first"


class RunActive(Refused):
    """A strategy that runs already."""

    def __init__(self, strategy_id: UUID, run_id: UUID, state: str) -> None:
        super().__init__(
            "run_active",
            f"strategy {strategy_id} has an active run, which is {state}; {_ends(state)}",
            strategy_id=strategy_id, run_id=run_id, current_state=state,
        )  # fmt: skip


class NoActiveRun(Refused):
    """A strategy that does not run."""

    def __init__(self, strategy_id: UUID) -> None:
        super().__init__(
            "no_active_run", f"strategy {strategy_id} has no active run", strategy_id=strategy_id
        )


class RunStopping(Refused):
    """A run that was asked to stop before."""

    def __init__(self, strategy_id: UUID, run_id: UUID, state: str) -> None:
        super().__init__(
            "run_stopping",
            f"the run of strategy {strategy_id} is {state} already; {_ends(state)}",
            strategy_id=strategy_id, run_id=run_id, current_state=state,
        )  # fmt: skip


class StrategyActive(Refused):
    """A strategy that was to be deleted while it runs."""

    def __init__(self, strategy_id: UUID, run_id: UUID, state: str) -> None:
        super().__init__(
            "strategy_active",
            f"strategy {strategy_id} has an active run, which is {state}; {_ends(state)}, and"
            " delete the strategy when it has ended",
            strategy_id=strategy_id, run_id=run_id, current_state=state,
        )  # fmt: skip


class IllegalTransition(Refused):
    """A state that a run cannot come to from the one it is in."""

    def __init__(self, run_id: UUID, current: str, wanted: str) -> None:
        super().__init__(
            "illegal_transition",
            f"run {run_id} cannot go from {current} to {wanted}",
            reason=f"{current} -> {wanted}",
        )


class RunChanged(Refused):
    """A run that somebody else changed, or started, in the meantime."""

    def __init__(self, reason: str) -> None:
        super().__init__("lost_race", f"{reason}; read it again", reason=reason)


class IdempotencyConflict(Refused):
    """An idempotency key that was used for another request; `made` is what that made."""

    def __init__(self, **made: UUID) -> None:
        super().__init__(
            "idempotency_key_reused",
            "the idempotency key belongs to another request; send a new key",
            **made,
        )


class QuotaExceeded(RejectedRequest):
    """A user who has as many of `what` as allowed."""

    def __init__(self, what: str, name: str, most: int, cure: str) -> None:
        super().__init__(f"{what} quota exceeded (max={most}); {cure}", "body", "quota_exceeded")
        self.details |= {"error": f"{name}_exceeded", name: most}
