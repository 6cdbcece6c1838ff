"""The indicators agree with TA-Lib as nearly as the documentation says, and not more nearly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import talib
from numpy.typing import NDArray

from compute.indicators import registry
from compute.indicators.definition import Definition, Param
from compute.indicators.series import BarSeries
from tests.compute.indicators.candles import candles
from tests.compute.indicators.rows import computed, row
from tools.docs.conformance import (
    FORGOTTEN,
    TALIB,
    conformance_line,
    counterpart,
    difference,
)
from tools.docs.conformance_absent import ABSENT, UNMATCHED
from tools.docs.conformance_table import MATCHES, REST, Match

BARS = 5000
SLACK = 100
"""How many times larger than the largest measured difference a declared bound may be."""
GROUPS = (
    "Overlap Studies",
    "Momentum Indicators",
    "Volume Indicators",
    "Volatility Indicators",
    "Statistic Functions",
)
FUNCTION = re.compile(r"\b(?!MA_Type)[A-Z][A-Z0-9_]+(?=\()")
PAIRS = [(name, match.output) for name, matches in MATCHES.items() for match in matches]


@cache
def walk() -> BarSeries:
    """A walk without holes in which every bar has a range."""
    return candles(BARS, seed=3, tick=1e-4, doji=False)


def match_of(indicator_id: str, output: str) -> Match:
    return next(match for match in MATCHES[indicator_id] if match.output == output)


def settings(definition: Definition, match: Match) -> dict[str, NDArray[Any]]:
    """Three rows of parameters: the defaults, and both sides of them."""
    rows = {param.name: _sides(param) for param in definition.params}
    for name, value in match.fixed.items():
        rows[name] = rows[value] if isinstance(value, str) else np.full(3, value)
    return rows


def _sides(param: Param) -> NDArray[Any]:
    least, default = param.hard_min, param.default
    if param.kind == "int":
        return np.array([default, max(least + 1, default // 2), 2 * default + 1])
    return np.array([default, max(least, default / 2), default * 1.25])


def compared(indicator_id: str, match: Match) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Differences f8[n] of each row of parameters, from the bar on from which they count."""
    indicator, series = registry.module(indicator_id), walk()
    source = "close" if indicator.DEFINITION.sources else ""
    params = settings(indicator.DEFINITION, match)
    ours = computed(indicator, series, params, source, match.output)
    for r in range(len(ours)):
        values = row(params, r, source)
        theirs = counterpart(match, series, source, values)
        start = indicator.first(values, match.output)
        if match.seeded:
            start = FORGOTTEN * indicator.settle(values)
        start = max(start, int(np.argmax(np.isfinite(theirs))))
        assert BARS - start > 1000, f"too few bars left for {values}"
        both = np.isnan(ours[r]) & np.isnan(theirs)
        np.testing.assert_array_equal(np.isnan(ours[r])[start:], np.isnan(theirs)[start:])
        yield difference(match, ours[r], theirs)[start:][~both[start:]], str(values)


@pytest.mark.parametrize(("indicator_id", "output"), PAIRS)
def test_the_declared_bound_holds_and_is_not_slack(indicator_id: str, output: str) -> None:
    match = match_of(indicator_id, output)
    worst, shares = 0.0, []
    for differences, label in compared(indicator_id, match):
        share = np.mean(differences <= match.bound).item()
        assert share >= match.agreeing, f"{label}: {share}, worst {differences.max()}"
        worst, shares = max(worst, differences.max()), [*shares, share]
    assert match.bound <= SLACK * worst
    assert min(shares) - match.agreeing < 0.05


@pytest.mark.parametrize(("indicator_id", "output"), PAIRS)
def test_a_market_at_rest_sets_apart_only_what_is_said_to_differ_there(
    indicator_id: str, output: str
) -> None:
    match = match_of(indicator_id, output)
    ours, theirs, start = at_rest(indicator_id, match)
    missing = np.isnan(ours) != np.isnan(theirs)
    close = missing | np.isnan(ours) | (difference(match, ours, theirs) <= match.bound)
    apart = missing[start:].any() or np.mean(close[start:]) < match.agreeing
    assert apart == match.resting
    if match.note == REST:
        assert missing.any()
        assert not theirs[start:][missing[start:]].any()


