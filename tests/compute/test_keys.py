"""Keys and hashes: the worked examples of the contract, and the fast template against them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute import keys
from compute.errors import InvalidInput
from compute.grid import Axis, Grid, IndicatorGrid, Selection
from compute.indicators.definition import Definition, Output, Param
from compute.keys import KeyTemplate
from compute.market.period import Period
from compute.risk import RiskGrid
from compute.settings import Defaults

FIVE = {
    "init_cash_quote": 10000.0,
    "fee_pct": 0.075,
    "slippage_pct": 0.01,
    "fixed_quote": 100.0,
    "safe_profit_percent": 30.0,
}
SMA_36 = Selection("ma.sma", {"source": "close"}, {"window": 36})
RSI_14 = Selection("momentum.rsi", {"source": "close"}, {"window": 14})
ADX_14 = Selection("trend.adx", {}, {"window": 14, "smoothing": 14})
RSI_ADX = "e485c1ce8ed4d974a520438f4e99008aadfe5ca30623a4a3b9781e3e94aabcfa"
SIGNALS = {
    "momentum.rsi": {"long_threshold": 30, "short_threshold": 70},
    "trend.adx": {"long_delta_periods": -5, "short_delta_periods": -10},
}


@pytest.mark.parametrize(
    ("instrument_id", "timeframe", "selections", "expected"),
    [
        (
            "1:BTCUSDT",
            "1m",
            [SMA_36],
            "18fef2c6d92a7f3eaaa8c183353cd6d4f4827cd0b1a800cb91e06bbcb976d80e",
        ),
        (
            "1:BTCUSDT",
            "1m",
            [RSI_14, SMA_36],
            "38cac2186b3fee4c342b67e63c8205e732eac98a5e704c7a423b7a49dcdf0578",
        ),
        (
            "2:ETHUSDT",
            "15m",
            [
                Selection("volatility.tr"),
                Selection("volatility.bbands", {"source": "hlc3"}, {"window": 20, "mult": 2.0}),
            ],
            "d776d1cb6aba0c80f6f472446cc863af8df33e9837f426f56392835d69bac14f",
        ),
        (
            "1:BTCUSDT",
            "1m",
            [],
            "901e99e02e2226f141913b3069b2c2cd70af5f00cb74a61adef211be05a3fb69",
        ),
        ("1:BTCUSDT", "1h", [ADX_14, RSI_14], RSI_ADX),
        (
            "1:BTCUSDT",
            "1h",
            [replace(SMA_36, params={"window": 5}), replace(RSI_14, params={"window": 7})],
            "72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557",
        ),
    ],
)
def test_worked_indicator_variant_keys(
    instrument_id: str, timeframe: str, selections: list[Selection], expected: str
) -> None:
    assert keys.indicator_variant_key(instrument_id, timeframe, selections) == expected


def worked(execution: dict[str, Any], risk: dict[str, Any]) -> str:
    return keys.variant_key(
        RSI_ADX,
        direction_mode="long-short",
        sizing_mode="all_in",
        signals=SIGNALS,
        execution=execution,
        risk=risk,
    )


def stop_loss(level: float) -> dict[str, Any]:
    return {"sl_enabled": True, "sl_pct": level, "tp_enabled": False, "tp_pct": None}


def test_worked_variant_keys() -> None:
    two = {"fee_pct": 0.075, "slippage_pct": 0.01}
    base = "f50d171ab5531e98b3c821cfac9c000c1b063e4b92c2c5137f00380bef19a4f4"
    assert worked(two, keys.RISK_OFF) == base
    assert base == keys.base_variant_key(
        RSI_ADX,
        direction_mode="long-short",
        sizing_mode="all_in",
        signals=SIGNALS,
        execution=two,
    )
    assert worked(two, stop_loss(3.0)) == (
        "f327ef4132c8f431d954dffb646d3fbfa683b753c66e65cd2d9fcea11881df69"
    )
    assert worked(two, stop_loss(3)) == (
        "7eb9eb750f5a71f9254cbd0776009e53f00b7ffd936566e58c77fcb7886a3885"
    )
    assert worked(FIVE, stop_loss(3.0)) == (
        "e46bba22ed87014c3701edd6675093da5aad0ef626f3dc2fa07783937e199630"
    )
    assert worked({}, stop_loss(3.0)) == (
        "fafa119264a666dc51090db9913188432f7631375304287c41e0bf02bc63371a"
    )


def test_worked_tied_rows() -> None:
    """The three rows of the contract's tie example: rank order is key order."""
    indicator_key = "72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557"
    found = [
        keys.variant_key(
            indicator_key,
            direction_mode="long-short",
            sizing_mode="all_in",
            signals={"ma.sma": {}, "momentum.rsi": {"long_threshold": 50, "short_threshold": 45}},
            execution={"fee_pct": 0.075},
            risk={"sl_enabled": True, "sl_pct": sl, "tp_enabled": True, "tp_pct": 6.0},
        )
        for sl in (1.5, 2.0, 1.0)
    ]
    assert [key[:4] for key in found] == ["0fd1", "26c7", "3f19"]


