"""What minutes make of runs, before and after it is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from compute.market.period import epoch_ms
from live.evaluation import Bar
from live.output import Source
from live.paper import Account
from live.strategies.runs import RunStatus

Event = tuple[str, Mapping[str, Any]]
"""A type and a payload."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some minutes made of a run; `run` is it as it was before them, `source` its place.

    `metadata` is None where it stays as it is stored. `states` are those that it came to on the
    way, in their order; `events` is what else is told. `error` is why it failed, when the last
    state is that. `dropped` candles of the feed came after their minute since the run was taken up.
    """

    run: RunStatus
    source: Source
    checkpoint_ms: int | None
    metadata: Mapping[str, Any] | None = None
    states: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    account: Account | None = None
    events: Sequence[Event] = ()
    error: str | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A run as it is stored now, the outcome that was written, the events stored with it.

    The outcome is the one that was given, or the failure of a run whose own cannot be stored.
    """

    run: RunStatus
    outcome: Outcome
    events: list[Event] = field(default_factory=list)


def ended(
    run: RunStatus, source: Source, state: str, error: Exception | str | None = None
) -> Outcome:
    """The end of a run; checkpoint and metadata stay as they are."""
    text = None if error is None else str(error).strip() or type(error).__name__
    at_ms = ms_of(run.checkpoint_ts_open)
    return Outcome(run, source, at_ms, states=(state,), error=text)


def moment_of(ms: int) -> datetime:
    """The time of some milliseconds since the epoch."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def ms_of(at: datetime | None) -> int | None:
    """The milliseconds since the epoch of a time."""
    return None if at is None else epoch_ms(at)
