"""Settings of the service: what it accepts, how much it does at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from compute.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Runs that are answered within their request.

    A run that does not stop within `grace_seconds` after it was asked to, loses its process.
    """

    SECTIONS: ClassVar = ("backtest.sync",)

    sync_deadline_seconds: float
    max_concurrent_runs: int = 2
    grace_seconds: float = 2.0

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits of single requests.

    Values are those of all axes of a request together, members those of all objects of its body.
    """

    SECTIONS: ClassVar = ("backtest.api",)

    max_body_bytes: int = 1_048_576
    max_depth: int = 16
    max_members: int = 2_000
    max_axes: int = 64
    max_axis_values: int = 100_000
    max_candles: int = 600_000
    max_store_reads: int = 8
    max_event_streams_per_user: int = 32

    def __post_init__(self) -> None:
        _positive(self)


def _positive(settings: SyncSettings | ApiSettings) -> None:
    for item in fields(settings):
        value = getattr(settings, item.name)
        if not (math.isfinite(value) and value > 0):
            raise InvalidInput(f"{item.name} must be > 0, got {value}")
