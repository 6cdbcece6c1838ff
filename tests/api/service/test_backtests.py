"""Searches within a request, against the contract's worked requests and the engine itself."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from api.schemas.backtests import BacktestResult, Report
from api.schemas.examples import BACKTESTS, REPORTS
from compute.backtest import resolve
from compute.executor import LocalExecutor
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import load_window, timeline
from compute.pipeline import backtest
from compute.request import parse_request
from compute.results import result_document
from compute.settings import Defaults, Limits
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

WORKED = BACKTESTS["two indicators with stops"]


def request(changes: dict[str, Any] | None = None, body: Any = WORKED) -> dict[str, Any]:
    """The worked request with values replaced by dotted path; `...` removes one."""
    made = copy.deepcopy(body)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node = made
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node[name]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return made


def expected(db: ClickHouse, body: dict[str, Any]) -> dict[str, Any]:
    """What the engine itself answers, over the same store."""
    job = resolve(parse_request(body), Defaults())
    minute = TIMEFRAMES["1m"]
    load = load_window(job.period, job.timeframe, job.warmup_bars, minute)
    candles = CandleStore(db).candles(job.instrument, load)
    bars = timeline(
        candles, minute, job.instrument, job.timeframe, job.period, job.warmup_bars, generated=True
    )
    with LocalExecutor(2) as executor:
        outcome = backtest(job, bars, executor, limits=Limits())
        return result_document(outcome, executor, run={})


def test_the_worked_request(client: httpx.Client, store: ClickHouse) -> None:
    response = client.post("/backtests", json=WORKED)
    assert response.status_code == 200, response.text
    found = response.json()
    BacktestResult.model_validate(found)
    assert found["mode"] == "template"
    assert found["strategy_id"] is None
    assert found["spec_hash"] is None
    assert found["instrument_id"] == {"market_id": 1, "symbol": "BTCUSDT"}
    assert found["grid_request_hash"] == (
        "9c3104a12d17249366d6c01227835f5dbf5618e0d80689afc83aa5effd296264"
    )
    assert found["engine_params_hash"] == (
        "9d8e08177356427c4373e49eca58836a19f3d06cb73da3b9dfc2026a5fbe0ccb"
    )
    assert [found[name] for name in ("warmup_bars", "top_k", "preselect", "top_trades_n")] == [
        50, 3, 5, 1,
    ]  # fmt: skip
    assert found["plan"]["stage_a_variants_total"] == 12
    assert found["plan"]["stage_b_variants_total"] == 30
    assert found["plan"]["loaded_bars"] == 289
    assert found["plan"]["ranked_bars"] == 240
    assert len(found["variants"]) == 3
    assert all(variant["report"] is None for variant in found["variants"])
    keys = {
        (payload["indicator_selections"][0]["params"]["window"],
         payload["indicator_selections"][1]["params"]["window"]): variant["indicator_variant_key"]
        for variant in found["variants"]
        for payload in [variant["payload"]]
    }  # fmt: skip
    for (sma, rsi), key in keys.items():
        if (sma, rsi) == (5, 7):
            assert key == "72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557"
    known = expected(store, WORKED)
    for variant, other in zip(found["variants"], known["variants"], strict=True):
        assert variant | {"report": other["report"]} == other
    assert found["cautions"][0]["code"] == "synthetic_candles"
    for name in ("candles", "cautions", "plan", "engine_version"):
        assert found[name] == known[name]


def test_every_row_of_the_grid_has_its_key(client: httpx.Client) -> None:
    found = client.post("/backtests", json=request({"top_k": 72, "preselect": 12})).json()
    assert len(found["variants"]) == 72
    named = {
        variant["indicator_variant_key"]
        for variant in found["variants"]
        if [one["params"]["window"] for one in variant["payload"]["indicator_selections"]] == [5, 7]
    }
    assert named == {"72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557"}
    order = {
        variant["variant_index"] % 6: (
            variant["payload"]["risk_params"]["sl_pct"],
            variant["payload"]["risk_params"]["tp_pct"],
        )
        for variant in found["variants"]
    }
    assert [order[i] for i in range(6)] == [
        (1.0, 3.0), (1.0, 6.0), (1.5, 3.0), (1.5, 6.0), (2.0, 3.0), (2.0, 6.0),
    ]  # fmt: skip


def test_the_request_hash_of_a_template_alone(client: httpx.Client) -> None:
    body = {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "15m",
            "indicator_grids": [
                {
                    "indicator_id": "ma.ema",
                    "params": {
                        "window": {"mode": "range", "start": 10, "stop_incl": 50, "step": 10}
                    },
                    "source": {"mode": "explicit", "values": ["close"]},
                }
            ],
            "signal_grids": {},
        },
    }  # fmt: skip
    found = client.post("/backtests", json=body).json()
    body["template"]["instrument_id"] = {"market_id": 2, "symbol": "ETHUSDT"}  # type: ignore[index]
    job = resolve(parse_request(body), Defaults())
    assert job.grid_request_hash == (
        "e54a581a0e1b8745550f7d85f6a389a7d79f5e3e8667b1237f82e01a8253d3b4"
    )
    assert found["grid_request_hash"] != job.grid_request_hash
    assert (found["top_k"], found["preselect"], found["top_trades_n"]) == (300, 20_000, 3)
    assert found["warmup_bars"] == 200


@pytest.mark.parametrize("name", BACKTESTS)
def test_the_examples_work(client: httpx.Client, name: str) -> None:
    response = client.post("/backtests", json=BACKTESTS[name])
    assert response.status_code == 200, response.text
    found = BacktestResult.model_validate(response.json())
    assert found.variants
    assert (found.holdout is not None) == ("held out" in name)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_the_search_s_row(client: httpx.Client, store: ClickHouse, name: str) -> None:
    response = client.post("/backtests/variant-report", json=REPORTS[name])
    assert response.status_code == 200, response.text
    found = Report.model_validate(response.json())
    assert len(found.rows) == 25
    assert found.table_md.startswith("|Metric|Value|\n|---|---|\n|Start|2026-01-01 ")
    assert found.trades is not None
    assert [trade.trade_id for trade in found.trades] == [*range(1, len(found.trades) + 1)]
    whole = expected(store, request({"top_k": 72, "preselect": 12, "top_trades_n": 72}))
    for variant in whole["variants"]:
        sent = {
            "time_range": WORKED["time_range"],
            "template": WORKED["template"],
            "warmup_bars": 50,
            "variant": variant["payload"],
            "include_trades": True,
        }
        if variant["variant_index"] % 9:
            continue
        report = client.post("/backtests/variant-report", json=sent).json()
        assert report["rows"] == variant["report"]["rows"]
        assert report["trades"] == variant["report"]["trades"]


def test_a_report_without_trades(client: httpx.Client) -> None:
    (sent,) = (request({"include_trades": ...}, body) for body in REPORTS.values())
    found = client.post("/backtests/variant-report", json=sent).json()
    assert found["trades"] is None
    assert len(found["rows"]) == 25


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"variant.indicator_selections.0.params.window": True},
         "body.variant.indicator_selections.0.params.window", "scalar_type"),
        ({"variant.signal_params": {}},
         "body.variant.signal_params.momentum.rsi.long_threshold", "grid_validation_error"),
        ({"variant.risk_params.sl_pct": None},
         "body.variant.risk_params.sl_pct", "grid_validation_error"),
        ({"variant.indicator_selections.0.params.window": 1},
         "body.variant.indicator_selections.0.params.window", "grid_validation_error"),
        ({"variant.rank": 1}, "body.variant.rank", "extra_forbidden"),
        ({"template": ...}, "body.strategy_id", "mode_conflict"),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be(
    client: httpx.Client, changes: dict[str, Any], path: str, code: str
) -> None:
    (body,) = REPORTS.values()
    error = refused(client.post("/backtests/variant-report", json=request(changes, body)))
    assert error["code"] == "validation_error"
    places = {item["path"]: item["code"] for item in error["details"]["errors"]}
    assert path in places, places
    assert places[path].startswith(code), places


MODE = "POST /backtests requires exactly one mode: strategy_id xor template"
SOME = "00000000-0000-0000-0000-00000000abcd"


@pytest.mark.parametrize(
    ("changes", "items"),
    [
        ({"template": ...},
         {"body.strategy_id": "mode_conflict", "body.template": "mode_conflict"}),
        ({"strategy_id": SOME},
         {"body.strategy_id": "mode_conflict", "body.template": "mode_conflict"}),
        ({"overrides": {}}, {"body.overrides": "mode_conflict"}),
        ({"mode": "template"}, {"body.mode": "extra_forbidden"}),
        ({"template.timeframe": ...}, {"body.template.timeframe": "required"}),
        ({"top_k": 0, "preselect": -1, "warmup_bars": True},
         {"body.preselect": "greater_than", "body.top_k": "greater_than",
          "body.warmup_bars": "int_type"}),
        ({"top_trades_n": 4}, {"body.top_trades_n": "max_value"}),
        ({"template.instrument_id.market_id": 7},
         {"body.template.instrument_id.market_id": "unsupported"}),
        ({"time_range.start": "2026-01-01T00:00:00"}, {"body.time_range.start": "timezone_aware"}),
        ({"time_range.end": "2026-01-01T00:00:00Z"}, {"body.time_range": "value_error"}),
    ],
)  # fmt: skip
def test_bad_requests(client: httpx.Client, changes: dict[str, Any], items: dict[str, str]) -> None:
    error = refused(client.post("/backtests", json=request(changes)))
    assert error["code"] == "validation_error"
    found = error["details"]["errors"]
    assert {item["path"]: item["code"] for item in found} == items
    assert found == sorted(found, key=lambda item: (item["path"], item["code"], item["message"]))
    if "mode_conflict" in items.values() and len(items) == 2:
        assert error["message"] == MODE


def test_a_default_of_trades_is_clamped_to_top_k(client: httpx.Client) -> None:
    found = client.post("/backtests", json=request({"top_k": 2, "top_trades_n": ...})).json()
    assert found["top_trades_n"] == 2


def test_no_candles(client: httpx.Client) -> None:
    range_ = {"start": "2027-01-01T00:00:00Z", "end": "2027-01-02T00:00:00Z"}
    error = refused(client.post("/backtests", json=request({"time_range": range_})))
    assert error["message"].startswith("no market data for requested range")
    assert "2025-12-25T00:00:00Z" in error["message"]


def test_a_range_without_a_bar_is_an_empty_slice(client: httpx.Client) -> None:
    range_ = {"start": "2026-01-01T00:01:00Z", "end": "2026-01-01T00:30:00Z"}
    response = client.post("/backtests", json=request({"time_range": range_}))
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["plan"]["ranked_bars"] == 0
    assert {variant["total_return_pct"] for variant in found["variants"]} == {0.0}


@pytest.mark.parametrize(
    ("changes", "stage", "error"),
    [
        ({"template.indicator_grids.0.params.window":
            {"mode": "range", "start": 2, "stop_incl": 2000, "step": 1},
          "template.indicator_grids.1.params.window":
            {"mode": "range", "start": 2, "stop_incl": 2000, "step": 1}},
         "stage_a", "max_variants_per_compute_exceeded"),
        ({"template.risk_grid.sl": {"mode": "range", "start": 1, "stop_incl": 60_000, "step": 1}},
         "stage_b", "max_variants_per_compute_exceeded"),
    ],
)  # fmt: skip
def test_half_of_the_budgets(
    client: httpx.Client, changes: dict[str, Any], stage: str, error: str
) -> None:
    details = refused(client.post("/backtests", json=request(changes)))["details"]
    assert details["error"] == error
    assert details["stage"] == stage
    assert details["max_variants_per_compute"] == 300_000


def test_an_unknown_strategy(client: httpx.Client) -> None:
    body = {"time_range": WORKED["time_range"], "strategy_id": SOME}
    for path, sent in (
        ("/backtests", body),
        (
            "/backtests/variant-report",
            body | {"variant": next(iter(REPORTS.values()))["variant"]},
        ),
    ):
        error = refused(client.post(path, json=sent), 404)
        assert error["code"] == "not_found"
        assert error["details"] == {"strategy_id": SOME}


def test_eager_reports(store: ClickHouse) -> None:
    defaults = Defaults(eager_top_reports_enabled=True)
    body = request({"validation": {"holdout_fraction": 0.2}})
    with client_of(lambda: context_of(store, defaults=defaults)) as client:
        found = client.post("/backtests", json=body).json()
    BacktestResult.model_validate(found)
    known = expected(store, body)
    for row, (variant, other) in enumerate(zip(found["variants"], known["variants"], strict=True)):
        for ours, theirs in ((variant, other), (variant["holdout"], other["holdout"])):
            assert ours["report"]["table_md"].count("\n") == 26
            assert {name: ours["report"][name] for name in ("rows", "trades")} == theirs["report"]
        assert (variant["report"]["trades"] is None) == (row >= 1)


def test_runtime_defaults(client: httpx.Client) -> None:
    assert client.get("/backtests/runtime-defaults").json() == {
        "warmup_bars_default": 200,
        "top_k_default": 300,
        "preselect_default": 20_000,
        "top_trades_n_default": 3,
        "ranking": {
            "primary_metric_default": "total_return_pct",
            "secondary_metric_default": None,
        },
        "execution": {
            "init_cash_quote_default": 10_000.0,
            "fixed_quote_default": 100.0,
            "safe_profit_percent_default": 30.0,
            "slippage_pct_default": 0.01,
            "fee_pct_default_by_market_id": {"1": 0.075, "2": 0.1, "3": 0.075, "4": 0.1},
        },
        "jobs": {"top_k_persisted_default": 300},
    }
