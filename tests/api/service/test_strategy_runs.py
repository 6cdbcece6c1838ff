"""Runs of strategies over HTTP: one at a time, shown with their log, counted, and raced for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api.service.market import refused
from tests.api.service.strategy_service import (
    PATH,
    V2,
    made,
    own_database,
    strategy_service,
    user,
)
from tests.postgres import execute, rows

MISSING = str(UUID(int=5))


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_strategy_runs") as found:
        yield found


@pytest.fixture(scope="module")
def client(dsn: str) -> Iterator[httpx.Client]:
    with strategy_service(dsn, max_strategies_per_user=40, max_active_runs_per_user=3) as found:
        yield found


def items(response: httpx.Response) -> dict[str, str]:
    return {item["path"]: item["code"] for item in refused(response)["details"]["errors"]}


def run(client: httpx.Client, who: dict[str, str], strategy_id: str, **more: str) -> Any:
    answer = client.post(f"{PATH}/{strategy_id}/run", headers=who | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def moved(dsn: str, run_id: str, state: str) -> None:
    """The runner's part."""
    ended = "clock_timestamp()" if state in ("stopped", "failed") else "null"
    error = "'no'" if state == "failed" else "null"
    execute(
        dsn,
        f"update strategy_runs set state = '{state}', updated_at = clock_timestamp(),"
        f" stopped_at = {ended}, last_error = {error} where run_id = '{run_id}'",
    )


def test_run_and_stop_are_fail_fast(client: httpx.Client, dsn: str) -> None:
    ann = user()
    strategy_id = made(client, ann)["strategy_id"]
    there = f"{PATH}/{strategy_id}"
    none = refused(client.post(f"{there}/stop", headers=ann), 409)
    assert none["details"] == {"error": "no_active_run", "strategy_id": strategy_id}
    first = run(client, ann, strategy_id)
    assert [*first] == [
        "run_id", "strategy_id", "state", "started_at", "stopped_at", "checkpoint_ts_open",
        "last_error", "updated_at", "metadata",
    ]  # fmt: skip
    assert (first["state"], first["stopped_at"], first["metadata"]) == ("starting", None, {})
    for state in ("starting", "warming_up", "running", "stopping"):
        moved(dsn, first["run_id"], state)
        conflict = refused(client.post(f"{there}/run", headers=ann), 409)
        assert conflict["details"] == {
            "error": "run_active",
            "strategy_id": strategy_id,
            "run_id": first["run_id"],
            "current_state": state,
        }
        active = refused(client.delete(there, headers=ann), 409)["details"]
        assert (active["error"], active["current_state"]) == ("strategy_active", state)
    conflict = refused(client.post(f"{there}/stop", headers=ann), 409)
    assert conflict["details"] == {
        "error": "run_stopping",
        "strategy_id": strategy_id,
        "run_id": first["run_id"],
        "current_state": "stopping",
    }
    for state in ("stopped", "failed"):
        moved(dsn, first["run_id"], state)
        first = run(client, ann, strategy_id)
    stopped = client.post(f"{there}/stop", headers=ann).json()
    assert (stopped["state"], stopped["run_id"]) == ("stopped", first["run_id"])
    assert stopped["updated_at"] == stopped["stopped_at"] > stopped["started_at"]
    moved(dsn, run(client, ann, strategy_id)["run_id"], "warming_up")
    assert client.post(f"{there}/stop", headers=ann).json()["state"] == "stopping"
    moved(dsn, client.get(f"{there}/runs", headers=ann).json()["items"][0]["run_id"], "stopped")
    assert client.delete(there, headers=ann).status_code == 204


def test_runs_and_events_are_shown(client: httpx.Client, dsn: str) -> None:
    ann = user()
    strategy_id = made(client, ann)["strategy_id"]
    there = f"{PATH}/{strategy_id}"
    runs = []
    for _ in range(3):
        runs.append(run(client, ann, strategy_id)["run_id"])
        client.post(f"{there}/stop", headers=ann)
    shown = client.get(f"{there}/runs", headers=ann).json()
    assert [one["run_id"] for one in shown["items"]] == runs[::-1]
    walked, cursor = [], ""
    while cursor is not None:
        page = client.get(
            f"{there}/runs", params={"limit": 1, "cursor": cursor}, headers=ann
        ).json()
        walked += page["items"]
        cursor = page["next_cursor"]
    assert walked == shown["items"]
    one = client.get(f"{there}/runs/{runs[0]}", headers=ann).json()
    assert one == walked[-1] | {"lag_seconds": None, "waits_for": None}
    log = client.get(f"{there}/events", headers=ann).json()["items"]
    assert [one["event_type"] for one in log] == [
        "strategy_created", *["run_started", "run_stopped"] * 3,
    ]  # fmt: skip
    assert log[0]["run_id"] is None
    assert log[0]["payload"] == {
        "strategy_id": strategy_id, "schema_version": 2, "spec_kind": "roehub.strategy.v2",
    }  # fmt: skip
    assert log[1]["payload"] == {
        "strategy_id": strategy_id, "run_id": runs[0], "state": "starting",
    }  # fmt: skip
    assert (log[2]["payload"]["state"], log[2]["payload"]["from"]) == ("stopped", "starting")
    assert log[1]["ts"] == walked[-1]["started_at"]
    tail = client.get(f"{there}/events", params={"limit": 5}, headers=ann).json()
    more = client.get(f"{there}/events", params={"cursor": tail["next_cursor"]}, headers=ann)
    assert tail["items"] + more.json()["items"] == log
    only = client.get(f"{there}/events", params={"run_id": runs[1]}, headers=ann).json()["items"]
    assert only == log[3:5]
    for path in ("runs", "events"):
        bad = client.get(f"{there}/{path}", params={"cursor": "!"}, headers=ann)
        assert items(bad) == {"query.cursor": "invalid_cursor"}
        assert refused(client.get(f"{there}/{path}", params={"limit": 251}, headers=ann))
    unknown = refused(client.get(f"{there}/runs/{MISSING}", headers=ann), 404)
    assert unknown["details"] == {"run_id": MISSING, "strategy_id": strategy_id}
    other = made(client, ann)["strategy_id"]
    assert refused(client.get(f"{PATH}/{other}/runs/{runs[0]}", headers=ann), 404)


