"""Stop-loss and take-profit levels: two axes and their product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compute.axes import AxisSpec, Explicit, numeric
from compute.errors import InvalidGrid


@dataclass(frozen=True, slots=True)
class RiskGrid:
    """Levels in percent, SL outer, TP inner; a disabled side is the one level None.

    Raises: InvalidGrid for an empty, repeated, negative or non-finite level, or None among others.
    """

    sl: tuple[float | None, ...] = (None,)
    tp: tuple[float | None, ...] = (None,)

    def __post_init__(self) -> None:
        for name, levels in (("sl", self.sl), ("tp", self.tp)):
            if not levels or len(set(levels)) != len(levels):
                raise InvalidGrid(f"risk axis '{name}' must hold unique levels, at least one")
            if levels == (None,):
                continue
            for level in levels:
                if level is None or not math.isfinite(level):
                    raise InvalidGrid(f"risk axis '{name}' values must be finite, got {level}")
                if level < 0:
                    raise InvalidGrid(
                        f"{name}_pct must be >= 0 when enabled, got {level}",
                        details={"axis": name, "actual": level},
                    )

    @property
    def total(self) -> int:
        """Number of (SL, TP) pairs."""
        return len(self.sl) * len(self.tp)

    def pair(self, risk_index: int) -> tuple[float | None, float | None]:
        """(SL, TP) in percent of `risk_index` = i_sl * n_tp + i_tp; None is off."""
        if not 0 <= risk_index < self.total:
            raise IndexError(f"risk index {risk_index} outside 0..{self.total - 1}")
        i_sl, i_tp = divmod(int(risk_index), len(self.tp))
        return self.sl[i_sl], self.tp[i_tp]

    def params(self, risk_index: int) -> dict[str, Any]:
        """The pair as the wire and the identity keys spell it."""
        return risk_params(*self.pair(risk_index))


def risk_params(sl_pct: float | None = None, tp_pct: float | None = None) -> dict[str, Any]:
    """`{sl_enabled, sl_pct, tp_enabled, tp_pct}` of one pair of levels, always floats."""
    sl, tp = (None if level is None else float(level) for level in (sl_pct, tp_pct))
    return {
        "sl_enabled": sl is not None,
        "sl_pct": sl,
        "tp_enabled": tp is not None,
        "tp_pct": tp,
    }


def risk_grid(
    *,
    sl_enabled: bool = False,
    tp_enabled: bool = False,
    sl: AxisSpec | None = None,
    tp: AxisSpec | None = None,
    sl_pct: float | None = None,
    tp_pct: float | None = None,
) -> RiskGrid:
    """Risk grid of a `risk_grid` block; an axis wins over the scalar, a flag that is off over both.

    Raises: InvalidGrid when an enabled side has neither axis nor scalar, or a level that is no
    number or is negative.
    """
    return RiskGrid(_levels("sl", sl_enabled, sl, sl_pct), _levels("tp", tp_enabled, tp, tp_pct))


def _levels(
    name: str, enabled: bool, axis: AxisSpec | None, scalar: float | None
) -> tuple[float | None, ...]:
    if not enabled:
        return (None,)
    if axis is None:
        if scalar is None:
            raise InvalidGrid(
                f"risk_grid.{name} must be provided when {name}_enabled is true",
                details={"axis": name},
            )
        axis = Explicit((scalar,))
    numbers = numeric(axis, f"risk axis '{name}' values must be numeric", axis=name)
    return tuple(float(value) for value in numbers)
