"""The request schema: what passes, and the path, code and message of what does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from compute.axes import Explicit, Range
from compute.errors import InvalidRequest
from compute.request import STRATEGY_GIVEN, parse_request

BODY: dict[str, Any] = {
    "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T02:00:00.0015+02:00"},
    "template": {
        "instrument_id": {"market_id": 1, "symbol": " btcusdt"},
        "timeframe": " 1H ",
        "indicator_grids": [
            {
                "indicator_id": " Momentum.RSI ",
                "source": {"mode": "explicit", "values": ["close"]},
                "params": {" Window": {"mode": "explicit", "values": [7, 14]}},
            },
            {"indicator_id": "ma.sma"},
        ],
        "signal_grids": {"momentum.rsi": {"long_threshold": {"mode": "explicit", "values": [50]}}},
        "direction_mode": " Long-Only",
        "sizing_mode": "FIXED_QUOTE",
        "execution": {"init_cash": 500, "market_fee_pct": 0, "slippage_pct": 99.9},
        "risk_grid": {
            "sl_enabled": True,
            "sl": {"mode": "range", "start": 1.0, "stop_incl": 2.0, "step": 0.5},
        },
    },
    "warmup_bars": 50,
    "top_k": None,
    "ranking": {"primary_metric": " Profit_Factor ", "min_trades": 5, "distinct": True},
    "validation": {"holdout_fraction": 0.25},
}
DROP = object()


def changed(path: str, value: object) -> dict[str, Any]:
    """`BODY` with the value at a dotted path replaced, or dropped."""
    body = copy.deepcopy(BODY)
    *parents, last = path.split(".")
    node: Any = body
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    if value is DROP:
        del node[last]
    else:
        node[last] = value
    return body


def refused(body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body)
    return caught.value


def test_a_full_request() -> None:
    request = parse_request(BODY)
    template = request.template
    assert str(template.instrument_id.instrument) == "1:BTCUSDT"
    assert template.timeframe.code == "1h"
    assert str(request.time_range.period) == "[2026-01-01T00:00:00Z, 2026-01-11T00:00:00.001Z)"
    rsi, sma = template.indicator_grids
    assert (rsi.indicator_id, rsi.params) == ("momentum.rsi", {"window": Explicit((7, 14))})
    assert (sma.source, sma.params, sma.output) == (None, {}, None)
    assert template.signal_grids == {"momentum.rsi": {"long_threshold": Explicit((50,))}}
    assert (template.direction_mode, template.sizing_mode) == ("long-only", "fixed_quote")
    assert template.execution is not None
    assert template.execution.model_dump(exclude_none=True) == {
        "init_cash_quote": 500.0,
        "fee_pct": 0.0,
        "slippage_pct": 99.9,
    }
    assert template.risk_grid is not None
    assert template.risk_grid.sl == Range(1.0, 2.0, 0.5)
    assert (request.warmup_bars, request.top_k, request.preselect) == (50, None, None)
    assert request.ranking is not None
    assert request.ranking.model_dump() == {
        "primary_metric": "profit_factor",
        "secondary_metric": None,
        "min_trades": 5,
        "distinct": True,
    }
    assert request.validation is not None
    assert request.validation.holdout_fraction == 0.25


def test_the_body_is_kept_as_sent() -> None:
    body = copy.deepcopy(BODY)
    request = parse_request(body)
    body["template"]["timeframe"] = "1m"
    assert request.body == BODY
    assert json.dumps(request.body) == json.dumps(BODY)  # order and number kinds too


@pytest.mark.parametrize("body", [[], "x", 3, None, True])
def test_only_an_object_is_a_request(body: object) -> None:
    error = refused(body)
    assert error.message.startswith("a request is a JSON object, got ")
    assert [(e["path"], e["code"]) for e in error.errors] == [("body", "object_type")]


@pytest.mark.parametrize(
    "fields",
    [{"strategy_id": "x", "template": BODY["template"]}, {}, {"strategy_id": None}],
    ids=["both", "none", "null"],
)
def test_exactly_one_mode(fields: dict[str, object]) -> None:
    error = refused({"time_range": BODY["time_range"], **fields})
    assert error.message == ("POST /backtests requires exactly one mode: strategy_id xor template")
    assert [(e["path"], e["code"]) for e in error.errors] == [
        ("body.strategy_id", "mode_conflict"),
        ("body.template", "mode_conflict"),
    ]


def test_a_strategy_is_told_from_a_request() -> None:
    strategy = {"schema_version": 2, "indicators": [{"id": "ma.sma"}]}
    for body in (strategy, {"strategy_id": "1", "spec": strategy}):
        assert refused(body).message == STRATEGY_GIVEN
    for body in ({"indicators": [], "template": {}}, {"spec": []}, {"indicators": 3}):
        assert refused(body).message != STRATEGY_GIVEN


def test_a_stored_strategy_is_not_for_this_entry() -> None:
    error = refused({"time_range": BODY["time_range"], "strategy_id": "x"})
    assert "send template" in error.message
    assert error.errors[0]["path"] == "body.strategy_id"
    error = refused({**BODY, "overrides": {"direction_mode": "long-only"}})
    assert [(e["path"], e["code"]) for e in error.errors] == [("body.overrides", "mode_conflict")]
    assert parse_request({**BODY, "overrides": None, "strategy_id": None}).top_k is None


def test_duplicate_indicator_ids() -> None:
    error = refused(changed("template.indicator_grids.1.indicator_id", "momentum.rsi "))
    message = "duplicate indicator_id in indicator_grids: momentum.rsi"
    assert error.message == message
    assert error.errors == [
        {
            "path": "body.template.indicator_grids.1.indicator_id",
            "code": "duplicate",
            "message": message,
        }
    ]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("path", "value", "code", "text"),
    [
        ("time_range", DROP, "required", "is required"),
        ("time_range.start", DROP, "required", "is required"),
        ("time_range.start", "2026-01-01T00:00:00", "timezone_aware", "has no time zone; add Z"),
        ("time_range.start", "2026-01-01", "timezone_aware", "has no time zone"),
        ("time_range.start", "soon", "datetime_parsing", "is not ISO 8601"),
        ("time_range.start", 1767225600, "datetime_type", "must be an ISO 8601 text"),
        ("template.timeframe", DROP, "required", "is required"),
        ("template.timeframe", "2h", "literal_error", "use one of 1m 5m 15m 1h 4h 1d"),
        ("template.timeframe", 60, "literal_error", "use one of 1m"),
        ("template.instrument_id.market_id", 0, "greater_than", "must be > 0 (got "),
        ("template.instrument_id.market_id", True, "int_type", "must be a whole number (got "),
        ("template.instrument_id.symbol", "  ", "string_too_short", "must not be empty (got "),
        ("template.indicator_grids", [], "too_short", "must not be empty (got [])"),
        ("template.indicator_grids.0.indicator_id", " ", "string_too_short", "must not be empty"),
        ("template.indicator_grids.0.window", 5, "extra_forbidden", "an unknown field; allowed"),
        ("template.direction_mode", "both", "literal_error", "long-only, long-short, short-only"),
        ("template.sizing_mode", "half", "literal_error", "all_in, fixed_quote, strategy_compound"),
        ("template.execution.market_fee_pct", -0.1, "greater_than_equal", "must be >= 0 (got -"),
        ("template.execution.market_fee_pct", "0.1", "float_type", "must be a number (got "),
        ("template.execution.market_fee_pct", True, "float_type", "must be a number (got "),
        ("template.execution.market_fee_pct", NAN, "finite_number", "must be a finite number"),
        ("template.execution.market_fee_pct", INF, "finite_number", "must be a finite number"),
        ("template.execution.slippage_pct", 100, "less_than", "must be < 100 (got 100)"),
        ("template.execution.slippage_pct", -1, "greater_than_equal", "must be >= 0 (got -"),
        ("template.execution.init_cash", 0, "greater_than", "must be > 0 (got "),
        ("template.execution.fixed_quote", 0, "greater_than", "must be > 0 (got "),
        ("template.execution.safe_profit_percent", 100.5, "less_than_equal", "<= 100 (got 100.5)"),
        ("template.execution.leverage", 2, "extra_forbidden", "an unknown field; allowed"),
        ("template.risk_grid.sl_enabled", 1, "bool_type", "must be true or false (got "),
        ("template.risk_grid.sl_pct", "3", "float_type", "must be a number (got "),
        ("template.risk_grid.tp_pct", INF, "finite_number", "must be a finite number"),
        ("warmup_bars", 0, "greater_than", "must be > 0 (got "),
        ("warmup_bars", True, "int_type", "must be a whole number (got "),
        ("top_k", 3.0, "int_type", "must be a whole number (got "),
        ("top_k", "3", "int_type", "must be a whole number (got "),
        ("preselect", -1, "greater_than", "must be > 0 (got "),
        ("top_trades_n", 0, "greater_than", "must be > 0 (got "),
        ("mode", "template", "extra_forbidden", "an unknown field; allowed"),
        ("ranking.primary_metric", DROP, "required", "is required"),
        ("ranking.primary_metric", "sharpe", "literal_error",
         'profit_factor, return_over_max_drawdown, total_return_pct (got "sharpe")'),
        ("ranking.secondary_metric", "profit_factor", "value_error", "must differ"),
        ("ranking.min_trades", -1, "greater_than_equal", "must be >= 0 (got -"),
        ("ranking.distinct", "yes", "bool_type", "must be true or false (got "),
        ("validation.holdout_fraction", 1, "less_than", "must be < 1 (got 1)"),
        ("validation.holdout_fraction", -0.1, "greater_than_equal", "must be >= 0 (got -"),
    ],
)  # fmt: skip
def test_refusals_name_the_place(path: str, value: object, code: str, text: str) -> None:
    error = refused(changed(path, value))
    assert error.message == "Validation failed"
    assert [(e["path"], e["code"]) for e in error.errors] == [(f"body.{path}", code)]
    assert text in error.errors[0]["message"]
    assert error.details == {"errors": error.errors}


@pytest.mark.parametrize(
    ("axis", "at", "code"),
    [
        ({"mode": "explicit", "values": []}, ".values", "too_short"),
        ({"mode": "explicit", "values": [5, True]}, ".values.1", "bool_type"),
        ({"mode": "explicit", "values": [5, 5.0]}, ".values.1", "duplicate"),
        ({"mode": "range", "start": 9, "stop_incl": 5, "step": 1}, ".start", "reversed"),
        ({"mode": "range", "start": "5", "stop_incl": 9, "step": 1}, ".start", "number_type"),
        ({"mode": "range", "start": 5, "stop_incl": 9}, ".step", "required"),
        ({"mode": "explicit", "values": [5], "sorted": 1}, ".sorted", "extra_forbidden"),
        (5, "", "mapping_type"),
        (None, "", "mapping_type"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "template.indicator_grids.0.params. Window",
        "template.signal_grids.momentum.rsi.long_threshold",
        "template.risk_grid.tp",
    ],
)
def test_axes_are_refused_where_they_stand(path: str, axis: object, at: str, code: str) -> None:
    body = copy.deepcopy(BODY)
    template = body["template"]
    if path.endswith("tp"):
        if axis is None:
            return  # null is "not sent"
        template["risk_grid"]["tp"] = axis
    elif path.endswith("long_threshold"):
        template["signal_grids"]["momentum.rsi"]["long_threshold"] = axis
    else:
        template["indicator_grids"][0]["params"][" Window"] = axis
    error = refused(body)
    assert error.message == "Validation failed"
    assert [(e["path"], e["code"]) for e in error.errors] == [(f"body.{path}{at}", code)]


def test_a_value_and_its_alias_exclude_each_other() -> None:
    error = refused(changed("template.execution.fee_pct", 0.1))
    assert [(e["path"], e["code"]) for e in error.errors] == [
        ("body.template.execution.market_fee_pct", "extra_forbidden")
    ]
    assert "keep one of" in error.errors[0]["message"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("tempalte", "did you mean template?"),
        ("time_range.begin", "allowed are start, end"),
        ("template.indicator_grids.1.parms", "did you mean params?"),
        ("template.instrument_id.Symbol", "did you mean symbol?"),
        ("template.execution.market_fee", "did you mean market_fee_pct?"),
        ("ranking.min_trade", "did you mean min_trades?"),
    ],
)
def test_an_unknown_field_is_told_the_nearest_ones(path: str, hint: str) -> None:
    (fault,) = refused(changed(path, 1)).errors
    assert (fault["path"], fault["code"]) == (f"body.{path}", "extra_forbidden")
    assert fault["message"] == f"is an unknown field; {hint}"


def test_what_was_sent_is_shown_shortly() -> None:
    (fault,) = refused(changed("top_k", "3" * 500)).errors
    assert fault["message"].startswith('must be a whole number (got "333')
    assert len(fault["message"]) < 100


def test_time_range_must_run_forwards() -> None:
    for end in ("2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00.0009Z"):
        error = refused(changed("time_range.end", end))
        assert error.errors[0]["path"] == "body.time_range"
        assert "start < end" in error.errors[0]["message"]


def test_names_that_fall_together() -> None:
    axis = {"mode": "explicit", "values": [5]}
    error = refused(changed("template.indicator_grids.0.params", {"window": axis, "WINDOW": axis}))
    assert error.errors[0]["path"] == "body.template.indicator_grids.0.params"
    assert error.errors[0]["code"] == "duplicate"
    error = refused(changed("template.signal_grids", {"momentum.rsi": {}, "Momentum.rsi ": {}}))
    assert error.errors[0]["path"] == "body.template.signal_grids"


def test_all_faults_come_at_once_sorted() -> None:
    body = changed("top_k", 0)
    body["warmup_bars"] = "x"
    body["template"]["timeframe"] = "2h"
    paths = [e["path"] for e in refused(body).errors]
    assert paths == ["body.template.timeframe", "body.top_k", "body.warmup_bars"]