def test_a_key_starts_one_run(client: httpx.Client, dsn: str) -> None:
    ann, key = user(), {"Idempotency-Key": "go"}
    one, two = (made(client, ann)["strategy_id"] for _ in range(2))
    first = run(client, ann, one, **key)
    again = client.post(f"{PATH}/{one}/run", headers=ann | key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    other = refused(client.post(f"{PATH}/{two}/run", headers=ann | key), 409)
    assert other["details"] == {"error": "idempotency_key_reused", "run_id": first["run_id"]}
    moved(dsn, first["run_id"], "stopped")
    assert run(client, ann, one, **key)["state"] == "stopped"
    assert run(client, ann, one)["run_id"] != first["run_id"]


def test_quotas(client: httpx.Client, dsn: str) -> None:
    ann = user()
    ids = [made(client, ann)["strategy_id"] for _ in range(40)]
    answer = client.post(PATH, json=V2, headers=ann)
    assert items(answer) == {"body": "quota_exceeded"}
    details = refused(answer)["details"]
    assert (details["error"], details["max_strategies"]) == ("max_strategies_exceeded", 40)
    assert items(client.post(f"{PATH}/clone", json={"template": V2}, headers=ann))
    client.delete(f"{PATH}/{ids.pop()}", headers=ann)
    made(client, ann)
    runs = [run(client, ann, strategy_id)["run_id"] for strategy_id in ids[:3]]
    answer = client.post(f"{PATH}/{ids[3]}/run", headers=ann)
    assert items(answer) == {"body": "quota_exceeded"}
    assert refused(answer)["details"]["max_active_runs"] == 3
    moved(dsn, runs[0], "stopped")
    run(client, ann, ids[3])
    bob = user()
    run(client, bob, made(client, bob)["strategy_id"])


def test_of_fifty_runs_at_once_one_is_made(client: httpx.Client, dsn: str) -> None:
    ann = user()
    strategy_id = made(client, ann)["strategy_id"]

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=120) as many:
            sent = (many.post(f"{PATH}/{strategy_id}/run", headers=ann) for _ in range(50))
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    assert sorted(asyncio.run(all_at_once())) == [200] + [409] * 49
    query = "select count(*) from strategy_runs where strategy_id = $1"
    assert rows(dsn, query, UUID(strategy_id)) == [(1,)]
    query = "select event_type from strategy_events where strategy_id = $1 order by ts"
    assert rows(dsn, query, UUID(strategy_id)) == [("strategy_created",), ("run_started",)]


def test_run_stop_and_delete_at_once_leave_no_run_behind(client: httpx.Client, dsn: str) -> None:
    ann = user()
    for _ in range(4):
        strategy_id = made(client, ann)["strategy_id"]
        calls = [("POST", "/run"), ("POST", "/stop"), ("DELETE", "")] * 4

        def call(one: tuple[str, str], strategy_id: str = strategy_id) -> int:
            method, path = one
            return client.request(method, f"{PATH}/{strategy_id}{path}", headers=ann).status_code

        with ThreadPoolExecutor(12) as pool:
            statuses = [*pool.map(call, calls)]
        assert {*statuses} <= {200, 204, 404, 409}
        query = (
            "select is_deleted, (select count(*) from strategy_runs r where"
            " r.strategy_id = s.strategy_id and stopped_at is null)"
            " from strategy_strategies s where strategy_id = $1"
        )
        ((deleted, active),) = rows(dsn, query, UUID(strategy_id))
        assert (deleted, active) in ((True, 0), (False, 1))
        execute(
            dsn,
            "update strategy_runs set state = 'stopped', stopped_at = clock_timestamp(),"
            " updated_at = clock_timestamp() where stopped_at is null"
            f" and strategy_id = '{strategy_id}'",
        )
