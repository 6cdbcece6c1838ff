"""Form and request: each means the other, whatever was sent."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.blocks import around, listing, middle, start_pairs
from api.pages.form import Fields, field_of, fields_of, number, request_of
from api.schemas.examples import BACKTESTS
from cluster.demo import REQUEST
from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.axes import Explicit, Range, axis_spec, materialised
from compute.backtest import resolve
from compute.errors import InvalidGrid
from compute.indicators.defaults import IndicatorDefaults, indicator_defaults
from compute.indicators.definition import Param
from compute.indicators.registry import definition
from compute.market.timeframe import TIMEFRAMES
from compute.request import parse_request
from compute.settings import RANKING_METRICS, Defaults
from configs.load import config
from tests.api.service.job_service import request as job_request

DEFAULTS = Defaults()


def deployed(name: str) -> dict[str, IndicatorDefaults]:
    """The defaults of indicators of an environment."""
    found = config("indicators", {"ROEHUB_ENV": name})
    return indicator_defaults(found.document, str(found.path))


KNOWN = deployed("test")
IDS = [name for _, group in listing() for name, _ in group]


def meaning(body: dict[str, Any]) -> Any:
    """What a request means, beside how it is spelled; of the stops what is tried."""
    request = parse_request(body)
    job = resolve(request, DEFAULTS, KNOWN)
    return [
        getattr(job, name) for name in type(job).__dataclass_fields__ if name != "grid_request_hash"
    ]


def again(body: dict[str, Any]) -> dict[str, Any]:
    return request_of(fields_of(body, DEFAULTS))


@pytest.mark.parametrize("body", [*BACKTESTS.values(), REQUEST, job_request()])
def test_examples_come_back_as_they_were(body: dict[str, Any]) -> None:
    found = again(body)
    assert meaning(found) == meaning(body)
    assert found["template"]["indicator_grids"] == body["template"]["indicator_grids"]
    assert again(found) == found


def test_what_is_spelled_otherwise_means_the_same() -> None:
    body = copy.deepcopy(BACKTESTS["two indicators with stops"])
    body["time_range"] = {
        "start": "2026-01-01T02:00:00.125+02:00", "end": "2026-01-11T00:00:30Z"
    }  # fmt: skip
    body["template"]["execution"] = {"init_cash": 500, "market_fee_pct": 0.5, "slippage_pct": None}
    body["template"]["risk_grid"] = {"sl_enabled": True, "sl_pct": 2.5, "tp": None}
    body["template"]["indicator_grids"][0]["source"]["values"] = [" HLC3", "close"]
    body["template"]["indicator_grids"][0]["indicator_id"] = "Momentum.RSI"
    found = again(body)
    assert meaning(found) == meaning(body)
    assert found["time_range"]["start"] == "2026-01-01T00:00:00.125Z"
    assert found["template"]["execution"] == {"init_cash_quote": 500, "fee_pct": 0.5}
    assert found["template"]["risk_grid"]["sl"] == {"mode": "explicit", "values": [2.5]}
    assert found["template"]["indicator_grids"][0]["source"]["values"] == ["hlc3", "close"]


def test_levels_of_stops_that_are_off_are_kept() -> None:
    body = copy.deepcopy(REQUEST)
    body["template"]["risk_grid"]["tp_enabled"] = False
    found = again(body)
    assert found["template"]["risk_grid"]["tp"] == body["template"]["risk_grid"]["tp"]
    assert meaning(found) == meaning(body)


def test_what_has_no_field_is_kept_until_it_is_let_go() -> None:
    body = copy.deepcopy(REQUEST)
    axis = {"mode": "explicit", "values": [1, 2]}
    body["template"]["signal_grids"]["ma.ema"] = {"lag": axis}
    body["template"]["indicator_grids"][0]["params"]["colour"] = axis
    body["template"]["indicator_grids"][1]["source"] = {"mode": "explicit", "values": ["hl7"]}
    fields = fields_of(body, DEFAULTS)
    assert sorted(json.loads(text)[0] for text in fields.texts("kept")) == [
        ["blocks", "ma.sma", "params", "colour"],
        ["blocks", "momentum.rsi", "source"],
        ["signals", "ma.ema", "lag"],
    ]
    found = request_of(fields)
    for place in ("signal_grids", "indicator_grids"):
        assert found["template"][place] == body["template"][place]
    with pytest.raises(InvalidGrid, match="colour"):
        meaning(found)
    let_go = request_of(Fields([pair for pair in fields.pairs if pair[0] != "kept"]))
    assert "ma.ema" not in let_go["template"]["signal_grids"]
    meaning(let_go)


@pytest.mark.parametrize(
    "text", ["{", "[1]", "[[], 1]", "null", '["signals", 1]', "[" * 100_000, '[["blocks"], 1]',
             '[["blocks", "ma.sma"], 1]', '[["template", "risk_grid", "sl", "x"], 1]',
             '[["blocks", "no.such", "params", "x"], 1]', '[[{"a": 1}, null], 2]'],
)  # fmt: skip
def test_what_was_never_kept_is_let_go(text: str) -> None:
    plain = fields_of(REQUEST, DEFAULTS)
    assert request_of(Fields([*plain.pairs, ("kept", text)])) == request_of(plain)


def test_an_unknown_indicator_is_said() -> None:
    body = copy.deepcopy(REQUEST)
    body["template"]["indicator_grids"][0]["indicator_id"] = "ma.smma"
    with pytest.raises(InvalidGrid, match="unknown indicator"):
        fields_of(body, DEFAULTS)


def test_texts_that_are_no_numbers_are_refused_where_they_stand() -> None:
    pairs = [
        (name, "1e999" if name.endswith("ma.sma.params.window.step") else text)
        for name, text in fields_of(REQUEST, DEFAULTS).pairs
    ]
    pairs += [("top_k", "many"), ("template.execution.fee_pct", "<b>")]
    body = request_of(Fields(pairs))
    assert body["top_k"] == "many"
    with pytest.raises(Exception, match="Validation failed") as refused:
        parse_request(body)
    fields = {field_of(fault["path"], body) for fault in refused.value.errors}  # type: ignore[attr-defined]
    assert fields == {
        "blocks.ma.sma.params.window.step", "top_k", "template.execution.fee_pct",
    }  # fmt: skip


def test_a_form_of_nothing_is_a_request_of_nothing() -> None:
    assert request_of(Fields()) == {"template": {"indicator_grids": []}}
    assert request_of(Fields([("top_k", " "), ("indicator", ""), ("x", "y")])) == request_of(
        Fields()
    )


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back(value: float) -> None:
    found = number(json.dumps(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("name", IDS)
def test_every_indicator_begins_with_a_grid_that_is_accepted(name: str) -> None:
    fields = fields_of(
        {**REQUEST, "template": {**REQUEST["template"], "signal_grids": {}}}, DEFAULTS
    )
    outer = [pair for pair in fields.pairs if not pair[0].startswith(("blocks.", "indicator"))]
    for output in (one for one in definition(name).outputs if one.rule is not None):
        pairs = [*outer, (f"blocks.{name}.output", output.name)]
        body = request_of(Fields([*pairs, *start_pairs(name, Fields(pairs), KNOWN)]))
        job = resolve(parse_request(body), DEFAULTS, KNOWN)
        assert job.grid.indicators[0].output == output.name
        assert job.grid.total <= 9 * 9 * 9
        rule = {param.name for param in output.rule.params} if output.rule else set()
        assert {*body["template"].get("signal_grids", {}).get(name, {})} == rule


@pytest.mark.parametrize("known", [{}, deployed("dev"), deployed("prod")], ids=["", "dev", "prod"])
@pytest.mark.parametrize("name", IDS)
def test_an_axis_begins_with_round_values_around_the_usual_one(
    name: str, known: dict[str, IndicatorDefaults]
) -> None:
    """Each within its bounds, on its step, ascending, and a round step apart."""
    body = request_of(Fields(start_pairs(name, Fields(), known)))
    (block,) = body["template"]["indicator_grids"]
    for param in definition(name).params:
        spec = axis_spec(block["params"][param.name])
        values = [Decimal(repr(value)) for value in materialised(spec)]
        least, low, high, usual = (
            Decimal(repr(one))
            for one in (param.step, param.hard_min, param.hard_max, param.default)
        )
        assert usual in values
        assert low <= values[0]
        assert values[-1] <= high
        assert all((value - low) % least == 0 for value in values)
        assert 2 <= len(values) <= 5
        steps = {after - before for before, after in pairwise(values)}
        assert min(steps) > 0
        if isinstance(spec, Range):
            (step,) = steps
            assert step.normalize().as_tuple().digits in {(1,), (2,), (5,)}
        else:  # as the deployment lists them
            assert spec == known[name].params[param.name]
        if param.kind == "int":
            assert all(isinstance(value, int) for value in materialised(spec))


def test_what_a_deployment_narrows_stays_so() -> None:
    window = Param("window", "int", 2, 2000, 1, 20)
    for axis, values in (
        (None, (15, 20, 25)),
        (Range(18, 200, 1), (20, 25, 30)),
        (Range(5, 22, 1), (10, 15, 20)),
        (Range(50, 60, 1), (50, 55, 60)),
        (Range(5, 8, 1), (6, 7, 8)),
        (Range(20, 20, 1), (20,)),
        (Explicit((1, 2, 3, 4, 5)), (2, 3, 4)),
    ):
        assert materialised(around(window, axis, 1)) == values


def test_an_axis_of_a_rule_begins_with_its_middle() -> None:
    assert middle(Range(5, 30, 5), 3) == Range(15, 25, 5)
    assert middle(Range(-0.2, 0.2, 0.05), 3) == Range(-0.05, 0.05, 0.05)
    assert middle(Range(1, 2, 1), 3) == Range(1, 2, 1)
    assert middle(Explicit((-1, -3, -5, -10)), 3) == Explicit((-3, -5, -10))


def axes(least: float, most: float, whole: bool) -> st.SearchStrategy[dict[str, Any]]:
    if whole:
        one = st.integers(int(least), int(most))
    else:
        one = st.floats(least, most, allow_subnormal=False)
    listed = st.lists(one, min_size=1, max_size=4, unique=True).map(
        lambda values: {"mode": "explicit", "values": values}
    )
    return listed


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that says little or much."""
    chosen = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True))
    blocks, signals = [], {}
    for name in chosen:
        known = definition(name)
        block: dict[str, Any] = {"indicator_id": name}
        if known.sources and draw(st.booleans()):
            sources = st.lists(st.sampled_from(known.sources), min_size=1, unique=True)
            block["source"] = {"mode": "explicit", "values": draw(sources)}
        params = {
            param.name: {"mode": "explicit", "values": [param.default]}
            if param.name in {one for pair in known.ordered for one in pair}
            else draw(axes(param.hard_min, param.hard_max, param.kind == "int"))
            for param in known.params
            if draw(st.booleans()) or known.ordered
        }
        block["params"] = params
        usable = [output for output in known.outputs if output.rule is not None]
        output = draw(st.sampled_from(usable))
        if output.name != known.primary or draw(st.booleans()):
            block["output"] = output.name
        assert output.rule is not None
        rule = {
            param.name: draw(axes(1, 50, param.kind == "int" or output.rule.family == "delta_sign"))
            for param in output.rule.params
            if draw(st.booleans())
        }
        if rule:
            signals[name] = rule
        blocks.append(block)
    optional: dict[str, Any] = {
        "warmup_bars": st.integers(1, 10**6), "top_k": st.integers(5, 300),
        "preselect": st.integers(1, 10**9), "top_trades_n": st.integers(1, 5),
        "validation": st.fixed_dictionaries({"holdout_fraction": st.floats(0, 0.99)}),
        "ranking": st.fixed_dictionaries(
            {"primary_metric": st.sampled_from(RANKING_METRICS[:2])},
            optional={
                "secondary_metric": st.none() | st.sampled_from(RANKING_METRICS[2:]),
                "min_trades": st.integers(0, 10**6), "distinct": st.booleans(),
            },
        ),
    }  # fmt: skip
    found = {name: draw(value) for name, value in optional.items() if draw(st.booleans())}
    money = st.none() | st.floats(0.01, 99, allow_subnormal=False)
    level = axes(0, 50, False)
    inner = {
        "direction_mode": st.sampled_from(DIRECTION_MODES),
        "sizing_mode": st.sampled_from(SIZING_MODES),
        "execution": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("init_cash_quote", "fee_pct", "slippage_pct", "fixed_quote",
                 "safe_profit_percent"), money,
            ),
        ),
        "risk_grid": st.fixed_dictionaries(
            {"sl_enabled": st.booleans(), "sl": level, "tp_enabled": st.booleans(),
             "tp_pct": st.floats(0, 50)},
        ),
        "signal_grids": st.just(signals),
    }  # fmt: skip
    template = {name: draw(value) for name, value in inner.items() if draw(st.booleans())}
    start = draw(st.integers(10**12, 2 * 10**12))
    from compute.market.period import instant

    return found | {
        "time_range": {
            "start": instant(start),
            "end": instant(start + draw(st.integers(1, 10**11))),
        },
        "template": template
        | {
            "instrument_id": {
                "market_id": draw(st.integers(1, 4)),
                "symbol": draw(st.text("ABC<\"'&1", min_size=1)),
            },
            "timeframe": draw(st.sampled_from([*TIMEFRAMES])),
            "indicator_grids": blocks,
        },
    }


@given(requests())
def test_any_request_comes_back(body: dict[str, Any]) -> None:
    assert meaning(again(body)) == meaning(body)


def test_ranges_come_back_to_the_digit() -> None:
    for spec in (
        {"mode": "range", "start": 0.1, "stop_incl": 2.5, "step": 0.1},
        {"mode": "range", "start": -5, "stop_incl": 5.0, "step": 1e-3},
    ):
        body = copy.deepcopy(REQUEST)
        body["template"]["signal_grids"]["momentum.rsi"]["long_threshold"] = spec
        found = again(body)["template"]["signal_grids"]["momentum.rsi"]["long_threshold"]
        assert found == spec
        assert materialised(axis_spec(found)) == materialised(axis_spec(spec))
