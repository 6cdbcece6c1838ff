from __future__ import annotations

import numpy as np
import pytest

from compute.bits import pack as pack_bits
from compute.bits import unpack, words
from compute.errors import InvalidGrid
from compute.indicators.definition import Listed, Rule, RuleParam
from compute.indicators.registry import definition
from compute.indicators.series import BarSeries
from compute.packing import Packer, body_words
from compute.rules import check_signals, reference_series, sides, voting_rule
from tests.compute.ballot import codes

ANY = Listed((1,))
BAND = Rule(
    "threshold_band",
    (RuleParam("long_threshold", "float", ANY), RuleParam("short_threshold", "float", ANY)),
)
DELTA = Rule(
    "delta_sign",
    (RuleParam("long_delta_periods", "int", ANY), RuleParam("short_delta_periods", "int", ANY)),
)
CENTERED = Rule("threshold_centered", (RuleParam("abs_threshold", "float", ANY),))
BODY = Rule("candle_body_direction", (RuleParam("min_body_pct", "float", ANY),))
PRICE = Rule("compare_price_to_output")
NAN = float("nan")


def series_of(close, opened=None) -> BarSeries:
    close = np.asarray(close, np.float32)
    opened = close if opened is None else np.asarray(opened, np.float32)
    return BarSeries(opened, close, close, close, close)


def votes(rule, out, signals=None, *, series=None, start=0, stop=None, low_output=None):
    """Codes i1[S, N] of the packing kernels for every signal row."""
    out = np.atleast_2d(np.asarray(out, np.float32))
    series = series or series_of(np.ones(out.shape[1]))
    stop = out.shape[1] if stop is None else stop
    both = sides("x.y", rule, "x", signals or {})
    flags = []
    for side in (both.long, both.short):
        rows = out
        if side.output == "low":
            rows = np.atleast_2d(np.asarray(low_output, np.float32))
        table = np.zeros((side.count, words(stop - start)), np.uint64)
        reference = reference_series(rule, series, "")
        Packer([(side, 0)]).put(0, rows, start, stop, reference, start, table)
        if side.body:
            table &= body_words(series, start, stop, side.body)
        assert not np.any(table & ~pack_bits(np.ones(stop - start, np.bool_)))
        flags.append(unpack(table, stop - start)[side.key])
    long, short = flags
    if not both.conflicts:
        assert not np.any(long & short)
    return np.where(long & short, 0, long.astype(np.int8) - short.astype(np.int8))


@pytest.mark.parametrize(
    ("out", "thresholds", "expected"),
    [
        ([30, 30.5, 70, 50, NAN, 10], (30, 70), [1, 0, -1, 0, 0, 1]),
        ([60, 40, 50, 80, NAN, 10], (60, 40), [1, -1, 0, 1, 0, -1]),
        ([49, 50, 51], (50, 50), [1, 0, -1]),
    ],
)
def test_worked_bands(out, thresholds, expected):
    signals = {"long_threshold": thresholds[:1], "short_threshold": thresholds[1:]}
    assert votes(BAND, out, signals)[0].tolist() == expected


def test_worked_deltas():
    signals = {"long_delta_periods": (-1,), "short_delta_periods": (-3,)}
    out = [10, 11, 9, 10, 9, NAN, 8, 7, 9]
    assert votes(DELTA, out, signals)[0].tolist() == [0, 1, 0, 1, -1, 0, -1, -1, 1]
    assert sides("x.y", DELTA, "x", signals).conflicts
    clash = {"long_delta_periods": (-1,), "short_delta_periods": (-2,)}
    assert votes(DELTA, [10, 5, 7], clash)[0, 2] == 0


def test_worked_centered():
    out = [1.1, 1.11, 0.9, 0.89, 1.0]
    assert votes(CENTERED, out, {"abs_threshold": (0.1,)})[0].tolist() == [0, 1, 0, -1, 0]


def test_worked_aggregation():
    a, b = np.array([[1, 1, -1, 0, -1], [1, -1, -1, 1, 0]])
    first, second = ((pack_bits(x == 1), pack_bits(x == -1)) for x in (a, b))
    long, short = (unpack(p & q, 5).astype(int) for p, q in zip(first, second, strict=True))
    assert (long - short).tolist() == [1, 0, -1, 0, 0]


def test_a_float32_output_equals_its_threshold():
    out = np.array([0.1, 0.3], np.float32)
    signals = {"long_threshold": (0.1,), "short_threshold": (0.3,)}
    assert votes(BAND, out, signals)[0].tolist() == [1, -1]


def test_thresholds_equal_in_float32_are_a_reversion_that_conflicts():
    signals = {"long_threshold": (0.1 + 1e-12,), "short_threshold": (0.1,)}
    assert sides("x.y", BAND, "x", signals).conflicts
    assert votes(BAND, [0.05, 0.1, 0.2], signals)[0].tolist() == [1, 0, -1]


