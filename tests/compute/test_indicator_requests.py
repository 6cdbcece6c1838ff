"""Estimates and tensors as the indicator endpoints ask for them."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from compute.errors import GuardExceeded, InvalidGrid, InvalidInput, InvalidRequest
from compute.grid import IndicatorGrid
from compute.indicator_requests import indicator_estimate, indicator_tensor
from compute.indicators.registry import module
from compute.indicators.series import BarSeries
from compute.market.candles import Candles
from compute.market.timeframe import TIMEFRAMES
from compute.settings import Limits
from ingest.synthetic import walk_candles

START = "2026-01-01T00:00:00Z"
START_MS = 1_767_225_600_000
MINUTE_MS = 60_000


def explicit(*values: Any) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def spread(start: float, stop: float, step: float = 1) -> dict[str, Any]:
    return {"mode": "range", "start": start, "stop_incl": stop, "step": step}


ESTIMATE: dict[str, Any] = {
    "timeframe": "1m",
    "time_range": {"start": START, "end": "2026-01-02T00:00:00Z"},
    "indicators": [
        {
            "indicator_id": "ma.sma",
            "source": explicit("close", "hlc3"),
            "params": {"window": spread(5, 200)},
        }
    ],
    "risk": {"sl": explicit(1, 2), "tp": explicit(1, 2, 3)},
}
COMPUTE: dict[str, Any] = {
    "market_id": 1,
    "symbol": "btcusdt",
    "timeframe": "1m",
    "time_range": {"start": START, "end": "2026-01-01T05:00:00Z"},
    "indicator": {
        "indicator_id": "momentum.macd",
        "source": explicit("close", "hlc3"),
        "params": {
            "fast_window": explicit(4, 7),
            "signal_window": explicit(3, 5, 9),
            "slow_window": explicit(8, 20),
        },
    },
}


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(body)
    *parents, last = path.split(".")
    node: Any = found
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[last] = value
    return found


def minutes(count: int = 300) -> Candles:
    return walk_candles(seed=4, bars=count, frame=TIMEFRAMES["1m"], start_ms=START_MS)


def computed(body: dict[str, Any], candles: Candles | None = None, **options: Any) -> Any:
    source = minutes() if candles is None else candles
    return indicator_tensor(body, lambda *_: source, options.pop("limits", Limits()), **options)


def test_the_worked_estimate() -> None:
    assert indicator_estimate(ESTIMATE, Limits()) == {
        "schema_version": 1,
        "total_variants": 2352,
        "distinct_variants": 2352,
        "estimated_memory_bytes": 69_407_104,
    }


def test_an_estimate_says_how_many_variants_differ() -> None:
    block = COMPUTE["indicator"]
    found = indicator_estimate(changed(ESTIMATE, "indicators", [block]), Limits())
    assert (found["total_variants"], found["distinct_variants"]) == (24 * 6, 8 * 6)
    histogram = indicator_estimate(
        changed(ESTIMATE, "indicators", [block | {"output": "hist"}]), Limits()
    )
    assert histogram["distinct_variants"] == 24 * 6


def test_an_estimate_does_not_depend_on_the_order_and_takes_an_id_twice() -> None:
    one, two = ESTIMATE["indicators"][0], COMPUTE["indicator"]
    limits = Limits(10**9, 10**12)
    first = indicator_estimate(changed(ESTIMATE, "indicators", [one, two, one]), limits)
    assert first == indicator_estimate(changed(ESTIMATE, "indicators", [two, one, one]), limits)


@pytest.mark.parametrize("layout", ["time_major", "variant_major", None])
def test_a_tensor_holds_every_variant_in_its_place(layout: str | None) -> None:
    found = computed(changed(COMPUTE, "layout", layout))
    record = found.record()
    assert record["layout"] == layout or (layout is None and record["layout"] == "time_major")
    assert record["meta"] | {"compute_ms": 0} == {
        "t": 300, "variants": 24, "nan_policy": "propagate", "compute_ms": 0,
    }  # fmt: skip
    assert record["dtype"] == "float32"
    assert record["c_contiguous"]
    assert record["shape"] == ([24, 300] if layout == "variant_major" else [300, 24])
    names = ["fast_window", "signal_window", "slow_window", "source"]
    assert [axis["name"] for axis in record["axes"]] == names
    by_variant = found.values if layout == "variant_major" else found.values.T
    candles = minutes()
    series = BarSeries(*candles.series(), START_MS // MINUTE_MS)  # type: ignore[misc]
    grid = IndicatorGrid(module("momentum.macd").DEFINITION, "macd", found.axes, ())
    for variant in (0, 5, 17, 23):
        inputs, params = grid.settings(variant)
        row = np.empty((1, 300), np.float32)
        arrays = {name: np.array([value]) for name, value in params.items()}
        module("momentum.macd").rows(series, arrays, inputs["source"], "macd", row)
        np.testing.assert_array_equal(by_variant[variant], row[0])


def test_threads_and_layouts_give_the_same_tensor() -> None:
    body = changed(COMPUTE, "indicator.params.slow_window", spread(8, 60))
    with ThreadPoolExecutor(3) as pool:
        threads = computed(body, each=lambda work, items: list(pool.map(work, items)))
    plain = computed(changed(body, "layout", "variant_major"))
    np.testing.assert_array_equal(threads.values, plain.values.T)


def test_missing_minutes_are_holes() -> None:
    candles = minutes().take(np.arange(300) != 100)
    body = changed(COMPUTE, "indicator", {"indicator_id": "ma.sma", "source": explicit("close"),
                                          "params": {"window": explicit(3)}})  # fmt: skip
    values = computed(body, candles).values[:, 0]
    assert np.flatnonzero(np.isnan(values)).tolist() == [0, 1, 100, 101, 102]


def test_any_output_can_be_computed() -> None:
    block = {
        "indicator_id": "structure.pivots",
        "output": "pivot_low",
        "params": {"left": explicit(2), "right": explicit(3)},
    }
    assert np.isfinite(computed(changed(COMPUTE, "indicator", block)).values).any()
    with pytest.raises(InvalidGrid, match=r"unknown output 'low'; it has pivot_high, pivot_low"):
        computed(changed(COMPUTE, "indicator", block | {"output": "low"}))


@pytest.mark.parametrize(
    ("limits", "guard", "error"),
    [
        (Limits(23), None, "max_variants_per_compute_exceeded"),
        (Limits(), 23, "max_variants_per_compute_exceeded"),
        (Limits(600_000, 67_000_000), None, "max_compute_bytes_total_exceeded"),
    ],
)
def test_guards_refuse_before_candles_are_read(limits: Limits, guard: int, error: str) -> None:
    def load(*_: object) -> Candles:
        raise AssertionError("candles were read")

    body = changed(COMPUTE, "max_variants_guard", guard)
    with pytest.raises(GuardExceeded) as refusal:
        indicator_tensor(body, load, limits)
    assert refusal.value.details["error"] == error
    if "variants" in error:
        assert refusal.value.details["max_variants_per_compute"] == 23
        assert refusal.value.details["total_variants"] == 24


def test_the_finished_tensor_has_a_guard_of_its_own() -> None:
    """Where the reserve is a maximum in one formula and a sum in the other."""
    body = changed(COMPUTE, "indicator.params.slow_window", spread(8, 1200))
    body["indicator"]["params"]["signal_window"] = spread(2, 100)
    bars, variants = 300, 2 * 99 * 1193 * 2
    contract = bars * 28 + bars * variants * 4
    limits = Limits(600_000, contract + -(-contract // 5))
    with pytest.raises(GuardExceeded) as refusal:
        computed(body, limits=limits)
    assert refusal.value.details["error"] == "compute_budget_exceeded"
    assert (refusal.value.details["T"], refusal.value.details["V"]) == (bars, variants)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("timeframe", "5m", "1m bars only"),
        ("time_range.start", "2026-01-01T00:00:30Z", "whole bars"),
        ("indicator.params", {}, "missing required param"),
        ("indicator.indicator_id", "ma.smma", "unknown indicator"),
        ("indicator.source", explicit("hl2"), "source"),
    ],
)
def test_wrong_requests_are_refused(path: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        computed(changed(COMPUTE, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("layout", "rows"),
        ("max_variants_guard", 0),
        ("market_id", "1"),
        ("more", 1),
        ("time_range.end", "2025-01-01T00:00:00Z"),
    ],
)
def test_schema_faults_name_their_place(path: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        computed(changed(COMPUTE, path, value))
    assert refusal.value.errors[0]["path"].startswith("body." + path.split(".")[0])


def test_an_estimate_needs_risk_levels_and_whole_bars() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        indicator_estimate({k: v for k, v in ESTIMATE.items() if k != "risk"}, Limits())
    assert refusal.value.errors[0] == {
        "path": "body.risk", "code": "required", "message": "is required",
    }  # fmt: skip
    with pytest.raises(InvalidGrid, match="whole bars"):
        indicator_estimate(
            changed(ESTIMATE, "timeframe", "1d")
            | {"time_range": {"start": START, "end": "2026-01-02T12:00:00Z"}},
            Limits(),
        )
