"""Runs of strategies: their states, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from cluster.postgres.keyset import Place, cursor_of, place_of
from compute.errors import InvalidInput
from live.strategies.errors import IllegalTransition
from live.strategies.rows import moment

NEXT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "starting": ("warming_up", "stopping", "stopped", "failed"),
        "warming_up": ("running", "stopping", "failed"),
        "running": ("stopping", "failed"),
        "stopping": ("stopped", "failed"),
        "stopped": (),
        "failed": (),
    }
)
"""The states that may follow a state; a run begins as starting and is never used again."""

STATES: Final = tuple(NEXT)
ACTIVE: Final = tuple(state for state, following in NEXT.items() if following)
TERMINAL: Final = tuple(state for state, following in NEXT.items() if not following)
CURSOR: Final = ("started_at", "run_id")

# What is written down when a run comes to a state.
EVENT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "starting": "run_started",
        "warming_up": "run_state_changed",
        "running": "run_state_changed",
        "stopping": "run_stop_requested",
        "stopped": "run_stopped",
        "failed": "run_failed",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Where a run is; `checkpoint_ts_open` is the open of the last minute that it processed."""

    run_id: UUID
    user_id: UUID
    strategy_id: UUID
    state: str
    started_at: datetime
    updated_at: datetime
    stopped_at: datetime | None
    checkpoint_ts_open: datetime | None
    last_error: str | None

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(RunStatus):
    """A run with what its runner says of its progress."""

    metadata_json: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The JSON-able run."""
        return {
            "run_id": str(self.run_id),
            "strategy_id": str(self.strategy_id),
            "state": self.state,
            "started_at": moment(self.started_at),
            "stopped_at": moment(self.stopped_at),
            "checkpoint_ts_open": moment(self.checkpoint_ts_open),
            "last_error": self.last_error,
            "updated_at": moment(self.updated_at),
            "metadata": self.metadata_json,
        }

    def cursor(self) -> str:
        """Where a page goes on below this run."""
        return cursor_of((self.started_at, self.run_id), CURSOR)


def run_cursor(raw: str | None) -> Place | None:
    """The place to go on from; blank is the beginning. Raises: InvalidCursor."""
    return place_of(raw, CURSOR, "runs") if raw and raw.strip() else None


def check_transition(run: RunStatus, state: str, last_error: str | None) -> None:
    """Refuses what may not follow. Raises: IllegalTransition; InvalidInput for a blank error, or
    a failure without one."""
    if state not in NEXT[run.state]:
        raise IllegalTransition(run.run_id, run.state, state)
    if last_error is not None and not last_error.strip():
        raise InvalidInput("an error of a run must not be blank")
    if state == "failed" and last_error is None:
        raise InvalidInput("a run that failed needs an error")


def metadata_of(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Metadata as it is stored: keys are texts in order, what JSON does not have is text."""
    named = {str(key): _plain(value) for key, value in values.items()}
    return {key: named[key] for key in sorted(named)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    if isinstance(value, Mapping):
        return metadata_of(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value)
