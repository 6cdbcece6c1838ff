"""Strategies over HTTP, row by row of the contract's tables, on a real database."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api.service.market import refused
from tests.api.service.strategy_service import (
    NOBODY,
    PATH,
    USER,
    V1,
    V2,
    made,
    own_database,
    strategy_service,
    user,
)
from tests.postgres import execute

MISSING = str(UUID(int=5))


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_strategies") as found:
        yield found


@pytest.fixture(scope="module")
def client(dsn: str) -> Iterator[httpx.Client]:
    with strategy_service(dsn, max_strategies_per_user=40, max_active_runs_per_user=3) as found:
        yield found


def items(response: httpx.Response) -> dict[str, str]:
    return {item["path"]: item["code"] for item in refused(response)["details"]["errors"]}


def test_a_strategy_has_everything_that_decides_its_trades(client: httpx.Client) -> None:
    ann = user()
    answer = client.post(PATH, json=V2, headers=ann)
    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["location"] == f"{PATH}/{found['strategy_id']}"
    assert [*found] == [
        "strategy_id", "user_id", "name", "created_at", "is_deleted", "spec_hash", "spec",
    ]  # fmt: skip
    assert found["user_id"] == ann[USER]
    assert found["is_deleted"] is False
    assert found["created_at"].endswith("Z")
    assert found["name"].startswith(
        "BTCUSDT 1h [momentum.rsi(close, 14: 50, 40) · ma.sma(close, 20) · SL 2 %] #"
    )
    assert found["spec"] == {
        "spec_kind": "roehub.strategy.v2",
        "schema_version": 2,
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "instrument_key": "binance:spot:BTCUSDT",
        "market_type": "spot",
        "timeframe": "1h",
        "indicators": V2["indicators"],
        "signals": V2["signals"],
        "direction_mode": "long-only",
        "sizing_mode": "all_in",
        "risk": {"sl_enabled": True, "sl_pct": 2.0, "tp_enabled": False, "tp_pct": None},
        "execution": {
            "init_cash_quote": 10000.0,
            "fee_pct": 0.2,
            "slippage_pct": 0.01,
            "fixed_quote": 100.0,
            "safe_profit_percent": 30.0,
        },
        "warmup_bars": 200,
        "source": None,
    }
    assert client.get(f"{PATH}/{found['strategy_id']}", headers=ann).json() == found
    assert client.get(PATH, headers=ann).json() == {"items": [found], "next_cursor": None}


def test_the_first_version_is_what_its_contract_says(client: httpx.Client) -> None:
    who = {USER: "00000000-0000-0000-0000-000000001111"}
    found = made(client, who, V1)
    assert found["name"] == "BTCUSDT 1m [MA(20,50)] #048A5652"
    assert found["spec"] == {
        "spec_kind": "roehub.strategy.v1",
        "schema_version": 1,
        **V1,
        "signal_template": "MA(20,50)",
    }
    again = made(client, who, V1 | {"schema_version": 1, "signal_template": " "})
    assert again["name"] == found["name"]
    assert again["strategy_id"] != found["strategy_id"]
    assert made(client, user(), V1)["name"] != found["name"]


@pytest.mark.parametrize(
    ("changes", "place", "code"),
    [
        ({"schema_version": 3}, "body.schema_version", "literal_error"),
        ({"schema_version": True}, "body.schema_version", "literal_error"),
        ({"name": "mine"}, "body.name", "extra_forbidden"),
        ({"spec_kind": "roehub.strategy.v2"}, "body.spec_kind", "extra_forbidden"),
        ({"timeframe": "2h"}, "body.timeframe", "literal_error"),
        ({"timeframe": None}, "body.timeframe", "literal_error"),
        ({"indicators": []}, "body.indicators", "too_short"),
        ({"instrument_id": {"market_id": "1", "symbol": "X"}},
         "body.instrument_id.market_id", "int_type"),
        ({"instrument_id": {"market_id": 9, "symbol": "X"}},
         "body.instrument_id.market_id", "unsupported"),
        ({"indicators": [{"id": "ma.nope"}]}, "body.indicators.0.id", "grid_validation_error"),
        ({"indicators": [{"id": "ma.sma", "inputs": {"source": "close"},
                          "params": {"window": 100000}}]},
         "body.indicators.0.params.window", "grid_validation_error"),
        ({"indicators": [{"id": "ma.sma", "inputs": {"source": "close"},
                          "params": {"window": True}}]},
         "body.indicators.0.params.window", None),
        ({"indicators": [{"id": "ma.sma", "params": {"window": 5}}]},
         "body.indicators.0.inputs.source", "grid_validation_error"),
        ({"indicators": [V2["indicators"][1], V2["indicators"][1]]},
         "body.indicators.1.id", "duplicate"),
        ({"signals": {}}, "body.signals.momentum.rsi.long_threshold", "grid_validation_error"),
        ({"signals": {**V2["signals"], "ma.ema": {"x": 1}}}, "body.signals.ma.ema", "value_error"),
        ({"risk": {"tp_enabled": True}}, "body.risk.tp_pct", "grid_validation_error"),
        ({"direction_mode": "up"}, "body.direction_mode", "literal_error"),
        ({"execution": {"fee_pct": -1}}, "body.execution.fee_pct", "greater_than_equal"),
        ({"warmup_bars": 0}, "body.warmup_bars", "greater_than"),
    ],
)  # fmt: skip
def test_a_specification_that_cannot_be_run_is_refused(
    client: httpx.Client, changes: dict[str, Any], place: str, code: str | None
) -> None:
    ann = user()
    answer = client.post(PATH, json={**V2, **changes}, headers=ann)
    found = items(answer)
    found = {path: one for path, one in found.items() if path.startswith(place)}
    assert found, answer.text
    assert code is None or found[place] == code
    assert client.get(PATH, headers=ann).json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timeframe": "2h"}, "timeframe '2h' is not supported"),
        ({"indicators": [], "signal_template": "MA"}, "at least one indicator"),
        ({"indicators": [{"params": {}}]}, "indicators.0 needs a text in name, kind or id"),
        ({"indicators": [{"id": "x", "params": [1]}]}, "indicators.0.params must be an object"),
        ({"instrument_id": {"market_id": 9, "symbol": "BTCUSDT"}}, "there is no market 9"),
        ({"instrument_key": "binance:spot"}, "three parts"),
        ({"instrument_key": "binance:spot:spot:BTCUSDT"}, "three parts"),
        ({"instrument_key": "bybit:spot:BTCUSDT"}, "is binance:spot:BTCUSDT"),
        ({"instrument_key": "binance:spot:ETHUSDT"}, "is binance:spot:BTCUSDT"),
        ({"market_type": "futures"}, "market_type of market 1 is spot"),
        ({"market_type": "margin"}, "spot or futures"),
        ({"instrument_id": {"market_id": 1, "symbol": "A:B"}, "instrument_key": None}, "colon"),
    ],
)
def test_a_broken_rule_is_told_in_the_message(
    client: httpx.Client, changes: dict[str, Any], message: str
) -> None:
    error = refused(client.post(PATH, json={**V1, **changes}, headers=user()))
    assert error["code"] == "validation_error"
    assert message in error["message"]
    assert error["details"] == {}


def test_sizes_are_limited(client: httpx.Client) -> None:
    many = [{"id": f"x.{i}"} for i in range(17)]
    error = refused(client.post(PATH, json={**V1, "indicators": many}, headers=user()))
    assert error["details"] == {
        "error": "max_indicators_exceeded", "indicators": 17, "max_indicators": 16,
    }  # fmt: skip
    large = [{"id": "x", "note": "y" * 33_000}]
    error = refused(client.post(PATH, json={**V1, "indicators": large}, headers=user()))
    assert error["details"]["error"] == "max_spec_bytes_exceeded"
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    body = {**V1, "indicators": [{"id": "x", "a": deep}]}
    assert items(client.post(PATH, json=body, headers=user())) == {"body": "max_depth"}


def test_numbers_that_a_database_writes_otherwise_poison_nothing(client: httpx.Client) -> None:
    ann = user()
    odd = {"name": "x", "params": {"a": 1e16, "b": -0.0, "c": 1e300, "d": 5e-324, "e": 10**40}}
    found = made(client, ann, {**V1, "indicators": [odd]})
    assert client.get(PATH, headers=ann).json()["items"] == [found]
    assert found["spec"]["indicators"][0]["params"]["a"] == 10**16
    for bad in (b"1e400", b'"a\\u0000b"', b'"\\ud800"'):
        raw = b'{"instrument_id":{"market_id":1,"symbol":"X"},"timeframe":"1m","indicators":[{"id":'
        raw += b'"x","a":' + bad + b"}]}"
        answer = client.post(PATH, content=raw, headers=ann | {"content-type": "application/json"})
        assert refused(answer)["code"] == "validation_error"


def test_a_key_makes_a_repetition_harmless(client: httpx.Client) -> None:
    ann, key = user(), {"Idempotency-Key": "once"}
    first = client.post(PATH, json=V2, headers=ann | key)
    again = client.post(PATH, json=V2, headers=ann | key)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    details = refused(client.post(PATH, json=V1, headers=ann | key), 409)["details"]
    assert details == {
        "error": "idempotency_key_reused", "strategy_id": first.json()["strategy_id"],
    }  # fmt: skip
    clone = {"template": V2}
    assert refused(client.post(f"{PATH}/clone", json=clone, headers=ann | key), 409)
    assert made(client, user(), V2, **key)["strategy_id"] != first.json()["strategy_id"]
    for bad in ("", "x" * 256):
        answer = client.post(PATH, json=V2, headers=ann | {"Idempotency-Key": bad})
        assert refused(answer)["code"] == "validation_error"
    client.delete(f"{PATH}/{first.json()['strategy_id']}", headers=ann)
    gone = client.post(PATH, json=V2, headers=ann | key)
    assert gone.json() == first.json() | {"is_deleted": True}


def test_the_list_is_walked_by_cursor_oldest_first(client: httpx.Client) -> None:
    ann = user()
    bodies = [
        {**V1, "instrument_id": {"market_id": market, "symbol": symbol}, "timeframe": frame,
         "instrument_key": None, "market_type": None}
        for market, symbol, frame in (
            (1, "BTCUSDT", "1m"), (2, "BTCUSDT", "1h"), (1, "ETHUSDT", "1m"), (4, "ETHUSDT", "4h"),
            (1, "BTCUSDT", "1m"),
        )
    ]  # fmt: skip
    all_made = [made(client, ann, body) for body in bodies]
    walked: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(PATH, params={"limit": 2, "cursor": cursor}, headers=ann).json()
        walked += page["items"]
        cursor = page["next_cursor"]
    assert walked == all_made

    def listed(**filters: str) -> list[int]:
        found = client.get(PATH, params=filters, headers=ann).json()["items"]
        return [all_made.index(one) for one in found]

    assert listed(symbol=" btcusdt ") == [0, 1, 4]
    assert listed(market_type="FUTURES") == [1, 3]
    assert listed(timeframe="1m", symbol="ETHUSDT") == [2]
    assert listed(symbol=" ", market_type="", timeframe="") == [0, 1, 2, 3, 4]
    assert listed(symbol="X") == []


@pytest.mark.parametrize(
    ("query", "place", "code"),
    [
        ({"cursor": "!"}, "query.cursor", "invalid_cursor"),
        ({"limit": "x"}, "query.limit", "int_parsing"),
        ({"market_type": "margin"}, "query.market_type", "invalid_value"),
        ({"symbol": "BTC\0"}, "query.symbol", "string_unicode"),
        ({"timeframe": "2h"}, "query.timeframe", "invalid_value"),
    ],
)
def test_a_list_that_cannot_be_meant(
    client: httpx.Client, query: dict[str, str], place: str, code: str
) -> None:
    assert items(client.get(PATH, params=query, headers=user())) == {place: code}
    assert "1..250" in refused(client.get(PATH, params={"limit": 0}, headers=user()))["message"]


def test_a_clone_is_the_same_on_another_instrument(client: httpx.Client) -> None:
    ann = user()
    for body in (V1, V2):
        source = made(client, ann, body)
        overrides = {"instrument_id": {"market_id": 4, "symbol": " ethusdt"}, "timeframe": " 4H "}
        sent = {"source_strategy_id": source["strategy_id"], "overrides": overrides}
        answer = client.post(f"{PATH}/clone", json=sent, headers=ann)
        assert answer.status_code == 201, answer.text
        clone = answer.json()
        changed = {
            "instrument_id": {"market_id": 4, "symbol": "ETHUSDT"},
            "instrument_key": "bybit:futures:ETHUSDT",
            "market_type": "futures",
            "timeframe": "4h",
        }
        if body is V2:
            changed["source"] = {"kind": "strategy", "strategy_id": source["strategy_id"]}
        assert clone["spec"] == source["spec"] | changed
        assert clone["strategy_id"] != source["strategy_id"]
        assert clone["name"].startswith("ETHUSDT 4h [")
        log = client.get(f"{PATH}/{clone['strategy_id']}/events", headers=ann).json()["items"]
        assert [(one["event_type"], one["payload"]) for one in log] == [
            (
                "strategy_cloned",
                {
                    "strategy_id": clone["strategy_id"],
                    "source_strategy_id": source["strategy_id"],
                    "override_keys": ["instrument_id", "timeframe"],
                },
            )
        ]


def test_a_clone_of_a_template_is_a_strategy(client: httpx.Client) -> None:
    ann = user()
    for body in (V1, V2):
        plain = client.post(f"{PATH}/clone", json={"template": body}, headers=ann).json()
        assert plain["name"] == made(client, ann, body)["name"]
        other = {"template": body, "overrides": {"instrument_id": {"market_id": 3, "symbol": "A"}}}
        found = client.post(f"{PATH}/clone", json=other, headers=ann)
        assert found.json()["spec"]["instrument_key"] == "bybit:spot:A", found.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"body.source_strategy_id": "invalid_source", "body.template": "invalid_source"}),
        ({"source_strategy_id": MISSING, "template": V1},
         {"body.source_strategy_id": "invalid_source", "body.template": "invalid_source"}),
        ({"template": V2, "overrides": {"direction_mode": "long-only"}},
         {"body.overrides.direction_mode": "extra_forbidden"}),
        ({"template": V2, "overrides": {"timeframe": "2h"}},
         {"body.overrides.timeframe": "invalid_value"}),
        ({"template": V2, "overrides": {"instrument_id": {"market_id": 9, "symbol": "A"}}},
         {"body.overrides.instrument_id.market_id": "invalid_value"}),
        ({"template": V2, "overrides": {"instrument_id": {"market_id": 1, "symbol": " "}}},
         {"body.overrides.instrument_id.symbol": "invalid_value"}),
        ({"template": {**V2, "timeframe": "2h"}, "overrides": {"timeframe": "1h"}},
         {"body.template.timeframe": "literal_error"}),
        ({"template": {**V2, "indicators": [{"id": "no"}]}},
         {"body.template.indicators.0.id": "grid_validation_error"}),
        ({"source_strategy_id": "no"}, {"body.source_strategy_id": "uuid_parsing"}),
    ],
)  # fmt: skip
def test_clones_that_cannot_be(
    client: httpx.Client, body: dict[str, Any], expected: dict[str, str]
) -> None:
    found = items(client.post(f"{PATH}/clone", json=body, headers=user()))
    assert expected.items() <= found.items()


OF_A_STRATEGY = [
    ("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/stop"), ("GET", "/runs"),
    ("GET", f"/runs/{MISSING}"), ("GET", "/events"),
]  # fmt: skip


def test_missing_deleted_foreign_and_both(client: httpx.Client) -> None:
    ann, bob = user(), user()
    theirs = made(client, bob)["strategy_id"]
    ours, theirs_gone = made(client, ann)["strategy_id"], made(client, bob)["strategy_id"]
    assert client.delete(f"{PATH}/{ours}", headers=ann).status_code == 204
    assert client.delete(f"{PATH}/{theirs_gone}", headers=bob).content == b""
    for strategy_id, status, code in (
        (theirs, 403, "forbidden"),
        (MISSING, 404, "not_found"),
        (ours, 404, "not_found"),
        (theirs_gone, 404, "not_found"),
    ):
        answers = [
            client.request(method, f"{PATH}/{strategy_id}{path}", headers=ann)
            for method, path in OF_A_STRATEGY
        ]
        sent = {"source_strategy_id": strategy_id}
        answers.append(client.post(f"{PATH}/clone", json=sent, headers=ann))
        for answer in answers:
            error = refused(answer, status)
            assert (error["code"], error["details"]) == (code, {"strategy_id": strategy_id})
    assert client.get(PATH, headers=ann).json()["items"] == []
    for method, path in OF_A_STRATEGY:
        bad = client.request(method, f"{PATH}/no-id{path}", headers=ann)
        assert items(bad) == {"path.strategy_id": "uuid_parsing"}


def test_nobody_and_other_bodies(client: httpx.Client) -> None:
    assert refused(client.get(PATH, headers={USER: "no"}), 401)["code"] == "unauthorized"
    assert refused(client.post(PATH, content=b"{}", headers=user()), 415)
    for body in ([], 1, "x", {}):
        assert refused(client.post(PATH, json=body, headers=user()))["details"]["errors"]
        assert refused(client.post(f"{PATH}/clone", json=body, headers=user()))
        assert refused(client.post(f"{PATH}/from-variant", json=body, headers=user()))
    assert refused(client.put(f"{PATH}/{MISSING}", json=V2), 405)
    assert refused(client.patch(f"{PATH}/{MISSING}", json=V2), 405)
    for path in ("clone", "from-variant"):
        error = refused(answer := client.get(f"{PATH}/{path}"), 405)
        assert (error["code"], answer.headers["allow"]) == ("method_not_allowed", "POST")
    assert client.get(PATH, headers={USER: NOBODY}).json()["items"] == []


def test_a_database_that_is_gone_is_a_storage_failure(client: httpx.Client, dsn: str) -> None:
    ann = user()
    strategy_id = made(client, ann)["strategy_id"]
    execute(dsn, "alter table strategy_strategies rename to elsewhere")
    try:
        failed = refused(client.get(f"{PATH}/{strategy_id}", headers=ann), 500)
        assert failed["message"] == "Strategy storage operation failed"
        assert "reason" in failed["details"]
    finally:
        execute(dsn, "alter table elsewhere rename to strategy_strategies")
    assert client.get(f"{PATH}/{strategy_id}", headers=ann).status_code == 200


def test_strategies_that_are_off_have_no_paths() -> None:
    from tests.api.service.market import client_of, context_of

    with client_of(lambda: context_of(None)) as client:
        assert refused(client.get(PATH), 404)


@pytest.mark.parametrize("path", [PATH, f"{PATH}/clone", f"{PATH}/from-variant"])
def test_no_body_is_gone_through_in_the_event_loop(
    client: httpx.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of a megabyte takes a quarter of a second: nobody else is to wait for it."""
    threads: set[str] = set()

    def watched(work: Any) -> Any:
        def call(*arguments: Any) -> Any:
            threads.add(threading.current_thread().name)
            return work(*arguments)

        return call

    for place in (
        "api.strategies.storable",
        "api.strategies._sent",
        "live.strategies.spec.storable",
    ):
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(place, watched(getattr(sys.modules[module], name)))
    ann = user() | {"Idempotency-Key": "k"}
    sent = {"template": V2} if path.endswith("clone") else V2
    client.post(path, json=sent, headers=ann)
    assert threads
    assert all(name.startswith("AnyIO worker") for name in threads), threads