def test_keys_ignore_order_and_case_of_names() -> None:
    shuffled = {
        " Trend.ADX ": {"short_delta_periods": -10, "LONG_delta_periods": -5},
        "MOMENTUM.RSI": {"short_threshold": 70, "long_threshold": 30},
    }
    key = keys.variant_key(
        RSI_ADX,
        direction_mode=" Long-Short",
        sizing_mode="ALL_IN ",
        signals=shuffled,
        execution=dict(reversed(FIVE.items())),
        risk=stop_loss(3.0),
    )
    assert key == worked(FIVE, stop_loss(3.0))
    spelled = [replace(RSI_14, indicator_id=" Momentum.RSI"), ADX_14]
    assert keys.indicator_variant_key(" 1:BTCUSDT ", " 1H", spelled) == RSI_ADX


def test_output_counts_only_when_it_is_set() -> None:
    plain = keys.indicator_variant_key("1:BTCUSDT", "1m", [SMA_36])
    other = keys.indicator_variant_key("1:BTCUSDT", "1m", [replace(SMA_36, output="upper")])
    text = (
        '{"indicators":[{"id":"ma.sma","inputs":[["source","close"]],"output":"upper",'
        '"params":[["window",36]]}],"instrument_id":"1:BTCUSDT","schema_version":1,'
        '"timeframe":"1m"}'
    )
    assert other == hashlib.sha256(text.encode()).hexdigest()
    assert plain != other


def test_non_ascii_is_kept_in_the_indicator_key_and_escaped_elsewhere() -> None:
    text = '{"indicators":[],"instrument_id":"1:БТЦ","schema_version":1,"timeframe":"1m"}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert keys.indicator_variant_key("1:БТЦ", "1m", []) == expected
    assert keys.canonical_json({"é": 1}) == b'{"\\u00e9":1}'


@pytest.mark.parametrize(
    ("instrument_id", "timeframe", "selections", "text"),
    [
        ("  ", "1m", [], "instrument id must not be blank"),
        ("1:BTCUSDT", "", [], "timeframe must not be blank"),
        ("1:BTCUSDT", "1m", [Selection(" ")], "indicator id must not be blank"),
        ("1:BTCUSDT", "1m", [RSI_14, RSI_14], "'momentum.rsi' comes twice"),
        ("1:BTCUSDT", "1m", [Selection("a.b", {}, {" ": 1})], "param name must not be blank"),
        ("1:BTCUSDT", "1m", [Selection("a.b", {}, {"w": float("nan")})], "cannot be hashed"),
    ],
)
def test_names_that_make_no_key(
    instrument_id: str, timeframe: str, selections: list[Selection], text: str
) -> None:
    with pytest.raises(InvalidInput, match=text):
        keys.indicator_variant_key(instrument_id, timeframe, selections)