def test_inversion_swaps_the_sides():
    price = series_of([1, 3, 2])
    assert votes(PRICE, [2, 2, 2], series=price)[0].tolist() == [-1, 1, 0]
    inverted = Rule("compare_price_to_output", inverted=True)
    assert votes(inverted, [2, 2, 2], series=price)[0].tolist() == [1, -1, 0]


def test_volume_is_compared_with_volume():
    rule = definition("volume.volume_sma").output().rule
    ones = np.ones(3, np.float32)
    series = BarSeries(ones, ones, ones, ones * 9, np.array([1, 2, 3], np.float32))
    assert votes(rule, [2, 2, 2], series=series)[0].tolist() == [-1, 0, 1]


def test_bodies_vote_with_the_candle():
    series = series_of([2, 1, 2, 1], [1, 2, 2, 2])
    out = [0.5, 0.5, 0.9, 0.4]
    assert votes(BODY, out, {"min_body_pct": (0.5,)}, series=series)[0].tolist() == [1, -1, 0, 0]


def test_pivots_vote_on_the_bar_that_confirms_them():
    rule = definition("structure.pivots").output().rule
    assert rule is not None
    rule = Rule(rule.family, rule.params, long_output="low")
    assert votes(rule, [NAN, 5, NAN, 5], low_output=[NAN, NAN, 4, 4])[0].tolist() == [0, -1, 1, 0]


@pytest.mark.parametrize(("start", "stop"), [(0, 64), (0, 300), (3, 131), (40, 41), (100, 300)])
@pytest.mark.parametrize(
    ("rule", "signals"),
    [
        (PRICE, {}),
        (Rule("sign"), {}),
        (BAND, {"long_threshold": (-1, 0, 2), "short_threshold": (-2.5, 0, 1)}),
        (CENTERED, {"abs_threshold": (0, 0.5, -1)}),
        (BODY, {"min_body_pct": (-1.0, 0.5)}),
        (DELTA, {"long_delta_periods": (-1, -7, 70), "short_delta_periods": (2, -7, -500)}),
    ],
    ids=lambda value: getattr(value, "family", ""),
)
def test_packing_equals_the_rule_table(rule, signals, start, stop):
    rng = np.random.default_rng(5)
    out = rng.integers(-3, 4, 300).astype(np.float32)
    out[rng.integers(0, 300, 30)] = np.nan
    out[rng.integers(0, 300, 10)] = np.inf
    out[rng.integers(0, 300, 10)] = -np.inf
    opened, closed = rng.integers(-3, 4, (2, 300)).astype(np.float32)
    closed[50:60] = np.nan
    series = series_of(closed, opened)
    packed = votes(rule, out, signals, series=series, start=start, stop=stop)
    names = sorted(signals)
    grids = np.meshgrid(*(signals[name] for name in names), indexing="ij")
    settings = [
        dict(zip(names, row, strict=True)) for row in zip(*map(np.ravel, grids), strict=True)
    ]
    for params, got in zip(settings or [{}], packed, strict=True):
        expected = codes(rule.family, out, params, reference=closed, opened=opened, closed=closed)
        np.testing.assert_array_equal(got, expected[start:stop], err_msg=str(params))


def test_thresholds_beyond_float32_compare_with_everything_or_nothing():
    signals = {"long_threshold": (-1e39,), "short_threshold": (1e39,)}
    assert votes(BAND, [-3e38, 0, 3e38, np.inf], signals)[0].tolist() == [0, 0, 0, 0]
    signals = {"long_threshold": (1e39,), "short_threshold": (2e39,)}
    assert votes(BAND, [0, 3e38, np.inf], signals)[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("rule", "values", "message"),
    [
        (BAND, {"long_threshold": (1,)}, "x.y: missing required signal param 'short_threshold'"),
        (PRICE, {"period": (1,)}, "unknown signal param 'period'"),
        (BAND, {"long_threshold": ("1",), "short_threshold": (1,)}, "must be a number"),
        (BAND, {"long_threshold": (True,), "short_threshold": (1,)}, "must be a number"),
        (BAND, {"long_threshold": (NAN,), "short_threshold": (1,)}, "must be finite"),
        (DELTA, {"long_delta_periods": (0,), "short_delta_periods": (1,)}, "must be > 0"),
        (DELTA, {"long_delta_periods": (1.0,), "short_delta_periods": (1,)}, "an integer"),
    ],
)
def test_malformed_parameters_are_named(rule, values, message):
    with pytest.raises(InvalidGrid, match=message.replace(".", r"\.")):
        check_signals("x.y", rule, values)


def test_an_output_without_rule_names_those_that_have_one():
    with pytest.raises(InvalidGrid, match=r"structure\.pivots.*pivot_low.*use output pivot_high"):
        voting_rule(definition("structure.pivots"), "pivot_low")
    with pytest.raises(InvalidGrid, match="Unsupported indicator_id"):
        voting_rule(definition("ma.sma"), "nothing")


def test_unknown_source_is_refused():
    with pytest.raises(InvalidGrid, match=r"Unsupported inputs\.source value: hlc9"):
        series_of([1, 2]).price("hlc9")
