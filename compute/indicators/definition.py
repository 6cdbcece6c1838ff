"""What an indicator is: parameters and bounds, tensor axes, outputs and the voting rule of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.series import BarSeries

GROUPS = ("ma", "volatility", "momentum", "trend", "volume", "structure")
SOURCE = "source"
# What the families of voting rules mean. A bar where both sides hold, or a value is missing, is
# NEUTRAL.
FAMILY_MEANINGS = {
    "compare_price_to_output": "LONG while the price is above the output, SHORT while below",
    "compare_volume_to_output": "LONG while the volume is above the output, SHORT while below",
    "sign": "LONG while the output is above 0, SHORT while below",
    "delta_sign": "LONG while the output is above itself long_delta_periods bars ago,"
    " SHORT while below itself short_delta_periods bars ago; the sign of the two is ignored, -3 and"
    " 3 are the same lag",
    "threshold_band": "long_threshold > short_threshold (trend): LONG at or above the first,"
    " SHORT at or below the second; else (reversal, equal ones too): LONG at or below the first,"
    " SHORT at or above the second",
    "threshold_centered": "LONG above 1 + abs_threshold, SHORT below 1 - abs_threshold",
    "candle_body_direction": "LONG on a rising candle, SHORT on a falling one, whose body is at"
    " least the minimum",
    "pivot_events": "LONG on the bar that confirms a pivot low, SHORT on that of a pivot high",
}
FAMILIES = tuple(FAMILY_MEANINGS)
SOURCES_6 = ("close", "hlc3", "ohlc4", "low", "high", "open")
SOURCES_7 = ("close", "hl2", "hlc3", "ohlc4", "low", "high", "open")
WINDOW_MIN, WINDOW_MAX = 2, 2000


@dataclass(frozen=True, slots=True)
class Listed:
    """Explicit axis values, order kept."""

    values: tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Inclusive arithmetic axis; materialised in decimal arithmetic by `compute.axes`."""

    start: int | float
    stop_incl: int | float
    step: int | float


@dataclass(frozen=True, slots=True)
class Param:
    """A numeric parameter with its hard bounds and recommended default."""

    name: str
    kind: str  # 'int' | 'float'
    hard_min: int | float
    hard_max: int | float
    step: int | float
    default: int | float


@dataclass(frozen=True, slots=True)
class RuleParam:
    """A parameter of a voting rule and the values proposed where a deployment names none."""

    name: str
    kind: str  # 'int' | 'float'
    proposed: Listed | Span


