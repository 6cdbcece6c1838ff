"""Requests made effective: filled axes, defaults, warm-up, hashes, and what is refused in time."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from compute import keys
from compute.account import PROFIT_LOCK, SHORT_ONLY
from compute.backtest import Backtest, resolve
from compute.errors import InvalidGrid, InvalidInput, InvalidRequest
from compute.indicators.defaults import (
    IndicatorDefaults,
    InvalidDefaults,
    check_defaults,
    indicator_defaults,
)
from compute.indicators.registry import module
from compute.request import parse_request
from compute.settings import Defaults
from compute.settling import settle_bars
from tests.compute.test_keys import WORKED_HASH, WORKED_REQUEST


def explicit(*values: object) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def run_of(start: float, stop: float, step: float) -> dict[str, Any]:
    return {"mode": "range", "start": start, "stop_incl": stop, "step": step}


FILE: dict[str, Any] = {
    "schema_version": 1,
    "defaults": {
        "ma.sma": {
            "inputs": {"source": explicit("close", "hlc3")},
            "params": {"window": run_of(5, 15, 5)},
        },
        "momentum.rsi": {
            "inputs": {"source": explicit("close")},
            "params": {"window": explicit(14)},
            "signals": {
                "v1": {"params": {"long_threshold": run_of(20, 30, 5), "short_threshold": 70}}
            },
        },
        "volume.obv": {},
    },
}
FILLED = indicator_defaults(FILE)


def body(*indicators: dict[str, Any], **template: Any) -> dict[str, Any]:
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "btcusdt"},
            "timeframe": "1h",
            "indicator_grids": list(indicators),
            **template,
        },
    }


def backtest(sent: dict[str, Any], defaults: Defaults | None = None) -> Backtest:
    return resolve(parse_request(sent), defaults or Defaults(), FILLED)


SMA = {
    "indicator_id": "ma.sma",
    "source": explicit("close"),
    "params": {"window": explicit(5)},
}


def test_the_worked_request() -> None:
    found = resolve(parse_request(WORKED_REQUEST), Defaults())
    assert str(found.instrument) == "1:BTCUSDT"
    assert found.grid.axis_names == (
        "ma.sma.source",
        "ma.sma.window",
        "momentum.rsi.source",
        "momentum.rsi.window",
        "momentum.rsi.long_threshold",
        "momentum.rsi.short_threshold",
    )
    assert (found.grid.total, found.risk.total) == (12, 6)
    assert (found.warmup_bars, found.top_k, found.preselect, found.top_trades_n) == (50, 3, 5, 1)
    assert found.grid_request_hash == WORKED_HASH
    assert found.engine_params_hash == (
        "9d8e08177356427c4373e49eca58836a19f3d06cb73da3b9dfc2026a5fbe0ccb"
    )
    assert found.backtest_runtime_config_hash == (
        "290d48e5ccf4b4413341aa4423ec945068527c2d3fe0f973e195390510b2ea79"
    )
    template = found.key_template()
    assert template.indicator_key(0) == (
        "72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557"
    )
    chosen = found.grid.selection(7)
    assert template.variant_key(7, 4) == keys.variant_key(
        keys.indicator_variant_key("1:BTCUSDT", "1h", chosen),
        direction_mode="long-short",
        sizing_mode="all_in",
        signals={choice.indicator_id: choice.signals for choice in chosen},
        execution=found.execution.params(),
        risk={"sl_enabled": True, "sl_pct": 2.0, "tp_enabled": True, "tp_pct": 3.0},
    )


def test_silence_takes_the_defaults() -> None:
    found = backtest(body(SMA))
    assert found.execution.params() == {
        "init_cash_quote": 10000.0,
        "fee_pct": 0.075,
        "slippage_pct": 0.01,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    }
    assert (found.direction_mode, found.sizing_mode) == ("long-short", "all_in")
    assert (found.warmup_bars, found.top_k, found.preselect, found.top_trades_n) == (
        200, 300, 20_000, 3,
    )  # fmt: skip
    assert (found.primary_metric, found.secondary_metric) == ("total_return_pct", None)
    assert (found.min_trades, found.distinct, found.holdout_fraction) == (0, False, 0.0)
    assert (found.risk.sl, found.risk.tp) == ((None,), (None,))


def test_what_is_sent_wins() -> None:
    sent = body(
        SMA,
        direction_mode="short-only",
        sizing_mode="strategy_compound_profit_lock",
        execution={"fee_pct": 0, "init_cash": 500},
    )
    sent["ranking"] = {"primary_metric": "profit_factor", "min_trades": 4, "distinct": True}
    sent["validation"] = {"holdout_fraction": 0.5}
    defaults = Defaults(secondary_metric_default="max_drawdown_pct", slippage_pct_default=0.2)
    found = backtest(sent, defaults)
    assert (found.primary_metric, found.secondary_metric) == ("profit_factor", None)
    assert (found.min_trades, found.distinct, found.holdout_fraction) == (4, True, 0.5)
    terms = found.terms()
    assert (terms.init_cash, terms.fee, terms.slippage) == (500.0, 0.0, 0.2 / 100)
    assert (terms.sizing, terms.direction) == (PROFIT_LOCK, SHORT_ONLY)
    assert all(type(value) is float for value in found.execution.params().values())


def test_a_backtest_travels_to_workers() -> None:
    found = backtest(body(SMA))
    assert pickle.loads(pickle.dumps(found)) == found


def test_missing_axes_are_filled_from_the_environment() -> None:
    found = backtest(body({"indicator_id": "momentum.rsi"}, {"indicator_id": "ma.sma"}))
    assert [axis.values for axis in found.grid.axes] == [
        ("close", "hlc3"),
        (5, 10, 15),
        ("close",),
        (14,),
        (20, 25, 30),
        (70,),
    ]
    partly = body(
        {"indicator_id": "momentum.rsi", "params": {"window": explicit(7)}},
        signal_grids={
            "momentum.rsi": {"short_threshold": explicit(80)},
            "trend.adx": {"nonsense": explicit(1)},  # not selected, ignored
        },
    )
    assert [axis.values for axis in backtest(partly).grid.axes] == [
        ("close",), (7,), (20, 25, 30), (80,),
    ]  # fmt: skip


def test_materialised_values_have_the_definitions_kind() -> None:
    sent = body(
        {**SMA, "params": {"window": run_of(5.0, 7.0, 1.0)}},
        {"indicator_id": "momentum.rsi"},
        signal_grids={"momentum.rsi": {"long_threshold": explicit(30.0, 30.5)}},
    )
    axes = dict(zip(*(lambda g: (g.axis_names, g.axes))(backtest(sent).grid), strict=True))
    window, level = axes["ma.sma.window"].values, axes["momentum.rsi.long_threshold"].values
    assert (window, [type(v) for v in window]) == ((5, 6, 7), [int] * 3)
    assert (level, [type(v) for v in level]) == ((30, 30.5), [int, float])


@pytest.mark.parametrize(
    ("indicator", "template", "text"),
    [
        ({"indicator_id": "ma.smo"}, {}, "unknown indicator 'ma.smo'"),
        ({**SMA, "params": {"length": explicit(5)}}, {}, "ma.sma: unknown param 'length'"),
        ({"indicator_id": "volume.obv", "source": explicit("close")}, {}, "unknown input 'source'"),
        ({"indicator_id": "ma.ema", "source": explicit("close")}, {}, "ma.ema: missing required p"),
        (
            {"indicator_id": "ma.ema", "params": SMA["params"]},
            {},
            "missing required input 'source'",
        ),
        ({**SMA, "source": explicit("volume")}, {}, "ma.sma.source must be one of close"),
        ({**SMA, "params": {"window": explicit(5.0)}}, {}, "window must be an integer, got 5.0"),
        ({**SMA, "params": {"window": explicit("5")}}, {}, "window must be an integer, got '5'"),
        ({**SMA, "params": {"window": explicit(1)}}, {}, "window must be in 2..2000, got 1"),
        ({**SMA, "params": {"window": run_of(5, 9, 0.5)}}, {}, "step must be a multiple of 1"),
        ({**SMA, "output": "upper"}, {}, "unknown output 'upper'; usable outputs: value"),
        (
            SMA,
            {"signal_grids": {"ma.sma": {"long_threshold": explicit(1)}}},
            "unknown signal param 'long_threshold'; rule compare_price_to_output takes none",
        ),
        (
            {"indicator_id": "momentum.rsi"},
            {"signal_grids": {"momentum.rsi": {"threshold": explicit(1)}}},
            "unknown signal param 'threshold'; rule threshold_band takes long_threshold, short",
        ),
        (
            {"indicator_id": "momentum.rsi"},
            {"signal_grids": {"momentum.rsi": {"long_threshold": explicit("x")}}},
            "momentum.rsi.long_threshold: signal values must be numeric",
        ),
        (
            {"indicator_id": "volume.obv"},
            {},
            "volume.obv: missing required signal param 'long_delta_periods'",
        ),
        (
            {"indicator_id": "volume.obv"},
            {
                "signal_grids": {
                    "volume.obv": {
                        "long_delta_periods": explicit(-1),
                        "short_delta_periods": explicit(0),
                    }
                }
            },
            "volume.obv.short_delta_periods: absolute value must be > 0, got 0",
        ),
        (SMA, {"risk_grid": {"sl_enabled": True}}, "risk_grid.sl must be provided when sl_enabled"),
        (SMA, {"risk_grid": {"tp_enabled": True, "tp_pct": -1}}, "tp_pct must be >= 0 when enab"),
        (
            SMA,
            {"risk_grid": {"sl_enabled": True, "sl": explicit("1")}},
            "risk axis 'sl' values must be numeric",
        ),
    ],
)
def test_grids_that_no_definition_has(
    indicator: dict[str, Any], template: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidGrid) as caught:
        backtest(body(indicator, **template))
    assert text in caught.value.message


def test_missing_signal_param_is_found_before_any_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(module("momentum.rsi"), "rows", rows)
    with pytest.raises(InvalidGrid) as caught:
        resolve(parse_request(body({**SMA, "indicator_id": "momentum.rsi"})), Defaults())
    assert caught.value.message == "momentum.rsi: missing required signal param 'long_threshold'"
    assert caught.value.details == {
        "errors": [
            {
                "path": f"body.template.signal_grids.momentum.rsi.{name}",
                "code": "grid_validation_error",
                "message": f"momentum.rsi: missing required signal param '{name}'",
            }
            for name in ("long_threshold", "short_threshold")
        ],
        "indicator_id": "momentum.rsi",
        "param": "long_threshold",
    }


def test_every_fault_of_every_block_is_told_with_its_place() -> None:
    wrong = body(
        {"indicator_id": "ma.smaa", "output": "value"},
        {
            "indicator_id": "ma.sma",
            "source": explicit("typical"),
            "params": {"window": explicit(1)},
        },
        {
            "indicator_id": "trend.adx",
            "output": "di",
            "params": {"length": explicit(3), "window": explicit(5.5)},
        },
        {"indicator_id": "momentum.rsi"},
        {"indicator_id": "structure.pivot_low", "output": "pivot_low"},
        signal_grids={
            "momentum.rsi": {"window": explicit(7), "long_threshold": explicit("x")},
            "momentum.ris": {"long_threshold": explicit(50)},
        },
        risk_grid={"sl_enabled": True},
    )
    with pytest.raises(InvalidGrid) as caught:
        backtest(wrong)
    faults = {fault["path"]: fault["message"] for fault in caught.value.details["errors"]}
    blocks, rules = "body.template.indicator_grids", "body.template.signal_grids"
    assert list(faults) == sorted(faults)
    assert set(faults) == {
        f"{blocks}.0.indicator_id", f"{blocks}.1.params.window", f"{blocks}.1.source",
        f"{blocks}.2.output", f"{blocks}.2.params.length", f"{blocks}.2.params.window",
        f"{blocks}.2.params.smoothing", f"{blocks}.4.indicator_id",
        f"{rules}.momentum.ris", f"{rules}.momentum.rsi.window",
        f"{rules}.momentum.rsi.long_threshold",
        "body.template.risk_grid.sl",
    }  # fmt: skip
    assert "did you mean momentum.rsi" in faults[f"{rules}.momentum.ris"]
    assert faults[f"{blocks}.4.indicator_id"] == (
        "structure.pivot_low has no output that can vote; structure.pivots votes on the same values"
    )


def test_rule_parameters_of_an_absent_indicator_are_remembered() -> None:
    sent = {"ma.ema": {}, "momentum.rsi": {"long_threshold": explicit(50)}}
    assert backtest(body(SMA, signal_grids=sent)).ignored_signals == ("ma.ema", "momentum.rsi")


def test_outputs_choose_their_rule() -> None:
    macd = {
        "indicator_id": "momentum.macd",
        "source": explicit("close"),
        "params": {
            "fast_window": explicit(12),
            "slow_window": explicit(26),
            "signal_window": explicit(9),
        },
    }
    plain = backtest(body(macd))
    assert plain.grid.selection(0)[0].output is None
    named = backtest(body({**macd, "output": plain.grid.indicators[0].definition.primary}))
    assert named.key_template().base_key(0) == plain.key_template().base_key(0)
    for output in module("momentum.macd").DEFINITION.outputs:
        if output.rule is None or output.name == module("momentum.macd").DEFINITION.primary:
            continue
        other = backtest(body({**macd, "output": output.name}))
        assert other.grid.selection(0)[0].output == output.name
        assert other.key_template().base_key(0) != plain.key_template().base_key(0)


def test_market_without_a_fee_default() -> None:
    sent = body(SMA, execution={"fee_pct": 0.1})
    sent["template"]["instrument_id"]["market_id"] = 9
    with pytest.raises(InvalidRequest, match="market 9 has no default fee") as caught:
        backtest(sent)
    assert [(e["path"], e["code"]) for e in caught.value.errors] == [
        ("body.template.instrument_id.market_id", "unsupported")
    ]


@pytest.mark.parametrize(
    ("top_k", "top_trades_n", "expected"), [(2, None, 2), (None, None, 3), (2, 2, 2), (None, 5, 5)]
)
def test_top_trades_n_is_clamped_only_by_default(
    top_k: int | None, top_trades_n: int | None, expected: int
) -> None:
    sent = {**body(SMA), "top_k": top_k, "top_trades_n": top_trades_n}
    assert backtest(sent).top_trades_n == expected


@pytest.mark.parametrize(("top_k", "top_trades_n"), [(2, 3), (None, 301)])
def test_more_trades_than_rows(top_k: int | None, top_trades_n: int) -> None:
    with pytest.raises(InvalidRequest, match="top_trades_n must be <= top_k") as caught:
        backtest({**body(SMA), "top_k": top_k, "top_trades_n": top_trades_n})
    assert [(e["path"], e["code"]) for e in caught.value.errors] == [
        ("body.top_trades_n", "max_value")
    ]


def test_warmup_is_as_given_or_long_enough_to_settle() -> None:
    wide = {**SMA, "params": {"window": explicit(900, 300)}}
    settled = module("ma.sma").settle({"source": "close", "window": 900})
    assert settled == 899
    assert backtest(body(wide)).warmup_bars == settled + 1
    assert backtest(body(SMA)).warmup_bars == 200
    assert backtest({**body(wide), "warmup_bars": 7}).warmup_bars == 7
    assert settle_bars(backtest(body(wide, {"indicator_id": "momentum.rsi"})).grid) == settled + 1


def test_lags_of_delta_rules_count_as_warmup() -> None:
    def settle(lag: int) -> int:
        lags = {"long_delta_periods": explicit(-1), "short_delta_periods": explicit(-3, lag)}
        sent = body({"indicator_id": "volume.obv"}, signal_grids={"volume.obv": lags})
        return settle_bars(backtest(sent).grid)

    assert settle(-700) - settle(-4) == 696


def wrong(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(FILE)
    *parents, last = path.split("/")
    node: Any = document
    for step in parents:
        node = node.setdefault(step, {})
    node[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("schema_version", "1", "schema_version must be an integer, got '1'"),
        ("schema_version", True, "schema_version must be an integer, got True"),
        ("defaults", [], "defaults must be a mapping, got list"),
        ("defaults/7", {}, "an id under defaults must be a text"),
        ("defaults/ MA.SMA ", {}, "defaults.ma.sma is given more than once"),
        ("defaults/ma.sma", 3, "defaults.ma.sma must be a mapping, got int"),
        ("defaults/ma.sma/params/window", 5, "params.window: an axis is a mapping"),
        ("defaults/ma.sma/params/window", explicit(), "params.window.values: axis values must not"),
        ("defaults/ma.sma/params/window", run_of(9, 5, 1), "params.window.start: axis start must"),
        ("defaults/ma.sma/params/window", run_of(1, True, 1), "window.stop_incl: axis stop_incl"),
        ("defaults/momentum.rsi/signals", {"v2": {}}, "defaults.momentum.rsi.signals must hold v1"),
    ],
)
def test_malformed_indicator_defaults(path: str, value: object, text: str) -> None:
    document = wrong(path, value)
    if path == "defaults/7":
        document["defaults"] = {7: {}}
    with pytest.raises(InvalidInput) as caught:
        indicator_defaults(document, "/etc/indicators.yaml")
    assert text in caught.value.message
    assert caught.value.message.startswith("/etc/indicators.yaml: ")
    assert not isinstance(caught.value, InvalidDefaults)


@pytest.mark.parametrize(
    ("path", "value", "yaml_path", "field", "expected", "actual"),
    [
        ("schema_version", 2, "schema_version", "schema_version", "1", 2),
        ("defaults/ma.smo", {}, "defaults.ma.smo", "indicator_id", "a known indicator id",
         "ma.smo"),
        ("defaults/ma.sma/inputs/volume", explicit("close"), "defaults.ma.sma.inputs.volume",
         "volume", "the input source", "volume"),
        ("defaults/volume.obv/inputs/source", explicit("close"),
         "defaults.volume.obv.inputs.source", "source",
         "absent, the indicator has no source axis", "source"),
        ("defaults/ma.sma/inputs/source", run_of(1, 2, 1), "defaults.ma.sma.inputs.source.mode",
         "source", "explicit", "range"),
        ("defaults/momentum.rsi/inputs/source", explicit("hl2"),
         "defaults.momentum.rsi.inputs.source.values", "source",
         "unique names out of close, high, hlc3, low, ohlc4, open", "hl2"),
        ("defaults/ma.sma/params/length", explicit(5), "defaults.ma.sma.params.length", "length",
         "one of window", "length"),
        ("defaults/ma.sma/params/window", explicit(5.0), "defaults.ma.sma.params.window.values",
         "window", "an integer", 5.0),
        ("defaults/ma.sma/params/window", run_of(5.0, 9, 1), "defaults.ma.sma.params.window.start",
         "window", "an integer", 5.0),
        ("defaults/ma.sma/params/window", run_of(1, 9, 1), "defaults.ma.sma.params.window.start",
         "window", "in 2..2000", 1),
        ("defaults/ma.sma/params/window", run_of(5, 2001, 1),
         "defaults.ma.sma.params.window.stop_incl", "window", "in 2..2000", 2001),
        ("defaults/ma.sma/params/window", run_of(5, 9, 1.5), "defaults.ma.sma.params.window.step",
         "window", "an integer", 1.5),
        ("defaults/trend.supertrend/params/mult", explicit(0.105),
         "defaults.trend.supertrend.params.mult.values", "mult", "on the grid 0.1 + k * 0.01",
         0.105),
        ("defaults/trend.supertrend/params/mult", run_of(0.5, 1.0, 0.015),
         "defaults.trend.supertrend.params.mult.step", "mult", "a multiple of 0.01", 0.015),
        ("defaults/momentum.rsi/signals/v1/params/level", 5,
         "defaults.momentum.rsi.signals.v1.params.level", "level",
         "a parameter of the indicator's rule", "level"),
        ("defaults/volume.obv/signals/v1/params/long_delta_periods", 0,
         "defaults.volume.obv.signals.v1.params.long_delta_periods", "long_delta_periods",
         "a non-zero integer", 0),
    ],
)  # fmt: skip
def test_indicator_defaults_outside_the_definitions(
    path: str, value: object, yaml_path: str, field: str, expected: str, actual: object
) -> None:
    with pytest.raises(InvalidDefaults) as caught:
        check_defaults(indicator_defaults(wrong(path, value), "/etc/indicators.yaml").values())
    assert caught.value.details["yaml_path"] == yaml_path
    assert caught.value.details["field_name"] == field
    assert caught.value.details["expected"] == expected
    assert caught.value.details["actual"] == actual
    assert caught.value.details["config_path"] == "/etc/indicators.yaml"
    assert caught.value.message == (
        f"/etc/indicators.yaml: {yaml_path} must be {expected}, got {actual!r}"
    )


def test_a_wrong_default_stops_the_request_that_needs_it() -> None:
    block = indicator_defaults(wrong("defaults/ma.sma/params/window", explicit(1)))
    with pytest.raises(InvalidDefaults, match=r"window\.values must be in 2\.\.2000, got 1"):
        resolve(parse_request(body({"indicator_id": "ma.sma"})), Defaults(), block)


def test_defaults_may_be_empty() -> None:
    assert FILLED["volume.obv"] == IndicatorDefaults("volume.obv")
    check_defaults(FILLED.values())