def at_rest(
    indicator_id: str, match: Match
) -> tuple[NDArray[np.float32], NDArray[np.float64], int]:
    """Both series at the defaults where bars have no range and no volume, and their first bar."""
    indicator = registry.module(indicator_id)
    source = "close" if indicator.DEFINITION.sources else ""
    params = settings(indicator.DEFINITION, match)
    values = row(params, 0, source)
    series = candles(BARS, seed=3)
    ours = computed(indicator, series, params, source, match.output)[0]
    start = FORGOTTEN * indicator.settle(values) if match.seeded else 100
    with np.errstate(divide="ignore", invalid="ignore"):
        return ours, counterpart(match, series, source, values), start


@pytest.mark.parametrize("as_talib", [False, True])
def test_the_parabolic_lines_differ_by_the_limits_and_the_touch_alone(as_talib: bool) -> None:
    indicator, series = registry.module("trend.psar"), walk()
    params = {"accel_start": 0.02, "accel_step": 0.02, "accel_max": 0.2}
    line = parabolic(series.wide("high"), series.wide("low"), as_talib)
    if as_talib:
        judged = counterpart(match_of("trend.psar", "psar"), series, "", params)
    else:
        rows = {name: np.array([value]) for name, value in params.items()}
        judged = computed(indicator, series, rows, "", "psar")[0]
    np.testing.assert_allclose(judged[300:], line[300:], rtol=1e-7)


def parabolic(
    high: NDArray[np.float64], low: NDArray[np.float64], as_talib: bool
) -> NDArray[np.float64]:
    """The line with accelerations 0.02, 0.02 and 0.2, by our conventions or by TA-Lib's.

    A falling market is a rising one of negative prices with highs and lows changed over.
    """
    top, bottom, side = high, low, 1.0
    sar, extreme, rate = low[0], high[0], 0.02
    line = np.full(high.size, np.nan)
    line[0] = sar
    for t in range(1, high.size):
        sar += rate * (extreme - sar)
        sar = min(sar, bottom[t - 1], bottom[max(t - 2, 0)] if as_talib else np.inf)
        if bottom[t] < sar or (as_talib and bottom[t] == sar):
            sar, extreme, rate = -extreme, -bottom[t], 0.02
            top, bottom, side = -bottom, -top, -side
            if as_talib:
                sar = min(sar, bottom[t], bottom[t - 1])
        elif top[t] > extreme:
            extreme, rate = top[t], min(0.2, rate + 0.02)
        line[t] = side * sar
    return line


def test_indicators_have_a_counterpart_or_are_said_to_have_none() -> None:
    said = MATCHES.keys() | ABSENT.keys()
    assert said <= set(registry.ids())
    assert len(said) >= 88  # the page says of a later one that it is not compared
    assert not MATCHES.keys() & ABSENT.keys()


def test_every_compared_output_exists_and_only_once() -> None:
    for name, matches in MATCHES.items():
        outputs = [match.output for match in matches]
        known = [output.name for output in registry.definition(name).outputs]
        assert sorted(outputs) == sorted(set(outputs) & set(known)), name


def test_every_talib_indicator_is_used_or_is_said_not_to_be() -> None:
    groups = talib.get_function_groups()
    offered = {name for group in GROUPS for name in groups[group]}
    expressions = " ".join(m.expression for matches in MATCHES.values() for m in matches)
    used = set(FUNCTION.findall(expressions))
    assert used <= set(talib.get_functions())
    assert offered - used == set(UNMATCHED)


def test_the_sentences_name_the_measured_release() -> None:
    assert talib.__ta_version__.decode().split()[0] == TALIB
    for name in registry.ids():
        line = conformance_line(name)
        assert line.startswith(f"TA-Lib {TALIB}")
        assert line.endswith(".")
        assert "\n" not in line


@pytest.mark.parametrize(
    ("indicator_id", "words"),
    [
        ("ma.sma", ": `value` = `SMA(x, window)` to 1e-7 of the value."),
        ("ma.alma", "has no Arnaud Legoux moving average."),
        ("ma.kama", "`KAMA(x, window)` with `fast_window = 2` and `slow_window = 30` to 1e-7"),
        ("momentum.rsi", "value after 4 settling times (TA-Lib starts Wilder's smoothing"),
        ("momentum.ppo", "it has nothing for `signal` and `hist`."),
        (
            "trend.donchian",
            "`donchian_lower` = `DONCHIAN(high, low, window)`, outputs 0 and 2, exactly;",
        ),
        ("trend.psar", "on some 60 % of a random walk's bars, for good"),
    ],
)
def test_a_sentence_says_what_how_near_and_why(indicator_id: str, words: str) -> None:
    assert words in conformance_line(indicator_id)
