"""Indicators over HTTP: the registry, estimates, and tensors of stored candles."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from api.schemas.examples import ESTIMATES, PREVIEWS, TENSORS
from api.schemas.indicators import EstimateTotals, IndicatorList, PreviewSeries, TensorFacts
from compute.indicator_requests import indicator_tensor
from compute.indicators.registry import definition, ids
from compute.settings import Limits
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.market import (
    client,
    client_of,
    context_of,
    refused,
    store,
    store_directory,
)

__all__ = ["client", "store", "store_directory"]

(ESTIMATE,) = ESTIMATES.values()
(TENSOR,) = TENSORS.values()


def changed(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(body) | changes


def test_the_registry(client: httpx.Client) -> None:
    response = client.get("/indicators")
    assert response.status_code == 200
    found = IndicatorList.model_validate(response.json())
    assert [item.indicator_id for item in found.items] == [*ids()]
    for item in found.items:
        known = definition(item.indicator_id)
        assert item.group == item.indicator_id.split(".")[0] == known.group
        assert item.output_names == [output.name for output in known.outputs]
        assert item.primary_output in item.output_names
        assert item.axis_order == [*known.axes]
        assert bool(item.inputs) == ("source" in known.axes)
        names = [param.name for param in item.params]
        assert names == sorted(names)
        assert (item.signal is None) == (known.output().rule is None)
    by_id = {item.indicator_id: item for item in found.items}
    rsi = by_id["momentum.rsi"]
    (source,) = rsi.inputs
    assert source.allowed_values == ["close", "high", "hlc3", "low", "ohlc4", "open"]
    assert source.default is not None
    assert rsi.required_inputs == []
    assert rsi.params[0].model_dump(exclude={"default"}) == {
        "name": "window", "kind": "int", "hard_min": 2, "hard_max": 2000, "step": 1,
        "enum_values": None,
    }  # fmt: skip
    assert rsi.signal is not None
    assert rsi.signal.family == "threshold_band"
    assert by_id["structure.pivot_low"].params[0].default is None
    assert by_id["structure.distance_to_ma_norm"].required_inputs == ["close", "high", "low"]
    assert response.content == client.get("/indicators").content


def test_the_worked_estimate(client: httpx.Client) -> None:
    response = client.post("/indicators/estimate", json=ESTIMATE)
    assert response.status_code == 200, response.text
    EstimateTotals.model_validate(response.json())
    assert response.json() == {
        "schema_version": 1,
        "total_variants": 2_352,
        "distinct_variants": 2_352,
        "estimated_memory_bytes": 69_407_104,
    }


def test_an_estimate_above_the_guards(store: ClickHouse) -> None:
    body = copy.deepcopy(ESTIMATE)
    body["risk"]["sl"] = {"mode": "range", "start": 1, "stop_incl": 1000, "step": 1}
    with client_of(lambda: context_of(store)) as client:
        details = refused(client.post("/indicators/estimate", json=body))["details"]
    assert details == {
        "error": "max_variants_per_compute_exceeded",
        "total_variants": 392 * 1000 * 3,
        "max_variants_per_compute": 600_000,
    }
    limits = Limits(max_compute_bytes_total=69_407_103)
    with client_of(lambda: context_of(store, limits=limits)) as client:
        details = refused(client.post("/indicators/estimate", json=ESTIMATE))["details"]
    assert details == {
        "error": "max_compute_bytes_total_exceeded",
        "estimated_memory_bytes": 69_407_104,
        "max_compute_bytes_total": 69_407_103,
    }


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"risk": ...}, "body.risk", "required"),
        ({"indicators": []}, "body.indicators", "too_short"),
        ({"timeframe": "2m"}, "body.timeframe", "literal_error"),
        ({"top_k": 3}, "body.top_k", "extra_forbidden"),
    ],
)
def test_estimates_that_cannot_be(
    client: httpx.Client, changes: dict[str, Any], path: str, code: str
) -> None:
    body = {name: value for name, value in (ESTIMATE | changes).items() if value is not ...}
    error = refused(client.post("/indicators/estimate", json=body))
    assert {item["path"]: item["code"] for item in error["details"]["errors"]} == {path: code}


@pytest.mark.parametrize("layout", ["variant_major", "time_major", None])
def test_a_tensor(client: httpx.Client, store: ClickHouse, layout: str | None) -> None:
    body = changed(TENSOR, layout=layout)
    response = client.post("/indicators/compute", json=body)
    assert response.status_code == 200, response.text
    found = response.json()
    TensorFacts.model_validate(found)
    candles = CandleStore(store)
    same = indicator_tensor(
        body, lambda instrument, _, period: candles.candles(instrument, period), Limits()
    ).record()
    found["meta"].pop("compute_ms")
    same["meta"].pop("compute_ms")
    assert found == same
    assert found["shape"] == ([2, 1440] if layout == "variant_major" else [1440, 2])
    assert found["axes"] == [
        {"name": "source", "values": ["close"]},
        {"name": "window", "values": [20, 50]},
        {"name": "mult", "values": [2.0]},
    ] or [axis["name"] for axis in found["axes"]] == [*definition("volatility.bbands").axes]


def test_a_tensor_of_minutes_that_are_not_there(client: httpx.Client) -> None:
    range_ = {"start": "2030-01-01T00:00:00Z", "end": "2030-01-01T01:00:00Z"}
    found = client.post("/indicators/compute", json=changed(TENSOR, time_range=range_)).json()
    assert found["meta"]["t"] == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timeframe": "5m"}, "1m bars only"),
        ({"time_range": {"start": "2026-01-01T00:00:30Z", "end": "2026-01-01T01:00:30Z"}},
         "whole bars"),
        ({"symbol": " "}, "symbol"),
        ({"indicator": {"indicator_id": "ma.smaa"}}, "did you mean ma.sma"),
        ({"indicator": {"indicator_id": "ma.sma", "params": {}}}, "missing required"),
        ({"max_variants_guard": 1}, "the limit is 1"),
    ],
)  # fmt: skip
def test_tensors_that_cannot_be(
    client: httpx.Client, changes: dict[str, Any], message: str
) -> None:
    error = refused(client.post("/indicators/compute", json=changed(TENSOR, **changes)))
    assert error["code"] == "validation_error"
    assert message in error["message"]


def test_a_tensor_above_the_memory_guard(store: ClickHouse) -> None:
    # Enough by the first formula, which takes the larger of two reserves, not by the second.
    body = changed(
        TENSOR, time_range={"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"}
    )
    bars, variants = 7 * 1440, 2
    first = bars * 28 + bars * variants * 4 + (64 << 20)
    out = bars * variants * 4
    second = out + -(-out // 5) + (64 << 20)
    assert second < first
    with client_of(lambda: context_of(store, limits=Limits(600_000, first - 1))) as client:
        details = refused(client.post("/indicators/compute", json=body))["details"]
    assert details["error"] == "max_compute_bytes_total_exceeded"
    assert details["estimated_memory_bytes"] == first


def previewed(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/indicators/preview", json=body)
    assert response.status_code == 200, response.text
    return PreviewSeries.model_validate(response.json()).model_dump()


@pytest.mark.parametrize("body", PREVIEWS.values(), ids=["average", "band"])
def test_a_preview(client: httpx.Client, body: dict[str, Any]) -> None:
    found = previewed(client, body)
    assert found["generated"] is True
    points = len(found["ts_open"])
    assert points == -(-found["bars"] // found["bars_per_point"]) <= body.get("points", 400)
    for name in ("open", "high", "low", "close", "value", "long", "short"):
        assert len(found[name]) == points, name
    assert all(low <= close <= high for low, close, high in
               zip(found["low"], found["close"], found["high"], strict=True))  # fmt: skip
    assert 0 < sum(found["long"]) + sum(found["short"]) <= found["bars"]


def test_a_preview_is_the_middle_of_its_ranges_bar_by_bar(
    client: httpx.Client, store: ClickHouse
) -> None:
    body = PREVIEWS["an average in the middle of a range"] | {"points": 2_000}
    found = previewed(client, body)
    assert found["settings"] == {"source": "close", "window": 10}
    assert found["bars_per_point"] == 1
    closes = found["close"]
    for i in range(9, len(closes)):
        mean = sum(closes[i - 9 : i + 1]) / 10
        assert found["value"][i] == pytest.approx(mean, rel=1e-6)
        assert (found["long"][i], found["short"][i]) == (
            int(closes[i] > found["value"][i]), int(closes[i] < found["value"][i]),
        )  # fmt: skip
    # As many bars as a point of them stand for are put together.
    rough = previewed(client, body | {"points": 30})
    assert rough["bars_per_point"] == 4
    assert rough["long"] == [sum(found["long"][i : i + 4]) for i in range(0, found["bars"], 4)]
    assert rough["high"] == [max(found["high"][i : i + 4]) for i in range(0, found["bars"], 4)]
    assert rough["value"][0] == found["value"][3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": 2_001}, "body.points"),
        ({"timeframe": "2m"}, "body.timeframe"),
        ({"indicator": {"indicator_id": "ma.smma"}}, "unknown indicator"),
        ({"indicator": {"indicator_id": "structure.pivot_low"}}, "structure.pivots"),
        ({"signals": {"x": {"mode": "explicit", "values": [1]}}}, "unknown signal param"),
        ({"instrument_id": {"market_id": 1, "symbol": "NO"}}, "no candle of 1:NO"),
        ({"time_range": {"start": "2020-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}},
         "max_candles"),
    ],
)  # fmt: skip
def test_a_preview_that_is_refused(client: httpx.Client, change: dict[str, Any], said: str) -> None:
    body = PREVIEWS["a band and its thresholds"] | change
    assert said in str(refused(client.post("/indicators/preview", json=body)))
