"""Axis specs: shape, decimal materialisation, kinds, bounds and the step grid."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute import axes
from compute.axes import Explicit, InvalidAxis, Range, axis_spec
from compute.errors import InvalidGrid, InvalidInput
from compute.indicators.definition import (
    Definition,
    Listed,
    Output,
    Param,
    RuleParam,
    multiplier,
    window,
)

BANDS = Definition(
    indicator_id="volatility.bands",
    title="Bands",
    group="volatility",
    inputs=(),
    sources=("close", "hlc3", "open"),
    params=(multiplier(), window()),
    axes=("mult", "source", "window"),
    outputs=(Output("value", None, ("mult", "source", "window")),),
    primary="value",
    formula="",
    reference="",
)


def ranged(start: float, stop: float, step: float) -> dict[str, object]:
    return {"mode": "range", "start": start, "stop_incl": stop, "step": step}


def explicit(*values: object) -> dict[str, object]:
    return {"mode": "explicit", "values": list(values)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ranged(1, 2, 0.3), (1.0, 1.3, 1.6, 1.9)),
        (ranged(5, 10, 2), (5, 7, 9)),
        (ranged(5.0, 10.0, 1.0), (5, 6, 7, 8, 9, 10)),
        (ranged(0.1, 0.5, 0.1), (0.1, 0.2, 0.3, 0.4, 0.5)),
        (ranged(1.0, 2.0, 0.5), (1.0, 1.5, 2.0)),
        (ranged(-0.2, 0.2, 0.1), (-0.2, -0.1, 0.0, 0.1, 0.2)),
        (ranged(-10, -1, 3), (-10, -7, -4, -1)),
        (ranged(3, 3, 7), (3,)),
        (ranged(1e-7, 3e-7, 1e-7), (1e-7, 2e-7, 3e-7)),
        (explicit(3, 1, 2), (3, 1, 2)),
        (explicit(5.0, 7), (5.0, 7)),
    ],
)
def test_values_of_a_spec(spec: dict[str, object], expected: tuple[float, ...]) -> None:
    values = axes.materialised(axis_spec(spec))
    assert values == expected
    assert [type(v) for v in values] == [type(v) for v in expected]


def test_fine_steps_do_not_drift() -> None:
    values = axes.materialised(axis_spec(ranged(0.5, 4.0, 0.01)))
    assert len(values) == 351
    assert values[-1] == 4.0
    assert values[210] == 2.6


@given(
    st.decimals(-1000, 1000, places=3),
    st.decimals("0.001", 50, places=3),
    st.integers(0, 300),
)
def test_a_range_equals_exact_arithmetic(start: object, step: object, n: int) -> None:
    first, delta = Fraction(str(start)), Fraction(str(step))
    stop = first + n * delta
    spec = axis_spec(ranged(float(first), float(stop), float(delta)))
    assert axes.materialised(spec) == tuple(float(first + i * delta) for i in range(n + 1))


@pytest.mark.parametrize(
    ("spec", "at", "kind", "text"),
    [
        (explicit(), "values", "too_short", "must not be empty"),
        (explicit(1, 1.0), "values.1", "duplicate", "unique, 1.0 comes twice"),
        (explicit(1, True), "values.1", "bool_type", "must not be a boolean"),
        (explicit(None), "values.0", "number_type", "must be a number, got None"),
        (explicit(float("nan")), "values.0", "finite_number", "finite"),
        ({"mode": "explicit", "values": "close"}, "values", "list_type", "must be a list"),
        ({"mode": "explicit"}, "values", "required", "needs values"),
        ({"mode": "explicit", "values": [1], "step": 1}, "step", "extra_forbidden", "takes values"),
        (ranged(2, 1, 1), "start", "reversed", "start must be <= stop_incl, got 2 > 1"),
        (ranged(1, 2, 0), "step", "greater_than", "must be > 0"),
        (ranged(1, 2, -1), "step", "greater_than", "must be > 0"),
        (ranged(1, True, 1), "stop_incl", "bool_type", "must not be a boolean"),
        (ranged(1, float("inf"), 1), "stop_incl", "finite_number", "finite"),
        ({**ranged(1, 2, 1), "start": "1"}, "start", "number_type", "must be a number, got '1'"),
        ({"mode": "range", "start": 1, "step": 1}, "stop_incl", "required", "needs stop_incl"),
        (ranged(0, 1_000_000, 1), "step", "too_long", "1000001 values, at most 1000000"),
        (ranged(0, 1e18, 1e-300), "step", "too_long", "at most 1000000"),
        (ranged(0, 1e300, 1), "stop_incl", "too_large", r"below 2\*\*63"),
        (explicit(10**400), "values.0", "too_large", r"below 2\*\*63"),
        ({"mode": "list", "values": [1]}, "mode", "literal_error", "explicit or range, got 'list'"),
        ({"values": [1]}, "mode", "required", "needs mode"),
        ([1, 2], "", "mapping_type", "an axis is a mapping"),
    ],
)
def test_malformed_axes(spec: object, at: str, kind: str, text: str) -> None:
    with pytest.raises(InvalidAxis, match=text) as caught:
        axis_spec(spec)
    assert (caught.value.at, caught.value.kind) == (at, kind)
    assert isinstance(caught.value, InvalidInput)


def test_a_million_values_are_allowed() -> None:
    assert isinstance(spec := axis_spec(ranged(1, 1_000_000, 1)), Range)
    assert spec.count() == 1_000_000


def test_values_closer_than_a_float_are_refused() -> None:
    with pytest.raises(InvalidAxis, match="precision of a float"):
        axes.materialised(axis_spec(ranged(1e16, 1.0000000000000002e16, 0.5)))


def test_compute_values_are_cast_to_the_kind() -> None:
    assert axes.compute_values(BANDS, window(), axis_spec(ranged(5.0, 7.0, 1.0))) == (5, 6, 7)
    mults = axes.compute_values(BANDS, multiplier(), axis_spec(explicit(2, 0.105)))
    assert mults == (2.0, 0.105)  # explicit values are not held to the step grid
    assert [type(v) for v in mults] == [float, float]
    assert len(axes.compute_values(BANDS, multiplier(), axis_spec(ranged(0.1, 10.0, 0.01)))) == 991


@pytest.mark.parametrize(
    ("param", "spec", "text"),
    [
        (window(), explicit(5.0), r"volatility.bands.window must be an integer, got 5.0"),
        (window(), explicit("5"), r"volatility.bands.window must be an integer, got '5'"),
        (window(), explicit(1), r"window must be in 2..2000, got 1"),
        (window(), explicit(20, 2001), r"window must be in 2..2000, got 2001"),
        (window(), ranged(1, 5, 1), r"window must be in 2..2000, got 1"),
        (window(), ranged(5, 999_999, 1), r"window must be in 2..2000, got 999999"),
        (window(), ranged(5, 6, 0.5), r"step must be a multiple of 1, got 0.5"),
        (multiplier(), ranged(0.1, 1.0, 0.015), r"step must be a multiple of 0.01, got 0.015"),
        (multiplier(), ranged(0.1, 0.1, 1e-12), r"step must be a multiple of 0.01, got 1e-12"),
        (multiplier(), ranged(0.105, 1.0, 0.01), r"grid 0.1 \+ k \* 0.01, got 0.105"),
        (multiplier(), ranged(9.9, 10.1, 0.1), r"mult must be in 0.1..10.0, got 10.1"),
        (multiplier(), explicit(10.01), r"mult must be in 0.1..10.0, got 10.01"),
    ],
)
def test_compute_values_off_the_hard_grid(param: Param, spec: object, text: str) -> None:
    with pytest.raises(InvalidGrid, match=text) as caught:
        axes.compute_values(BANDS, param, axis_spec(spec))
    assert caught.value.details["indicator_id"] == "volatility.bands"
    assert caught.value.details["axis"] == param.name


def test_sources_are_normalised() -> None:
    assert axes.source_values(BANDS, axis_spec(explicit(" HLC3", "close"))) == ("hlc3", "close")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (explicit("hl2"), "source must be one of close, hlc3, open, got 'hl2'"),
        (explicit("close", "Close "), "source holds 'close' twice"),
        (explicit(3), "got 3"),
        (ranged(1, 2, 1), "got 1"),
    ],
)
def test_sources_outside_the_definition(spec: object, text: str) -> None:
    with pytest.raises(InvalidGrid, match=text):
        axes.source_values(BANDS, axis_spec(spec))


LEVEL = RuleParam("long_threshold", "int", Listed((30,)))
LAG = RuleParam("long_delta_periods", "int", Listed((-1,)))
BODY = RuleParam("min_body_pct", "float", Listed((0.5,)))


@pytest.mark.parametrize(
    ("family", "param", "spec", "expected"),
    [
        ("threshold_band", LEVEL, explicit(30, 30.5, 31.0), (30, 30.5, 31)),
        ("threshold_band", LEVEL, ranged(15.0, 25.0, 5.0), (15, 20, 25)),
        ("candle_body_direction", BODY, explicit(1, 0.5), (1.0, 0.5)),
        ("delta_sign", LAG, explicit(-5.0, 3), (-5, 3)),
    ],
)
def test_signal_values_are_cast(
    family: str, param: RuleParam, spec: object, expected: tuple[float, ...]
) -> None:
    values = axes.signal_values("x.y", family, param, axis_spec(spec))
    assert values == expected
    assert [type(v) for v in values] == [type(v) for v in expected]


@pytest.mark.parametrize(
    ("family", "param", "spec", "text"),
    [
        ("delta_sign", LAG, explicit(-1.5), "lag must be an integer number of bars, got -1.5"),
        ("delta_sign", LAG, ranged(-1, 1, 1), "x.y.long_delta_periods: absolute value must be > 0"),
        ("threshold_band", LEVEL, explicit("30"), "x.y.long_threshold: signal values must be num"),
    ],
)
def test_signal_values_that_no_rule_takes(
    family: str, param: RuleParam, spec: object, text: str
) -> None:
    with pytest.raises(InvalidGrid, match=text):
        axes.signal_values("x.y", family, param, axis_spec(spec))


def test_wire_form_comes_back() -> None:
    for spec in (explicit(1, "a"), ranged(1, 2.5, 0.5)):
        parsed = axis_spec(spec)
        assert parsed.spec() == spec
        assert axis_spec(parsed) is parsed
    assert isinstance(axis_spec(explicit(1)), Explicit)
