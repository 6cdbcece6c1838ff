"""Settings of the core: limits and request defaults, with the contract's values."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import ClassVar

from compute.errors import InvalidInput

RANKING_METRICS = (
    "max_drawdown_pct",
    "profit_factor",
    "return_over_max_drawdown",
    "total_return_pct",
)
DEVICES = ("cpu", "cuda", "auto")
FEE_PCT_BY_MARKET_ID: Mapping[int, float] = MappingProxyType({1: 0.075, 2: 0.1, 3: 0.075, 4: 0.1})


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest plan that is accepted: variants of a stage, bytes of the whole run."""

    SECTIONS: ClassVar = ("backtest.guards",)

    max_variants_per_compute: int = 600_000
    max_compute_bytes_total: int = 5_368_709_120

    def __post_init__(self) -> None:
        for item in fields(self):
            _positive(item.name, getattr(self, item.name))

    def halved(self) -> Limits:
        """The share of a synchronous request."""
        return Limits(
            max(1, self.max_variants_per_compute // 2), max(1, self.max_compute_bytes_total // 2)
        )


@dataclass(frozen=True, slots=True)
class Cpu:
    """How many threads the executor may take; None is every core this process may use."""

    SECTIONS: ClassVar = ("backtest.cpu",)

    max_numba_threads: int | None = None

    def __post_init__(self) -> None:
        if self.max_numba_threads is not None:
            _positive("max_numba_threads", self.max_numba_threads)

    def threads(self, wanted: int | None = None) -> int:
        """Number of threads: `wanted`, else the setting, else the usable cores."""
        if wanted is not None:
            _positive("threads", wanted)
            return wanted
        return self.max_numba_threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Search:
    """What searches: the processor, a CUDA card, or a card where there is one."""

    SECTIONS: ClassVar = ("backtest.search",)

    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InvalidInput(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that is silent gets; part of the runtime configuration's hash."""

    SECTIONS: ClassVar = (
        "backtest",
        "backtest.ranking",
        "backtest.execution",
        "backtest.reporting",
    )
    PICKED: ClassVar = ("backtest.jobs",)  # owned by the job runner; one value is read here

    warmup_bars_default: int = 200
    top_k_default: int = 300
    preselect_default: int = 20_000
    top_trades_n_default: int = 3
    eager_top_reports_enabled: bool = False
    top_k_persisted_default: int = 300
    primary_metric_default: str = "total_return_pct"
    secondary_metric_default: str | None = None
    init_cash_quote_default: float = 10_000.0
    fixed_quote_default: float = 100.0
    safe_profit_percent_default: float = 30.0
    slippage_pct_default: float = 0.01
    fee_pct_default_by_market_id: Mapping[int, float] = field(
        default_factory=lambda: FEE_PCT_BY_MARKET_ID
    )

    def __post_init__(self) -> None:
        for name in (
            "warmup_bars_default",
            "top_k_default",
            "preselect_default",
            "top_trades_n_default",
            "top_k_persisted_default",
            "init_cash_quote_default",
            "fixed_quote_default",
        ):
            _positive(name, getattr(self, name))
        for name in ("primary_metric_default", "secondary_metric_default"):
            value = getattr(self, name)
            if value not in RANKING_METRICS and not (value is None and name.startswith("second")):
                raise InvalidInput(
                    f"{name} must be one of {', '.join(RANKING_METRICS)}, got {value!r}"
                )
        if self.primary_metric_default == self.secondary_metric_default:
            raise InvalidInput("secondary_metric_default must differ from primary_metric_default")
        _within("safe_profit_percent_default", self.safe_profit_percent_default, 0, 100)
        if not 0 <= self.slippage_pct_default < 100:
            raise InvalidInput(
                f"slippage_pct_default must be >= 0 and < 100, got {self.slippage_pct_default}"
            )
        if not self.fee_pct_default_by_market_id:
            raise InvalidInput("fee_pct_default_by_market_id must name at least one market")
        for market, fee in self.fee_pct_default_by_market_id.items():
            _positive("a market id of fee_pct_default_by_market_id", market)
            _within(f"fee_pct_default_by_market_id.{market}", fee, 0, math.inf)
        object.__setattr__(
            self,
            "fee_pct_default_by_market_id",
            MappingProxyType(dict(sorted(self.fee_pct_default_by_market_id.items()))),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled by value: a mapping proxy cannot be."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["fee_pct_default_by_market_id"] = dict(self.fee_pct_default_by_market_id)
        return _defaults, (values,)


def _defaults(values: dict[str, object]) -> Defaults:
    return Defaults(**values)  # type: ignore[arg-type]


def _positive(name: str, value: int | float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"{name} must be > 0, got {value}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidInput(f"{name} must be finite and in {low:g}..{high:g}, got {value}")
