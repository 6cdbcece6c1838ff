"""Settings of strategies: section `strategy.api` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compute.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """Whether strategies are served, and how many and how large they may be. Raises: InvalidInput.

    Limits of users count strategies that are not deleted and runs that have not ended.
    """

    SECTIONS: ClassVar = ("strategy.api",)

    enabled: bool = True
    max_strategies_per_user: int = 500
    max_active_runs_per_user: int = 20
    max_indicators: int = 16
    max_spec_bytes: int = 32_768

    def __post_init__(self) -> None:
        for name in (
            "max_strategies_per_user",
            "max_active_runs_per_user",
            "max_indicators",
            "max_spec_bytes",
        ):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} must be > 0, got {getattr(self, name)}")
