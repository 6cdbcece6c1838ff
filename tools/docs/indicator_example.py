"""One indicator on a made-up market: its series at the defaults, and how its primary output votes.

The series come from the plain oracles: nothing is compiled, and the numbers do not depend on the
processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compute.axes import Range
from compute.indicators.definition import Definition, Indicator, Listed, Rule, RuleParam
from compute.indicators.series import FIELDS, PRICES, BarSeries
from compute.market.timeframe import TIMEFRAMES
from compute.rules import ABOVE, BELOW, BETWEEN, RISING, Side, reference_series, sides
from ingest.synthetic import walk_candles

SHOWN_BARS: Final = 160
WARMUP_BARS: Final = 600
"""Bars computed before the first one shown, so that long windows are full and seeds forgotten."""
SEED: Final = 952
FRAME: Final = TIMEFRAMES["1h"]
START_MS: Final = 1_704_067_200_000


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The shown bars, every output on them as f4[T], and codes i1[T]: 1 LONG, -1 SHORT, 0 neither.

    `params` and `signals` are the values that were used. Without a rule there are no votes.
    """

    definition: Definition
    series: BarSeries
    outputs: dict[str, NDArray[np.float32]]
    params: dict[str, Any]
    signals: dict[str, int | float]
    votes: NDArray[np.int8]


@cache
def market() -> BarSeries:
    """The made-up hourly bars of all pictures, warm-up included."""
    bars = walk_candles(
        seed=SEED, bars=WARMUP_BARS + SHOWN_BARS, frame=FRAME, start_ms=START_MS
    )  # fmt: skip
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return BarSeries(*columns, first_bar=START_MS // FRAME.ms)


@cache
def _wide() -> dict[str, NDArray[np.float64]]:
    """What an oracle reads: every column of the market as float64."""
    series = market()
    return {name: series.wide(name) for name in (*FIELDS, *(p for p in PRICES if p not in FIELDS))}


def example(indicator: Indicator) -> Example:
    """The indicator at its defaults on the last `SHOWN_BARS` bars of the market."""
    known, series = indicator.DEFINITION, market()
    params = known.defaults
    outputs = {
        name: values.astype(np.float32)
        for name, values in indicator.oracle(_wide(), params).items()
    }
    rule = known.output().rule
    signals = chosen(rule) if rule else {}
    codes = np.zeros(len(series), np.int8)
    if rule:
        source = str(params.get("source", ""))
        codes = votes(known.indicator_id, rule, known.primary, signals, series, outputs, source)
    last = slice(len(series) - SHOWN_BARS, len(series))
    shown = BarSeries(*(getattr(series, name)[last] for name in FIELDS))
    cut = {item.name: outputs[item.name][last] for item in known.outputs}
    return Example(known, shown, cut, params, signals, codes[last])


def proposed(param: RuleParam) -> tuple[int | float, ...]:
    """The values proposed for a parameter of a rule."""
    known = param.proposed
    if isinstance(known, Listed):
        return known.values
    return Range(known.start, known.stop_incl, known.step).numbers()


def chosen(rule: Rule) -> dict[str, int | float]:
    """One value for each parameter of the rule: the middle of the proposed ones.

    Of two middle ones it is that nearer to 0 or, in a band, to the other threshold.
    """
    values = {param.name: proposed(param) for param in rule.params}
    middles = {
        name: {known[(len(known) - 1) // 2], known[len(known) // 2]}
        for name, known in values.items()
    }
    if rule.family == "threshold_band":
        pairs = [
            (long, short)
            for long in sorted(middles["long_threshold"])
            for short in sorted(middles["short_threshold"])
        ]
        long, short = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        return {"long_threshold": long, "short_threshold": short}
    return {name: min(both, key=abs) for name, both in middles.items()}


def votes(
    indicator_id: str,
    rule: Rule,
    output: str,
    signals: Mapping[str, int | float],
    series: BarSeries,
    outputs: Mapping[str, NDArray[np.float32]],
    source: str,
) -> NDArray[np.int8]:
    """Codes i1[T] of one setting of a rule: 1 LONG, -1 SHORT, 0 where neither or both hold."""
    both = sides(indicator_id, rule, output, {name: [value] for name, value in signals.items()})
    price = reference_series(rule, series, source)
    long = _holds(both.long, series, outputs, price).astype(np.int8)
    return long - _holds(both.short, series, outputs, price).astype(np.int8)


def _holds(
    side: Side,
    series: BarSeries,
    outputs: Mapping[str, NDArray[np.float32]],
    price: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Bars at which the only setting of one side is true; a missing value is never."""
    out, k = outputs[side.output], int(side.key[0])
    if side.form == BETWEEN:
        true = (out >= side.low[k]) & (out <= side.high[k])
    elif side.form == ABOVE:
        true = price > out
    elif side.form == BELOW:
        true = price < out
    else:
        lag = int(side.lag[k])
        before = np.concatenate((np.full(lag, np.nan, np.float32), out))[: out.size]
        true = out > before if side.form == RISING else out < before
    if side.body:
        true &= (series.close > series.open) if side.body > 0 else (series.close < series.open)
    return true & np.isfinite(out)
