"""Snapshots: the contract's hashes, the round trip of every kind of request, and what is refused
before anything is stored."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from cluster.columns import MAX_ROWS
from cluster.jobs import snapshot as snapshots
from cluster.jobs.job import Hashes
from cluster.jobs.snapshot import backtest_of, effective_body, plan_key
from compute.backtest import Backtest, resolve
from compute.errors import GuardExceeded, InvalidGrid, InvalidInput, InvalidRequest
from compute.indicators.defaults import IndicatorDefaults, indicator_defaults
from compute.indicators.registry import definition, ids
from compute.keys import canonical_json
from compute.market.timeline import Timeline
from compute.request import parse_request
from compute.settings import Defaults, Limits
from configs.load import config
from tests.cluster.jobs.requests import (
    VOTERS,
    Body,
    block,
    explicit,
    made,
    market,
    request,
    requests,
    run_of,
    signals,
    through_jsonb,
    usable,
)
from tests.compute.test_keys import WORKED_HASH, WORKED_REQUEST

CONFIG_HASH = "290d48e5ccf4b4413341aa4423ec945068527c2d3fe0f973e195390510b2ea79"
MONTH_OF_ETH: Body = {
    "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
    "template": {
        "instrument_id": {"market_id": 2, "symbol": "ETHUSDT"},
        "timeframe": "15m",
        "indicator_grids": [
            {
                "indicator_id": "ma.ema",
                "source": explicit("close"),
                "params": {"window": run_of(10, 50, 10)},
            }
        ],
        "signal_grids": {},
    },
}


@pytest.mark.parametrize(
    ("body", "request_hash", "grid_request_hash", "engine_params_hash"),
    [
        (
            WORKED_REQUEST,
            "94bc8d80f77b86259f53249a2d1645f96f011070415971de1d73fd73bf6a569f",
            WORKED_HASH,
            "9d8e08177356427c4373e49eca58836a19f3d06cb73da3b9dfc2026a5fbe0ccb",
        ),
        (
            MONTH_OF_ETH,
            "0eec87b263f1676e299f6b38539bb2cfa7bcbd34ba6a7741a4719dddbaa1241a",
            "e54a581a0e1b8745550f7d85f6a389a7d79f5e3e8667b1237f82e01a8253d3b4",
            "7153afc561e1265b1092461edcd1abe0360e45947fcd315f4d1b49e958be5f02",
        ),
    ],
)
def test_worked_hashes(
    body: Body, request_hash: str, grid_request_hash: str, engine_params_hash: str
) -> None:
    assert made(body).hashes == Hashes(
        request_hash, grid_request_hash, engine_params_hash, CONFIG_HASH
    )


def test_the_stored_request_has_what_was_sent_and_what_took_effect() -> None:
    sent = copy.deepcopy(WORKED_REQUEST)
    sent["template"]["sizing_mode"] = None
    sent["overrides"] = None
    sent["time_range"]["end"] = "2026-01-11T01:00:00+01:00"
    found = made(sent)
    assert found.request_json == {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"},
        "template": {
            **{k: v for k, v in WORKED_REQUEST["template"].items() if k != "execution"},
            "direction_mode": "long-short",
            "sizing_mode": "all_in",
            "execution": {
                "init_cash_quote": 10000.0,
                "fee_pct": 0.075,
                "slippage_pct": 0.01,
                "fixed_quote": 100.0,
                "safe_profit_percent": 30.0,
            },
        },
        "warmup_bars": 50,
        "top_k": 3,
        "preselect": 5,
        "top_trades_n": 1,
    }
    assert found.hashes.request_hash == made(WORKED_REQUEST).hashes.request_hash
    assert "ranking" not in found.request_json
    assert found.effective_json["ranking"]["primary_metric"] == "total_return_pct"
    ranked = made(request(ranking={"primary_metric": "profit_factor", "secondary_metric": None}))
    assert ranked.request_json["ranking"] == {"primary_metric": "profit_factor"}


def _round_trip(body: Body, given: dict[str, IndicatorDefaults] | None = None) -> Backtest:
    """The back-test of a request, after comparing it with the one rebuilt from its snapshot."""
    parsed = snapshots._storable(parse_request(body))
    job = resolve(parsed, Defaults(secondary_metric_default="profit_factor"), given or {})
    hashes, request_json = snapshots._hashed(job, parsed)
    stored = through_jsonb(effective_body(job, parsed))
    rebuilt = backtest_of(stored, hashes)
    assert rebuilt == job
    assert rebuilt.terms() == job.terms()
    assert rebuilt.grid.axis_names == job.grid.axis_names
    for before, after in zip(job.grid.axes, rebuilt.grid.axes, strict=True):
        assert list(map(repr, after.values)) == list(map(repr, before.values))
    keys, again = job.key_template(), rebuilt.key_template()
    for flat in {0, job.grid.total // 2, job.grid.total - 1}:
        assert again.variant_key(flat, job.risk.total - 1) == keys.variant_key(
            flat, job.risk.total - 1
        )
        assert again.base_key(flat) == keys.base_key(flat)
    assert canonical_json(through_jsonb(request_json)) == canonical_json(request_json)
    return job


@settings(max_examples=120)
@given(requests())
def test_every_request_comes_back_from_its_snapshot(body: Body) -> None:
    _round_trip(body)


@pytest.mark.parametrize("name", VOTERS)
def test_every_indicator_comes_back_with_every_output(name: str) -> None:
    known = definition(name)
    for output in usable(known):
        body = request()
        axes = block(known, lambda param: explicit(param.default), output.name)
        body["template"]["indicator_grids"] = [axes]
        body["template"]["signal_grids"] = {name: signals(output)}
        assert _round_trip(body).grid.indicators[0].output == output.name


def test_the_shipped_defaults_are_part_of_the_snapshot() -> None:
    file = config("indicators")
    given = indicator_defaults(file.document)
    body = request(template={
        **request()["template"],
        "indicator_grids": [{"indicator_id": "ma.sma"}, {"indicator_id": "volume.obv"}],
        "signal_grids": {"volume.obv": {"long_delta_periods": explicit(-3),
                                        "short_delta_periods": run_of(1, 4)}},
    })  # fmt: skip
    job = _round_trip(body, given)
    assert job.grid.indicators[0].compute_total > 1000


@pytest.mark.parametrize("name", sorted(set(ids()) - set(VOTERS)))
def test_an_indicator_that_cannot_vote_is_refused(name: str) -> None:
    body = request()
    body["template"]["indicator_grids"] = [
        block(definition(name), lambda param: explicit(param.default))
    ]
    with pytest.raises(InvalidGrid) as refused:
        made(body, read_market=_no_market)
    assert refused.value.details["errors"][0]["path"].startswith("body.template.indicator_grids.0")


def _no_market(job: Backtest) -> Timeline:
    raise AssertionError("no candle is read for what can be refused without")


def _errors(body: Body, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        made(body, read_market=_no_market, **options)
    assert refused.value.code == "validation_error"
    assert all(error["message"] for error in refused.value.errors)
    return [(error["path"], error["code"]) for error in refused.value.errors]


def test_what_the_contract_refuses_at_creation() -> None:
    assert _errors(request(top_k=301)) == [("body.top_k", "max_value")]
    assert _errors(request(top_trades_n=4)) == [("body.top_trades_n", "max_value")]
    foreign = request()
    foreign["template"]["instrument_id"]["market_id"] = 9
    foreign["template"]["execution"] = {"fee_pct": 0.1}
    assert _errors(foreign) == [("body.template.instrument_id.market_id", "unsupported")]
    assert _errors({"strategy_id": "x", **request(template=None)}) == [
        ("body.strategy_id", "mode_conflict")
    ]
    assert _errors({**request(), "strategy_id": "x"}) == [
        ("body.strategy_id", "mode_conflict"),
        ("body.template", "mode_conflict"),
    ]
    assert _errors(request(overrides={"sizing_mode": "all_in"})) == [
        ("body.overrides", "mode_conflict")
    ]
    few = Defaults(top_k_persisted_default=2)
    assert _errors(request(top_k=None), defaults=few) == [("body.top_k", "max_value")]


@pytest.mark.parametrize("symbol", ["BTC\0USDT", "BTC\ud800"])
def test_a_symbol_that_no_database_can_hold_is_refused(symbol: str) -> None:
    body = request()
    body["template"]["instrument_id"]["symbol"] = symbol
    at = "body.template.instrument_id.symbol"
    assert _errors(body) == [(at, "string_unicode")]


def test_a_list_whose_numbers_become_equal_is_refused() -> None:
    body = request()
    body["template"]["indicator_grids"] = [
        block(definition("trend.vortex"), lambda param: explicit(param.default))
    ]
    body["template"]["signal_grids"] = {
        "trend.vortex": {"abs_threshold": explicit(2**53, 2**53 + 1)}
    }
    with pytest.raises(InvalidInput, match="Validation failed"):
        made(body, read_market=_no_market)


def test_the_guards_hold_at_creation() -> None:
    three = Limits(max_variants_per_compute=2, max_compute_bytes_total=5 << 30)
    with pytest.raises(GuardExceeded, match="3"):
        made(request(windows=3), limits=three, read_market=_no_market)
    stage_b = Limits(max_variants_per_compute=5, max_compute_bytes_total=5 << 30)
    with pytest.raises(GuardExceeded) as refused:
        made(request(windows=3), limits=stage_b)
    assert refused.value.details == {
        "error": "max_variants_per_compute_exceeded",
        "stage": "stage_b",
        "total_variants": 6,
        "max_variants_per_compute": 5,
    }
    memory = Limits(max_variants_per_compute=600_000, max_compute_bytes_total=1 << 20)
    with pytest.raises(GuardExceeded) as refused:
        made(request(windows=3), limits=memory)
    assert refused.value.details["error"] == "max_compute_bytes_total_exceeded"
    assert refused.value.details["estimated_memory_bytes"] > 1 << 20


def test_the_estimate_of_creation_is_kept() -> None:
    found = made(request(windows=3), workers=2)
    assert found.mode == "template"
    assert found.limits_json == {
        "max_variants_per_compute": 600_000,
        "max_compute_bytes_total": 5 << 30,
    }
    assert found.plan_json["workers"] == 2
    assert found.plan_json["stage_a_variants_total"] == 3
    assert found.plan_json["stage_b_variants_total"] == 6
    assert found.plan_json["estimated_memory_bytes"] == found.plan.total_bytes
    assert found.plan_json["boxes"] == [None]
    assert found.candles_fingerprint == found.timeline.fingerprint
    held = made(request(windows=3, validation={"holdout_fraction": 0.5}))
    assert held.plan_json["ranked_bars"] == found.plan_json["ranked_bars"] // 2


def test_columns_are_kept_up_to_a_number_of_rows() -> None:
    assert made().keep_columns
    assert not made(keep_columns=False).keep_columns
    many = request()
    many["template"]["indicator_grids"] = [
        {
            "indicator_id": "ma.sma",
            "source": explicit("close", "open"),
            "params": {"window": run_of(2, 1732)},
        },
        {"indicator_id": "ma.ema", "source": explicit("close"),
         "params": {"window": run_of(2, 1732)}},
    ]  # fmt: skip
    found = made(many, limits=Limits(10**9, 1 << 40))
    assert found.backtest.grid.total > MAX_ROWS
    assert not found.keep_columns


def test_equal_plans_have_one_key_and_others_have_others() -> None:
    one = made()
    assert made().plan_key == one.plan_key
    assert made(request(top_trades_n=2)).plan_key == one.plan_key
    ignored = request()
    ignored["template"]["signal_grids"] = {"momentum.rsi": {"long_threshold": explicit(5)}}
    assert made(ignored).plan_key == one.plan_key
    spelled = request()
    spelled["template"]["indicator_grids"][0]["params"]["window"] = explicit(5, 6, 7)
    spelled["template"]["instrument_id"]["symbol"] = " btcusdt"
    assert made(spelled).plan_key == one.plan_key
    assert made(spelled).hashes.request_hash != one.hashes.request_hash
    others = [
        made(request(windows=4)),
        made(request(top_k=2)),
        made(request(preselect=2)),
        made(request(warmup_bars=31)),
        made(request(ranking={"primary_metric": "profit_factor"})),
        made(request(validation={"holdout_fraction": 0.1})),
        made(keep_columns=False),
        made(read_market=lambda job: replace(market(job), fingerprint="0" * 64)),
    ]
    keys = {other.plan_key for other in others}
    assert len(keys) == len(others)
    assert one.plan_key not in keys
    cut = replace(one.plan, boxes=(None, None))
    assert plan_key(one.effective_json, one.candles_fingerprint, cut, keep_columns=True) not in {
        *keys,
        one.plan_key,
    }