@dataclass(frozen=True, slots=True)
class Rule:
    """How one output votes.

    `price` is what a comparison reads: 'source' (the selected one), 'close' or 'volume'.
    `inverted` swaps LONG and SHORT. `long_output` names the output LONG is read from where it is
    another one than the output the rule belongs to (pivot events).
    """

    family: str
    params: tuple[RuleParam, ...] = ()
    price: str = "close"
    inverted: bool = False
    long_output: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One series of an indicator: its rule (None: it cannot vote) and the axes it depends on."""

    name: str
    rule: Rule | None
    axes: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """What its rule does in words, turned and with both outputs where that is so."""
        if self.rule is None:
            return "has no rule, it cannot vote"
        text = FAMILY_MEANINGS[self.rule.family]
        if self.rule.inverted:
            turned = {"LONG": "SHORT", "SHORT": "LONG"}
            text = re.sub("LONG|SHORT", lambda side: turned[side[0]], text)
        if self.rule.long_output:
            text += f"; LONG is read from {self.rule.long_output}, SHORT from {self.name}"
        return text


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything fixed about an indicator; formulas never change under an existing id.

    `inputs` are the candle series it always reads (for a source-axis id: those beside the source),
    `sources` the allowed values of its `source` axis, `axes` the tensor axes in variant order.
    `formula` is what is computed, `reference` who described it. `recursive`: a value depends on
    every bar since the last hole, not on a window of them, and its `rows` go on where the bars
    before ended, as `Resumable` says; beside windows they read `lead` bars in front. `slow`: a
    value takes over 10 ns, so fewer are computed in one call. `ordered`: pairs of parameters of
    which the first must not exceed the second in any combination. `voter` is the id that votes on
    the same values where no output can.
    """

    indicator_id: str
    title: str
    group: str
    inputs: tuple[str, ...]
    sources: tuple[str, ...]
    params: tuple[Param, ...]
    axes: tuple[str, ...]
    outputs: tuple[Output, ...]
    primary: str
    formula: str
    reference: str
    recursive: bool = False
    lead: int = 0
    slow: bool = False
    ordered: tuple[tuple[str, str], ...] = ()
    voter: str | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The recommended value of every axis; the first source where there is one."""
        source = {SOURCE: self.sources[0]} if self.sources else {}
        return {param.name: param.default for param in self.params} | source

    def param(self, name: str) -> Param:
        """The parameter called `name`. Raises KeyError."""
        for param in self.params:
            if param.name == name:
                return param
        raise KeyError(name)

    def output(self, name: str | None = None) -> Output:
        """The output called `name`, the primary one for None. Raises KeyError."""
        wanted = self.primary if name is None else name
        for output in self.outputs:
            if output.name == wanted:
                return output
        raise KeyError(wanted)


class Indicator(Protocol):
    """What an indicator module offers at module level."""

    DEFINITION: Definition

    def rows(
        self,
        series: BarSeries,
        params: Mapping[str, NDArray[Any]],
        source: str,
        output: str,
        out: NDArray[np.float32],
    ) -> None:
        """Fill `out` f4[R, T]: row r holds `output` for `params[name][r]` of one source."""
        ...

    def oracle(
        self, series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
    ) -> dict[str, NDArray[np.float64]]:
        """Every output f8[T] by the plain formula; `params` holds `source` where it has one."""
        ...

    def settle(self, params: Mapping[str, Any]) -> int:
        """Bars until the seed weighs 0.1 % (recursions) or the windows of every output are full.

        It never falls when a parameter moves one way, so its largest value is at a corner.
        """
        ...

    def first(self, params: Mapping[str, Any], output: str) -> int:
        """First index at which `output` can be finite, without holes."""
        ...


class Resumable(Indicator, Protocol):
    """A recursive indicator: it can be computed piece by piece."""

    def rows(
        self,
        series: BarSeries,
        params: Mapping[str, NDArray[Any]],
        source: str,
        output: str,
        out: NDArray[np.float32],
        carry: Carry | None = None,
    ) -> None:
        """Fill `out` f4[R, n] with the last n bars of `series`, going on from what the bars before
        them left in `carry`; without one `out` is all bars.

        Where `series` does not begin with the first bar that `carry` has seen, enough bars are in
        front (`compute.pieces.lead_bars`)."""
        ...


def window(name: str = "window", default: int = 20) -> Param:
    """An integer parameter counted in bars, 2..2000."""
    return Param(name, "int", WINDOW_MIN, WINDOW_MAX, 1, default)


def real(name: str, hard_min: float, hard_max: float, step: float, default: float) -> Param:
    """A parameter that is not counted in bars."""
    return Param(name, "float", hard_min, hard_max, step, default)


def multiplier(default: float = 2.0) -> Param:
    """The band width `mult`, 0.1..10.0 by 0.01."""
    return Param("mult", "float", 0.1, 10.0, 0.01, default)


def delta_rule() -> Rule:
    """The rule of plain measurements: direction of change over a lag, one lag a side."""
    lags = Listed((-1, -3, -5, -10))
    return Rule(
        "delta_sign",
        (
            RuleParam("long_delta_periods", "int", lags),
            RuleParam("short_delta_periods", "int", lags),
        ),
    )


def band_rule(kind: str, long: Span, short: Span) -> Rule:
    """A rule with one inclusive threshold a side; their order chooses reversion or trend."""
    return Rule(
        "threshold_band",
        (RuleParam("long_threshold", kind, long), RuleParam("short_threshold", kind, short)),
    )
