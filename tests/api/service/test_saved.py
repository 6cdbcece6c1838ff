"""Saved mode over strategies of any shape, whoever keeps them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.saved import StoredStrategy
from api.schemas.examples import BACKTESTS, REPORTS
from api.users import DEVELOPER, HEADER
from cluster.jobs.store import JobStore
from compute.keys import canonical_json
from ingest.stores.clickhouse import ClickHouse
from live.strategies.names import spec_hash
from live.strategies.template import strategy_template
from tests.api.service.job_service import job_service, running, until_ended
from tests.api.service.market import client_of, context_of, refused, store, store_directory
from tests.cluster.jobs.stored import run

__all__ = ["store", "store_directory"]

SPEC: dict[str, Any] = {
    "spec_kind": "roehub.strategy.v1",
    "schema_version": 1,
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "instrument_key": "binance:spot:BTCUSDT",
    "timeframe": "1h",
    "indicators": [
        {"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 5}},
        {"name": "momentum.rsi", "inputs": {"source": "close"}, "params": {"window": 7}},
    ],
    "signal_grids": {
        "momentum.rsi": {
            "long_threshold": {"mode": "explicit", "values": [50]},
            "short_threshold": {"mode": "explicit", "values": [40]},
        }
    },
    "execution": {"fee_pct": 0.2, "slippage_pct": 0.05},
    "risk": {"sl_enabled": True, "sl_pct": 2.0, "tp_enabled": False, "tp_pct": None},
}
OURS = UUID("00000000-0000-0000-0000-0000000000aa")
THEIRS = UUID("00000000-0000-0000-0000-0000000000bb")
BROKEN = UUID("00000000-0000-0000-0000-0000000000cc")
EMPTY = UUID("00000000-0000-0000-0000-0000000000dd")
STORED = {
    EMPTY: StoredStrategy(EMPTY, DEVELOPER, {}, spec_hash({})),
    OURS: StoredStrategy(OURS, DEVELOPER, SPEC, spec_hash(SPEC)),
    THEIRS: StoredStrategy(THEIRS, UUID(int=7), SPEC, spec_hash(SPEC)),
    BROKEN: StoredStrategy(BROKEN, DEVELOPER, {"indicators": []}, "0" * 64),
}
RANGE = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"}


async def strategies(strategy_id: UUID) -> StoredStrategy | None:
    return STORED.get(strategy_id)


@pytest.fixture(scope="module")
def client(store: ClickHouse) -> Iterator[httpx.Client]:
    with client_of(lambda: context_of(store, strategies=strategies)) as client:
        yield client


def sent(strategy_id: UUID = OURS, **more: Any) -> dict[str, Any]:
    return {"time_range": RANGE, "strategy_id": str(strategy_id), "warmup_bars": 50, **more}


def test_a_stored_strategy_runs(client: httpx.Client) -> None:
    found = client.post("/backtests", json=sent()).json()
    assert found["mode"] == "saved"
    assert found["strategy_id"] == str(OURS)
    assert found["grid_request_hash"] is None
    assert found["spec_hash"] == sha256(canonical_json(SPEC)).hexdigest()
    (variant,) = found["variants"]
    payload = variant["payload"]
    assert payload["execution_params"]["fee_pct"] == 0.2
    assert payload["risk_params"] == {
        "sl_enabled": True, "sl_pct": 2.0, "tp_enabled": False, "tp_pct": None,
    }  # fmt: skip
    assert (payload["direction_mode"], payload["sizing_mode"]) == ("long-short", "all_in")
    assert variant["indicator_variant_key"] == (
        "72308ecdf92b64f51112cc05f044068ab734c63429167fa536ff20b996ed8557"
    )


def test_overrides(client: httpx.Client) -> None:
    overrides = {
        "direction_mode": "long-only",
        "execution": {"fee_pct": 0.075, "slippage_pct": None},
        "risk_grid": {"tp_enabled": True, "tp": {"mode": "explicit", "values": [3, 6]}},
        "signal_grids": {"momentum.rsi": {"short_threshold": {"mode": "explicit", "values": [45]}}},
    }
    found = client.post("/backtests", json=sent(overrides=overrides)).json()
    assert len(found["variants"]) == 2
    payload = found["variants"][0]["payload"]
    assert payload["direction_mode"] == "long-only"
    assert payload["execution_params"]["fee_pct"] == 0.075
    assert payload["execution_params"]["slippage_pct"] == 0.05
    assert payload["risk_params"]["sl_pct"] is None
    assert payload["signal_params"]["momentum.rsi"] == {
        "long_threshold": 50, "short_threshold": 45,
    }  # fmt: skip
    # The same run as the template that says the same, under the same keys.
    template = strategy_template(SPEC, overrides)
    body = {"time_range": RANGE, "template": template, "warmup_bars": 50}
    same = client.post("/backtests", json=body).json()
    assert same["variants"] == found["variants"]
    assert same["engine_params_hash"] == found["engine_params_hash"]


def test_a_job_of_a_stored_strategy(
    store: ClickHouse, database: str, tmp_path: Path, client: httpx.Client
) -> None:
    overrides = {
        "direction_mode": None,
        "execution": {"fee_pct": 0.075, "slippage_pct": None},
        "risk_grid": {"tp_enabled": True, "tp": {"mode": "explicit", "values": [3, 6]}},
    }
    body = sent(overrides=overrides, top_k=2, preselect=5, top_trades_n=1)
    spec_hash = sha256(canonical_json(SPEC)).hexdigest()
    with job_service(store, database, tmp_path, strategies=strategies) as (service, _):
        mine = {HEADER: str(DEVELOPER)}
        answer = service.post("/backtests/jobs", json=body, headers=mine)
        assert answer.status_code == 201, answer.text
        job = answer.json()
        assert (job["mode"], job["spec_hash"]) == ("saved", spec_hash)
        stored = run(database, lambda found: JobStore(found).get(UUID(job["job_id"])))
        assert stored is not None
        assert stored.spec_payload_json == SPEC
        assert stored.grid_request_hash is None
        assert stored.request_json == {
            "time_range": RANGE,
            "strategy_id": str(OURS),
            "overrides": {
                "direction_mode": "long-short",
                "sizing_mode": "all_in",
                "execution": {
                    "init_cash_quote": 10000.0, "fee_pct": 0.075, "slippage_pct": 0.05,
                    "fixed_quote": 100.0, "safe_profit_percent": 30.0,
                },
                "risk_grid": {"tp_enabled": True, "tp": {"mode": "explicit", "values": [3, 6]}},
            },
            "warmup_bars": 50, "top_k": 2, "preselect": 5, "top_trades_n": 1,
        }  # fmt: skip
        assert job["request_hash"] == sha256(canonical_json(stored.request_json)).hexdigest()
        with running(database, tmp_path):
            service.headers.update(mine)
            assert until_ended(service, job["job_id"])["state"] == "succeeded"
        same = client.post("/backtests", json=body).json()
        found = service.get(f"/backtests/jobs/{job['job_id']}/result").json()
        for name in ("mode", "strategy_id", "spec_hash", "grid_request_hash", "engine_params_hash"):
            assert found[name] == same[name]
        assert [one["variant_key"] for one in found["variants"]] == [
            one["variant_key"] for one in same["variants"]
        ]
        top = service.get(f"/backtests/jobs/{job['job_id']}/top").json()
        context = top["report_context"]
        assert "strategy_id" not in context  # it may be gone
        report = client.post(
            "/backtests/variant-report", json={**context, "variant": top["items"][0]["payload"]}
        )
        assert report.status_code == 200, report.text


def test_strategies_that_no_job_is_made_of(
    store: ClickHouse, database: str, tmp_path: Path
) -> None:
    with job_service(store, database, tmp_path, strategies=strategies) as (service, _):
        for strategy_id, status in ((THEIRS, 403), (UUID(int=1), 404), (BROKEN, 500), (EMPTY, 422)):
            answer = service.post(
                "/backtests/jobs", json=sent(strategy_id), headers={HEADER: str(DEVELOPER)}
            )
            assert answer.status_code == status, answer.text


def test_a_report_of_a_stored_strategy(client: httpx.Client) -> None:
    (example,) = REPORTS.values()
    body = sent(variant=example["variant"], include_trades=True)
    found = client.post("/backtests/variant-report", json=body)
    assert found.status_code == 200, found.text
    assert found.json() == client.post("/backtests/variant-report", json=example).json()


@pytest.mark.parametrize("path", ["/backtests", "/backtests/variant-report"])
def test_strategies_that_cannot_be_run(client: httpx.Client, path: str) -> None:
    (example,) = REPORTS.values()
    more = {} if path == "/backtests" else {"variant": example["variant"]}
    error = refused(client.post(path, json=sent(THEIRS, **more)), 403)
    assert (error["code"], error["details"]) == ("forbidden", {"strategy_id": str(THEIRS)})
    error = refused(client.post(path, json=sent(UUID(int=1), **more)), 404)
    assert error["details"] == {"strategy_id": str(UUID(int=1))}
    error = refused(client.post(path, json=sent(BROKEN, **more)), 500)
    assert error["message"] == "Backtest storage operation failed"
    other = {HEADER: str(UUID(int=7))}
    assert client.post(path, json=sent(THEIRS, **more), headers=other).status_code == 200


@pytest.mark.parametrize(
    ("changes", "items"),
    [
        ({"strategy_id": "no"}, {"body.strategy_id": "uuid_parsing"}),
        ({"overrides": {"params": {}}}, {"body.overrides.params": "extra_forbidden"}),
        ({"overrides": {"direction_mode": "up"}},
         {"body.overrides.direction_mode": "literal_error"}),
        ({"top_k": "3"}, {"body.top_k": "int_type"}),
        ({"template": BACKTESTS["two indicators with stops"]["template"]},
         {"body.strategy_id": "mode_conflict", "body.template": "mode_conflict"}),
    ],
)  # fmt: skip
def test_requests_that_cannot_be(
    client: httpx.Client, changes: dict[str, Any], items: dict[str, str]
) -> None:
    error = refused(client.post("/backtests", json=sent() | changes))
    assert {one["path"]: one["code"] for one in error["details"]["errors"]} == items


def test_an_identifier_is_the_first_of_its_names() -> None:
    spec = copy.deepcopy(SPEC)
    spec["indicators"] = [{"name": "x", "kind": "y", "id": "ma.sma", "params": {}}]
    template = strategy_template(spec, {})
    assert template["indicator_grids"] == [{"indicator_id": "ma.sma", "params": {}}]
