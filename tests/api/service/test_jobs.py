"""Jobs over HTTP, row by row of the contract's tables, on a real database and a real store."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.jobs import Jobs
from api.settings import ApiSettings
from cluster.jobs.market_file import market_path
from cluster.jobs.store import JobStore
from compute.settings import Limits
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.job_service import ANN, BOB, job_service, request
from tests.api.service.market import refused, store, store_directory
from tests.cluster.jobs.stored import claimed, leases, run, top_rows
from tests.postgres import execute

__all__ = ["store", "store_directory"]
PATH = "/backtests/jobs"


@pytest.fixture
def service(
    store: ClickHouse, database: str, tmp_path: Path
) -> Iterator[tuple[httpx.Client, Jobs]]:
    with job_service(store, database, tmp_path) as found:
        yield found


@pytest.fixture
def client(service: tuple[httpx.Client, Jobs]) -> httpx.Client:
    return service[0]


def made(client: httpx.Client, **headers: str) -> Any:
    answer = client.post(PATH, json=request(), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def items(response: httpx.Response) -> dict[str, str]:
    return {item["path"]: item["code"] for item in refused(response)["details"]["errors"]}


def test_a_created_job_is_queued_with_all_it_needs(
    service: tuple[httpx.Client, Jobs], database: str, tmp_path: Path
) -> None:
    client, _ = service
    answer = client.post(PATH, json=request())
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"{PATH}/{job['job_id']}"
    assert (job["state"], job["stage"], job["mode"]) == ("queued", "stage_a", "template")
    assert (job["processed_units"], job["total_units"], job["attempt"]) == (0, 0, 0)
    assert job["last_error"] is job["last_error_json"] is job["spec_hash"] is None
    assert len(job["request_hash"]) == len(job["engine_params_hash"]) == 64
    assert client.get(f"{PATH}/{job['job_id']}").json() == job
    stored = run(database, lambda found: JobStore(found).get(job["job_id"]))
    assert stored is not None
    assert stored.results_dir == str(tmp_path)
    assert market_path(tmp_path, stored.candles_fingerprint, "1h").is_file()
    assert stored.plan_json["stage_a_variants_total"] == 12


def test_a_key_makes_a_repetition_harmless(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = client.post(PATH, json=request(), headers=key)
    again = client.post(PATH, json=request(), headers=key)
    assert "idempotency-replayed" not in first.headers
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    other = client.post(PATH, json=request(windows=5), headers=key)
    assert refused(other, 409)["details"]["error"] == "idempotency_key_reused"
    for _ in range(2):
        made(client)
    assert client.post(PATH, json=request(), headers=key).status_code == 201  # quota or not
    assert made(client, **{"X-Roehub-User": BOB, **key})["job_id"] != first.json()["job_id"]
    for bad in ("", "x" * 256):
        assert (
            client.post(PATH, json=request(), headers={"Idempotency-Key": bad}).status_code == 422
        )


def test_the_quota_counts_queued_and_running_jobs_of_the_user(
    client: httpx.Client, database: str
) -> None:
    for _ in range(3):
        made(client)
    run(database, claimed)
    refusal = client.post(PATH, json=request())
    assert items(refusal) == {"body": "quota_exceeded"}
    assert refused(refusal)["message"] == "Active backtest jobs quota exceeded (max=3)"
    made(client, **{"X-Roehub-User": BOB})


def test_a_refused_job_leaves_no_candles_behind(client: httpx.Client, tmp_path: Path) -> None:
    def candles() -> set[str]:
        return {path.name for path in (tmp_path / "candles").iterdir()}

    for number in range(3):
        answer = client.post(PATH, json=request(), headers={"Idempotency-Key": f"key {number}"})
        assert answer.status_code == 201
    before = candles()
    other = request(time_range={"start": "2026-01-02T00:00:00Z", "end": "2026-01-08T00:00:00Z"})
    for headers in ({}, {"Idempotency-Key": "another"}):
        refusal = client.post(PATH, json=other, headers=headers)
        assert items(refusal) == {"body": "quota_exceeded"}
    assert candles() == before
    again = client.post(PATH, json=request(), headers={"Idempotency-Key": "key 1"})
    assert again.headers["idempotency-replayed"] == "true"
    no_key = client.post(PATH, json=other, headers={b"Idempotency-Key": b"\xe9"})
    assert items(no_key) == {"header.Idempotency-Key": "invalid_value"}
    assert candles() == before


@pytest.mark.parametrize(
    ("changes", "place", "code"),
    [
        ({"top_k": 301}, "body.top_k", "max_value"),
        ({"top_trades_n": 6}, "body.top_trades_n", "max_value"),
        ({"top_k": None, "sharpe": 1}, "body.sharpe", "extra_forbidden"),
        ({"time_range": None}, "body.time_range", None),
        ({"market_id": 9}, "body.template.instrument_id.market_id", "unsupported"),
    ],
)
def test_requests_that_no_job_is_made_of(
    client: httpx.Client, changes: dict[str, Any], place: str, code: str | None
) -> None:
    body = request()
    if "market_id" in changes:
        body["template"]["instrument_id"]["market_id"] = changes["market_id"]
    else:
        body |= changes
    found = items(client.post(PATH, json=body))
    assert place in found
    assert code is None or found[place] == code
    assert client.get(PATH).json()["items"] == []


def test_refusals_that_carry_no_items(service: tuple[httpx.Client, Jobs]) -> None:
    client, jobs = service
    late = request(time_range={"start": "2027-01-01T00:00:00Z", "end": "2027-01-08T00:00:00Z"})
    assert "no market data" in refused(client.post(PATH, json=late))["message"]
    jobs.context.limits = Limits(max_variants_per_compute=11)
    guard = refused(client.post(PATH, json=request()))["details"]
    assert guard["error"] == "max_variants_per_compute_exceeded"
    assert (guard["total_variants"], guard["max_variants_per_compute"]) == (12, 11)
    unknown = client.post(PATH, json={**request(), "template": None, "strategy_id": str(uuid4())})
    assert "strategy_id" in refused(unknown, 404)["details"]
    assert refused(client.post(PATH, content=b"{}"), 415)
    assert refused(client.post(PATH, json=[1]))
    assert client.get(PATH).json()["items"] == []


def test_jobs_of_others_are_forbidden_and_unknown_ones_not_found(client: httpx.Client) -> None:
    theirs = made(client, **{"X-Roehub-User": BOB})["job_id"]
    paths = ["", "/top", "/events", "/variants", "/result", "/report", "/heatmap?x=a&y=b"]
    paths += ["/plateau?x=a&y=b", "/histogram", "/sample", "/ranked", "/variant?rank=1"]
    paths += [f"/variant/{part}?flat_index=0" for part in ("window", "trades", "report")]
    for job_id, status in ((theirs, 403), (str(uuid4()), 404)):
        answers = [client.get(f"{PATH}/{job_id}{path}") for path in paths]
        answers += [client.post(f"{PATH}/{job_id}/cancel"), client.delete(f"{PATH}/{job_id}")]
        for answer in answers:
            assert refused(answer, status)["details"] == {"job_id": job_id}
    assert items(client.get(f"{PATH}/no-id")) == {"path.job_id": "uuid_parsing"}
    assert client.get(PATH).json() == {"items": [], "next_cursor": None}


def test_the_list_is_walked_by_cursor_newest_first(client: httpx.Client) -> None:
    for number in range(7):
        job = made(client)
        if number < 4:
            client.post(f"{PATH}/{job['job_id']}/cancel")
    whole = client.get(PATH).json()
    assert whole["next_cursor"] is None
    assert len(whole["items"]) == 7
    keys = [(item["created_at"], item["job_id"]) for item in whole["items"]]
    assert keys == sorted(keys, reverse=True)
    assert [*whole["items"][0]] == [
        "job_id", "mode", "state", "stage", "created_at", "updated_at", "started_at",
        "finished_at", "cancel_requested_at", "processed_units", "total_units",
        "instrument_id", "timeframe", "stage_a_variants_total", "time_range", "indicators",
    ]  # fmt: skip
    about = [whole["items"][0][name] for name in ("instrument_id", "timeframe")]
    assert about == [{"market_id": 1, "symbol": "BTCUSDT"}, "1h"]
    assert whole["items"][0]["indicators"] == ["ma.sma", "momentum.rsi"]
    assert whole["items"][0]["time_range"]["start"] == "2026-01-01T00:00:00Z"
    walked, cursor = [], ""
    while cursor is not None:
        page = client.get(PATH, params={"limit": 3, "cursor": cursor, "state": " "}).json()
        walked += page["items"]
        cursor = page["next_cursor"]
    assert walked == whole["items"]
    queued = client.get(PATH, params={"state": "queued"}).json()["items"]
    assert {item["state"] for item in queued} == {"queued"}
    assert len(queued) == 3


@pytest.mark.parametrize(
    ("query", "place", "code"),
    [
        ({"state": "done"}, "query.state", "invalid_value"),
        ({"cursor": "!"}, "query.cursor", "invalid_cursor"),
        ({"limit": "x"}, "query.limit", "int_parsing"),
    ],
)
def test_a_list_that_cannot_be_meant(
    client: httpx.Client, query: dict[str, str], place: str, code: str
) -> None:
    answer = client.get(PATH, params=query)
    assert items(answer) == {place: code}
    if code == "invalid_cursor":
        assert refused(answer)["message"].startswith("Invalid jobs cursor")


def test_limits_of_lists(client: httpx.Client) -> None:
    for limit in (0, 251, -1):
        refusal = refused(client.get(PATH, params={"limit": limit}))
        assert "1..250" in refusal["message"]
        assert "errors" not in refusal["details"]
    job_id = made(client)["job_id"]
    for limit, code in ((0, "greater_than"), (301, "max_value")):
        answer = client.get(f"{PATH}/{job_id}/top", params={"limit": limit})
        assert items(answer) == {"query.limit": code}


def test_top_has_the_context_for_a_report(client: httpx.Client, database: str) -> None:
    job_id = made(client)["job_id"]
    empty = client.get(f"{PATH}/{job_id}/top").json()
    assert (empty["job_id"], empty["state"], empty["items"]) == (job_id, "queued", [])

    async def found(connections: Any) -> None:
        job = await claimed(connections)
        await leases(connections).top(job, top_rows(4))

    run(database, found)
    top = client.get(f"{PATH}/{job_id}/top", params={"limit": 2}).json()
    assert [item["rank"] for item in top["items"]] == [1, 2]
    assert [*top["items"][0]] == [
        "rank", "variant_key", "indicator_variant_key", "variant_index", "total_return_pct",
        "payload",
    ]  # fmt: skip
    context = top["report_context"]
    assert context["warmup_bars"] == 50
    assert context["include_trades"] is True
    assert context["overrides"] is None
    variant = {
        "indicator_selections": [
            {"indicator_id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 5}},
            {
                "indicator_id": "momentum.rsi",
                "inputs": {"source": "close"},
                "params": {"window": 7},
            },
        ],
        "signal_params": {"momentum.rsi": {"long_threshold": 55, "short_threshold": 45}},
        "risk_params": {"sl_enabled": True, "sl_pct": 1.0, "tp_enabled": False, "tp_pct": None},
        "execution_params": context["template"]["execution"],
        "direction_mode": "long-short",
        "sizing_mode": "all_in",
    }
    report = client.post("/backtests/variant-report", json={**context, "variant": variant})
    assert report.status_code == 200, report.text
    assert len(report.json()["rows"]) == 25
    assert report.json()["trades"] is not None


def test_cancel_is_idempotent_and_delete_wants_an_end(client: httpx.Client, database: str) -> None:
    job_id = made(client)["job_id"]
    refusal = refused(client.delete(f"{PATH}/{job_id}"), 409)
    assert refusal["details"]["error"] == "job_active"
    first = client.post(f"{PATH}/{job_id}/cancel")
    assert first.status_code == 200
    assert first.json()["state"] == "cancelled"
    assert client.post(f"{PATH}/{job_id}/cancel").json() == first.json()
    running = made(client)["job_id"]
    run(database, claimed)
    asked = client.post(f"{PATH}/{running}/cancel").json()
    assert (asked["state"], asked["finished_at"]) == ("running", None)
    assert asked["cancel_requested_at"] is not None
    answer = client.delete(f"{PATH}/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert refused(client.get(f"{PATH}/{job_id}"), 404)


def test_events_resume_and_end(client: httpx.Client) -> None:
    job_id = made(client)["job_id"]
    client.post(f"{PATH}/{job_id}/cancel")
    answer = client.get(f"{PATH}/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    ids = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]
    assert len(ids) == 2
    resumed = client.get(f"{PATH}/{job_id}/events", headers={"Last-Event-ID": ids[0]})
    assert [line for line in resumed.text.splitlines() if line.startswith("id: ")] == [
        f"id: {ids[1]}"
    ]
    # A page says it in the address; once it has come back by itself the header is newer.
    assert client.get(f"{PATH}/{job_id}/events?cursor={ids[0]}").text == resumed.text
    newer = {"Last-Event-ID": ids[0]}
    assert client.get(f"{PATH}/{job_id}/events?cursor=0", headers=newer).text == resumed.text
    done = client.get(f"{PATH}/{job_id}/events", headers={"Last-Event-ID": ids[1]})
    assert (done.status_code, done.content) == (204, b"")
    bad = client.get(f"{PATH}/{job_id}/events", headers={"Last-Event-ID": "x"})
    assert items(bad) == {"header.Last-Event-ID": "invalid_value"}
    bad = client.get(f"{PATH}/{job_id}/events?cursor=x")
    assert items(bad) == {"query.cursor": "invalid_value"}
    assert refused(bad)["message"] == "cursor is the id of an event, got 'x'"


def test_a_user_has_so_many_streams_of_jobs_at_a_time(client: httpx.Client) -> None:
    ann = f"{PATH}/{made(client)['job_id']}"
    bob = f"{PATH}/{made(client, **{'X-Roehub-User': BOB})['job_id']}"
    with ExitStack() as held:
        streams = [
            held.enter_context(client.stream("GET", f"{ann}/events"))
            for _ in range(ApiSettings().max_event_streams_per_user)
        ]
        assert {answer.status_code for answer in streams} == {200}
        error = refused(client.get(f"{ann}/events"), 429)
        assert error["details"]["error"] == "max_event_streams_exceeded"
        with client.stream("GET", f"{bob}/events", headers={"X-Roehub-User": BOB}) as answer:
            assert answer.status_code == 200  # of others nothing is taken
        client.post(f"{ann}/cancel")
        for answer in streams:
            assert answer.read().count(b"event: state") == 2
    # All have ended with the job, and one may follow again.
    assert client.get(f"{ann}/events").status_code == 200


def test_a_cursor_is_what_the_contract_says(client: httpx.Client) -> None:
    for _ in range(2):
        made(client)
    cursor = client.get(PATH, params={"limit": 1}).json()["next_cursor"]
    assert "=" not in cursor
    raw = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert [*raw] == ["created_at", "job_id"]


def test_a_hundred_jobs_of_one_user_leave_room_for_another(
    store: ClickHouse, database: str, tmp_path: Path
) -> None:
    with job_service(store, database, tmp_path, max_active_jobs_per_user=100) as (client, _):
        many = [made(client)["job_id"] for _ in range(100)]
        other = made(client, **{"X-Roehub-User": BOB})["job_id"]

        async def first_two(found: Any) -> list[str]:
            return [str((await claimed(found, f"host-{i}")).job_id) for i in (1, 2)]

        assert run(database, first_two) == [many[0], other]


def test_a_database_that_is_gone_is_a_storage_failure(
    service: tuple[httpx.Client, Jobs], database: str
) -> None:
    client, jobs = service
    job_id = made(client)["job_id"]
    execute(database, "alter table backtest_jobs rename to elsewhere")
    failed = refused(client.get(f"{PATH}/{job_id}"), 500)
    assert failed["message"] == "Backtest storage operation failed"
    assert "reason" in failed["details"]
    execute(database, "alter table elsewhere rename to backtest_jobs")
    assert client.get(f"{PATH}/{job_id}").status_code == 200
    assert jobs.feed.connected


def test_a_mount_that_is_gone_takes_no_job(client: httpx.Client, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        path.unlink()  # what is left of a mount is an empty directory
    error = refused(client.post(PATH, json=request()), 503)
    assert error["details"] == {"error": "results_missing"}
    assert list(tmp_path.iterdir()) == []
    checks = client.get("/ready").json()["checks"]
    assert "is it mounted?" in checks["results_dir"]


def test_jobs_that_are_off_have_no_paths(store: ClickHouse) -> None:
    from tests.api.service.market import client_of, context_of

    with client_of(lambda: context_of(store)) as client:
        assert refused(client.get(PATH), 404)


def test_many_at_once_keep_the_quota(client: httpx.Client) -> None:
    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as many:
            sent = (
                many.post(PATH, json=request(), headers={"X-Roehub-User": ANN}) for _ in range(8)
            )
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    statuses = asyncio.run(all_at_once())
    assert sorted(statuses) == [201] * 3 + [422] * 5
