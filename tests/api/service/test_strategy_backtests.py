"""A variant that is kept back-tests to the very row it was saved from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from cluster.jobs.job import Job
from cluster.jobs.store import JobStore
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.job_service import axis, request, running, until_ended
from tests.api.service.market import refused, store, store_directory
from tests.api.service.strategy_service import (
    PATH,
    V1,
    V2,
    made,
    own_database,
    strategy_service,
    user,
)
from tests.cluster.jobs.stored import run
from tests.postgres import execute

__all__ = ["store", "store_directory"]
JOBS = "/backtests/jobs"
SAVE = f"{PATH}/from-variant"
MISSING = str(UUID(int=5))
RANGE = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"}
ODD: dict[str, Any] = {
    "time_range": RANGE,
    "template": {
        "instrument_id": {"market_id": 1, "symbol": "btcusdt"},
        "timeframe": "15m",
        "indicator_grids": [
            {
                "indicator_id": "volatility.bbands",
                "source": axis("hlc3"),
                "output": "upper",
                "params": {"window": axis(20, 30), "mult": axis(0.5, 0.25)},
            },
            {
                "indicator_id": "trend.adx",
                "output": "plus_di",
                "params": {"window": axis(14), "smoothing": axis(14)},
            },
        ],
        "signal_grids": {
            "trend.adx": {"long_delta_periods": axis(1), "short_delta_periods": axis(-3, -1)}
        },
        "direction_mode": "short-only",
        "sizing_mode": "strategy_compound_profit_lock",
        "execution": {"fee_pct": 0.03, "init_cash_quote": 1234.5, "safe_profit_percent": 12},
        "risk_grid": {"tp_enabled": True, "tp": axis(1, 2.5)},
    },
    "warmup_bars": 77,
    "top_k": 6,
}


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_strategy_backtests") as found:
        yield found


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def client(store: ClickHouse, dsn: str, results_dir: Path) -> Iterator[httpx.Client]:
    with strategy_service(dsn, store=store, results_dir=results_dir) as found:
        yield found


def posted(client: httpx.Client, path: str, body: Any, who: dict[str, str]) -> Any:
    answer = client.post(path, json=body, headers=who)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def ended(client: httpx.Client, job_id: str, who: dict[str, str]) -> Any:
    """The result of a job that a runner computes."""
    client.headers.update(who)
    assert until_ended(client, job_id, 180)["state"] == "succeeded"
    return client.get(f"{JOBS}/{job_id}/result").json()


def bytes_of(row: Any, *names: str) -> str:
    return json.dumps({name: row[name] for name in names})


def same(row: Any, other: Any) -> None:
    """Whether two rows are one variant with one result, to the byte."""
    names = ("variant_key", "indicator_variant_key", "total_return_pct", "metrics", "payload")
    assert bytes_of(row, *names) == bytes_of(other, *names)


def test_rows_of_a_job_come_back_by_their_strategies(
    client: httpx.Client, dsn: str, results_dir: Path
) -> None:
    ann = user()
    with running(dsn, results_dir):
        job_id = posted(client, JOBS, request(), ann)["job_id"]
        result = ended(client, job_id, ann)
        top = client.get(f"{JOBS}/{job_id}/top", headers=ann).json()["items"]
        strategy: dict[str, Any] = {}
        body: dict[str, Any] = {}
        only: dict[str, Any] = {}
        for rank, row in enumerate(result["variants"], 1):
            named = {"rank": rank} if rank % 2 else {"variant_key": row["variant_key"]}
            strategy = posted(client, SAVE, {"job_id": job_id, **named}, ann)
            assert strategy["spec"]["source"] == {
                "kind": "job",
                "job_id": job_id,
                "rank": rank,
                "variant_key": row["variant_key"],
                "indicator_variant_key": row["indicator_variant_key"],
                "time_range": RANGE,
                "candles_fingerprint": result["candles"]["fingerprint"],
                "synthetic": True,
            }
            assert strategy["spec"]["warmup_bars"] == 50
            body = {"time_range": RANGE, "strategy_id": strategy["strategy_id"]}
            found = posted(client, "/backtests", body, ann)
            (only,) = found["variants"]
            same(only, row)
            assert top[rank - 1]["variant_key"] == only["variant_key"]
            assert (found["mode"], found["warmup_bars"]) == ("saved", 50)
            assert found["spec_hash"] == strategy["spec_hash"]
            assert found["candles"] == result["candles"]
        # A base variant, ranked or not, without the stops that its ranked rows have.
        flat = 7
        plain = posted(client, SAVE, {"job_id": job_id, "flat_index": flat}, ann)
        place = f"{JOBS}/{job_id}/variant?flat_index={flat}"
        walked = client.get(place, headers=ann).json()
        source = plain["spec"]["source"]
        assert (source["kind"], source["job_id"], source["flat_index"]) == ("job", job_id, flat)
        base = {"time_range": RANGE, "strategy_id": plain["strategy_id"]}
        (only,) = posted(client, "/backtests", base, ann)["variants"]
        assert only["variant_key"] == source["variant_key"]
        assert only["metrics"] == {name: walked["metrics"][name] for name in only["metrics"]}
        # As a job, whose strategy goes before it runs.
        saved = posted(client, JOBS, body, ann)
        assert (saved["mode"], saved["spec_hash"]) == ("saved", strategy["spec_hash"])
        assert client.delete(f"{PATH}/{strategy['strategy_id']}", headers=ann).status_code == 204
        again = ended(client, saved["job_id"], ann)
        (only,) = again["variants"]
        same(only, result["variants"][-1])
        assert (again["mode"], again["strategy_id"]) == ("saved", strategy["strategy_id"])
        assert (again["spec_hash"], again["grid_request_hash"]) == (strategy["spec_hash"], None)
    page = client.get(f"{JOBS}/{saved['job_id']}/top", headers=ann).json()
    report = {**page["report_context"], "variant": page["items"][0]["payload"]}
    told = posted(client, "/backtests/variant-report", report, ann)
    assert told["rows"] == only["report"]["rows"]
    # A row of a job of a strategy can be kept, too; its strategy is gone.
    kept = posted(client, SAVE, {"job_id": saved["job_id"], "rank": 1}, ann)
    assert kept["spec"]["source"]["variant_key"] == only["variant_key"]


@pytest.mark.parametrize("body", [request(), ODD], ids=["plain", "odd"])
def test_rows_of_a_search_come_back_by_their_strategies(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    ann = user()
    result = posted(client, "/backtests", body, ann)
    assert len(result["variants"]) >= 5
    context = {name: body[name] for name in ("time_range", "template", "warmup_bars")}
    for row in (result["variants"][0], result["variants"][-1]):
        sent = {**context, "variant": row["payload"]}
        strategy = posted(client, SAVE, sent, ann)
        spec = strategy["spec"]
        assert spec["source"] == {
            "kind": "variant",
            "variant_key": row["variant_key"],
            "indicator_variant_key": row["indicator_variant_key"],
            "time_range": RANGE,
            "synthetic": True,
        }
        assert spec["risk"] == row["payload"]["risk_params"]
        assert spec["execution"] == row["payload"]["execution_params"]
        assert spec["signals"] == row["payload"]["signal_params"]
        assert spec["warmup_bars"] == result["warmup_bars"]
        by_id = {"time_range": RANGE, "strategy_id": strategy["strategy_id"]}
        (only,) = posted(client, "/backtests", by_id, ann)["variants"]
        same(only, row)
        # What is saved from the strategy's own run is the same strategy but for its source.
        resaved = posted(client, SAVE, {**by_id, "variant": only["payload"]}, ann)["spec"]
        assert resaved.pop("source")["strategy_id"] == strategy["strategy_id"]
        assert resaved == {name: value for name, value in spec.items() if name != "source"}
        clone = posted(
            client, f"{PATH}/clone", {"source_strategy_id": strategy["strategy_id"]}, ann
        )
        (only,) = posted(client, "/backtests", by_id | {"strategy_id": clone["strategy_id"]}, ann)[
            "variants"
        ]
        same(only, row)


def test_a_warm_up_of_ones_own_and_overrides(client: httpx.Client, dsn: str) -> None:
    ann = user()
    strategy_id = made(client, ann)["strategy_id"]
    overrides = {
        "direction_mode": "long-short",
        "execution": {"slippage_pct": 0.5, "init_cash_quote": None},
        "signal_grids": {"momentum.rsi": {"short_threshold": axis(45, 50)}},
        "risk_grid": {"tp_enabled": True, "tp": axis(1, 2, 3)},
    }
    body = {
        "time_range": RANGE,
        "strategy_id": strategy_id,
        "overrides": overrides,
        "warmup_bars": 60,
        "top_k": 10,
    }
    found = posted(client, "/backtests", body, ann)
    assert found["warmup_bars"] == 60
    assert len(found["variants"]) == 6
    job = posted(client, JOBS, body, ann)

    async def stored(connections: Any) -> Job | None:
        return await JobStore(connections).get(UUID(job["job_id"]))

    row = run(dsn, stored)
    assert row is not None
    execution = {
        "init_cash_quote": 10000.0,
        "fee_pct": 0.2,
        "slippage_pct": 0.5,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    }
    assert row.request_json == {
        "time_range": RANGE,
        "strategy_id": strategy_id,
        "overrides": {
            **{name: overrides[name] for name in ("signal_grids", "risk_grid")},
            "direction_mode": "long-short",
            "sizing_mode": "all_in",
            "execution": execution,
        },
        "warmup_bars": 60,
        "top_k": 10,
        "preselect": 20000,
        "top_trades_n": 3,
    }
    assert row.grid_request_hash is None
    assert row.spec_payload_json is not None
    assert row.spec_payload_json["execution"]["fee_pct"] == 0.2
    listed = client.get(JOBS, headers=ann).json()["items"]
    assert [one["mode"] for one in listed] == ["saved"]
    bad = client.post(JOBS, json={**body, "template": request()["template"]}, headers=ann)
    assert refused(bad)["details"]["errors"][0]["code"] == "mode_conflict"


def test_strategies_of_the_first_version(client: httpx.Client) -> None:
    ann = user()
    entry = {"kind": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 9}}
    strategy = made(client, ann, V1 | {"timeframe": "1h", "indicators": [entry]})
    body = {"time_range": RANGE, "strategy_id": strategy["strategy_id"]}
    found = posted(client, "/backtests", body, ann)
    assert found["warmup_bars"] == 200
    (row,) = found["variants"]
    kept = posted(client, SAVE, {**body, "variant": row["payload"]}, ann)
    assert kept["spec"]["schema_version"] == 2
    unknown = made(client, ann, V1)
    error = refused(
        client.post("/backtests", json=body | {"strategy_id": unknown["strategy_id"]}, headers=ann)
    )
    assert "unknown indicator 'ma'" in error["message"]


def test_strategies_of_others_are_not_run(client: httpx.Client) -> None:
    ann, bob = user(), user()
    theirs = made(client, bob)["strategy_id"]
    for strategy_id, status in ((theirs, 403), (MISSING, 404)):
        body = {"time_range": RANGE, "strategy_id": strategy_id}
        answers = [client.post(path, json=body, headers=ann) for path in ("/backtests", JOBS)]
        variant = {
            "indicator_selections": [{"indicator_id": "ma.sma"}],
            "risk_params": {}, "execution_params": {},
            "direction_mode": "long-only", "sizing_mode": "all_in",
        }  # fmt: skip
        answers.append(client.post(SAVE, json={**body, "variant": variant}, headers=ann))
        for answer in answers:
            assert refused(answer, status)["details"] == {"strategy_id": strategy_id}
    assert client.get(JOBS, headers=ann).json()["items"] == []


def test_rows_that_cannot_be_saved(client: httpx.Client, dsn: str) -> None:
    ann, bob = user(), user()
    job_id = posted(client, JOBS, request(), ann)["job_id"]
    early = refused(client.post(SAVE, json={"job_id": job_id, "rank": 1}, headers=ann), 409)
    assert early["details"] == {"error": "ranks_not_final", "job_id": job_id, "state": "queued"}
    key = {"job_id": job_id, "variant_key": "0" * 64}
    assert refused(client.post(SAVE, json=key, headers=ann), 404)["details"] == key
    client.post(f"{JOBS}/{job_id}/cancel", headers=ann)
    body = {"job_id": job_id, "rank": 1}
    assert refused(client.post(SAVE, json=body, headers=ann), 404)["details"] == body
    assert refused(client.post(SAVE, json=body, headers=bob), 403)["code"] == "forbidden"
    base = {"job_id": job_id, "flat_index": 0}
    assert refused(client.post(SAVE, json=base, headers=bob), 403)["code"] == "forbidden"
    for name in ("rank", "flat_index"):
        missing = {"job_id": MISSING, name: 1}
        assert refused(client.post(SAVE, json=missing, headers=ann), 404)
    for bad, place in (
        ({"job_id": job_id}, "body.rank"),
        ({**body, "variant_key": "x"}, "body.variant_key"),
        ({**body, "flat_index": 0}, "body.flat_index"),
        ({"job_id": job_id, "flat_index": 12}, "body.flat_index"),
        ({"job_id": job_id, "flat_index": -1}, "body.flat_index"),
        ({"job_id": job_id, "flat_index": 2**63}, "body.flat_index"),
        ({"job_id": "no", "rank": 1}, "body.job_id"),
        ({"job_id": job_id, "rank": 0}, "body.rank"),
        ({"job_id": job_id, "rank": 10**20}, "body.rank"),
        ({**body, "time_range": RANGE}, "body.time_range"),
    ):
        errors = refused(client.post(SAVE, json=bad, headers=ann))["details"]["errors"]
        assert place in [one["path"] for one in errors]
    context = {"time_range": RANGE, "template": request()["template"]}
    errors = refused(client.post(SAVE, json=context, headers=ann))["details"]["errors"]
    assert errors == [{"path": "body.variant", "code": "required", "message": "is required"}]
    assert client.get(PATH, headers=ann).json()["items"] == []


def test_a_row_that_is_not_what_it_says_is_not_saved(client: httpx.Client, dsn: str) -> None:
    ann = user()
    job_id = posted(client, JOBS, request(), ann)["job_id"]
    payload = {
        "indicator_selections": [
            {"indicator_id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 5}}
        ],
        "signal_params": {},
        "risk_params": {"sl_enabled": False, "sl_pct": None, "tp_enabled": False, "tp_pct": None},
        "execution_params": {},
        "direction_mode": "long-short",
        "sizing_mode": "all_in",
    }
    execute(
        dsn,
        "insert into backtest_job_top_variants (job_id, rank, variant_key, indicator_variant_key,"
        f" variant_index, total_return_pct, payload_json, updated_at) values ('{job_id}', 1, 'k',"
        f" 'i', 0, 0, '{json.dumps(payload)}', now())",
    )
    body = {"job_id": job_id, "variant_key": "k"}
    failed = refused(client.post(SAVE, json=body, headers=ann), 500)
    assert failed["message"] == "Strategy storage operation failed"
    client.post(f"{JOBS}/{job_id}/cancel", headers=ann)


def test_keys_of_saved_variants(client: httpx.Client) -> None:
    ann, key = user(), {"Idempotency-Key": "keep"}
    body = {"time_range": RANGE, "template": request()["template"]}
    row = posted(client, "/backtests", body, ann)["variants"][0]
    sent = {**body, "variant": row["payload"]}
    first = client.post(SAVE, json=sent, headers=ann | key)
    again = client.post(SAVE, json=sent, headers=ann | key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert refused(client.post(PATH, json=V2, headers=ann | key), 409)


def test_without_jobs_a_variant_is_sent_in_full(postgres: str) -> None:
    with (
        own_database(postgres, "test_no_jobs") as found,
        strategy_service(found) as client,
    ):
        body = {"job_id": MISSING, "rank": 1}
        error = refused(client.post(SAVE, json=body, headers=user()), 404)
        assert error["details"] == {"error": "jobs_not_enabled", "job_id": MISSING}