def test_worked_engine_params_hashes() -> None:
    modes = {"direction_mode": "long-short", "sizing_mode": "all_in"}
    assert keys.engine_params_hash(**modes, execution=FIVE) == (
        "9d8e08177356427c4373e49eca58836a19f3d06cb73da3b9dfc2026a5fbe0ccb"
    )
    assert keys.engine_params_hash(**modes, execution={**FIVE, "fee_pct": 0.1}) == (
        "7153afc561e1265b1092461edcd1abe0360e45947fcd315f4d1b49e958be5f02"
    )


WORKED_REQUEST = json.loads("""
{"time_range":{"start":"2026-01-01T00:00:00Z","end":"2026-01-11T00:00:00Z"},
 "template":{"instrument_id":{"market_id":1,"symbol":"btcusdt"},"timeframe":"1h",
  "indicator_grids":[
   {"indicator_id":"momentum.rsi","source":{"mode":"explicit","values":["close"]},
    "params":{"window":{"mode":"explicit","values":[7,14]}}},
   {"indicator_id":"ma.sma","source":{"mode":"explicit","values":["close"]},
    "params":{"window":{"mode":"range","start":5,"stop_incl":15,"step":5}}}],
  "signal_grids":{"momentum.rsi":{"long_threshold":{"mode":"explicit","values":[50]},
                                  "short_threshold":{"mode":"explicit","values":[40,45]}}},
  "execution":{"fee_pct":0.075},
  "risk_grid":{"sl_enabled":true,"tp_enabled":true,
               "sl":{"mode":"range","start":1.0,"stop_incl":2.0,"step":0.5},
               "tp":{"mode":"explicit","values":[3,6]}}},
 "warmup_bars":50,"top_k":3,"preselect":5,"top_trades_n":1}
""")
WORKED_HASH = "9c3104a12d17249366d6c01227835f5dbf5618e0d80689afc83aa5effd296264"
JANUARY = Period.parse("2026-01-01T00:00:00Z", "2026-01-11T00:00:00Z")


def test_worked_grid_request_hashes() -> None:
    assert keys.grid_request_hash(WORKED_REQUEST, JANUARY) == WORKED_HASH
    other = {
        "template": {
            "instrument_id": {"market_id": 2, "symbol": "ETHUSDT"},
            "timeframe": "15m",
            "indicator_grids": [
                {
                    "indicator_id": "ma.ema",
                    "source": {"mode": "explicit", "values": ["close"]},
                    "params": {
                        "window": {"mode": "range", "start": 10, "stop_incl": 50, "step": 10}
                    },
                }
            ],
            "signal_grids": {},
            "execution": None,
        },
    }
    month = Period.parse("2026-01-01T01:00:00+01:00", "2026-02-01T00:00:00Z")
    assert keys.grid_request_hash(other, month) == (
        "e54a581a0e1b8745550f7d85f6a389a7d79f5e3e8667b1237f82e01a8253d3b4"
    )


def test_ranking_and_validation_count_only_when_sent() -> None:
    silent = {**WORKED_REQUEST, "ranking": None, "validation": None}
    assert keys.grid_request_hash(silent, JANUARY) == WORKED_HASH
    ranked = {**WORKED_REQUEST, "ranking": {"primary_metric": "profit_factor"}}
    nulled = {
        **WORKED_REQUEST,
        "ranking": {"primary_metric": "profit_factor", "secondary_metric": None},
    }
    held = {**WORKED_REQUEST, "validation": {"holdout_fraction": 0.2}}
    hashes = [keys.grid_request_hash(body, JANUARY) for body in (ranked, nulled, held)]
    assert hashes[0] == hashes[1]
    assert len({WORKED_HASH, *hashes}) == 3


