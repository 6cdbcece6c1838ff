"""Specifications: names and hashes of the contract, and what comes back of what is sent."""

from __future__ import annotations

import copy
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.postgres.jsonb import storable
from compute.axes import Range
from compute.errors import InvalidInput, InvalidRequest
from compute.indicators.definition import Definition
from compute.indicators.registry import definition, ids
from compute.keys import canonical_json
from compute.settings import Defaults
from live.strategies.errors import InvalidStrategy
from live.strategies.names import MOST_CHARACTERS, spec_hash, strategy_name
from live.strategies.requests import strategy_request
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, backtest_of_spec, request_of, spec_of, variant_spec
from tests.live.strategies.stored import BODY, RULES

OWNER = UUID("00000000-0000-0000-0000-000000001111")
BTC = {"market_id": 1, "symbol": "BTCUSDT"}
V1: dict[str, Any] = {
    "instrument_id": BTC,
    "instrument_key": "binance:spot:BTCUSDT",
    "market_type": "spot",
    "timeframe": "1m",
    "indicators": [{"name": "MA", "params": {"slow": 50, "fast": 20}}],
}


def name_of(body: dict[str, Any], owner: UUID = OWNER) -> str:
    return strategy_name(spec_of(body, RULES), owner)


def test_the_names_of_the_contract() -> None:
    assert name_of(V1 | {"signal_template": "MA(20,50)"}) == "BTCUSDT 1m [MA(20,50)] #048A5652"
    two = [
        {"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}},
        {"id": "x.y", "inputs": {}, "params": {}},
    ]
    spec = spec_of(V1 | {"timeframe": "15m", "indicators": two}, RULES)
    assert spec["signal_template"] == "MA.SMA(20)"
    assert strategy_name(spec, OWNER) == "BTCUSDT 15m [MA.SMA(20), X.Y] #6930925E"


def test_a_name_tells_strategies_of_one_search_apart() -> None:
    entry = {"id": "momentum.rsi", "inputs": {"source": "close"}, "params": {"window": 14}}
    body = BODY | {
        "indicators": [entry],
        "signals": {"momentum.rsi": {"short_threshold": 40, "long_threshold": 50.5}},
        "risk": {"sl_enabled": True, "sl_pct": 2.0, "tp_enabled": True, "tp_pct": 4.25},
    }
    shown, _, short = name_of(body).rpartition(" #")
    assert shown.endswith(" [momentum.rsi(close, 14: 50.5, 40) · SL 2 % TP 4.25 %]")
    assert len(short) == 8
    names = {shown}
    for changed in (
        {"indicators": [entry | {"inputs": {"source": "hlc3"}}]},
        {"indicators": [entry | {"params": {"window": 15}}]},
        {"signals": {"momentum.rsi": {"short_threshold": 39, "long_threshold": 50.5}}},
        {"risk": {"sl_enabled": True, "sl_pct": 2.0}},
        {"risk": {"tp_enabled": True, "tp_pct": 4.25}},
    ):
        names.add(name_of(body | changed).rpartition(" #")[0])
    assert len(names) == 6
    off = name_of(body | {"risk": {}})
    assert off.rpartition(" #")[0].endswith("[momentum.rsi(close, 14: 50.5, 40)]")
    adx = {"id": "trend.adx", "inputs": {}, "params": {"window": 14, "smoothing": 9}}
    rule = {"trend.adx": {"long_delta_periods": 1, "short_delta_periods": 2}}
    found = name_of(BODY | {"indicators": [adx | {"output": "plus_di"}], "signals": rule})
    assert " [trend.adx.plus_di(9, 14: 1, 2)" in found


def test_a_name_is_no_longer_than_one_can_read() -> None:
    spec = spec_of(BODY, RULES)
    one = {"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}}
    long = strategy_name(spec | {"indicators": [one] * 40}, OWNER)
    assert len(long) < MOST_CHARACTERS + 60
    assert " …] #" in long


def test_what_a_name_depends_on() -> None:
    swapped = {
        "indicators": [{"params": {"fast": 20, "slow": 50}, "name": "MA"}],
        **{name: V1[name] for name in reversed(V1) if name != "indicators"},
    }
    assert name_of(swapped) == name_of(V1)  # not on the order of keys
    assert name_of(V1, UUID(int=7)) != name_of(V1)
    two = [{"id": "a", "params": {}}, {"id": "b", "params": {"x": 1.0, "y": [1, 2], "z": True}}]
    there, back = (name_of(V1 | {"indicators": order}) for order in (two, two[::-1]))
    assert there.startswith("BTCUSDT 1m [A, B(1.0,[1, 2],True)] #")
    assert back.startswith("BTCUSDT 1m [B(1.0,[1, 2],True), A] #")
    assert there[-8:] != back[-8:]


def test_an_identifier_is_the_first_of_name_kind_and_id() -> None:
    entry = {"id": "c", "kind": "b", "name": " "}
    assert name_of(V1 | {"indicators": [entry]}).startswith("BTCUSDT 1m [B] #")


def usable(known: Definition) -> list[str]:
    return [output.name for output in known.outputs if output.rule is not None]


VOTERS = [name for name in ids() if usable(definition(name))]


def chosen(name: str, output: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(an indicator at its recommended values, the values of its rule)."""
    known = definition(name)
    entry: dict[str, Any] = {
        "id": name,
        "inputs": {"source": sorted(known.sources)[0]} if known.sources else {},
        "params": {param.name: param.default for param in known.params},
    }
    if output is not None and output != known.primary:
        entry["output"] = output
    rule = known.output(output or known.primary).rule
    assert rule is not None
    signals = {}
    for param in rule.params:
        proposed = param.proposed
        signals[param.name] = proposed.start if isinstance(proposed, Range) else 1
    return entry, signals


def through_jsonb(value: Any) -> Any:
    """What comes back from the database, which the tests of the store compare with it."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", VOTERS)
def test_every_indicator_can_be_kept_with_every_output(name: str) -> None:
    for output in usable(definition(name)):
        entry, signals = chosen(name, output)
        body = BODY | {"indicators": [entry], "signals": {name: signals}}
        spec = spec_of(body, RULES)
        assert spec["indicators"][0].get("output", definition(name).primary) == output
        again = spec_of(through_jsonb(request_of(spec)), RULES)
        assert canonical_json(again) == canonical_json(spec)
        job, back = (backtest_of_spec(one, Defaults()) for one in (body, through_jsonb(spec)))
        assert back.key_template().variant_key(0, 0) == job.key_template().variant_key(0, 0)
        assert back.warmup_bars == job.warmup_bars == spec["warmup_bars"]
        assert variant_spec(back, RULES.settings) == spec


percent = st.floats(0.001, 50) | st.integers(1, 50)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A valid request of version 2."""
    names = draw(st.lists(st.sampled_from(VOTERS), min_size=1, max_size=4, unique=True))
    body: dict[str, Any] = {
        "schema_version": 2,
        "instrument_id": {
            "market_id": draw(st.integers(1, 4)),
            "symbol": draw(st.sampled_from(["btcusdt", " ETH ", "1000PEPE"])),
        },
        "timeframe": draw(st.sampled_from(["1m", "5m", "15m", "1h", "4h", "1d"])),
        "indicators": [],
        "signals": {},
    }
    for name in names:
        entry, signals = chosen(name, draw(st.sampled_from(usable(definition(name)))))
        body["indicators"].append(entry)
        if signals:
            body["signals"][name] = signals
    optional: dict[str, st.SearchStrategy[Any]] = {
        "direction_mode": st.sampled_from(["long-short", "long-only", "short-only"]),
        "sizing_mode": st.sampled_from(["all_in", "fixed_quote", "strategy_compound"]),
        "warmup_bars": st.integers(1, 5000),
        "risk": st.fixed_dictionaries(
            {"sl_enabled": st.just(True), "sl_pct": percent},
            optional={"tp_enabled": st.just(True), "tp_pct": percent},
        ).filter(lambda risk: ("tp_enabled" in risk) == ("tp_pct" in risk)),
        "execution": st.fixed_dictionaries(
            {},
            optional={
                "fee_pct": percent,
                "init_cash_quote": st.floats(1, 1e18),
                "slippage_pct": st.just(-0.0),
            },
        ),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            body[name] = draw(values)
    return body


@settings(max_examples=60)
@given(bodies())
def test_what_is_sent_comes_back(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    spec = spec_of(body, RULES)
    assert body == before
    assert canonical_json(through_jsonb(spec)) == canonical_json(spec)
    assert spec_of(request_of(spec), RULES) == spec
    assert [entry["id"] for entry in spec["indicators"]] == [e["id"] for e in body["indicators"]]
    job, again = (backtest_of_spec(one, Defaults()) for one in (storable(body), spec))
    assert again.key_template().variant_key(0, 0) == job.key_template().variant_key(0, 0)
    assert len(spec_hash(spec)) == 64


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.data())
def test_what_is_no_strategy_is_refused_with_a_type(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([BODY, V1]))
    body = copy.deepcopy(base)
    name = data.draw(st.sampled_from([*base, "schema_version", "signals", "risk", "execution"]))
    body[name] = data.draw(anything)
    try:
        spec = spec_of(body, RULES)
    except InvalidInput:
        return
    assert canonical_json(through_jsonb(spec)) == canonical_json(spec)
    assert strategy_name(spec, OWNER)


@settings(max_examples=50)
@given(anything)
def test_anything_is_refused_with_a_type(body: Any) -> None:
    with pytest.raises(InvalidInput):
        spec_of(body, RULES)


def test_settings_are_positive() -> None:
    with pytest.raises(InvalidInput, match="max_indicators must be > 0"):
        StrategySettings(max_indicators=0)
    few = SpecRules(StrategySettings(max_indicators=1), Defaults())
    two = [*BODY["indicators"], chosen("ma.ema")[0]]
    with pytest.raises(InvalidInput, match="has 2 indicators, the limit is 1"):
        spec_of(BODY | {"indicators": two}, few)
    small = SpecRules(StrategySettings(max_spec_bytes=100), Defaults())
    with pytest.raises(InvalidInput, match="bytes, the limit is"):
        spec_of(BODY, small)


@pytest.mark.parametrize("params", [[], "", 0, False, None, [1]])
def test_parameters_of_the_first_version_are_an_object(params: object) -> None:
    with pytest.raises(InvalidInput, match="params must be an object"):
        spec_of(V1 | {"indicators": [{"name": "MA", "params": params}]}, RULES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"execution": {"init_cash_quote": 1e19}}, "execution.init_cash_quote must be at most"),
        ({"execution": {"fixed_quote": 1e308}}, "execution.fixed_quote must be at most 1e"),
        ({"execution": {"fee_pct": 101.0}}, "execution.fee_pct must be at most 100, got 101.0"),
        ({"timeframe": "1m", "warmup_bars": 1_000_001}, "at most 1 000 000 for 1m"),
        ({"timeframe": "1d", "warmup_bars": 18_301}, "at most 18 300 for 1d, got 18 301"),
    ],
)
def test_what_no_run_could_live_with_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidStrategy, match=said):
        spec_of(BODY | changes, RULES)
    most = {"execution": {"init_cash_quote": 1e18, "fee_pct": 100.0}, "warmup_bars": 18_300}
    spec = spec_of(BODY | {"timeframe": "1d"} | most, RULES)
    assert spec["execution"]["init_cash_quote"] == 1e18


def test_the_request_of_a_back_test_is_told_from_a_strategy() -> None:
    with pytest.raises(InvalidRequest, match="not a strategy: run it, and save a variant"):
        strategy_request({"template": {}, "time_range": {}})