def test_runtime_hash_follows_what_can_change_a_result() -> None:
    shipped = "290d48e5ccf4b4413341aa4423ec945068527c2d3fe0f973e195390510b2ea79"
    assert keys.backtest_runtime_config_hash(Defaults()) == shipped
    for changed in (
        Defaults(primary_metric_default="profit_factor"),
        Defaults(secondary_metric_default="profit_factor"),
        Defaults(top_k_persisted_default=400),
        Defaults(fee_pct_default_by_market_id={1: 0.075}),
    ):
        assert keys.backtest_runtime_config_hash(changed) != shipped


NAMES = st.sampled_from(["window", "alpha", "zeta", "mult", "fast_window"])
NUMBERS = st.one_of(
    st.integers(-50, 2000), st.floats(-10, 10), st.sampled_from([0.1, 1e-7, 1e16, 2.0])
)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    parts = []
    for k in range(draw(st.integers(1, 3))):
        names = draw(st.lists(NAMES, max_size=3, unique=True))
        compute = [
            Axis(name, tuple(draw(st.lists(NUMBERS, min_size=1, max_size=4, unique=True))))
            for name in names
        ]
        if draw(st.booleans()):
            sources = draw(st.permutations(["close", "hlc3", "open"]))
            compute.insert(draw(st.integers(0, len(compute))), Axis("source", tuple(sources)))
        rules = draw(st.lists(st.sampled_from(["a_level", "b_level"]), max_size=2, unique=True))
        signals = [
            Axis(name, tuple(draw(st.lists(NUMBERS, min_size=1, max_size=3, unique=True))))
            for name in sorted(rules)
        ]
        axes = tuple(axis.name for axis in compute)
        definition = Definition(
            indicator_id=f"group.name_{k}",
            title="",
            group="group",
            inputs=(),
            sources=("close", "hlc3", "open") if "source" in axes else (),
            params=tuple(Param(name, "float", -1e9, 1e9, 1, 1) for name in names),
            axes=axes,
            outputs=(Output("first", None, axes), Output("second", None, axes)),
            primary="first",
            formula="",
            reference="",
        )
        output = draw(st.sampled_from(["first", "second"]))
        parts.append(IndicatorGrid(definition, output, tuple(compute), tuple(signals)))
    return Grid(tuple(parts))


LEVELS = st.one_of(
    st.just((None,)),
    st.lists(st.floats(0, 50), min_size=1, max_size=3, unique=True).map(tuple),
)


@given(grids(), LEVELS, LEVELS, st.sampled_from(["1:BTCUSDT", "3:ÉTÉ"]), st.data())
def test_the_template_equals_the_plain_functions(
    grid: Grid,
    sl: tuple[float | None, ...],
    tp: tuple[float | None, ...],
    instrument_id: str,
    data: st.DataObject,
) -> None:
    risk = RiskGrid(sl, tp)
    template = KeyTemplate(
        grid,
        risk,
        instrument_id=instrument_id,
        timeframe="15m",
        direction_mode="long-only",
        sizing_mode="fixed_quote",
        execution=FIVE,
    )
    for _ in range(3):
        flat = data.draw(st.integers(0, grid.total - 1))
        risk_index = data.draw(st.integers(0, risk.total - 1))
        chosen = grid.selection(flat)
        indicator_key = keys.indicator_variant_key(instrument_id, "15m", chosen)
        settings: dict[str, Any] = {
            "direction_mode": "long-only",
            "sizing_mode": "fixed_quote",
            "signals": {choice.indicator_id: choice.signals for choice in chosen},
            "execution": FIVE,
        }
        expanded = keys.variant_key(indicator_key, risk=risk.params(risk_index), **settings)
        assert template.variant_key(flat, risk_index) == expanded
        assert template.base_key(flat) == keys.base_variant_key(indicator_key, **settings)
        assert template.indicator_key(flat) == indicator_key
    if (sl, tp) == ((None,), (None,)):
        assert template.variant_key(0, 0) == template.base_key(0)
